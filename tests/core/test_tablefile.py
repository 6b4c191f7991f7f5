"""Tables as spreadsheet programs write them: every form says the same, and what cannot be read without a guess is refused."""

import csv
import datetime as dt
import io
import tracemalloc
import zipfile

import openpyxl
import pytest

from mammoscan.core.errors import LabelError
from mammoscan.core.identifiers import Spellings
from mammoscan.core.tablefile import decimal_mark, find_columns, number, open_table, read_columns, read_table
from tests.training.datasets import made

HEAD = ["Patient ID", "Label", "Größe"]
ROWS = [["00123", "malignant", "12,5"], ["P 7", 'say "no"; or, yes', "0,5"]]
POINTS = [[a, b, c.replace(",", ".")] for a, b, c in ROWS]


def text(rows, delimiter=",", end="\r\n"):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerows(rows)
    return out.getvalue()


FORMS = {
    "utf-8": text([HEAD, *POINTS]).encode(),
    "utf-8-mark": text([HEAD, *POINTS]).encode("utf-8-sig"),
    "semicolons, cp1252": text([HEAD, *ROWS], ";").encode("cp1252"),
    "sep line": b"sep=;\r\n" + text([HEAD, *ROWS], ";").encode(),
    "unicode text": b"\xff\xfe" + text([HEAD, *ROWS], "\t").encode("utf-16-le"),
    "utf-16-be": b"\xfe\xff" + text([HEAD, *ROWS], "\t").encode("utf-16-be"),
    "old mac": text([HEAD, *ROWS], ";", "\r").encode(),
    "unix": text([HEAD, *POINTS], end="\n").encode(),
    "quoted commas": text([HEAD, *ROWS]).encode(),
    "trailing columns": text([[*HEAD, "", ""], *([*row, "", ""] for row in ROWS)], ";").encode(),
    "kept as text": text([HEAD, ['="00123"', *POINTS[0][1:]], POINTS[1]]).encode(),
    "dos end mark": text([HEAD, *POINTS]).encode() + b"\x1a",
    "other headings": text([["\u00a0PATIENT-ID ", "label", "GRÖSSE".lower().replace("ss", "ß")], *POINTS]).encode(),
}


def values(path):
    table = read_table(path)
    columns = {name: i for i, name in enumerate(table.names)}
    mark = decimal_mark(table, columns, {"größe"})
    return [(n, r["patient_id"], r["label"], number(r["größe"], "größe", mark)) for n, r in table.rows()]


EXPECTED = [(2, "00123", "malignant", 12.5), (3, "P 7", 'say "no"; or, yes', 0.5)]


def put(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_text_says_the_same(tmp_path, form):
    assert values(put(tmp_path / "t.csv", FORMS[form])) == EXPECTED


def book(path, rows, *, others=(), first=()):
    made_book = openpyxl.Workbook()
    made_book.remove(made_book.active)
    for name, content in (*first, ("Labels", rows), *others):
        sheet = made_book.create_sheet(name)
        for row in content:
            sheet.append(row)
    made_book.save(path)
    return path


@pytest.mark.parametrize("name", ["t.xlsx", "renamed.csv", "renamed.xls"])
def test_a_workbook_is_known_by_its_content(tmp_path, name):
    path = book(tmp_path / "t.xlsx", [HEAD, ["00123", "malignant", 12.5], ["P 7", ROWS[1][1], 0.5]])
    assert values(path.rename(tmp_path / name)) == EXPECTED


def test_text_under_the_name_of_a_workbook_is_read(tmp_path):
    assert values(put(tmp_path / "t.xlsx", FORMS["unicode text"])) == EXPECTED


def test_an_old_workbook_is_read_under_any_name(tmp_path):
    path = made.xls(tmp_path / "t.csv", [["patient_id", "size"], [123.0, 12.5], [], ["x", 2.0]])
    assert [(n, r["patient_id"], r["size"]) for n, r in read_table(path).rows()] == [(2, "123", "12.5"), (4, "x", "2")]


def test_cells_of_a_workbook_are_as_the_program_shows_them(tmp_path):
    path = book(tmp_path / "t.xlsx", [["a", "b", "c", "d", "e"], [123.0, dt.date(2022, 3, 10), True, 123, None]])
    editable = openpyxl.load_workbook(path)
    editable["Labels"]["D2"].number_format = "00000"
    editable["Labels"]["E2"] = 1234567890123456789
    editable.save(path)
    (row,) = read_table(path).rows()
    assert row == (2, {"a": "123", "b": "2022-03-10", "c": "true", "d": "00123", "e": "1.23456789012346E+18"})


def test_of_several_sheets_the_one_with_the_columns_is_read_and_said(tmp_path):
    notes = ("Notes", [["what this is"], ["x"]])
    path = book(tmp_path / "t.xlsx", [["id", "label"], ["a", "1"]], first=[notes], others=[("More", [["id", "label"]])])
    table = read_table(path, lambda names: "label" in names)
    assert table.names == ("id", "label")
    assert table.notes == ("sheet 'Labels' was read, the other 2 were not",)


def test_a_hidden_sheet_is_not_the_table(tmp_path):
    path = book(tmp_path / "t.xlsx", [["id"], ["a"]], first=[("Old", [["id"], ["wrong"]])])
    editable = openpyxl.load_workbook(path)
    editable["Old"].sheet_state = "hidden"
    editable.save(path)
    assert [r for _, r in read_table(path).rows()] == [{"id": "a"}]


def test_a_formula_without_its_value_is_named_and_one_with_it_counts(tmp_path):
    path = book(tmp_path / "t.xlsx", [["id", "score"], ["a", "=1/4"]])
    with pytest.raises(LabelError, match=r"sheet 'Labels', cell B2: a formula whose result was never stored"):
        read_table(path)
    stored = tmp_path / "stored.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stored, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(
                name, data.replace(b"</f><v></v>", b"</f><v>0.25</v>").replace(b"</f><v />", b"</f><v>0.25</v>")
            )
    assert [r for _, r in read_table(stored).rows()] == [{"id": "a", "score": "0.25"}]


def test_windows_1252_is_read_and_said(tmp_path):
    assert read_table(put(tmp_path / "t.csv", FORMS["semicolons, cp1252"])).notes == (
        "read as Windows-1252, since it is not UTF-8",
    )


def _zip(name):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "application/vnd.oasis.opendocument.spreadsheet")
    return out.getvalue()


BAD = {
    "cyrillic": ("id,label\nПациент,1\n".encode("cp1251"), "not UTF-8, and no other encoding is certain.*UTF-8"),
    "greek": ("id,label\nασθενής,1\n".encode("cp1253"), "not UTF-8, and no other"),
    "chinese": ("id,label\n患者编号,1\n".encode("gbk"), "not UTF-8, and no other"),
    "japanese": ("id,label\n患者番号,1\n".encode("shift-jis"), "not UTF-8, and no other"),
    "mac": ("id,label\nMüller,1\n".encode("mac-roman"), "not UTF-8, and no other"),
    "dos": ("id,label\nMüller,1\n".encode("cp850"), "not UTF-8, and no other"),
    "utf-16 without mark": ("id,label\na,1\n".encode("utf-16-le"), "NUL bytes: .*UTF-16 without its mark"),
    "nul": (b"id,label\na,1\nb\0,0\n", "NUL bytes"),
    "nul in utf-16": ("\ufeffid\tlabel\r\na\t1\r\nb\0\t0\r\n".encode("utf-16-le"), "row 3: NUL bytes"),
    "half utf-16": (b"\xff\xfe" + "id\tlabel".encode("utf-16-le")[:-1], "not the UTF-16 text"),
    "empty": (b"", "the file is empty"),
    "blank": (b"\r\n;;\r\n\r\n", "the file is empty"),
    "page": (b"<html><table><tr><td>id</td></tr></table></html>", "a page in HTML or XML.*save it as CSV or .xlsx"),
    "open quote": (b'id,label\na,1\nb,"0\nc,1\n', "row 3: not a CSV table: .*check the quotes"),
    "ods": (_zip("mimetype"), "which is not read.*save it as CSV or .xlsx"),
    "cut workbook": (b"PK\x03\x04" + b"x" * 50, "a ZIP archive|cannot be read"),
    "cut old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "the workbook cannot be read"),
    "password": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le"),
        "protected by a password.*save it without one",
    ),
    "twice": (b"id,Label,label\na,1,0\n", "columns twice: label"),
    "unquoted commas": (b"id,score\na,0,437\n", "row 2: 3 cells under 2 headings"),
    "two separators": (b"id,code;label\n1,2;3\n", "not clear: comma or semicolon.*sep=,"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_table_is_refused_with_its_remedy(tmp_path, kind):
    data, message = BAD[kind]
    with pytest.raises(LabelError, match=message) as error:
        read_table(put(tmp_path / "t.csv", data))
    assert error.value.remedy


def test_a_workbook_cut_anywhere_is_an_error_and_no_traceback(tmp_path):
    whole = book(tmp_path / "t.xlsx", [["id", "label"], *([f"a{i}", "1"] for i in range(50))]).read_bytes()
    for size in range(4, len(whole), len(whole) // 40):
        with pytest.raises(LabelError):
            read_table(put(tmp_path / "cut.xlsx", whole[:size]))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["0,437", "1,5"], [0.437, 1.5]),
        (["1234,567", "1,234"], [1234.567, 1.234]),
        (["0.437", "12"], [0.437, 12]),
        (["1,2E-03"], [0.0012]),
        ([",5"], [0.5]),
        (["1,234", "2,048"], "row 2: n '1,234' may be a decimal number or a thousand"),
        (["0,5", "0.5"], "row 2: n '0,5' has a comma, and row 3: n '0.5' a point"),
        (["1.234,5"], "row 2: n '1.234,5' is not clear"),
        (["1,234,567"], "row 2: n '1,234,567' is not clear"),
    ],
)
def test_a_decimal_comma_is_read_where_nothing_else_can_be_meant(tmp_path, cells, expected):
    table = read_table(put(tmp_path / "t.csv", text([["id", "n"], *(["a", c] for c in cells)], ";").encode()))
    columns = find_columns(table, {"n": ("n",)})
    if isinstance(expected, str):
        with pytest.raises(LabelError, match=expected):
            decimal_mark(table, columns, {"n"})
        return
    mark = decimal_mark(table, columns, {"n"})
    assert [number(row["n"], "n", mark) for _, row in table.rows(columns)] == expected


@pytest.mark.parametrize(
    ("known", "written", "asked", "means"),
    [
        (["00123", "456"], ["123", "456"], "123", ("00123",)),
        (["00123", "0123"], ["123"], "123", ("00123", "0123")),
        (["00123", "123"], ["123"], "123", ("00123", "123")),
        (["00123", "123"], ["123", "00123"], "123", ("123",)),  # this table keeps zeros
        (["00123", "09"], ["123", "09"], "123", ()),
        (["00123", "09"], ["0123"], "0123", ()),
        (["123"], ["00123"], "00123", ("123",)),
        (["00123"], ["123.0"], "123.0", ("00123",)),
        (["P00123"], ["P123"], "P123", ()),
        (["000"], ["0"], "0", ("000",)),
    ],
)
def test_a_number_without_its_zeros_means_every_identifier_that_it_can(known, written, asked, means):
    assert tuple(sorted(Spellings(known, written).find(asked).known)) == tuple(sorted(means))


@pytest.mark.parametrize("piece", [1, 3, 1 << 22])
@pytest.mark.parametrize("form", FORMS)
def test_a_text_says_the_same_in_whatever_pieces_it_is_read(tmp_path, monkeypatch, form, piece):
    monkeypatch.setattr("mammoscan.core.tablebytes._PIECE", piece)
    assert values(put(tmp_path / "t.csv", FORMS[form])) == EXPECTED


@pytest.mark.parametrize("piece", [1, 7, 1 << 22])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_table_is_refused_in_whatever_pieces_it_is_read(tmp_path, monkeypatch, kind, piece):
    monkeypatch.setattr("mammoscan.core.tablebytes._PIECE", piece)
    data, message = BAD[kind]
    with pytest.raises(LabelError, match=message):
        read_table(put(tmp_path / "t.csv", data))


def test_an_opened_table_says_what_is_wrong_with_a_row_when_it_comes_to_it(tmp_path):
    table = open_table(put(tmp_path / "t.csv", b"id,label\na,1\nb,1,2\n"))
    rows = table.rows()
    assert next(rows) == (2, {"id": "a", "label": "1"})
    with pytest.raises(LabelError, match="row 3: 3 cells under 2 headings"):
        next(rows)


def test_rows_of_a_long_text_are_read_and_not_kept(tmp_path):
    path = tmp_path / "t.csv"
    with path.open("w") as stream:
        stream.write("id,contour,score\n")
        stream.writelines(f"{i},{'1.25 2.5;' * 200},0.5\n" for i in range(20_000))
    tracemalloc.start()
    read = read_columns(open_table(path), {"id": 0, "score": 2}, {"score"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(read) == 20_000
    assert peak < path.stat().st_size / 2
