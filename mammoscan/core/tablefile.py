"""Tables that people make, read at one place: headings, rows as text with their numbers, numbers by their decimal mark."""

from __future__ import annotations

import math
import operator
import re
from array import array
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core.columns import Coder, NumberColumn, TextColumn
from mammoscan.core.errors import LabelError
from mammoscan.core.tablebytes import read_content

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

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
    spreadsheet shows it, with the cells; the heading row is the first. delimited: whether a sign parts the cells, as in
    text. The rows of a text are read from its file whenever they are asked for, so that it may be of any size.
    """

    path: Path
    headings: tuple[str, ...]
    names: tuple[str, ...]
    records: Iterable[Record]
    delimited: bool = False
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Record]:
        """Rows below the heading with their cells as they are written.

        Raises
        ------
        LabelError
            Where quotes are broken, or there is text beyond the last heading: a sign within a cell was taken for its
            end, so that every cell may be another's.
        """
        width = len(self.names)
        for row, cells in islice(iter(self.records), 1, None):
            if self.delimited and len(cells) > width and any(cell.strip() for cell in cells[width:]):
                raise LabelError(
                    f"row {row}: {len(cells)} cells under {width} headings",
                    path=self.path,
                    remedy="put cells that hold the separator in quotes (decimal commas between commas too), or save as .xlsx",
                )
            yield row, cells

    def rows(self, columns: Mapping[str, int] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
        """Row number and cells by name, trimmed; of all named columns or of those chosen (name to position)."""
        if columns is None:
            columns = {name: i for i, name in enumerate(self.names) if name}
        for number, cells in self:
            yield number, {name: clean(cells[i]) if i < len(cells) else "" for name, i in columns.items()}

    def blocks(self, columns: Mapping[str, int], most: int = 4096) -> Iterator[Block]:
        """Chosen columns (name to position, at least one), some thousand rows at a time, cells as they are written."""
        last = max(columns.values())
        places = tuple(columns.values())
        pick = operator.itemgetter(*places, places[0])  # the repeated one keeps it a tuple also of one column
        numbers: list[int] = []
        picked: list[tuple[str, ...]] = []
        for number, cells in self:
            numbers.append(number)
            picked.append(pick(cells if len(cells) > last else [*cells, *[""] * (last + 1 - len(cells))]))
            if len(numbers) == most:
                yield Block(numbers, dict(zip(columns, zip(*picked, strict=True), strict=False)))
                numbers, picked = [], []
        if numbers:
            yield Block(numbers, dict(zip(columns, zip(*picked, strict=True), strict=False)))


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a table: their numbers, and their cells by the name of the column, as they are written."""

    numbers: list[int]
    cells: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Columns:
    """Chosen columns of a table. rows: the rows' numbers, int64 (n,). text, numbers: by name."""

    rows: NDArray[np.int64]
    text: dict[str, TextColumn]
    numbers: dict[str, NumberColumn]

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, row: int) -> dict[str, str]:
        """The text cells of one row by name, trimmed, as ``Table.rows`` gives them."""
        return {name: column[row] for name, column in self.text.items()}


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
    table = open_table(path, fits)
    for _ in table:
        pass  # what is wrong with a row is said now
    return table


def open_table(path: Path, fits: Callable[[Collection[str]], bool] = bool) -> Table:
    """As ``read_table``, but what is wrong with a row is said only where the rows are gone through, which takes long in large tables."""
    content = read_content(path)
    firsts = [(sheet, next(iter(sheet.records), None)) for sheet in content.sheets]
    sheets = [(sheet, first[1]) for sheet, first in firsts if first is not None]
    if not sheets:
        raise LabelError("the file is empty, all columns missing", path=path, remedy="give a table with a heading row")
    sheet, headings = next((s for s in sheets if fits({plain(h) for h in s[1]})), sheets[0])
    notes = content.notes
    if len(sheets) > 1:
        notes += (f"sheet {sheet.name!r} was read, the other {len(sheets) - 1} were not",)
    while headings and not headings[-1].strip():
        headings = headings[:-1]
    names = tuple(plain(heading) for heading in headings)
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise LabelError(f"columns twice: {', '.join(twice)}", path=path, remedy="keep one of each")
    return Table(path, tuple(h.strip() for h in headings), names, sheet.records, bool(content.delimiter), notes)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Records without those that are a reader's opinion and no label. label, decision: positions of these columns."""

    records: Iterable[Record]
    label: int
    decision: int

    def __iter__(self) -> Iterator[Record]:
        records = iter(self.records)
        yield from islice(records, 1)
        for number, cells in records:
            label, decision = (clean(cells[i]) if i < len(cells) else "" for i in (self.label, self.decision))
            if label or not decision:
                yield number, cells


def without_opinions(table: Table) -> Table:
    """A table of labels without what readers said on the review page that is no label, which a note counts.

    Such a row has a ``decision`` and an empty ``label``. Of any other table nothing is left out.
    """
    if not {"label", "decision"} <= set(table.names):
        return table
    records = _Labelled(table.records, table.names.index("label"), table.names.index("decision"))
    left = sum(1 for _ in table.records) - sum(1 for _ in records)
    note = (f"{left} rows are opinions of readers without a label and were left out",) if left else ()
    return replace(table, records=records, notes=table.notes + note)


def read_columns(table: Table, columns: Mapping[str, int], numeric: Collection[str] = ()) -> Columns:
    """Read chosen columns (name to position) whole, in one pass over the table.

    ``numeric``: columns read as numbers with a decimal point; the others as text.

    Raises
    ------
    LabelError
        As going through the table's rows does.
    """
    rows = array("q")
    coders = {name: Coder() for name in columns if name not in numeric}
    floats: dict[str, tuple[list[NDArray[np.float64]], dict[int, str]]] = {
        name: ([], {}) for name in columns if name in numeric
    }
    for block in table.blocks(columns):
        for name, coder in coders.items():
            coder.add(block.cells[name])
        for name, (values, odd) in floats.items():
            part = floats_of(block.cells[name])
            values.append(part.values)
            odd.update({len(rows) + place: text for place, text in part.odd.items()})
        rows.extend(block.numbers)
    return Columns(
        np.array(rows, dtype=np.int64),
        {name: coder.column().mapped(clean) for name, coder in coders.items()},
        {name: NumberColumn(np.concatenate([np.zeros(0), *values]), odd) for name, (values, odd) in floats.items()},
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
    cells = ((row, name, cell) for row, found in table.rows(wanted) for name, cell in found.items())
    return _mark_of(table.path, cells)


def mark_of_columns(path: Path, columns: Columns, numeric: Collection[str]) -> str:
    """The decimal mark of columns that were read as text; the same as ``decimal_mark``, which reads the table."""
    found: list[tuple[int, int, str, str]] = []
    for order, (name, column) in enumerate(columns.text.items()):
        if name in numeric:
            # A text that comes again tells nothing new.
            marked = [i for i, value in enumerate(column.values) if "," in value or "." in value]
            first = np.full(len(column.values), len(columns))
            np.minimum.at(first, column.codes, np.arange(len(columns)))
            found += [(int(first[i]), order, name, column.values[i]) for i in marked]
    return _mark_of(path, ((int(columns.rows[row]), name, cell) for row, _, name, cell in sorted(found)))


def _mark_of(path: Path, cells: Iterable[tuple[int, str, str]]) -> str:
    """``cells``: row, name and text of all that may be numbers, in the order of the table."""
    comma: tuple[int, str] | None = None
    point: tuple[int, str] | None = None
    sure = False
    for row, name, cell in cells:
        if "," not in cell and "." not in cell:
            continue
        for token in re.split(r"[\s;]+", cell):  # a contour has several numbers
            found = _NUMERAL.fullmatch(token)
            if not found or not ("," in token or "." in token):
                continue
            digits, said = found[1], (row, f"{name} {token!r}")
            if "," in digits and ("." in digits or digits.count(",") > 1):
                raise LabelError(
                    f"row {row}: {said[1]} is not clear",
                    path=path,
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
            path=path,
            remedy="write all numbers with the same decimal mark, and none to part thousands",
        )
    if comma and not sure:
        raise LabelError(
            f"row {comma[0]}: {comma[1]} may be a decimal number or a thousand",
            path=path,
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


def floats_of(cells: Sequence[str]) -> NumberColumn:
    """Numbers of cells as they are written, with a decimal point; by ``number``'s rules, '' is none."""
    try:
        values = np.array([float(cell) if cell else math.nan for cell in cells], dtype=np.float64)
    except ValueError:
        pass
    else:
        if len(cells) - cells.count("") == np.isfinite(values).sum() and "_" not in "".join(cells):
            return NumberColumn(values, {})
    values, odd = np.full(len(cells), np.nan), {}
    for i, cell in enumerate(map(clean, cells)):
        if cell:
            try:
                values[i] = number(cell, "")
            except ValueError:
                odd[i] = cell
    return NumberColumn(values, odd)


def numbers_of(column: TextColumn, mark: str = ".", nothing: Collection[str] = ()) -> NumberColumn:
    """Numbers of a column that was read as text. ``nothing``: what stands for no number beside '', in lower case."""
    values = np.full(len(column.values), np.nan)
    odd_values: dict[int, str] = {}
    for i, text in enumerate(column.values):
        if text and text.lower() not in nothing:
            try:
                values[i] = number(text, "", mark)
            except ValueError:
                odd_values[i] = text
    odd = {
        int(row): odd_values[int(column.codes[row])] for row in np.flatnonzero(np.isin(column.codes, list(odd_values)))
    }
    return NumberColumn(values[column.codes] if len(values) else np.zeros(0), odd)
