"""The forms that tables are written in: for programs, and for spreadsheet programs of either half of the world.

Rows are kept and spliced as plain lines; another form is made of them when a table is written, and undone when one is read.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    Change = Callable[[str], str]

_DAY, _MOMENT = "YYYYMMDD", "YYYYMMDDHHMMSS"  # units of columns that hold dates
_POINT = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Form:
    """How a table is written. mark: its first bytes. iso: dates as 2026-01-31, times as 2026-01-31 02:15:00."""

    name: str
    mark: bytes = b""
    delimiter: str = ","
    decimal: str = "."
    iso: bool = False

    def heading(self, plain: bytes) -> bytes:
        """How a table begins, given the first line of its plain form."""
        return self.mark + self._lines(plain, [None] * len(plain.split(b",")))

    def lines(self, plain: bytes, units: Sequence[str]) -> bytes:
        """Rows, given as lines of the plain form and the units of their columns."""
        return self._lines(plain, [self._written(unit) for unit in units])

    def plain(self, cell: str, unit: str) -> str:
        """A cell of this form as the plain form has it."""
        if self.iso and unit in {_DAY, _MOMENT}:
            return re.sub(r"[- :]", "", cell)
        if self.decimal != "." and unit and _COMMA.fullmatch(cell):
            return cell.replace(self.decimal, ".")
        return cell

    def _lines(self, plain: bytes, changes: Sequence[Change | None]) -> bytes:
        if self.delimiter == "," and not any(changes):
            return plain
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=self.delimiter, lineterminator="\n")
        for row in csv.reader(io.StringIO(plain.decode(), newline="")):
            writer.writerow([change(cell) if change else cell for change, cell in zip(changes, row, strict=True)])
        return out.getvalue().encode()

    def _written(self, unit: str) -> Change | None:
        if self.iso and unit == _DAY:
            return _day
        if self.iso and unit == _MOMENT:
            return _moment
        if self.decimal != "." and unit:
            return lambda cell: cell.replace(".", self.decimal) if _POINT.fullmatch(cell) else cell
        return None


def _day(cell: str) -> str:
    return f"{cell[:4]}-{cell[4:6]}-{cell[6:]}" if re.fullmatch(r"\d{8}", cell) else cell


def _moment(cell: str) -> str:
    if not re.fullmatch(r"\d{14}", cell):
        return cell
    return f"{_day(cell[:8])} {cell[8:10]}:{cell[10:12]}:{cell[12:]}"


PLAIN = Form("plain")
FORMS = {
    form.name: form
    for form in (
        PLAIN,
        Form("excel", codecs.BOM_UTF8, iso=True),
        Form("excel-semicolon", codecs.BOM_UTF8, ";", ",", iso=True),
    )
}


def form_of(path: Path) -> Form:
    """The form in which a run wrote a table; the plain one of what is none."""
    with path.open("rb") as stream:
        line = stream.readline(1 << 16)
    if not line.startswith(codecs.BOM_UTF8):
        return PLAIN
    return FORMS["excel-semicolon" if b";" in line else "excel"]


def rows(path: Path, units: Mapping[str, str]) -> Generator[dict[str, str], None, None]:
    """Rows of a table that a run wrote, in whatever form, as cells of the plain form by the name of their column."""
    form = form_of(path)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream, delimiter=form.delimiter):
            yield {name: form.plain(cell or "", units.get(name, "")) for name, cell in row.items()}
