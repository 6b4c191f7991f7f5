"""Tables are safe and stable; the PDF says whose it is on every page."""

import csv
import dataclasses
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoscan.core.domain import Cost, PointCost
from mammoscan.report import figures, pdf, tables
from tests.report import results

PDFTOTEXT = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs poppler-utils")


def _pages(tmp_path, result):
    path = tmp_path / "r.pdf"
    path.write_bytes(pdf.render(result, results.CONTEXT))
    text = subprocess.run(["pdftotext", "-layout", str(path), "-"], capture_output=True, check=True).stdout.decode()
    return text.split("\f")[:-1]


@pytest.mark.parametrize("name", list(results.outcomes()))
def test_rows_fit_their_columns(name):
    rows = tables.rows_of_study(results.outcomes()[name], results.CONTEXT, "studies/x")
    for table, found in rows.items():
        columns = tables.COLUMNS[table]
        content = (tables.header_line(columns) + tables.lines(found, columns)).decode()
        parsed = list(csv.DictReader(io.StringIO(content)))
        assert len(parsed) == len(found)
        assert all(None not in row for row in parsed)


@given(st.text(max_size=30))
def test_no_cell_is_taken_for_a_formula(text):
    cell = tables.safe(text)
    dangerous = cell[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"}
    assert not dangerous or re.fullmatch(r"[\s\S]*\d[\s\S]*|[+-]?(inf|infinity|nan)\s*", cell, re.IGNORECASE)


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd"])
def test_formulas_get_an_apostrophe_and_numbers_do_not(text):
    assert tables.safe(text) == "'" + text
    assert tables.safe("-12.5") == "-12.5"


def test_unknown_numbers_are_empty_and_unknown_terms_say_so():
    rows = tables.rows_of_study(results.awkward()["unknown-side"], results.CONTEXT, "x")
    columns = [c.name for c in tables.COLUMNS["images"]]
    row = dict(zip(columns, rows["images"][0], strict=True))
    assert row["laterality"] == "unknown"
    assert row["view"] == "unknown"
    empty = tables.rows_of_study(results.awkward()["empty"], results.CONTEXT, "x")["images"][0]
    row = dict(zip(columns, empty, strict=True))
    assert row["spacing_row_mm"] == ""
    assert row["spacing_source"] == "unknown"
    assert row["breast_area_mm2"] == ""


@PDFTOTEXT
@pytest.mark.parametrize("name", list(results.outcomes()))
def test_every_page_says_whose_it_is_and_what_it_is_not(tmp_path, name):
    pages = _pages(tmp_path, results.outcomes()[name])
    for number, page in enumerate(pages, 1):
        assert "DEMO-1" in page
        assert "ACC1" in page
        assert "second reading" in page
        assert f"page {number} of {len(pages)}" in page


@PDFTOTEXT
def test_the_report_says_what_its_operating_point_costs_or_that_it_is_unknown(tmp_path):
    study = results.outcomes()[next(iter(results.outcomes()))]
    cost = PointCost(Cost(0.4, 0.9, 50, 40), Cost(None, 0.95, 0, 20), "two sets")
    for context, words in (
        (
            dataclasses.replace(results.CONTEXT, cost=cost),
            "flags 10 of 100 healthy films, finds 40 of 100 films with cancer; flags 5 of 100 healthy breasts, finds an "
            "unknown number of 100 breasts with cancer (counted on two sets)",
        ),
        (
            results.CONTEXT,
            "flags an unknown number of 100 healthy films, finds an unknown number of 100 films with cancer",
        ),
    ):
        path = tmp_path / "report.pdf"
        path.write_bytes(pdf.render(study, context))
        text = subprocess.run(["pdftotext", str(path), "-"], capture_output=True, check=True).stdout.decode()
        assert words in " ".join(text.split())


@PDFTOTEXT
@pytest.mark.parametrize(
    ("name", "words"),
    [("japanese", ["山田", "花子"]), ("cyrillic", ["Иванова", "Анна"]), ("latin", ["Müller", "Änne"])],
)
def test_names_of_every_script_come_out(tmp_path, name, words):
    text = _pages(tmp_path, results.awkward()[name])[0]
    assert all(word in text.replace(" ", "") for word in words)


@PDFTOTEXT
@pytest.mark.parametrize("name", ["japanese", "cyrillic", "latin"])
def test_every_font_that_is_used_is_embedded(tmp_path, name):
    """A PACS shows the report on machines whose fonts nobody knows."""
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf.render(results.awkward()[name], results.CONTEXT))
    listed = subprocess.run(["pdffonts", path], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    fonts = {line.split()[0]: line.split()[-5] for line in listed}
    assert fonts.pop("Helvetica", "no") == "no"  # reportlab names it in every file and sets nothing in it
    assert set(fonts.values()) == {"yes"}
    assert any("NotoSansCJK-Japanese" in font for font in fonts) == (name == "japanese")


@PDFTOTEXT
def test_failed_images_are_listed_with_their_reason(tmp_path):
    text = " ".join(_pages(tmp_path, results.outcomes()["all-failed"])[0].split())
    assert text.count("truncated") == 4
    assert "fewer pixel bytes" in text


def test_the_same_result_gives_the_same_bytes():
    result = results.with_findings()
    assert pdf.render(result, results.CONTEXT) == pdf.render(result, results.CONTEXT)


def test_findings_are_drawn_where_they_are():
    result = results.with_findings()
    original, _, outlined, classified, _ = figures.five_pictures(result.images[0], side=600)
    changed = np.abs(outlined.astype(int) - original).sum(axis=2) > 60
    ys, xs = np.nonzero(changed[:, :190])
    scale = 600 / 1200
    # Finding 1: an ellipse of 60.25 x 40.5 source pixels around (300, 400).
    assert abs(xs.min() - (300 - 60.25) * scale) < 3
    assert abs(ys.max() - (400 + 40.5) * scale) < 3
    assert (classified != original).any()


def test_control_characters_of_a_damaged_header_end_no_row():
    columns = tables.COLUMNS["files"]
    odd = "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029"
    content = (tables.header_line(columns) + tables.lines([[odd, *["x"] * (len(columns) - 1)]], columns)).decode()
    assert len(content.splitlines()) == 2
    _, row = csv.reader(io.StringIO(content, newline=""))
    assert row == [" " * len(odd), *["x"] * (len(columns) - 1)]
