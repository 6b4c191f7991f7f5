"""Tables that people make, read at one place: headings, rows as text with their numbers, numbers by their decimal mark."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan.core.errors import LabelError
from mammoscan.core.tablebytes import Sheet, read_content

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from mammoscan.core.tablebytes import Record

# Spellings of what names a case, in lower case with underscores; every table accepts them.
IDENTIFIERS: dict[str, tuple[str, ...]] = {
    "sop_instance_uid": ("sop_instance_uid", "sopinstanceuid", "sop_uid"),
    "study_instance_uid": ("study_instance_uid", "studyinstanceuid", "study_uid", "study"),
    "patient_id": ("patient_id", "patientid", "patient", "patient_code"),
}
_NUMERAL = re.compile(r"[+-]?([\d.,]*\d[\d.,]*)(?:[eE][+-]?\d+)?")
# A comma before three digits can part thousands (1,234), but not behind a zero, nothing, or four digits.
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_AS_TEXT = re.compile(r'="([^"]*)"')  # how a cell is written so that a spreadsheet leaves it as it is
_FORMULA = frozenset("=+-@\t\r")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its heading row. notes: what should be said of how it was read.

    headings: as written. names: the same as they are compared, '' where a column has none. records: row as a
    spreadsheet shows it, with the cells.
    """

    path: Path
    headings: tuple[str, ...]
    names: tuple[str, ...]
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()

    def rows(self, columns: Mapping[str, int] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
        """Row number and cells by name, trimmed; of all named columns or of those chosen (name to position)."""
        if columns is None:
            columns = {name: i for i, name in enumerate(self.names) if name}
        for number, cells in self.records:
            yield number, {name: clean(cells[i]) if i < len(cells) else "" for name, i in columns.items()}


def plain(heading: str) -> str:
    """A heading as it is compared: lower case, blanks and dashes as one underscore."""
    return re.sub(r"[\s_-]+", "_", heading.replace("\ufeff", "").strip().lower())


def clean(cell: str) -> str:
    """A cell without blanks around it, and without what keeps a spreadsheet from changing or running it."""
    cell = cell.strip()
    if found := _AS_TEXT.fullmatch(cell):
        return found[1].strip()
    return cell[1:] if len(cell) > 1 and cell[0] == "'" and cell[1] in _FORMULA else cell


def read_table(path: Path, fits: Callable[[Collection[str]], bool] = bool) -> Table:
    """Read a table. Of a workbook with several sheets the first is taken whose headings fit, else the first.

    Raises
    ------
    LabelError
        Where the file is none that can be read, holds nothing, has a heading twice, or a row has cells without a heading.
    """
    content = read_content(path)
    sheets = [sheet for sheet in content.sheets if sheet.records]
    if not sheets:
        raise LabelError("the file is empty, all columns missing", path=path, remedy="give a table with a heading row")
    sheet = next((s for s in sheets if fits({plain(h) for h in s.records[0][1]})), sheets[0])
    notes = content.notes
    if len(sheets) > 1:
        notes += (f"sheet {sheet.name!r} was read, the other {len(sheets) - 1} were not",)
    headings = sheet.records[0][1]
    while headings and not headings[-1].strip():
        headings = headings[:-1]
    names = tuple(plain(heading) for heading in headings)
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise LabelError(f"columns twice: {', '.join(twice)}", path=path, remedy="keep one of each")
    if content.delimiter:
        _check_width(path, sheet, len(names))
    return Table(path, tuple(h.strip() for h in headings), names, tuple(sheet.records[1:]), notes)


def _check_width(path: Path, sheet: Sheet, width: int) -> None:
    """Text beyond the last heading: a sign within a cell was taken for its end, so every cell may be another's."""
    for row, cells in sheet.records[1:]:
        if any(cell.strip() for cell in cells[width:]):
            raise LabelError(
                f"row {row}: {len(cells)} cells under {width} headings",
                path=path,
                remedy="put cells that hold the separator in quotes (decimal commas between commas too), or save as .xlsx",
            )


def find_columns(
    table: Table, known: Mapping[str, tuple[str, ...]], chosen: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Position of every known column; ``chosen`` (name to heading) goes first.

    Raises
    ------
    LabelError
        Where a chosen heading does not exist, or two headings mean the same.
    """
    names, path = table.names, table.path
    out: dict[str, int] = {}
    for name, heading in (chosen or {}).items():
        if plain(heading) not in names:
            raise LabelError(f"no column {heading!r}", path=path, remedy=f"it has: {', '.join(table.headings)}")
        out[name] = names.index(plain(heading))
    taken = set(out.values())
    for name, spellings in known.items():
        if name in out:
            continue
        found = [i for i, n in enumerate(names) if n in spellings and i not in taken]
        if len(found) > 1:
            exact = [i for i in found if names[i] == name]
            if len(exact) != 1:
                both = " and ".join(repr(table.headings[i]) for i in found)
                raise LabelError(
                    f"columns {both} could both be {name}", path=path, remedy=f"choose with --column {name}=HEADING"
                )
            found = exact
        if found:
            out[name] = found[0]
            taken.add(found[0])
    return out


# --------------------------------------------------------------------------- numbers


def decimal_mark(table: Table, columns: Mapping[str, int], numeric: Collection[str]) -> str:
    """The decimal mark of the columns that hold numbers: a point, or the comma of half of the world.

    Raises
    ------
    LabelError
        With rows, where both occur, or where a comma may as well part thousands: a guess would change the number.
    """
    wanted = {name: i for name, i in columns.items() if name in numeric}
    comma: tuple[int, str] | None = None
    point: tuple[int, str] | None = None
    sure = False
    for row, cells in table.rows(wanted):
        for name, cell in cells.items():
            for token in re.split(r"[\s;]+", cell):  # a contour has several numbers
                found = _NUMERAL.fullmatch(token)
                if not found or not ("," in token or "." in token):
                    continue
                digits, said = found[1], (row, f"{name} {token!r}")
                if "," in digits and ("." in digits or digits.count(",") > 1):
                    raise LabelError(
                        f"row {row}: {said[1]} is not clear",
                        path=table.path,
                        remedy="write numbers without thousands signs",
                    )
                if "," in digits:
                    comma = comma or said
                    sure = sure or not _THOUSANDS.fullmatch(digits)
                else:
                    point = point or said
    if comma and point:
        raise LabelError(
            f"row {comma[0]}: {comma[1]} has a comma, and row {point[0]}: {point[1]} a point; one of them is no decimal mark",
            path=table.path,
            remedy="write all numbers with the same decimal mark, and none to part thousands",
        )
    if comma and not sure:
        raise LabelError(
            f"row {comma[0]}: {comma[1]} may be a decimal number or a thousand",
            path=table.path,
            remedy="write numbers with a decimal point and without thousands signs",
        )
    return "," if comma else "."


def number(written: str, name: str, mark: str = ".") -> float:
    """A finite number of a cell; ValueError with its name where it is none."""
    try:
        value = float(written.replace(",", ".") if mark == "," else written)
    except ValueError as error:
        raise ValueError(f"{name} {written!r} is not a number") from error
    if "_" in written:  # Python's own, in no spreadsheet
        raise ValueError(f"{name} {written!r} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} {written!r} is not finite")
    return value
