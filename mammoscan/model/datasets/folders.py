"""Readers of the four prepared folders: ``cbis-mass``, ``mias``, ``cesm``, ``rsna``.

Each folder holds ``images/`` and ``labels.csv``. Sets (cite them wherever results are shown):
CBIS-DDSM (Sawyer-Lee et al., 10.7937/K9/TCIA.2016.7O02S9CY), mini-MIAS (Suckling et al. 1994,
Excerpta Medica ICS 1069), CDD-CESM (Khaled et al., 10.7937/29kw-ae92), RSNA 2022 screening subset.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.domain import (
    Age,
    AgeSource,
    Density,
    DensityReading,
    DensitySource,
    Header,
    Image,
    Laterality,
    Patient,
    Sex,
    SourceFile,
    Spacing,
    SpacingSource,
    StudyFacts,
    View,
)
from mammoscan.errors import LabelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Box = tuple[float, float, float, float]

# Two sets were stretched to a square; this undoes it, to the usual ratio of width to height.
UNSTRETCHED = {"cbis-mass": 0.6, "rsna": 0.8125}
# Pixel size where the set states it.
MILLIMETRES = {"mias": 0.2}
_NAME = {"mias": "image", "cbis-mass": "file", "cesm": "image", "rsna": "image"}
_DENSITY = {"1": Density.A, "2": Density.B, "3": Density.C, "4": Density.D} | {
    k: d for d in (Density.A, Density.B, Density.C, Density.D) for k in (d.value, d.value.upper())
}


@dataclass(frozen=True, slots=True)
class Film:
    """One labelled image. rows: its rows of labels.csv. Coordinates are those of ``image()``."""

    source: str
    name: str
    patient: str  # unique across the sets
    path: Path
    header: Header
    rows: tuple[dict[str, str], ...]

    def image(self) -> Image:
        """The pixels, with the stretch undone.

        Raises
        ------
        LabelError
            When the file cannot be read.
        """
        pixels = _read(self.path)
        size = (self.header.columns, self.header.rows)
        if self.source in UNSTRETCHED:
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
        if pixels.shape != size[::-1]:
            raise LabelError(f"the image is {pixels.shape[::-1]}, expected {size}", path=self.path)
        return Image(self.header, pixels.astype(np.float32) / 255.0, np.zeros(pixels.shape, bool))

    def findings(self) -> tuple[tuple[str, Box], ...]:
        """('benign' or 'malignant', box) of every located finding whose class is certain."""
        if self.source == "mias":
            return tuple(
                ({"B": "benign", "M": "malignant"}[r["severity"]], _around(r))
                for r in self.rows
                if r["radius"] and r["severity"]
            )
        if self.source == "cbis-mass":
            fx = self.header.columns / 800
            return tuple(
                ("malignant" if r["pathology"] == "MALIGNANT" else "benign", _scaled(r, fx))
                for r in self.rows
                if r["certain"] == "1"
            )
        if self.source == "cesm":
            return tuple(("malignant", box) for box in self._mask_boxes())
        return ()

    def occupied(self) -> tuple[Box, ...]:
        """Boxes where a finding is or may be: no place for a normal example."""
        if self.source == "cbis-mass":
            return tuple(_scaled(r, self.header.columns / 800) for r in self.rows)
        if self.source == "cesm":
            return tuple(self._mask_boxes())
        return tuple(_around(r) for r in self.rows if r.get("radius"))

    def is_normal(self) -> bool:
        """Whether the whole film is known to hold no malignancy and no located finding."""
        if self.source == "mias":
            return all(r["abnormality"] == "NORM" for r in self.rows)
        return self.source == "rsna" and all(r["cancer"] == "0" and r["biopsy"] == "0" for r in self.rows)

    def lesion_mask(self) -> NDArray[np.bool_]:
        """CESM: the hand-drawn outlines."""
        return _read(self.path.parents[1] / "masks" / self.path.name) > 127

    def _mask_boxes(self) -> list[Box]:
        count, _, stats, _ = cv2.connectedComponentsWithStats(self.lesion_mask().astype(np.uint8))
        return [
            (float(x), float(y), float(x + w), float(y + h))
            for x, y, w, h, area in stats[1:count]
            if area >= 20  # smaller ones are crumbs of the compression
        ]


def read(folder: Path, source: str) -> list[Film]:
    """The films of one prepared folder, by name.

    Raises
    ------
    LabelError
        Naming the file, the row and the column, when something is missing or unknown.
    """
    table = folder / source / "labels.csv"
    rows: dict[str, list[dict[str, str]]] = {}
    try:
        stream = table.open(encoding="utf-8", newline="")
    except OSError as error:
        raise LabelError(f"cannot be read: {error.strerror}", path=table) from error
    with stream:
        reader = csv.DictReader(stream)
        needed = {_NAME[source], "patient", "laterality", "view"}
        if missing := needed - set(reader.fieldnames or ()):
            raise LabelError(f"columns missing: {', '.join(sorted(missing))}", path=table)
        for number, row in enumerate(reader, 2):
            if not row[_NAME[source]] or not row["patient"]:
                raise LabelError(f"row {number}: no image or no patient", path=table)
            if row["laterality"] not in ("L", "R"):
                raise LabelError(f"row {number}: unknown laterality {row['laterality']!r}", path=table)
            rows.setdefault(row[_NAME[source]], []).append(row)
    return [_film(folder / source, source, name, tuple(found)) for name, found in sorted(rows.items())]


def _film(folder: Path, source: str, name: str, rows: tuple[dict[str, str], ...]) -> Film:
    suffix = ".png" if source == "mias" else ".jpg"
    path = folder / "images" / (name if name.endswith(suffix) else name + suffix)
    first = rows[0]
    height, width = {"mias": (1024, 1024), "cbis-mass": (800, 800), "cesm": (512, 512), "rsna": (480, 480)}[source]
    width = round(width * UNSTRETCHED.get(source, 1.0))
    return Film(source, name.removesuffix(suffix), f"{source}/{first['patient']}", path, _header(
        source, name, path, first, height, width), rows)  # fmt: skip


def _header(source: str, name: str, path: Path, row: dict[str, str], height: int, width: int) -> Header:
    mm = MILLIMETRES.get(source)
    laterality = Laterality(row["laterality"])
    density = _DENSITY.get(row.get("density", "")) if source != "mias" else None
    age = row.get("age", "")
    return Header(
        file=SourceFile(path, path.name, 0, 0),
        sop_class_uid="",
        sop_instance_uid=f"{source}/{name}",
        series_instance_uid="",
        transfer_syntax_uid="",
        modality="MG",
        series_number=None,
        instance_number=None,
        patient=Patient(row["patient"], "", "", "", Sex.UNKNOWN, ""),
        study=StudyFacts("", "", "", "", "", "", "", ""),
        age=Age(float(age), AgeSource.PATIENT_AGE) if age.replace(".", "", 1).isdigit() else None,
        laterality=laterality,
        view=View(row["view"]) if row["view"] in View.__members__ else View.UNKNOWN,
        view_modifiers=(),
        density=None if density is None else DensityReading(density, DensitySource.TABLE, laterality),
        manufacturer="",
        manufacturer_model="",
        spacing=Spacing(mm, mm, SpacingSource.PIXEL_SPACING) if mm else None,
        presentation_intent="FOR PRESENTATION",
        photometric="MONOCHROME2",
        rows=height,
        columns=width,
        bits_stored=8,
        patient_orientation=(),
        content_date="",
        content_time="",
        acquisition_date="",
        implant=None,
        partial_view=None,
        magnification=None,
        burned_in=None,
        lossy=None,
        flags=(),
        skip=None,
    )


def _read(path: Path) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise LabelError("the image cannot be read", path=path)
    return np.asarray(pixels, dtype=np.uint8)


def _around(row: dict[str, str]) -> Box:
    x, y, r = float(row["x"]), float(row["y"]), float(row["radius"])
    return (x - r, y - r, x + r, y + r)


def _scaled(row: dict[str, str], fx: float) -> Box:
    x, y, w, h = (float(row[k]) for k in ("x", "y", "w", "h"))
    return (x * fx, y, (x + w) * fx, y + h)
