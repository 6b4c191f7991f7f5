"""Readers of the five prepared folders: ``cbis-mass``, ``mias``, ``cesm``, ``cesm-cc``, ``rsna``.

Each folder holds ``images/`` and ``labels.csv``; ``cbis-mass`` may hold outlines in ``masks/`` and its films' true
ratios of width to height in ``aspect.csv``. Sets (cite them wherever results are shown):
CBIS-DDSM (Sawyer-Lee et al., 10.7937/K9/TCIA.2016.7O02S9CY), mini-MIAS (Suckling et al. 1994,
Excerpta Medica ICS 1069), CDD-CESM (Khaled et al., 10.7937/29kw-ae92), RSNA 2022 screening subset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.core.domain import Image, Laterality, View
from mammoscan.core.errors import InputError
from mammoscan.model.outputs import JUDGED
from mammoscan.training.datasets import images, mias_original, tables
from mammoscan.training.datasets.film import (
    ASYMMETRY,
    BENIGN,
    CALCIFICATION,
    DISTORTION,
    MALIGNANT,
    MASS,
    NORMAL,
    Box,
    Film,
    Lesion,
    Points,
    box_of,
    longest_mm,
    mask_parts,
    outside,
    worst,
)
from mammoscan.training.datasets.mias_original import KIND as MIAS_KIND
from mammoscan.training.datasets.mias_original import MM as MIAS_MM
from mammoscan.training.datasets.traits import Readings, Traits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.core.domain import Header
    from mammoscan.training.datasets.tables import Row

__all__ = ["SOURCES", "Box", "Film", "Prepared", "read", "read_folder", "recognise"]

# Two sets were stretched to a square; this undoes it, to the usual ratio of width to height where a film's own is not known.
UNSTRETCHED = {"cbis-mass": 0.6, "rsna": 0.8125}
_SQUARE = {"mias": 1024, "cbis-mass": 800, "cesm": 512, "rsna": 480}
_NAME = {"mias": "image", "cbis-mass": "file", "cesm": "image", "cesm-cc": "image", "rsna": "image"}
_ASPECT = "width_over_height"
_NEEDED = {
    "mias": ("image", "patient", "laterality", "view", "density", "abnormality", "severity", "x", "y", "radius"),
    "cbis-mass": ("file", "patient", "laterality", "view", "x", "y", "w", "h", "pathology", "certain", "density",
                  "assessment", "shape", "subtlety"),
    "cesm": ("image", "patient", "laterality", "view", "age", "density", "birads", "findings", "pathology"),
    "cesm-cc": ("image", "patient", "patient_confidence", "laterality", "view", "label", "age", "density", "birads",
                "calcification", "mass", "findings"),
    "rsna": ("image", "patient", "laterality", "view", "age", "cancer", "biopsy", "density"),
}  # fmt: skip
SOURCES = tuple(_NEEDED)
_MALIGNANT = "malignant against benign, true boxes"
_HIT = "lesions hit by the first 20 regions of their image"
TRAITS = {
    "mias": mias_original.TRAITS,
    "cbis-mass": Traits(
        cite="CBIS-DDSM masses, Sawyer-Lee et al., 10.7937/K9/TCIA.2016.7O02S9CY; Lee et al., Sci Data 2017",
        terms="CC BY 3.0", limits=mias_original.TRAITS.limits, classified=3, readings=Readings(1.0, cuts=True),
        bars=((_MALIGNANT, 0.82), (_HIT, 0.85)),
    ),
    "cesm": Traits(
        cite="CDD-CESM, Khaled et al., 10.7937/29kw-ae92", terms="CC BY 4.0", classified=6, readings=Readings(1.2),
        bars=((_HIT, 0.80), ("median Dice of lesions hit by the first 20 regions, outlines as drawn", 0.55)),
    ),
    # The same women as in ``cesm``, at more of the resolution, with normal and benign views; no places.
    "cesm-cc": Traits(cite="CDD-CESM, Khaled et al., 10.7937/29kw-ae92", terms="CC BY 4.0", readings=Readings(1.2)),
    # Its normal films have as many regions classified as an image is judged by (``outputs.JUDGED``).
    "rsna": Traits(
        cite="RSNA Screening Mammography Breast Cancer Detection, 2022, subset", terms="non-commercial research",
        classified=JUDGED, screening=True, readings=Readings(1.0, cuts=True), bars=(("cancer by breast", 0.75),),
    ),
}  # fmt: skip
# Patients of CBIS-DDSM are the same in this folder and as TCIA ships them.
# So are those of CDD-CESM in its two folders.
_PATIENTS = {"cbis-mass": "cbis-ddsm", "cesm-cc": "cesm"}
_TISSUE = {t.lower(): t for t in "FGD"}
_DENSITY = tables.DENSITIES | {"_": ""}  # CDD-CESM's sign for none
_PATHOLOGY = {"benign": BENIGN, "malignant": MALIGNANT, "mixed": MALIGNANT}
_YES_NO = {"0": "0", "1": "1"}
_SAME = 0.3  # a lesion's box and that of a part of its film's mask are one lesion's above this share of their union
_SMALLEST = 20  # pixels of an outline; smaller ones are crumbs of the compression


@dataclass(frozen=True, slots=True)
class Prepared(Film):
    """A film of a prepared folder; ``rows`` are those of its ``labels.csv``."""

    def image(self) -> Image:
        """The pixels, with the stretch undone.

        Raises
        ------
        LabelError
            With the row, when the file cannot be read.
        """
        if self.source not in UNSTRETCHED:
            return Film.image(self)
        try:
            stretched = images.grey(self.path)
        except InputError as error:
            raise tables.unreadable(self._first(), _NAME[self.source], self.path, error) from error
        side = _SQUARE[self.source]
        if stretched.shape != (side, side):
            raise self._first().error(
                _NAME[self.source], f"{self.path} has {stretched.shape[::-1]} pixels, expected {side} x {side}"
            )
        # Resized in 8 bits, as it was stored.
        stored = np.round(stretched * 255).astype(np.uint8)
        size = (self.header.columns, self.header.rows)
        pixels = np.asarray(cv2.resize(stored, size, interpolation=cv2.INTER_AREA), np.float32) / np.float32(255.0)
        return Image(self.header, pixels, np.zeros(pixels.shape, bool))

    def lesions(self) -> tuple[Lesion, ...]:
        """Everything located: for CDD-CESM the parts of the hand-drawn masks, for CBIS-DDSM the boxes with the parts
        of the film's mask that lie on them.
        """
        if self.source == "cbis-mass" and (path := self._mask_path()).exists():
            return _outlined(self.marked, mask_parts(self._drawn(path), smallest=_SMALLEST))
        if self.source != "cesm":
            return self.marked
        kind, assessment = _cesm_kind(self.rows[0]["findings"]), self.rows[0]["birads"]
        parts = mask_parts(self._drawn(self._mask_path()), smallest=_SMALLEST)
        return tuple(Lesion(MALIGNANT, kind, box, contour, assessment) for box, contour in parts)

    def lesion_mask(self) -> NDArray[np.bool_] | None:
        """The drawn masks; None where there is none."""
        return self._drawn(self._mask_path()) if self.source == "cesm" else Film.lesion_mask(self)

    def shows_density(self) -> bool:
        """RSNA: not at the second site, which has no readings; an implant is bright without being tissue."""
        return self.rows[0].get("site", "1") == "1" and self.rows[0].get("implant", "0") != "1"

    def _mask_path(self) -> Path:
        name = self.path.name if self.source == "cesm" else self.path.with_suffix(".png").name
        return self.path.parents[1] / "masks" / name

    def _drawn(self, path: Path) -> NDArray[np.bool_]:
        """A mask, with the stretch undone as that of its image."""
        shape = self.header.rows, self.header.columns
        if self.source in UNSTRETCHED:
            shape = (_SQUARE[self.source],) * 2
        try:
            mask = images.grey(path) > 127 / 255
        except InputError as error:
            raise tables.unreadable(self._first(), _NAME[self.source], path, error) from error
        if mask.shape != shape:
            raise self._first().error(
                _NAME[self.source], f"the mask {path} has {mask.shape[::-1]} pixels, expected {shape[::-1]}"
            )
        if self.source in UNSTRETCHED:
            size = (self.header.columns, self.header.rows)
            mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
        return np.asarray(mask, bool)

    def _first(self) -> Row:
        return tables.Row(self.table, self.row, self.rows[0])


def recognise(folder: Path) -> str:
    """Which of the sets a folder with ``labels.csv`` holds, by its name or its columns; '' for none."""
    table = folder / "labels.csv"
    if not table.is_file():
        return ""
    if folder.name in _NEEDED:
        return folder.name
    heading = set(tables.headings(table))
    return next((source for source, needed in _NEEDED.items() if heading.issuperset(needed)), "")


def read(folder: Path, source: str) -> list[Film]:
    """The films of the prepared folder ``folder/source``, by name. Raises LabelError as ``read_folder``."""
    return read_folder(folder / source, source)


def read_folder(folder: Path, source: str) -> list[Film]:
    """The films of one prepared folder, by name.

    Raises
    ------
    LabelError
        Naming the file, the row and the column, when something is missing, unknown or contradictory.
    """
    rows: dict[str, list[Row]] = {}
    for row in tables.read_table(folder / "labels.csv", _NEEDED[source]):
        rows.setdefault(row.text(_NAME[source]), []).append(row)
    ratio = _ratios(folder / "aspect.csv") if source in UNSTRETCHED else {}
    usual = UNSTRETCHED.get(source, 1.0)
    return [_film(folder, source, name, found, ratio.get(name, usual)) for name, found in sorted(rows.items())]


def _ratios(table: Path) -> dict[str, float]:
    """True ratios of width to height by file; none where there is no such table."""
    out: dict[str, float] = {}
    for row in tables.read_table(table, ("file", _ASPECT)) if table.exists() else ():
        found = row.number_in(_ASPECT, 0.2, 1.0)
        if found is None:
            raise row.error(_ASPECT, "empty", "take the row out: the usual ratio is then assumed")
        out[row.text("file")] = found
    return out


def _outlined(lesions: Sequence[Lesion], parts: Sequence[tuple[Box, Points]]) -> tuple[Lesion, ...]:
    """Each lesion with the part of the mask whose box is most like its own, if that is alike enough (``_SAME``)."""
    out = list(lesions)
    alike = np.array([[_alike(box, lesion.box) for box, _ in parts] for lesion in lesions])
    while alike.size and alike.max() > _SAME:
        lesion, part = divmod(int(alike.argmax()), alike.shape[1])
        out[lesion] = replace(out[lesion], contour=parts[part][1])
        alike[lesion], alike[:, part] = 0.0, 0.0
    return tuple(out)


def _alike(first: Box, second: Box) -> float:
    """Intersection of two boxes over their union, 0 to 1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)) - shared)


def _film(folder: Path, source: str, name: str, rows: list[Row], ratio: float) -> Prepared:
    suffix = ".png" if source == "mias" else ".jpg"
    path = folder / "images" / (name if name.endswith(suffix) else name + suffix)
    patient = tables.agreed(rows, "patient", lambda r: r.text("patient"))
    laterality = tables.agreed(rows, "laterality", lambda r: r.one_of("laterality", tables.SIDES))
    view = tables.agreed(rows, "view", lambda r: r.one_of("view", tables.VIEWS, empty=View.UNKNOWN))
    known = _TISSUE if source == "mias" else _DENSITY
    density = tables.agreed(rows, "density", lambda r: r.one_of("density", known, empty=""))
    stem = name.removesuffix(suffix)
    if source == "cesm-cc":
        height, columns = tables.size_for(rows[0], _NAME[source], path)
    else:
        height = _SQUARE[source]
        columns = round(height * ratio)
    header = images.plain_header(
        path, name=f"{source}/{stem}", patient=patient, laterality=Laterality(laterality), view=view, rows=height,
        columns=columns, age=tables.checked_age(rows[0], "age"), density=density,
        mm=MIAS_MM if source == "mias" else None,
    )  # fmt: skip
    return Prepared(
        source=source,
        name=stem,
        patient=f"{_PATIENTS.get(source, source)}/{patient}",
        path=path,
        header=header,
        label=worst([_label(source, row) for row in rows]),
        density=density,
        table=rows[0].table,
        row=rows[0].number,
        rows=tuple(row.cells for row in rows),
        marked=tuple(lesion for row in rows for lesion in _lesion(source, row, header, ratio)),
        traits=TRAITS[source],
    )


def _label(source: str, row: Row) -> str:
    """What one row says of the whole image. RSNA: of the breast; biopsied without cancer is benign."""
    if source == "mias":
        kind = row.one_of("abnormality", {k.lower(): k for k in (*MIAS_KIND, "NORM")})
        return NORMAL if kind == "NORM" else row.one_of("severity", {"b": BENIGN, "m": MALIGNANT})
    if source == "rsna":
        cancer, biopsy = (row.one_of(column, _YES_NO) for column in ("cancer", "biopsy"))
        return MALIGNANT if cancer == "1" else BENIGN if biopsy == "1" else NORMAL
    if source == "cesm-cc":
        return row.one_of("label", _PATHOLOGY | {NORMAL: NORMAL})
    return row.one_of("pathology", _PATHOLOGY)


def _lesion(source: str, row: Row, header: Header, ratio: float) -> tuple[Lesion, ...]:
    """The place that a row states, if it states one. ratio: of the film's width to its height."""
    if source == "mias" and row.get("radius"):
        x, y = (row.number_in(column, 0, _SQUARE[source]) for column in ("x", "y"))
        radius = row.number_in("radius", 1, _SQUARE[source])
        if x is None or y is None or radius is None:
            raise row.error("x", "a radius without a centre")
        box = (x - radius, y - radius, x + radius, y + radius)
        return (Lesion(_label(source, row), MIAS_KIND[row.get("abnormality").upper()], box,
                       size_mm=longest_mm(box, header.spacing)),)  # fmt: skip
    if source == "cbis-mass":
        fx, side = ratio, _SQUARE[source]
        x, y, w, h = (row.number_in(column, -1, side + 1) for column in "xywh")
        if x is None or y is None or w is None or h is None or w <= 0 or h <= 0:
            raise row.error("w", "a box needs x, y, w and h")
        box = (x * fx, y, (x + w) * fx, y + h)
        if outside(box, header, slack=2):
            raise row.error("x", f"the box {box_of(((x, y), (x + w, y + h)))} reaches over the edge of the image")
        # Images with lesions of different pathology, whose order is unknown: a place, but no class.
        label = _label(source, row) if row.one_of("certain", _YES_NO) == "1" else ""
        subtlety = row.number_in("subtlety", 0, 5)
        return (Lesion(label, mass_kind(row.get("shape")), box, (), row.get("assessment"),
                       int(subtlety) if subtlety else None),)  # fmt: skip
    return ()


def mass_kind(shape: str) -> str:
    """Kind of a lesion of DDSM's mass table by its shape; a shape beside a distortion is still a mass."""
    words = set(shape.upper().replace(" ", "_").split("-")) - {"", "N/A"}
    if words and words <= {"ARCHITECTURAL_DISTORTION"}:
        return DISTORTION
    if words and words <= {"ASYMMETRIC_BREAST_TISSUE", "FOCAL_ASYMMETRIC_DENSITY"}:
        return ASYMMETRY
    return MASS


def _cesm_kind(findings: str) -> str:
    """Kind of the outlined lesions by the report's words; '' where they name several or none.

    After a ``$`` stand further, mostly benign findings; what overlies a lesion isn't its kind.
    """
    said = (
        findings.split("$", maxsplit=1)[0]
        .split(" with overlying", maxsplit=1)[0]
        .split(" and overlying", maxsplit=1)[0]
        .lower()
    )
    found = {
        kind for word, kind in ((" mass", MASS), ("distortion", DISTORTION), ("asymmetr", ASYMMETRY)) if word in said
    }
    if not found and "calcific" in said and "edematous" not in said:
        found = {CALCIFICATION}
    return found.pop() if len(found) == 1 else ""
