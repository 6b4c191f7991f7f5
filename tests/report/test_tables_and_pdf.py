"""Tables are safe and stable; the PDF says whose it is on every page."""

import csv
import dataclasses
import io
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoscan.core.domain import Cost, PointCost
from mammoscan.report import east_asian, figures, fontfiles, pdf, tables
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


def _need_font(name):
    if name == "japanese" and fontfiles.east_asian_font() is None:
        pytest.skip("Noto Sans CJK is not installed (fonts-noto-cjk)")


@PDFTOTEXT
@pytest.mark.parametrize(
    ("name", "words"),
    [("japanese", ["山田", "花子"]), ("cyrillic", ["Иванова", "Анна"]), ("latin", ["Müller", "Änne"])],
)
def test_names_of_every_script_come_out(tmp_path, name, words):
    _need_font(name)
    text = _pages(tmp_path, results.awkward()[name])[0]
    assert all(word in text.replace(" ", "") for word in words)


@PDFTOTEXT
@pytest.mark.parametrize("name", ["japanese", "cyrillic", "latin"])
def test_every_font_that_is_used_is_embedded(tmp_path, name):
    """A PACS shows the report on machines whose fonts nobody knows."""
    _need_font(name)
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf.render(results.awkward()[name], results.CONTEXT))
    listed = subprocess.run(["pdffonts", path], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    fonts = {line.split()[0]: line.split()[-5] for line in listed}
    assert fonts.pop("Helvetica", "no") == "no"  # reportlab names it in every file and sets nothing in it
    assert set(fonts.values()) == {"yes"}
    assert any("NotoSansCJK-Japanese" in font for font in fonts) == (name == "japanese")


@pytest.fixture
def font(monkeypatch):
    """Takes the font from a file, or from nowhere."""
    caches = (east_asian.characters, east_asian.register)

    def take(path):
        for cache in caches:
            cache.cache_clear()
        monkeypatch.setattr(east_asian, "east_asian_font", lambda: path)

    yield take
    for cache in caches:
        cache.cache_clear()


@PDFTOTEXT
@pytest.mark.parametrize("source", ["system", "extra"])
def test_the_font_may_be_the_systems_or_the_extras(tmp_path, font, source):
    if source == "system":
        path = next((p for folder in fontfiles.FOLDERS for p in folder.rglob(fontfiles.NAMES[0])), None)
    else:
        spec = find_spec(fontfiles.PACKAGE)
        path = spec and Path(spec.origin).parent / fontfiles.FILE
    if path is None:
        pytest.skip(f"no font from the {source}")
    font(path)
    text = _pages(tmp_path, results.awkward()["japanese"])[0].replace(" ", "")
    assert "山田" in text
    assert "花子" in text


@PDFTOTEXT
def test_without_the_font_names_are_boxes_and_nothing_else_changes(tmp_path, font):
    font(None)
    text = _pages(tmp_path, results.awkward()["japanese"])[0]
    assert "山" not in text
    assert text.count("\u25af") >= 4
    assert "Yamada" in text


def test_only_a_text_that_needs_the_font_lacks_it(monkeypatch):
    monkeypatch.setattr(fontfiles, "east_asian_font", lambda: None)
    assert fontfiles.lacks_font("Yamada^Hanako=山田^花子")
    assert not fontfiles.lacks_font("Иванова^Änne")
    monkeypatch.setattr(fontfiles, "east_asian_font", lambda: Path("/font.ttc"))
    assert not fontfiles.lacks_font("山田")


def test_the_systems_font_goes_before_the_extras(monkeypatch, tmp_path):
    monkeypatch.setattr(fontfiles, "FOLDERS", (tmp_path / "nothing", tmp_path))
    search = fontfiles.east_asian_font.__wrapped__
    assert search() is None or search().name == fontfiles.FILE
    placed = tmp_path / "opentype" / "noto" / "NotoSansCJK-Regular.ttc"
    placed.parent.mkdir(parents=True)
    placed.touch()
    assert search() == placed


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
