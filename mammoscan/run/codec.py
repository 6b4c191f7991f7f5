"""What the state file keeps of an image, to bytes and back: MessagePack by msgspec, compressed.

Two things are kept: what the header said (read once, planned with every night) and what became of the
image (``Scored``, reported from). Both are read back into the types that they were, so that a report from the state
file and one made at once are the same report; for that reason every report is made from what was read back. Bytes that
cannot be read back, damaged or of a version with other fields, are a ``ValueError``.

A contour is kept to a hundredth of a pixel, as the tables show it; a feature with seven significant digits; a heat map,
which is for the eye, in 256 steps.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from mammoscan.core.domain import (
    DensityReading,
    Failed,
    Finding,
    Flag,
    Geometry,
    Header,
    ImageFeatures,
    Region,
    RegionKind,
    Scored,
    Scores,
    Skipped,
    SourceFile,
)
from mammoscan.core.errors import Reason, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

Read = Header | Skipped | Failed
_NOWHERE = SourceFile(Path(), "", 0, 0)
_STEPS = 100.0  # of a contour, to a pixel
_QUICK = 1  # how hard facts are squeezed: every file's are, when headers are read
_Kind = TypeVar("_Kind")


class _Other(NamedTuple):
    failed: bool
    stage: Stage
    reason: Reason
    detail: str
    study_instance_uid: str
    sop_instance_uid: str
    densities: tuple[DensityReading, ...]
    patient: tuple[str, str]


class _Facts(NamedTuple):
    place: bytes
    relative: str
    size: int
    mtime_ns: int
    header: Header | None
    other: _Other | None


class _Finding(NamedTuple):
    number: int
    tracking_id: str
    tracking_uid: str
    kind: RegionKind
    contour: bytes
    box: tuple[float, float, float, float]
    centre: tuple[float, float]
    area_px: float
    area_mm2: float | None
    saliency: float
    spots: int
    scores: tuple[float, float, float, float]
    above_threshold: bool
    features: bytes
    heat: tuple[int, int, bytes] | None
    heat_box: tuple[float, float, float, float] | None
    lesion_kind: str


class _Scored(NamedTuple):
    geometry: Geometry
    image_features: ImageFeatures
    density: DensityReading
    scores: tuple[float, float, float, float]
    findings: tuple[_Finding, ...]
    candidates: int
    flags: tuple[Flag, ...]
    tissue: str
    nipple: tuple[float, float] | None = None  # results of before it was looked for have none


def encode_facts(result: Read, root: Path) -> bytes:
    """What a file's header said, with the place of the file below the archive.

    root: the archive, below which the file's path lies.
    """
    file, header = result.file, result if isinstance(result, Header) else None
    facts = _Facts(
        place=os.fsencode(file.path.relative_to(root)),  # not cut off as text: of `.` no path shows anything
        relative=file.relative,
        size=file.size,
        mtime_ns=file.mtime_ns,
        header=header and replace(header, file=_NOWHERE),
        other=None if header else _other(result),  # type: ignore[arg-type]
    )
    return _packed(facts, _QUICK)


def _other(result: Skipped | Failed) -> _Other:
    stating: tuple[tuple[DensityReading, ...], tuple[str, str]] = ((), ("", ""))
    if isinstance(result, Skipped):
        stating = result.densities, result.patient
    uids = result.study_instance_uid, result.sop_instance_uid
    return _Other(isinstance(result, Failed), result.stage, result.reason, plain(result.detail), *uids, *stating)


def decode_facts(content: bytes, root: Path) -> Read:
    """What a file's header said; the file lies below ``root``.

    Raises
    ------
    ValueError
        When the bytes cannot be read back.
    """
    facts = _unpacked(_Facts, content)
    place = Path(os.path.join(root, os.fsdecode(facts.place)))  # noqa: PTH118 (of the two, the one that takes no time)
    file = SourceFile(place, facts.relative, facts.size, facts.mtime_ns)
    if facts.header is not None:
        # In place: it was made just now, and a copy of its forty fields takes as long as all the rest.
        object.__setattr__(facts.header, "file", file)
        return facts.header
    other = facts.other
    if other is None:
        raise ValueError("facts of nothing")
    told = (file, other.stage, other.reason, other.detail, other.study_instance_uid, other.sop_instance_uid)
    return Failed(*told) if other.failed else Skipped(*told, other.densities, other.patient)


def encode_scored(scored: Scored) -> bytes:
    """An image's result, without its header and without how long it took."""
    return _packed(
        _Scored(
            scored.geometry,
            scored.image_features,
            scored.density,
            dataclasses.astuple(scored.scores),
            tuple(_kept(finding) for finding in scored.findings),
            scored.candidates,
            scored.flags,
            scored.tissue,
            scored.nipple,
        )
    )


def decode_scored(content: bytes, header: Header) -> Scored:
    """The result of the image with this header.

    Raises
    ------
    ValueError
        When the bytes cannot be read back.
    """
    kept = _unpacked(_Scored, content)
    try:
        findings = tuple(_found(finding) for finding in kept.findings)
    except (IndexError, OverflowError) as error:
        raise ValueError(f"arrays that cannot be read back: {error}") from error
    return Scored(
        header=header,
        geometry=kept.geometry,
        image_features=kept.image_features,
        density=kept.density,
        scores=Scores(*kept.scores),
        findings=findings,
        candidates=kept.candidates,
        flags=kept.flags,
        seconds=(),
        tissue=kept.tissue,
        nipple=kept.nipple,
    )


def plain(text: str) -> str:
    """Text that can be kept: a detail may quote bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode()


def can_be_read(content: bytes) -> bool:
    """Whether the bytes are an image's result that can be read back."""
    try:
        _unpacked(_Scored, content)
    except ValueError:
        return False
    return True


def _kept(finding: Finding) -> _Finding:
    region, heat = finding.region, finding.heat
    return _Finding(
        number=finding.number,
        tracking_id=finding.tracking_id,
        tracking_uid=finding.tracking_uid,
        kind=region.kind,
        contour=_contour_bytes(region.contour),
        box=region.box,
        centre=region.centre,
        area_px=region.area_px,
        area_mm2=region.area_mm2,
        saliency=region.saliency,
        spots=region.spots,
        scores=dataclasses.astuple(finding.scores),
        above_threshold=finding.above_threshold,
        features=finding.features.astype("<f4").tobytes(),
        heat=None if heat is None else (*heat.shape, np.round(heat * 255.0).astype(np.uint8).tobytes()),
        heat_box=finding.heat_box,
        lesion_kind=finding.lesion_kind,
    )


def _found(kept: _Finding) -> Finding:
    heat = kept.heat and np.frombuffer(kept.heat[2], np.uint8).reshape(kept.heat[:2]).astype(np.float32) / 255.0
    return Finding(
        number=kept.number,
        tracking_id=kept.tracking_id,
        tracking_uid=kept.tracking_uid,
        region=Region(
            kind=kept.kind,
            contour=_contour(kept.contour),
            box=kept.box,
            centre=kept.centre,
            area_px=kept.area_px,
            area_mm2=kept.area_mm2,
            saliency=kept.saliency,
            spots=kept.spots,
        ),
        scores=Scores(*kept.scores),
        above_threshold=kept.above_threshold,
        features=np.frombuffer(kept.features, "<f4").astype(np.float64),
        heat=heat,
        heat_box=kept.heat_box,
        lesion_kind=kept.lesion_kind,
    )


def contour_bytes(text: str) -> bytes | None:
    """A contour as the tables write it ("x y;x y", two digits after the point) as bytes; None where it is written otherwise."""
    try:
        points = np.array([pair.split(" ") for pair in text.split(";")], dtype=np.float64)
    except ValueError:
        return None
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        return None
    packed: bytes = _contour_bytes(points)
    return packed if contour_text(packed) == text.encode() else None


def contour_text(content: bytes) -> bytes:
    """A contour as the tables write it.

    Raises
    ------
    ValueError
        When the bytes are none.
    """
    points = _contour(content)
    text: str = ";".join(("%.2f %.2f",) * len(points)) % tuple(points.ravel().tolist())  # one pass: there are millions
    return text.encode()


def _contour_bytes(contour: NDArray[np.float64]) -> bytes:
    """Points as steps from one to the next, all x before all y: small numbers, which compress."""
    points = np.round(contour * _STEPS).astype(np.int64)
    steps = np.diff(points, axis=0, prepend=0).T
    narrow = np.abs(steps[:, 1:]).max(initial=0) < 1 << 15
    start: bytes = steps[:, 0].astype("<i4").tobytes()
    rest: bytes = steps[:, 1:].astype("<i2" if narrow else "<i4").tobytes()
    return start + rest + bytes([int(narrow)])


def _contour(content: bytes) -> NDArray[np.float64]:
    start = np.frombuffer(content[:8], "<i4")
    steps = np.frombuffer(content[8:-1], "<i2" if content[-1] else "<i4").reshape(2, -1)
    points = np.concatenate([start[:, None], steps], axis=1).astype(np.int64).cumsum(axis=1)
    return np.ascontiguousarray(points.T / _STEPS)


# --------------------------------------------------------------------------- bytes


def _words() -> bytes:
    """What nearly every record holds, for the compressor to point to; part of the format."""
    names = [f.name for kind in (Header, Geometry, ImageFeatures, DensityReading) for f in dataclasses.fields(kind)]
    common = ["1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.1.2.4.70", "FOR PRESENTATION", "MONOCHROME2", *names]
    return "\xa0".join(common).encode("latin-1")


_DICTIONARY = _words()
# Of what is kept of a header: where a version has other fields, every header is read again.
FORMAT = hashlib.sha256(_DICTIONARY).hexdigest()[:16]


def _packed(value: object, level: int = 6) -> bytes:
    squeeze = zlib.compressobj(level, zdict=_DICTIONARY)
    packed: bytes = msgspec.msgpack.encode(value, enc_hook=_encoded)
    squeezed: bytes = squeeze.compress(packed) + squeeze.flush()
    return squeezed


def _unpacked(kind: type[_Kind], content: bytes) -> _Kind:
    try:
        plain = zlib.decompressobj(zdict=_DICTIONARY).decompress(content)
        return msgspec.msgpack.decode(plain, type=kind, dec_hook=_decoded)
    except (zlib.error, msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"no {getattr(kind, '__name__', kind)} that can be read back: {error}") from error


def _encoded(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot keep {type(value).__name__}")


def _decoded(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise TypeError(f"cannot read {kind.__name__} back")
