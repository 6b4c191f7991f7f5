"""The bytes of a table, in the forms that spreadsheet programs write, as sheets of text cells.

Text: UTF-8, UTF-16 and UTF-32 with their byte order mark, Windows-1252 where nothing speaks against it; comma,
semicolon or tab; quoted cells; the line ``sep=;`` that Excel understands; any line ends. Workbooks: .xlsx and .xls.
What a file is, is read from its content: names of files are often wrong.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import datetime as dt
import io
import math
import re
import warnings
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import openpyxl
import xlrd

from mammoscan.core.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

Record = tuple[int, list[str]]  # row as a spreadsheet shows it, cells

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
SAVE_TEXT = "save the table as UTF-8 (in Excel: 'CSV UTF-8') or as .xlsx"
SAVE_BOOK = "open it in a spreadsheet program and save it as CSV or .xlsx"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Windows-1252 as Western European words use it. Other encodings read as it give long runs of accents (Cyrillic,
# Greek, Chinese), capitals or signs within words (Mac, DOS), or characters that no table holds.
_WESTERN = re.compile(r"[\x00-\x7fÀ-ÖØ-öø-ÿŠšŽžŒœŸ€…„“”‚‘’–—\xa0§°²³µ·½«»©®]*")
_NOT_WESTERN = re.compile(
    r"[^\x00-\x7f]{3}|[a-zß-öø-ÿ][À-ÖØ-ÞŠŽŒŸ]|[A-Z][À-ÖØ-ÞŠŽŒŸ][a-z]|[A-Za-z][^\x00-\x7fÀ-ÖØ-öø-ÿŠšŽžŒœŸ’–]+[a-z]"
)
_SEPARATOR = re.compile(r'"?sep=(.)"?[ \t]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
_PAGE = re.compile(r"\s*<(?:!doctype|\?xml|html|table|head|meta|div|style|workbook)", re.IGNORECASE)
_PADDED = re.compile(r"0+")  # a number format that shows leading zeros
_EXACT = 10**15  # spreadsheet programs keep 15 digits of a number
_BOOKS = (b"PK", b"\xd0\xcf")  # how workbooks and ZIP archives begin
_END_MARK = "\x1a"  # of DOS
_PIECE = 1 << 22  # bytes of a text that are looked at together
_HEAD = 1 << 16  # characters within which a text says what it is


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows that hold anything, which can be gone through again. name: of a workbook's sheet, '' for text."""

    name: str
    records: Iterable[Record]


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds. delimiter: of text, '' for a workbook. notes: what a reader should know of the reading."""

    sheets: tuple[Sheet, ...]
    delimiter: str
    notes: tuple[str, ...] = ()


def read_content(path: Path) -> Content:
    """Read a table's file.

    Raises
    ------
    LabelError
        With the cause and what to do, for whatever is no table or cannot be read without a guess.
    """
    with _reading(path), path.open("rb") as stream:
        data = stream.read(2)
        if data in _BOOKS:  # read whole; text, which can be far larger, is not
            data += stream.read()
    kind = _kind(path, data)
    if kind == "xlsx":
        return Content(tuple(_workbook(path, _xlsx, data)), "")
    if kind == "xls":
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise LabelError(
                "the workbook is protected by a password", path=path, remedy="save it without one, or as CSV"
            )
        return Content(tuple(_workbook(path, _xls, data)), "")
    if kind is not None:
        what = {"ods": "an OpenDocument table", "xlsb": "a binary workbook (.xlsb)"}.get(kind, "a ZIP archive")
        raise LabelError(f"{what}, which is not read", path=path, remedy=SAVE_BOOK)
    return _text(path)


def _kind(path: Path, data: bytes) -> str | None:
    """Which kind of workbook or archive the bytes are, None for anything else."""
    try:
        return xlrd.inspect_format(content=data) if data else None
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise LabelError(
            f"the workbook cannot be read: {error}", path=path, remedy=f"fetch it again, or {SAVE_BOOK}"
        ) from error


# --------------------------------------------------------------------------- text


@dataclass(frozen=True, slots=True)
class _Text:
    """A text file, read in pieces as often as it is asked for.

    skipped: characters in front of the first row. end_mark: whether the end mark of DOS, which is no text, stands last.
    """

    path: Path
    encoding: str
    skipped: int = 0
    end_mark: bool = False

    def head(self) -> str:
        """The first characters, enough to know what the text is."""
        with _reading(self.path), self.path.open(encoding=self.encoding, newline="") as stream:
            return stream.read(_HEAD)

    def lines(self) -> Iterator[str]:
        """Lines with their ends: every kind of end is left to the reader of cells, which knows those within quotes."""
        with _reading(self.path), self.path.open(encoding=self.encoding, newline="") as stream:
            stream.read(self.skipped)
            if not self.end_mark:
                yield from stream
                return
            held = ""
            for line in stream:
                if held:
                    yield held
                held = line
            if held := held.removesuffix(_END_MARK):
                yield held


@dataclass(frozen=True, slots=True)
class _Records:
    """The rows of a text, read from the file each time they are gone through."""

    text: _Text
    delimiter: str

    def __iter__(self) -> Iterator[Record]:
        reader = csv.reader(self.text.lines(), delimiter=self.delimiter, strict=True)
        row = 0
        try:
            for row, cells in enumerate(reader, 1):
                if _hold(cells):
                    yield row, cells
        except csv.Error as error:
            raise LabelError(
                f"row {row + 1}: not a CSV table: {error}", path=self.text.path, remedy="check the quotes"
            ) from error


def _text(path: Path) -> Content:
    text, notes = _survey(path)
    head = text.head()
    stated = _SEPARATOR.match(head)
    if stated:
        text = replace(text, skipped=stated.end())
    delimiter = stated[1] if stated else _delimiter(path, text)
    records = _Records(text, delimiter)
    if path.suffix.lower() in {".xls", ".xlsx"} and not any(len(cells) > 1 for _, cells in records):
        raise LabelError("the workbook cannot be read: it holds none", path=path, remedy="save it as CSV or .xlsx")
    return Content((Sheet("", records),), delimiter, notes)


def _survey(path: Path) -> tuple[_Text, tuple[str, ...]]:
    """Go through a text once: its encoding, with what must be said of how it is read. Refuses what is no text."""
    with _reading(path), path.open("rb") as stream:
        first = stream.read(4)
        marked = next((encoding for mark, encoding in _MARKS if first.startswith(mark)), None)
        stream.seek(0)
        decoder = codecs.getincrementaldecoder(marked or "utf-8")()
        nul, sound, last = False, True, ""
        while piece := stream.read(_PIECE):
            if not marked and b"\0" in piece:
                raise LabelError(
                    "NUL bytes: damaged, no table, or UTF-16 without its mark",
                    path=path,
                    remedy=f"fetch it again, or {SAVE_TEXT}",
                )
            if sound:
                try:
                    text = decoder.decode(piece)
                except UnicodeDecodeError as error:
                    _refuse_mark(path, marked, error)
                    sound = False  # another encoding, perhaps; NUL bytes are still looked for
                    continue
                nul, last = nul or "\0" in text, text[-1:] or last
        if sound:
            try:
                last = decoder.decode(b"", final=True) or last
            except UnicodeDecodeError as error:
                _refuse_mark(path, marked, error)
                sound = False
    notes: tuple[str, ...] = ()
    encoding = marked or "utf-8"
    if not sound:
        last = _western(path)[-1:]
        encoding, notes = "cp1252", ("read as Windows-1252, since it is not UTF-8",)
    found = _Text(path, encoding, end_mark=last == _END_MARK)
    if _PAGE.match(found.head()):
        raise LabelError("a page in HTML or XML under the name of a table", path=path, remedy=SAVE_BOOK)
    if nul:
        before = path.read_bytes().decode(encoding).partition("\0")[0]
        row = len(before.splitlines()) or 1
        raise LabelError(
            f"row {row}: NUL bytes, which no table holds", path=path, remedy=f"fetch it again, or {SAVE_TEXT}"
        )
    return found, notes


def _refuse_mark(path: Path, marked: str | None, error: UnicodeDecodeError) -> None:
    if marked:
        raise LabelError(
            f"not the {marked.upper().removesuffix('-SIG')} text that its first bytes announce",
            path=path,
            remedy=f"fetch it again, or {SAVE_TEXT}",
        ) from error


def _western(path: Path) -> str:
    """The text as Windows-1252, where nothing speaks against it."""
    try:
        text = path.read_bytes().decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    if not text or not _WESTERN.fullmatch(text) or _NOT_WESTERN.search(text):
        raise LabelError("not UTF-8, and no other encoding is certain", path=path, remedy=SAVE_TEXT)
    return text


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabelError(f"cannot be read: {error.strerror}", path=path, remedy="check the file") from error


def _hold(cells: list[str]) -> bool:
    """Whether a row holds more than signs that part cells."""
    return any(cell.strip().strip(",;") for cell in cells)


def _delimiter(path: Path, text: _Text) -> str:
    """What parts the cells: that which makes most of the heading, then of it most rows as wide as the heading."""
    found = {}
    for delimiter in DELIMITERS:
        lines = csv.reader(text.lines(), delimiter=delimiter)
        widths = []
        with contextlib.suppress(csv.Error):  # said where the table is read
            for cells in lines:
                if _hold(cells):
                    widths.append(len(cells))
                if len(widths) > 50:
                    break
        width = widths[0] if widths else 0
        found[delimiter] = (width, widths.count(width))
    best = max(found.values())
    chosen = [delimiter for delimiter, score in found.items() if score == best]
    if len(chosen) > 1 and best[0] > 1:
        both = " or ".join(DELIMITERS[d] for d in chosen)
        raise LabelError(
            f"what parts the cells is not clear: {both}",
            path=path,
            remedy=f"put a first line sep={chosen[0]} or quote cells that hold the sign",
        )
    return chosen[0]


# --------------------------------------------------------------------------- workbooks


def _workbook(path: Path, read: Callable[[bytes], list[Sheet]], data: bytes) -> list[Sheet]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about forms and styles, which are not read
            return read(data)
    except _UnfinishedError as error:
        raise LabelError(
            f"{error}: a formula whose result was never stored",
            path=path,
            remedy="open it in a spreadsheet program and save it, or put the value there",
        ) from error
    except Exception as error:  # parsers of damaged workbooks raise anything
        if "encrypted" in str(error).lower():
            raise LabelError(
                "the workbook is protected by a password", path=path, remedy="save it without one, or as CSV"
            ) from error
        raise LabelError(
            f"the workbook cannot be read: {error or type(error).__name__}", path=path, remedy="save it as CSV"
        ) from error


class _UnfinishedError(Exception):
    """A formula without a value; the message says where."""


def _xlsx(data: bytes) -> list[Sheet]:
    """Visible sheets. Formulas count with the value that the program stored."""
    sheets, formulas = _xlsx_cells(data, values=False)
    if not formulas:
        return sheets
    sheets, _ = _xlsx_cells(data, values=True)
    filled = {
        (sheet.name, row, column)
        for sheet in sheets
        for row, cells in sheet.records
        for column, cell in enumerate(cells)
        if cell
    }
    for name, row, column, where in formulas:
        if (name, row, column) not in filled:
            raise _UnfinishedError(f"sheet {name!r}, cell {where}")
    return sheets


def _xlsx_cells(data: bytes, *, values: bool) -> tuple[list[Sheet], list[tuple[str, int, int, str]]]:
    """Sheets, and sheet, row, column and name of cells with a formula (``values``: none, they are values then)."""
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=values)
    sheets, formulas = [], []
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            continue
        sheet.reset_dimensions()  # what a file says of its own size is often wrong, and would cut it
        records = []
        for row, found in enumerate(sheet.iter_rows(), 1):
            formulas += [(sheet.title, row, i, c.coordinate) for i, c in enumerate(found) if c.data_type == "f"]
            records.append((row, [_cell(c.value, c.number_format if c.value is not None else "") for c in found]))
        sheets.append(Sheet(sheet.title, _filled(records)))
    book.close()
    return sheets, formulas


def _xls(data: bytes) -> list[Sheet]:
    # Its remarks about odd files would go to stdout.
    book = xlrd.open_workbook(file_contents=data, formatting_info=True, logfile=io.StringIO())
    return [
        Sheet(
            sheet.name,
            _filled((i + 1, [_xls_cell(book, cell) for cell in sheet.row(i)]) for i in range(sheet.nrows)),
        )
        for sheet in book.sheets()
        if sheet.visibility == 0
    ]


def _xls_cell(book: xlrd.Book, cell: xlrd.sheet.Cell) -> str:
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return str(xlrd.error_text_from_code.get(cell.value, "#N/A"))
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return _cell(bool(cell.value))
    if cell.ctype == xlrd.XL_CELL_DATE:
        return _cell(xlrd.xldate_as_datetime(cell.value, book.datemode))
    if cell.ctype == xlrd.XL_CELL_NUMBER and cell.xf_index is not None and cell.xf_index < len(book.xf_list):
        form = book.format_map.get(book.xf_list[cell.xf_index].format_key)
        return _cell(cell.value, form.format_str if form else "")
    return _cell(cell.value)


def _filled(records: Iterable[Record]) -> list[Record]:
    return [(row, cells) for row, cells in records if any(cell.strip() for cell in cells)]


def _cell(value: object, form: str = "") -> str:
    """Text of a workbook's cell as the program shows it: whole numbers without a decimal point, dates by ISO 8601.

    A number of more digits than the program keeps is written as the program shows it, with an exponent, so that it
    is seen to be no identifier any more.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, int):
        if abs(value) >= _EXACT:
            return f"{value:.14E}"
        return str(value).zfill(len(form)) if _PADDED.fullmatch(form) else str(value)
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time.min else value.isoformat(" ")
    return str(value)
