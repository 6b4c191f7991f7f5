"""Tables of labels whose errors name file, row, column, cause and remedy."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mammoscan.core import tablefile
from mammoscan.core.clinical import PREFIX
from mammoscan.core.domain import Laterality, View
from mammoscan.core.errors import InputError, LabelError
from mammoscan.training.datasets import images

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from mammoscan.core.domain import Header

log = logging.getLogger(__name__)
T = TypeVar("T")

SIDES = {k: side for side in (Laterality.LEFT, Laterality.RIGHT) for k in (side.value.lower(), side.name.lower())}
VIEWS = {view.value.lower(): view for view in View if view is not View.UNKNOWN}
DENSITIES = {k: letter for number, letter in zip("1234", "abcd", strict=True) for k in (number, letter)}
OLDEST = 120  # years
# Columns of any set that hold numbers with a fraction; the decimal mark is theirs.
NUMBERS = frozenset(
    {"age", "patient_age", "x", "y", "w", "h", "radius", "x0", "y0", "x1", "y1", "contour", "pixel_mm", "subtlety"}
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row. number: as a spreadsheet shows it (the heading is 1). cells: heading to trimmed text.

    mark: the decimal mark of the table's numbers.
    """

    table: Path
    number: int
    cells: Mapping[str, str]
    mark: str = "."

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
            value = tablefile.number(written, column, self.mark)
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


def read_table(path: Path, needed: Sequence[str]) -> list[Row]:
    """Rows that are not blank. Cells are trimmed, line breaks in them too.

    Raises
    ------
    LabelError
        When it can't be read, a needed column is missing, or two headings are the same.
    """

    def fits(names: Collection[str]) -> bool:
        return set(names).issuperset(needed)

    table = tablefile.without_opinions(tablefile.read_table(path, fits))
    if missing := [name for name in needed if name not in table.names]:
        raise LabelError(
            f"columns missing: {', '.join(missing)}",
            path=path,
            remedy=f"the first row has: {', '.join(table.names) or 'nothing'}",
        )
    for note in table.notes:
        log.warning("%s: %s", path, note)
    columns = {name: i for i, name in enumerate(table.names) if name}
    mark = tablefile.decimal_mark(table, columns, NUMBERS | {name for name in columns if name.startswith(PREFIX)})
    return [Row(path, number, cells, mark) for number, cells in table.rows(columns)]


def headings(path: Path) -> tuple[str, ...]:
    """The headings of a table as they are compared, () where it is none."""
    try:
        return tablefile.read_table(path).names
    except LabelError:
        return ()


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
