"""Columns of clinical data: what a cell means, the inputs that follow, and what reports may show."""

import math

import pytest

from mammoscan.core import clinical
from mammoscan.core.clinical import Column

BMI = Column("clinical_bmi")
HORMONES = Column("clinical_hormones", ("never", "now"))


@pytest.mark.parametrize("cell", ["", "  ", "missing", "Unknown", "NA", "n/a"])
def test_a_cell_that_says_nothing_is_missing_in_either_kind(cell):
    assert BMI.value(cell) is None
    assert HORMONES.value(cell) is None


def test_numbers_and_categories_are_read_with_either_decimal_mark_and_in_any_case():
    assert BMI.value("24.5") == BMI.value("24,5", ",") == 24.5
    assert HORMONES.value("Never ") == "never"


@pytest.mark.parametrize(("column", "cell"), [(BMI, "zyxheavy"), (BMI, "inf"), (HORMONES, "zyxpast")])
def test_a_value_that_does_not_fit_is_an_error_that_does_not_quote_it(column, cell):
    with pytest.raises(ValueError, match=r"not a number|does not know") as error:
        column.value(cell)
    assert cell not in str(error.value)


def test_missing_is_a_state_of_its_own():
    assert BMI.inputs == ("clinical_bmi", "clinical_bmi: missing")
    assert HORMONES.inputs == ("clinical_hormones: never", "clinical_hormones: now", "clinical_hormones: missing")
    names = (*HORMONES.inputs, *BMI.inputs)
    known = clinical.inputs(names, (("clinical_bmi", 24.5), ("clinical_hormones", "now")))
    assert known.tolist() == [0.0, 1.0, 0.0, 24.5, 0.0]
    unknown = clinical.inputs(names, (("clinical_bmi", None), ("clinical_hormones", None)))
    assert unknown.tolist()[:3] == [0.0, 0.0, 1.0]
    assert math.isnan(unknown[3])
    assert unknown[4] == 1.0


def test_an_input_whose_column_is_not_told_is_an_error_and_not_a_guess():
    with pytest.raises(KeyError):
        clinical.inputs(BMI.inputs, (("clinical_hormones", "now"),))


@pytest.mark.parametrize("column", [BMI, HORMONES])
def test_a_description_is_read_back_as_it_was(column):
    assert Column.of(column.facts()) == column


@pytest.mark.parametrize(
    "facts",
    [{"name": "age", "categories": []}, {"name": 7, "categories": []}, {"name": "clinical_a", "categories": [1]}],
)
def test_a_damaged_description_is_refused(facts):
    with pytest.raises(ValueError, match="no clinical column"):
        Column.of(facts)


def test_results_without_identities_tell_only_whether_there_was_a_value():
    values = (("clinical_bmi", 24.5), ("clinical_hormones", "now"), ("clinical_gene", None))
    assert clinical.shown(values) == (
        ("clinical_bmi", "24.5"), ("clinical_hormones", "now"), ("clinical_gene", "missing"),
    )  # fmt: skip
    assert {said for _, said in clinical.hidden(values)} == {"given, not shown", "missing"}
    assert [name for name, _ in clinical.hidden(values)] == [name for name, _ in values]
