"""Tables of labels (CSV, XLS, XLSX) whose errors name file, row, column, cause and remedy."""

from __future__ import annotations

import csv
import math
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import openpyxl
import xlrd

from mammoscan.domain import Laterality, View
from mammoscan.errors import InputError, LabelError
from mammoscan.model.datasets import images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from mammoscan.domain import Header

T = TypeVar("T")

SIDES = {k: side for side in (Laterality.LEFT, Laterality.RIGHT) for k in (side.value.lower(), side.name.lower())}
VIEWS = {view.value.lower(): view for view in View if view is not View.UNKNOWN}
DENSITIES = {k: letter for number, letter in zip("1234", "abcd", strict=True) for k in (number, letter)}
OLDEST = 120  # years


@dataclass(frozen=True, slots=True)
class Row:
    """One row. number: as a spreadsheet shows it (the heading is 1). cells: heading to trimmed text."""

    table: Path
    number: int
    cells: Mapping[str, str]

    def error(self, column: str, cause: str, remedy: str = "correct the cell, or take the row out") -> LabelError:
        """An error about one cell."""
        return LabelError(f"row {self.number}, column {column!r}: {cause}", path=self.table, remedy=remedy)

    def get(self, column: str) -> str:
        """A cell, '' where it is empty or the table has no such column."""
        return self.cells.get(column, "")

    def text(self, column: str) -> str:
        """A cell that must not be empty."""
        if not (found := self.get(column)):
            raise self.error(column, "empty", "fill it in, or take the row out")
        return found

    def number_in(self, column: str, low: float, high: float) -> float | None:
        """A number between two limits, None for an empty cell."""
        written = self.get(column)
        if not written:
            return None
        try:
            value = float(written)
        except ValueError:
            raise self.error(column, f"{written!r} is not a number") from None
        if not low <= value <= high:  # nan too
            raise self.error(column, f"{written!r} is not between {low:g} and {high:g}")
        return value

    def one_of(self, column: str, known: Mapping[str, T], *, empty: T | None = None) -> T:
        """What a cell means, compared without case; ``empty`` for an empty cell, where that is allowed."""
        written = self.get(column)
        if not written and empty is not None:
            return empty
        if written.lower() not in known:
            raise self.error(column, f"unknown value {written!r}", f"known are: {', '.join(known)}")
        return known[written.lower()]


def plain(heading: str) -> str:
    """A heading as it is compared: lower case, blanks and dashes as one underscore."""
    return re.sub(r"[\s_-]+", "_", heading.strip().lower())


def read_table(path: Path, needed: Sequence[str]) -> list[Row]:
    """Rows that are not blank. Cells are trimmed, line breaks in them too.

    Raises
    ------
    LabelError
        When it can't be read, a needed column is missing, or two headings are the same.
    """
    records = _spreadsheet(path) if path.suffix.lower() in {".xls", ".xlsx"} else _csv(path)
    heading = [plain(cell) for cell in records[0]] if records else []
    if missing := [name for name in needed if name not in heading]:
        raise LabelError(
            f"columns missing: {', '.join(missing)}",
            path=path,
            remedy=f"the first row has: {', '.join(heading) or 'nothing'}",
        )
    if twice := sorted({name for name in heading if name and heading.count(name) > 1}):
        raise LabelError(f"columns twice: {', '.join(twice)}", path=path, remedy="keep one of each")
    out = []
    for number, record in enumerate(records[1:], 2):
        cells = [cell.strip() for cell in record]
        if not any(cells):
            continue
        if any(cells[len(heading) :]):
            raise LabelError(
                f"row {number}: {len(cells)} cells under {len(heading)} headings",
                path=path,
                remedy="put cells that hold the separator in quotes",
            )
        out.append(Row(path, number, dict(zip(heading, cells, strict=False))))
    return out


def headings(path: Path) -> tuple[str, ...]:
    """The headings of a CSV file as they are compared, () where it is none."""
    try:
        records = _csv(path)
    except LabelError:
        return ()
    return tuple(plain(cell) for cell in records[0]) if records else ()


def _csv(path: Path) -> list[list[str]]:
    """All records. The separator is the commonest of comma, semicolon and tab in the heading."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            return list(csv.reader(stream, delimiter=max(",;\t", key=first.count), strict=True))
    except OSError as error:
        raise LabelError(f"cannot be read: {error.strerror}", path=path, remedy="check the file") from error
    except UnicodeDecodeError as error:
        raise LabelError("not UTF-8", path=path, remedy="save the table as UTF-8") from error
    except csv.Error as error:
        raise LabelError(f"not a CSV table: {error}", path=path, remedy="check the quotes") from error


def _spreadsheet(path: Path) -> list[list[str]]:
    """All rows of the first sheet of a workbook."""
    try:
        if path.suffix.lower() == ".xls":
            sheet = xlrd.open_workbook(path).sheet_by_index(0)
            rows: Iterable[Iterable[object]] = [sheet.row_values(i) for i in range(sheet.nrows)]
        else:
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            rows = list(book.worksheets[0].iter_rows(values_only=True))
            book.close()
    except (OSError, xlrd.XLRDError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise LabelError(f"the workbook cannot be read: {error}", path=path, remedy="save it as CSV") from error
    return [[_cell(value) for value in row] for row in rows]


def _cell(value: object) -> str:
    """Text of a workbook's cell: whole numbers without a decimal point, as the program shows them."""
    if value is None:
        return ""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def agreed(rows: Sequence[Row], column: str, read: Callable[[Row], T]) -> T:
    """What all rows of one image say in a column.

    Raises
    ------
    LabelError
        Where two contradict each other.
    """
    first = read(rows[0])
    for row in rows[1:]:
        if read(row) != first:
            raise row.error(column, f"contradicts row {rows[0].number} about the same image")
    return first


def unreadable(row: Row, column: str, path: Path, error: InputError) -> LabelError:
    """An image named by a cell that can't be read."""
    return row.error(
        column, f"the image {path} cannot be read: {error.message}", "fetch the file again, or take the row out"
    )


def checked_age(row: Row, column: str) -> float | None:
    """Years, None where empty."""
    return row.number_in(column, 0, OLDEST)


def with_row(row: Row, column: str, path: Path, read: Callable[[Path], Header]) -> Header:
    """A header read for a cell; a bad file is an error with that cell's row."""
    try:
        return read(path)
    except InputError as error:
        raise unreadable(row, column, path, error) from error


def size_for(row: Row, column: str, path: Path) -> tuple[int, int]:
    """(rows, columns) of the PNG, JPEG or PGM file of a cell; a bad file is an error with that cell's row."""
    try:
        return images.plain_size(path)
    except InputError as error:
        raise unreadable(row, column, path, error) from error
