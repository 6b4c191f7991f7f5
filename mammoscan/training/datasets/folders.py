"""Readers of the four prepared folders: ``cbis-mass``, ``mias``, ``cesm``, ``rsna``.

Each folder holds ``images/`` and ``labels.csv``. Sets (cite them wherever results are shown):
CBIS-DDSM (Sawyer-Lee et al., 10.7937/K9/TCIA.2016.7O02S9CY), mini-MIAS (Suckling et al. 1994,
Excerpta Medica ICS 1069), CDD-CESM (Khaled et al., 10.7937/29kw-ae92), RSNA 2022 screening subset.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.core.domain import Header
    from mammoscan.training.datasets.tables import Row

__all__ = ["SOURCES", "Box", "Film", "Prepared", "read", "read_folder", "recognise"]

# Two sets were stretched to a square; this undoes it, to the usual ratio of width to height.
UNSTRETCHED = {"cbis-mass": 0.6, "rsna": 0.8125}
_SQUARE = {"mias": 1024, "cbis-mass": 800, "cesm": 512, "rsna": 480}
_NAME = {"mias": "image", "cbis-mass": "file", "cesm": "image", "rsna": "image"}
_NEEDED = {
    "mias": ("image", "patient", "laterality", "view", "density", "abnormality", "severity", "x", "y", "radius"),
    "cbis-mass": ("file", "patient", "laterality", "view", "x", "y", "w", "h", "pathology", "certain", "density",
                  "assessment", "shape", "subtlety"),
    "cesm": ("image", "patient", "laterality", "view", "age", "density", "birads", "findings", "pathology"),
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
    # Its normal films have as many regions classified as an image is judged by (``outputs.JUDGED``).
    "rsna": Traits(
        cite="RSNA Screening Mammography Breast Cancer Detection, 2022, subset", terms="non-commercial research",
        classified=JUDGED, screening=True, readings=Readings(1.0, cuts=True), bars=(("cancer by breast", 0.75),),
    ),
}  # fmt: skip
# Patients of CBIS-DDSM are the same in this folder and as TCIA ships them.
_PATIENTS = {"cbis-mass": "cbis-ddsm"}
_TISSUE = {t.lower(): t for t in "FGD"}
_DENSITY = tables.DENSITIES | {"_": ""}  # CDD-CESM's sign for none
_PATHOLOGY = {"benign": BENIGN, "malignant": MALIGNANT, "mixed": MALIGNANT}
_YES_NO = {"0": "0", "1": "1"}
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
        """Everything located: for CDD-CESM the parts of the hand-drawn masks."""
        if self.source != "cesm":
            return self.marked
        kind, assessment = _cesm_kind(self.rows[0]["findings"]), self.rows[0]["birads"]
        parts = mask_parts(self._drawn(), smallest=_SMALLEST)
        return tuple(Lesion(MALIGNANT, kind, box, contour, assessment) for box, contour in parts)

    def lesion_mask(self) -> NDArray[np.bool_] | None:
        """CDD-CESM: the hand-drawn masks; None for the other sets."""
        return self._drawn() if self.source == "cesm" else None

    def shows_density(self) -> bool:
        """RSNA: not at the second site, which has no readings; an implant is bright without being tissue."""
        return self.rows[0].get("site", "1") == "1" and self.rows[0].get("implant", "0") != "1"

    def _drawn(self) -> NDArray[np.bool_]:
        path, shape = self.path.parents[1] / "masks" / self.path.name, (self.header.rows, self.header.columns)
        try:
            mask = images.grey(path) > 127 / 255
        except InputError as error:
            raise tables.unreadable(self._first(), "image", path, error) from error
        if mask.shape != shape:
            raise self._first().error("image", f"the mask {path} has {mask.shape[::-1]} pixels, expected {shape[::-1]}")
        return mask

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
    return [_film(folder, source, name, found) for name, found in sorted(rows.items())]


def _film(folder: Path, source: str, name: str, rows: list[Row]) -> Prepared:
    suffix = ".png" if source == "mias" else ".jpg"
    path = folder / "images" / (name if name.endswith(suffix) else name + suffix)
    patient = tables.agreed(rows, "patient", lambda r: r.text("patient"))
    laterality = tables.agreed(rows, "laterality", lambda r: r.one_of("laterality", tables.SIDES))
    view = tables.agreed(rows, "view", lambda r: r.one_of("view", tables.VIEWS, empty=View.UNKNOWN))
    known = _TISSUE if source == "mias" else _DENSITY
    density = tables.agreed(rows, "density", lambda r: r.one_of("density", known, empty=""))
    stem = name.removesuffix(suffix)
    side = _SQUARE[source]
    header = images.plain_header(
        path, name=f"{source}/{stem}", patient=patient, laterality=Laterality(laterality), view=view, rows=side,
        columns=round(side * UNSTRETCHED.get(source, 1.0)), age=tables.checked_age(rows[0], "age"), density=density,
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
        marked=tuple(lesion for row in rows for lesion in _lesion(source, row, header)),
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
    return row.one_of("pathology", _PATHOLOGY)


def _lesion(source: str, row: Row, header: Header) -> tuple[Lesion, ...]:
    """The place that a row states, if it states one."""
    if source == "mias" and row.get("radius"):
        x, y = (row.number_in(column, 0, _SQUARE[source]) for column in ("x", "y"))
        radius = row.number_in("radius", 1, _SQUARE[source])
        if x is None or y is None or radius is None:
            raise row.error("x", "a radius without a centre")
        box = (x - radius, y - radius, x + radius, y + radius)
        return (Lesion(_label(source, row), MIAS_KIND[row.get("abnormality").upper()], box,
                       size_mm=longest_mm(box, header.spacing)),)  # fmt: skip
    if source == "cbis-mass":
        fx, side = UNSTRETCHED[source], _SQUARE[source]
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
