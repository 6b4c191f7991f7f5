"""Tables for spreadsheet programs say what the plain ones say."""

import pytest

from mammoscan.core import tableforms
from mammoscan.core.tablefile import decimal_mark, find_columns, read_table
from mammoscan.core.tableforms import FORMS, PLAIN

UNITS = {"id": "", "date": "YYYYMMDD", "made": "YYYYMMDDHHMMSS", "score": "0 to 1", "contour": "px", "text": ""}
HEAD = (",".join(UNITS) + "\n").encode()
PLAIN_LINES = (
    b'0012.50,20260131,20260131021500,0.324,12.50 3.25;4.00 5.00,"a, b; c"\n'
    b"1.2,,,1e-05,,Zo\xc3\xab\n"
    b"2,2026,unknown,,0.5,=1.5\n"
)  # fmt: skip


def _table(form, lines=PLAIN_LINES):
    return form.heading(HEAD) + form.lines(lines, list(UNITS.values()))


def test_the_plain_form_is_as_it_is_given():
    assert _table(PLAIN) == HEAD + PLAIN_LINES


def test_excel_has_a_mark_and_iso_dates():
    assert _table(FORMS["excel"]).decode() == (
        "\ufeffid,date,made,score,contour,text\n"
        '0012.50,2026-01-31,2026-01-31 02:15:00,0.324,12.50 3.25;4.00 5.00,"a, b; c"\n'
        "1.2,,,1e-05,,Zoë\n"
        "2,2026,unknown,,0.5,=1.5\n"
    )


def test_excel_semicolon_has_decimal_commas_in_numbers_and_nowhere_else():
    assert _table(FORMS["excel-semicolon"]).decode() == (
        "\ufeffid;date;made;score;contour;text\n"
        '0012.50;2026-01-31;2026-01-31 02:15:00;0,324;"12.50 3.25;4.00 5.00";"a, b; c"\n'
        "1.2;;;1e-05;;Zoë\n"
        "2;2026;unknown;;0,5;=1.5\n"
    )


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_known_again_and_read_as_the_plain_one(tmp_path, name):
    path, plain = tmp_path / "t.csv", tmp_path / "p.csv"
    path.write_bytes(_table(FORMS[name]))
    plain.write_bytes(_table(PLAIN))
    assert tableforms.form_of(path) == FORMS[name]
    assert list(tableforms.rows(path, UNITS)) == list(tableforms.rows(plain, UNITS))


def test_tables_of_people_are_read_from_every_form_too(tmp_path):
    """What a person hands over as labels or as scores of another system may be one of ours."""
    for name, form in FORMS.items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(_table(form))
        table = read_table(path)
        columns = find_columns(table, {"score": ("score",), "id": ("id",)})
        assert [cells["id"] for _, cells in table.rows(columns)] == ["0012.50", "1.2", "2"]
        assert decimal_mark(table, columns, {"score"}) == form.decimal
