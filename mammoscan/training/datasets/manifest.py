"""Any other set: a CSV file ``manifest.csv`` with the columns of ``layouts.MANIFEST``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mammoscan.core import tablefile
from mammoscan.core.clinical import PREFIX
from mammoscan.core.domain import Age, AgeSource, Laterality, Spacing, SpacingSource, View
from mammoscan.model.terms import KINDS
from mammoscan.training.datasets import images, tables
from mammoscan.training.datasets.film import (
    LABELS,
    NORMAL,
    Box,
    Film,
    Lesion,
    Points,
    box_of,
    longest_mm,
    outside,
    worst,
)
from mammoscan.training.datasets.layouts import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from mammoscan.core.domain import Header
    from mammoscan.training.datasets.tables import Row

NAME = "manifest.csv"
NEEDED = tuple(column.name for column in MANIFEST if column.needed)
_CORNERS = ("x0", "y0", "x1", "y1")
_LABELS = {label: label for label in LABELS}
_KINDS = {kind: kind for kind in KINDS}
_SLACK = 1.0  # pixels by which a box may reach over the edge: rounding
_SPACING_SLACK = 0.02  # relative


def read(table: Path) -> list[Film]:
    """The films of a manifest; paths are relative to it.

    Raises
    ------
    LabelError
        With row and column, for anything missing, unknown, contradictory or unreadable.
    """
    rows: dict[str, list[Row]] = {}
    of_patient: dict[str, Row] = {}
    for row in tables.read_table(table, NEEDED):
        _check_person(row, of_patient.setdefault(row.text("patient"), row))
        rows.setdefault(row.text("path").replace("\\", "/").removeprefix("./"), []).append(row)
    return [_film(name, group) for name, group in sorted(rows.items())]


def _check_person(row: Row, first: Row) -> None:
    """Clinical data are of a person: her rows say the same, also where that is nothing."""
    for column, cell in _clinical(row).items():
        if _clinical(first)[column] != cell:
            raise row.error(column, f"contradicts row {first.number} about the same patient")


def _clinical(row: Row) -> dict[str, str]:
    """The owner's own columns, numbers with a decimal point."""
    found = {column: cell for column, cell in row.cells.items() if column.startswith(PREFIX)}
    if row.mark == ",":
        found = {column: _pointed(cell) for column, cell in found.items()}
    return found


def _pointed(cell: str) -> str:
    try:
        return repr(tablefile.number(cell, "", ","))
    except ValueError:
        return cell


def _film(name: str, rows: list[Row]) -> Film:
    first = rows[0]
    patient = tables.agreed(rows, "patient", lambda r: r.text("patient"))
    side = tables.agreed(rows, "laterality", lambda r: r.one_of("laterality", tables.SIDES, empty=Laterality.UNKNOWN))
    view = tables.agreed(rows, "view", lambda r: r.one_of("view", tables.VIEWS, empty=View.UNKNOWN))
    density = tables.agreed(rows, "density", lambda r: r.one_of("density", tables.DENSITIES, empty=""))
    age = tables.agreed(rows, "age", lambda r: tables.checked_age(r, "age"))
    mm = tables.agreed(rows, "pixel_mm", lambda r: r.number_in("pixel_mm", 0.005, 5.0))
    labels = [row.one_of("label", _LABELS) for row in rows]
    for row, label in zip(rows, labels, strict=True):
        if (label == NORMAL) != (labels[0] == NORMAL):
            raise row.error("label", f"contradicts row {first.number}: an image is normal or not")
    path = first.table.parent / name
    header = _header(first, path, patient, side, view, density, age, mm)
    return Film(
        source="manifest",
        name=name,
        patient=f"manifest/{patient}",
        path=path,
        header=header,
        label=worst(labels),
        density=density,
        table=first.table,
        row=first.number,
        rows=tuple(row.cells for row in rows),
        marked=_lesions(rows, labels, header),
        clinical=_clinical(first),
    )


def _header(
    row: Row, path: Path, patient: str, side: Laterality, view: View, density: str, age: float | None, mm: float | None
) -> Header:
    """The header of the file, or one made for a file without; the table fills in, and may not contradict."""
    if images.is_plain(path):
        rows, columns = tables.size_for(row, "path", path)
        return images.plain_header(
            path, name=row.get("path"), patient=patient, laterality=side, view=view, rows=rows, columns=columns, age=age,
            density=density, mm=mm,
        )  # fmt: skip
    header = tables.with_row(row, "path", path, images.dicom_header)
    if Laterality.UNKNOWN not in {side, header.laterality} and side is not header.laterality:
        raise row.error("laterality", f"{side.value}, but the DICOM file says {header.laterality.value}")
    if View.UNKNOWN not in {view, header.view} and view is not header.view:
        raise row.error("view", f"{view.value}, but the DICOM file says {header.view.value}")
    known = side if side is not Laterality.UNKNOWN else header.laterality
    if mm and header.spacing and abs(header.spacing.column_mm / mm - 1) > _SPACING_SLACK:
        raise row.error("pixel_mm", f"{mm:g}, but the DICOM file says {header.spacing.column_mm:g}")
    return replace(
        header,
        laterality=known,
        view=view if view is not View.UNKNOWN else header.view,
        density=images.reading(density, known) or header.density,
        age=header.age if age is None else Age(age, AgeSource.TABLE),
        spacing=header.spacing or (Spacing(mm, mm, SpacingSource.TABLE) if mm else None),
    )


def _lesions(rows: list[Row], labels: list[str], header: Header) -> tuple[Lesion, ...]:
    out = []
    for row, label in zip(rows, labels, strict=True):
        if (place := _place(row, header)) is None:
            continue
        if label == NORMAL:
            raise row.error("label", "a normal image has no box and no contour")
        box, contour = place
        kind = row.one_of("kind", _KINDS, empty="")
        subtlety = row.number_in("subtlety", 1, 5)
        out.append(
            Lesion(
                label,
                kind,
                box,
                contour,
                row.get("assessment"),
                None if subtlety is None else int(subtlety),
                longest_mm(box, header.spacing),
            )
        )
    seen: dict[tuple[Box, Points], Row] = {}
    located = [row for row in rows if _place(row, header) is not None]
    for row, lesion in zip(located, out, strict=True):
        if (other := seen.setdefault((lesion.box, lesion.contour), row)) is not row:
            raise row.error("path", f"the same place as in row {other.number}")
    return tuple(out)


def _place(row: Row, header: Header) -> tuple[Box, Points] | None:
    """Box and contour of a row; None where it has neither."""
    given = [c for c in _CORNERS if row.get(c)]
    contour = _contour(row)
    if given and contour:
        raise row.error("contour", "a row has a box or a contour, not both")
    if contour:
        box = box_of(contour)
    elif given:
        if missing := [c for c in _CORNERS if c not in given]:
            raise row.error(missing[0], "a box needs x0, y0, x1 and y1")
        x0, y0, x1, y1 = (float(row.number_in(c, -1e6, 1e6) or 0.0) for c in _CORNERS)
        if x0 >= x1 or y0 >= y1:
            raise row.error("x1", f"a box needs x0 < x1 and y0 < y1, not {x0:g} {y0:g} {x1:g} {y1:g}")
        box = (x0, y0, x1, y1)
    else:
        return None
    if outside(box, header, slack=_SLACK):
        where = "contour" if contour else next(c for c, bad in zip(_CORNERS, _over(box, header), strict=True) if bad)
        raise row.error(where, f"reaches over the edge of the image of {header.columns} x {header.rows} pixels")
    return box, contour


def _over(box: Box, header: Header) -> tuple[bool, bool, bool, bool]:
    x0, y0, x1, y1 = box
    return x0 < -_SLACK, y0 < -_SLACK, x1 > header.columns + _SLACK, y1 > header.rows + _SLACK


def _contour(row: Row) -> Points:
    """``x y; x y; x y`` as points, () for an empty cell."""
    written = row.get("contour")
    if not written:
        return ()
    try:
        points = tuple(
            (tablefile.number(x, "x", row.mark), tablefile.number(y, "y", row.mark))
            for x, y in (part.split() for part in written.strip("; ").split(";"))
        )
    except ValueError:
        raise row.error("contour", "not a list of points `x y; x y; x y`") from None
    if len(points) < 3:
        raise row.error("contour", f"{len(points)} points; an outline has at least 3")
    return points
