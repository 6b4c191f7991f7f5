"""CBIS-DDSM as TCIA ships it: four case-description CSVs and DICOM (10.7937/K9/TCIA.2016.7O02S9CY, CC BY 3.0).

A row is one abnormality of one view. Its paths look like ``Mass-Training_P_00001_LEFT_CC/<study UID>/
<series UID>/000000.dcm``; the NBIA Data Retriever writes ``Mass-Training_P_00001_LEFT_CC/<date>-.../
<series description>/1-1.dcm`` instead, so files are found by the first part of the path alone. The mask
and the cropped image of an abnormality lie together, in either order, and the table confuses them in
places: the mask is the one with two grey levels. Masks that differ in size from their image, but not in
shape, are scaled; where the shape differs too, the place is unknown and the whole film counts as occupied.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.core.errors import InputError, Reason
from mammoscan.training.datasets import images, tables
from mammoscan.training.datasets.film import (
    BENIGN,
    CALCIFICATION,
    MALIGNANT,
    MASS,
    Box,
    Film,
    Lesion,
    Points,
    longest_mm,
    worst,
)
from mammoscan.training.datasets.folders import mass_kind
from mammoscan.training.datasets.traits import Traits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mammoscan.training.datasets.tables import Row

log = logging.getLogger(__name__)

TABLES = {f"{kind}_case_description_{part}_set.csv": kind for kind in ("mass", "calc") for part in ("train", "test")}
_COMMON = (
    "patient_id", "breast_density", "left_or_right_breast", "image_view", "abnormality_id", "abnormality_type",
    "assessment", "pathology", "subtlety", "image_file_path", "cropped_image_file_path", "roi_mask_file_path",
)  # fmt: skip
NEEDED = {
    "mass": (*_COMMON, "mass_shape", "mass_margins"),
    "calc": (*_COMMON, "calc_type", "calc_distribution"),
}
CASE = re.compile(r"(Mass|Calc)-(Training|Test)_P_\d+_(LEFT|RIGHT)_[A-Z]+(_\d+)?")
_PATHOLOGY = {"malignant": MALIGNANT, "benign": BENIGN, "benign_without_callback": BENIGN}
_TYPE = {"mass": MASS, "calcification": CALCIFICATION}
_DENSITY = tables.DENSITIES | {"0": ""}  # DDSM's 0 is no reading
TRAITS = Traits(
    cite="CBIS-DDSM, Sawyer-Lee et al., 10.7937/K9/TCIA.2016.7O02S9CY; Lee et al., Sci Data 2017",
    terms="CC BY 3.0",
    classified=3,
)
_DEEPEST = 6  # folders between the tables and the cases
_SHAPE_SLACK = 0.02  # relative difference of the ratio of sides up to which a mask fits its image


@dataclass(frozen=True, slots=True)
class CbisFilm(Film):
    """A film with, for each abnormality, its row and the DICOM files one of which is its mask."""

    regions: tuple[tuple[Row, tuple[Path, ...]], ...] = ()

    def lesions(self) -> tuple[Lesion, ...]:
        """One lesion a row, placed by its mask.

        Raises
        ------
        LabelError
            With the row, when none of the files is a mask.
        """
        shape = (self.header.rows, self.header.columns)
        out = []
        for lesion, (row, files) in zip(self.marked, self.regions, strict=True):
            try:
                placed = _placed(files, shape)
            except InputError as error:
                raise row.error(
                    "roi_mask_file_path",
                    f"none of the DICOM files in {files[0].parent} is a mask of two grey levels: {error.message}",
                    "download the case again, or take the row out",
                ) from error
            if placed is None:
                # Nothing may be taken from here, neither a finding nor normal tissue.
                out.append(replace(lesion, label=""))
            else:
                box, contour = placed
                out.append(replace(lesion, box=box, contour=contour, size_mm=longest_mm(box, self.header.spacing)))
        return tuple(out)

    def is_normal(self) -> bool:
        """Never: the set has no normal films."""
        return False


def tables_in(folder: Path) -> list[Path]:
    """The case-description tables that a folder holds."""
    return [folder / name for name in TABLES if (folder / name).is_file()]


def read(folder: Path) -> list[CbisFilm]:
    """The films of all case-description tables of a folder; their images lie somewhere below it or its parent.

    Raises
    ------
    LabelError
        With table, row and column, for a missing column, an unknown label or an image that is missing
        or unreadable.
    """
    found = _case_folders(folder) or _case_folders(folder.parent)
    rows: dict[str, list[Row]] = {}
    for table in tables_in(folder):
        # The calcification tables write "breast density", the mass tables "breast_density": the same here.
        for row in tables.read_table(table, NEEDED[TABLES[table.name]]):
            rows.setdefault(_case(row, "image_file_path"), []).append(row)
    return [_film(case, group, found) for case, group in sorted(rows.items())]


def _case_folders(top: Path) -> dict[str, list[Path]]:
    """Folders by case name. Full images and regions may come in separate downloads, so one name has several."""
    out: dict[str, list[Path]] = {}
    for path, inner, _ in os.walk(top, followlinks=True):
        deep = len(Path(path).relative_to(top).parts)
        for name in sorted(inner):
            if CASE.fullmatch(name):
                out.setdefault(name, []).append(Path(path) / name)
        inner[:] = sorted(n for n in inner if deep < _DEEPEST and not CASE.fullmatch(n) and not n.startswith("."))
    return out


def _case(row: Row, column: str) -> str:
    """First part of a path cell, which may hold line breaks."""
    case = re.sub(r"\s", "", row.text(column)).replace("\\", "/").split("/")[0]
    if not CASE.fullmatch(case):
        raise row.error(column, f"{case!r} names no case, such as Mass-Training_P_00001_LEFT_CC")
    return case


def _files(row: Row, columns: tuple[str, ...], found: Mapping[str, list[Path]]) -> tuple[Path, ...]:
    """The DICOM files of the cases that some cells name."""
    cases = dict.fromkeys(_case(row, column) for column in columns)
    files = tuple(
        path
        for case in cases
        for folder in found.get(case, ())
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() == ".dcm"
    )
    if not files:
        raise row.error(
            columns[0], f"no DICOM file in a folder {next(iter(cases))}", "download it, or take the row out"
        )
    return files


def _full_image(row: Row, found: Mapping[str, list[Path]]) -> Path:
    files = _files(row, ("image_file_path",), found)
    wanted = re.sub(r"\s", "", row.text("image_file_path")).replace("\\", "/").split("/")[1:]
    if exact := [path for path in files if list(path.parts[-len(wanted) :]) == wanted]:
        return exact[0]
    if len(files) > 1:
        raise row.error("image_file_path", f"{len(files)} DICOM files, expected one: {files[0].parent}")
    return files[0]


def _film(case: str, rows: list[Row], found: Mapping[str, list[Path]]) -> CbisFilm:
    first = rows[0]
    patient = tables.agreed(rows, "patient_id", lambda r: r.text("patient_id"))
    side = tables.agreed(rows, "left_or_right_breast", lambda r: r.one_of("left_or_right_breast", tables.SIDES))
    view = tables.agreed(rows, "image_view", lambda r: r.one_of("image_view", tables.VIEWS))
    density = tables.agreed(rows, "breast_density", lambda r: r.one_of("breast_density", _DENSITY, empty=""))
    if f"_{patient}_{side.name}_{view.value}" not in case:
        raise first.error("image_file_path", f"{case} is not {patient} {side.name} {view.value}")
    path = _full_image(first, found)
    header = tables.with_row(first, "image_file_path", path, images.dicom_header)
    header = replace(header, laterality=side, view=view, density=images.reading(density, side))
    regions = tuple((r, _files(r, ("roi_mask_file_path", "cropped_image_file_path"), found)) for r in rows)
    said: dict[tuple[Path, ...], Row] = {}
    for row, files in regions:
        other = said.setdefault(files, row)
        if other.get("pathology") != row.get("pathology"):
            raise row.error("pathology", f"contradicts row {other.number} of {other.table.name} about the same region")
    whole = (0.0, 0.0, float(header.columns), float(header.rows))
    return CbisFilm(
        source="cbis-ddsm",
        name=case,
        patient=f"cbis-ddsm/{patient}",
        path=path,
        header=header,
        label=worst([row.one_of("pathology", _PATHOLOGY) for row in rows]),
        density=density,
        table=first.table,
        row=first.number,
        rows=tuple(row.cells for row in rows),
        marked=tuple(_unplaced(row, whole) for row in rows),
        traits=TRAITS,
        regions=regions,
    )


def _unplaced(row: Row, box: Box) -> Lesion:
    """What a row says of its lesion, but for the place."""
    kind = row.one_of("abnormality_type", _TYPE)
    subtlety = row.number_in("subtlety", 0, 5)
    row.number_in("assessment", 0, 6)
    return Lesion(
        row.one_of("pathology", _PATHOLOGY),
        kind if kind == CALCIFICATION else mass_kind(row.get("mass_shape")),
        box,
        assessment=row.get("assessment"),
        subtlety=int(subtlety) if subtlety else None,
    )


@lru_cache(maxsize=8192)
def _placed(files: tuple[Path, ...], shape: tuple[int, int]) -> tuple[Box, Points] | None:
    """Box and outline of a mask in pixels of its image of ``shape``; None where the shapes don't fit."""
    mask, path = _mask(files)
    sy, sx = shape[0] / mask.shape[0], shape[1] / mask.shape[1]
    if abs(sx / sy - 1) > _SHAPE_SLACK:
        log.warning(
            "%s: mask of %d x %d pixels for an image of %d x %d: the place is unknown",
            path, mask.shape[1], mask.shape[0], shape[1], shape[0],
        )  # fmt: skip
        return None
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (float(xs[0] * sx), float(ys[0] * sy), float((xs[-1] + 1) * sx), float((ys[-1] + 1) * sy))
    inside = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].astype(np.uint8)
    outer = max(cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=cv2.contourArea)
    points = (outer[:, 0] + (xs[0] + 0.5, ys[0] + 0.5)) * (sx, sy)
    return box, tuple((float(x), float(y)) for x, y in points)


def _mask(files: tuple[Path, ...]) -> tuple[NDArray[np.bool_], Path]:
    """The mask among some files: the largest with two grey levels. Raises InputError where there is none."""
    problems, read = [], []
    for path in files:
        try:
            read.append((images.stored_values(path), path))
        except InputError as error:
            problems.append(f"{path.name}: {error.message}")
    for values, path in sorted(read, key=lambda pair: -pair[0].size):
        low, high = values.min(), values.max()
        if low < high and bool(((values == low) | (values == high)).all()):
            return values == high, path
    raise InputError(Reason.NO_PIXELS, "; ".join(problems) or f"{len(files)} files read")
