"""The user's table of densities: in every form, with lost zeros, and refused before anything is made."""

import openpyxl
import pytest
from click.testing import CliRunner

from mammoscan.archive import density
from mammoscan.cli import main
from mammoscan.core.domain import Density, Laterality
from mammoscan.core.errors import LabelError


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


ROWS = [["Patient ID", "Seite", "Density"], ["7", "", "C"], ["8", "", "2"]]
KEY_7, KEY_8 = (("patient_id", name, Laterality.BOTH) for name in "78")


@pytest.mark.parametrize("form", ["comma", "semicolon", "utf-16", "cp1252", "xlsx"])
def test_every_form_gives_the_same_densities(tmp_path, form):
    path = tmp_path / "d.csv"
    if form == "xlsx":
        book = openpyxl.Workbook()
        for row in [ROWS[0], [7.0, None, "C"], [8, None, 2]]:
            book.active.append(row)
        path = tmp_path / "d.xlsx"
        book.save(path)
    elif form == "utf-16":
        write(path, "\r\n".join("\t".join(r) for r in ROWS), "utf-16")
    elif form == "cp1252":
        write(path, "\r\n".join(";".join(r) for r in [[*ROWS[0], "Größe"], *ROWS[1:]]), "cp1252")
    else:
        write(path, "\n".join({"comma": ",", "semicolon": ";"}[form].join(r) for r in ROWS))
    assert density.read_density_table(path).rows == {KEY_7: Density.C, KEY_8: Density.B}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("density\na\n", "columns missing"),
        ("patient_id,density\n7,e\n", "row 2: unknown density 'e'"),
        ("patient_id,density\n7,a\n\n7,b\n", "row 4: a second, different density for patient_id, after that of row 2"),
        ("patient_id,density\n,a\n", "row 2: no identifier"),
        ("study_instance_uid,density\n1.28E+25,a\n", "row 2: study_instance_uid '1.28E.25' is what a spreadsheet left"),
        ("patient_id,side,density\n7,x,a\n", "row 2: unknown laterality 'x'"),
        ("patient_id,density\n", "no densities"),
    ],
)
def test_a_bad_table_is_refused_with_its_row_before_anything_is_made(tmp_path, text, message):
    path = write(tmp_path / "d.csv", text)
    with pytest.raises(LabelError, match=message):
        density.read_density_table(path)
    (tmp_path / "archive").mkdir()
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["run", str(tmp_path / "archive"), "--out", str(out), "--density-csv", str(path)])
    assert result.exit_code == 2
    assert not out.exists()


def test_lost_zeros_are_matched_to_the_only_patient_and_never_to_one_of_two(tmp_path):
    table = density.read_density_table(write(tmp_path / "d.csv", "patient_id,density\n7,c\n8,b\n9,a\n"))
    met = table.meeting(["007", "08", "8", "9"])
    assert met.rows == {
        ("patient_id", "007", Laterality.BOTH): Density.C,
        ("patient_id", "9", Laterality.BOTH): Density.A,
    }
    assert [note.split(",")[0].split(":")[0] for note in met.notes] == ["row 2", "row 3"]
    assert "not used" in met.notes[1]
    assert not any("007" in note or "08" in note for note in met.notes)  # notes reach logs


def test_two_spellings_of_a_number_with_two_densities_say_nothing(tmp_path):
    table = density.read_density_table(write(tmp_path / "d.csv", "patient_id,density\n7,c\n7.0,b\n"))
    assert table.meeting(["007"]).rows == {}


def test_a_table_that_shows_zeros_has_lost_none(tmp_path):
    table = density.read_density_table(write(tmp_path / "d.csv", "patient_id,density\n7,c\n008,b\n"))
    assert table.meeting(["007", "008"]).rows == {("patient_id", "008", Laterality.BOTH): Density.B}
