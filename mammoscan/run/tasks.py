"""What worker processes do: functions of small, picklable arguments, on this machine or on another one."""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mammoscan.archive import identity
from mammoscan.archive.header import read_header
from mammoscan.core.domain import Analysed, Failed
from mammoscan.core.errors import InputError, Reason, Stage
from mammoscan.image.analyse import analyse, failed
from mammoscan.model import bundle as bundles
from mammoscan.model.precision import Precision
from mammoscan.run import previews, twins
from mammoscan.run.config import RunConfig
from mammoscan.run.inventory import Facts
from mammoscan.run.score import Scorer

if TYPE_CHECKING:
    from mammoscan.core.config import AnalysisConfig
    from mammoscan.core.domain import Header, Scored, SourceFile
    from mammoscan.image.crops import CropGeometry
    from mammoscan.model.bundle import Bundle
    from mammoscan.run.plan import PlannedImage

_BLOCK = 1 << 20  # bytes read at once

# What was found of files that carry one SOPInstanceUID; of one that cannot be read, the system's words follow.
SAME, DIFFERENT, UNREADABLE = "same", "different", "unreadable:"


@dataclass(frozen=True, slots=True)
class Settings:
    """How images are analysed, for workers. crop, ranking, outlines: the model's. anonymous: see ``analyse``.

    precision: of the network, for workers that run it. review: whether the pictures of the review page are drawn.
    """

    analysis: AnalysisConfig
    crop: CropGeometry
    ranking: Path
    outlines: Path
    anonymous: bool
    precision: Precision = Precision.FLOAT32
    review: bool = False


@dataclass(frozen=True, slots=True)
class Worked:
    """What became of an image, and the SHA-256 of its file; b'' where the file cannot be read or changed."""

    result: Analysed | Scored | Failed
    content: bytes


def read_headers(files: tuple[SourceFile, ...], root: Path, settle_seconds: float) -> list[Facts]:
    """What the headers of some files say. The rules about images are left to the planner."""
    now = time.time()
    return [Facts.of(read_header(file, include=None, settle_seconds=settle_seconds, now=now), root) for file in files]


def analyse_file(header: Header, settings: Settings, picture: Path) -> Worked:
    """Analyse one image; its preview goes to a file."""
    result = analyse(
        header,
        settings.analysis,
        settings.crop,
        settings.ranking,
        settings.outlines,
        settings.anonymous,
        settings.review,
    )
    if isinstance(result, Analysed):
        assert result.preview is not None
        previews.write(picture, result.preview)
        result = replace(result, preview=None)
    elif result.reason.passing:
        return Worked(result, b"")
    try:
        return Worked(result, content(header))
    except InputError as error:
        return Worked(failed(header, Stage.PIXELS, error.reason, error.detail), b"")
    except OSError as error:
        return Worked(failed(header, Stage.PIXELS, Reason.UNREADABLE, error.strerror or ""), b"")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model by its place, for workers that run its network. folder: None for the bundled one.

    sha256: of its description, which names the hashes of all else. threshold: on a finding's malignancy score.
    batch_size: see ``RunConfig``.
    """

    folder: Path | None
    sha256: str
    threshold: float
    batch_size: int = 0


def analyse_and_score(image: PlannedImage, settings: Settings, picture: Path, model: ModelRef) -> Worked:
    """``analyse_file``, and the network at once: of a worker that has it loaded from its first image on."""
    bundle = _bundle(model)
    own = replace(settings, ranking=bundle.ranking, outlines=bundle.outlines)
    worked = analyse_file(image.header, own, picture)
    if not isinstance(worked.result, Analysed):
        return worked
    began = time.perf_counter()
    scorer = _scorer(model, settings.analysis, settings.precision)
    try:
        scorer.add(image, worked.result)
        ((_, scored),) = scorer.finish()
    except BaseException:
        _scorer.cache_clear()  # one whose network failed gives no answers any more
        raise
    seconds = (Stage.CLASSIFY.value, time.perf_counter() - began)
    return replace(worked, result=replace(scored, seconds=(*scored.seconds, seconds)))


@functools.lru_cache(maxsize=1)
def _bundle(model: ModelRef) -> Bundle:
    return bundles.load(model.folder)


@functools.lru_cache(maxsize=1)
def _scorer(model: ModelRef, analysis: AnalysisConfig, precision: Precision) -> Scorer:
    config = RunConfig(archive=Path(), out=Path(), analysis=analysis, batch_size=model.batch_size)
    return Scorer(_bundle(model), config, model.threshold, precision=precision)


def content(header: Header) -> bytes:
    """SHA-256 of a file's bytes.

    Raises
    ------
    InputError
        When it is not the file any more that the header was read from.
    OSError
        When it cannot be read.
    """
    digest = hashlib.sha256()
    with header.file.path.open("rb") as stream, identity.unchanged(stream, header):
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.digest()


def content_if_readable(header: Header) -> bytes:
    """``content``; b'' where there is none to compare."""
    try:
        return content(header)
    except (InputError, OSError):
        return b""


def compare(headers: tuple[Header, ...]) -> str:
    """What is to be said of files that carry one SOPInstanceUID."""
    try:
        return SAME if twins.same(list(headers)) else DIFFERENT
    except OSError as error:
        return UNREADABLE + (error.strerror or "")
