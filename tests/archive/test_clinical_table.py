"""The user's table of clinical data: in every form, by study or patient, and refused without quoting a patient's value."""

import dataclasses

import openpyxl
import pytest

from mammoscan.archive.clinical import read_clinical_table
from mammoscan.core.clinical import Column
from mammoscan.core.errors import LabelError
from tests.report import results

COLUMNS = (Column("clinical_bmi"), Column("clinical_hormones", ("never", "now")))
MISSING = (("clinical_bmi", None), ("clinical_hormones", None))


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def header(patient="7", study="1.2.3"):
    made = results.header()
    return dataclasses.replace(
        made,
        patient=dataclasses.replace(made.patient, patient_id=patient),
        study=dataclasses.replace(made.study, study_instance_uid=study),
    )


def values(bmi, hormones):
    return (("clinical_bmi", bmi), ("clinical_hormones", hormones))


ROWS = [["Patient ID", "Clinical_BMI", "clinical hormones"], ["7", "24.5", "Now"], ["8", "", "unknown"]]


@pytest.mark.parametrize("form", ["comma", "semicolon with decimal commas", "utf-16", "xlsx"])
def test_every_form_gives_the_same(tmp_path, form):
    path = tmp_path / "c.csv"
    if form == "xlsx":
        book = openpyxl.Workbook()
        for row in [ROWS[0], [7.0, 24.5, "Now"], [8, None, "unknown"]]:
            book.active.append(row)
        path = tmp_path / "c.xlsx"
        book.save(path)
    elif form == "utf-16":
        write(path, "\r\n".join("\t".join(r) for r in ROWS), "utf-16")
    elif form == "comma":
        write(path, "\n".join(",".join(r) for r in ROWS))
    else:
        write(path, "\n".join(";".join(r) for r in ROWS).replace("24.5", "24,5"))
    table = read_clinical_table(path, COLUMNS).meeting(["7", "8"])
    assert table.find(header("7")) == values(24.5, "now")
    assert table.find(header("8")) == MISSING
    assert table.notes == ()


def test_a_row_of_a_study_goes_before_that_of_its_patient(tmp_path):
    text = "patient_id,study_instance_uid,clinical_bmi,clinical_hormones\n7,,24,never\n7,1.2.9,25,now\n"
    table = read_clinical_table(write(tmp_path / "c.csv", text), COLUMNS).meeting(["7"])
    assert table.find(header("7", "1.2.9")) == values(25.0, "now")
    assert table.find(header("7", "1.2.8")) == values(24.0, "never")


def test_leading_zeros_that_a_spreadsheet_dropped_are_found_again(tmp_path):
    path = write(tmp_path / "c.csv", "patient_id,clinical_bmi,clinical_hormones\n7,24,now\n")
    table = read_clinical_table(path, COLUMNS).meeting(["007"])
    assert table.find(header("007")) == values(24.0, "now")
    assert table.notes == ("row 2: matched to a patient_id that has leading zeros, as spreadsheets drop them",)


def test_columns_that_one_side_lacks_and_patients_without_a_row_are_said(tmp_path):
    text = "patient_id,clinical_bmi,clinical_genes,comment\n7,24,brca,x\n"
    table = read_clinical_table(write(tmp_path / "c.csv", text), COLUMNS).meeting(["7", "8", "9", ""])
    assert table.find(header("7")) == values(24.0, None)
    assert table.find(header("8")) == MISSING
    unknown, lacking, without = table.notes
    assert (
        unknown
        == "not used, since the model was not trained on them: clinical_genes; it takes clinical_bmi, clinical_hormones"
    )
    assert lacking.startswith("the table lacks clinical_hormones: that counts as missing for all patients")
    assert without == "2 of 3 patients of the archive have no row: all of theirs counts as missing"


def test_no_table_is_said_and_everything_is_missing():
    table = read_clinical_table(None, COLUMNS)
    assert table.find(header()) == MISSING
    assert table.notes == (
        "--clinical-csv is not given: the model takes clinical_bmi, clinical_hormones, and all of it counts as missing",
    )


HEAD = "patient_id,clinical_bmi,clinical_hormones\n"


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("patient_id,bmi\nzyx,24\n", "columns missing", "give one of study_instance_uid, patient_id"),
        ("clinical_bmi\n24\n", "columns missing", "give one of"),
        (HEAD + "zyx,zyxheavy,\n", "row 2, column 'clinical_bmi': not a number", "write a number, or leave the cell empty"),
        (HEAD + "zyx,,zyxpast\n", "row 2, column 'clinical_hormones': a category that", "write one of never, now, or"),
        (HEAD + "zyx,24,now\n\nzyx,25,now\n", "row 4: says something else of a patient_id than row 2", "keep the right one"),
        (HEAD + ",24,now\n", "row 2: no identifier", "fill in one of"),
        (HEAD, "no clinical data", "at least one row"),
        (HEAD.replace(",", ";") + "zyx;24,5;\nzyy;13.7777;\n", "row 2: it is not clear what the decimal mark", "same decimal"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_with_row_and_remedy_and_without_a_patients_value(tmp_path, text, message, remedy):
    with pytest.raises(LabelError) as caught:
        read_clinical_table(write(tmp_path / "c.csv", text), COLUMNS)
    error = caught.value
    assert error.message.startswith(message)
    assert remedy in error.remedy
    assert not {"zyx", "zyxheavy", "zyxpast", "24", "25", "13.7777"} & set(error.message.replace("'", " ").split())


def test_a_table_for_a_model_that_takes_none_is_refused(tmp_path):
    path = write(tmp_path / "c.csv", HEAD + "7,24,now\n")
    with pytest.raises(LabelError, match="the model takes no clinical data"):
        read_clinical_table(path, ())
