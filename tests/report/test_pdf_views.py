"""The PDF's first page: the views as they hang on the review page, and the worst finding of each breast."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import mammoscan
from mammoscan.core.domain import Flag, Laterality, RegionKind, View
from mammoscan.report import figures, hanging, pdf, pdf_views
from tests.report import results

PDFTOTEXT = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs poppler-utils")
L, R, U, B = Laterality.LEFT, Laterality.RIGHT, Laterality.UNKNOWN, Laterality.BOTH


def _hung(*named):
    """Names of what hangs where: 'R CC' and so on, '-' for nothing."""
    headers = [results.header(side, view, n) for n, (side, view) in enumerate(named, 1)]
    return [
        tuple("-" if h is None else f"{h.laterality.value} {h.view.value}" for h in row)
        for row in hanging.rows(headers, lambda h: h)
    ]


def test_right_and_left_hang_back_to_back_cc_over_mlo():
    assert _hung((L, View.MLO), (R, View.MLO), (L, View.CC), (R, View.CC)) == [("R CC", "L CC"), ("R MLO", "L MLO")]


def test_a_missing_view_leaves_its_place_empty():
    assert _hung((L, View.MLO), (R, View.CC)) == [("R CC", "-"), ("-", "L MLO")]
    assert _hung((L, View.CC), (L, View.MLO)) == [("-", "L CC"), ("-", "L MLO")]


def test_further_views_follow_those_of_their_row_and_unknown_ones_stand_last():
    assert _hung(
        (L, View.XCCL), (U, View.CC), (L, View.CC), (R, View.CC), (R, View.UNKNOWN), (B, View.MLO), (U, View.ML),
    ) == [("R CC", "L CC"), ("-", "L XCCL"), ("R unknown", "-"), ("unknown CC", "B MLO"), ("unknown ML", "-")]  # fmt: skip


def test_views_share_rows_as_on_the_review_page():
    script = (Path(mammoscan.__file__).parent / "review" / "static" / "study.js").read_text(encoding="utf-8")
    written = re.search(r"const ROWS = \[\[(.*?)\], \[(.*?)\]\];", script)
    rows = [re.findall(r'"(\w+)"', row) for row in written.groups()]
    # There the first of a row is named twice.
    assert [list(dict.fromkeys(row)) for row in rows] == [[v.value for v in row] for row in hanging.ROWS]


@pytest.mark.parametrize(
    ("side", "flipped", "turned"),
    [(R, True, False), (R, False, True), (L, False, False), (L, True, True), (U, True, False), (U, False, False)],
)
def test_an_image_is_turned_over_where_its_chest_wall_lies_outwards(side, flipped, turned):
    made = results.prediction(results.header(side))
    made = dataclasses.replace(made, geometry=dataclasses.replace(made.geometry, flipped=flipped))
    assert hanging.mirrored(made) is turned


@pytest.mark.parametrize("mirrored", [False, True])
def test_an_outline_lies_on_the_lesion_in_a_turned_picture_too(mirrored):
    h = results.header()
    found = results.finding(h, 1, 0.8)  # an ellipse of 60.25 x 40.5 source pixels around (300, 400)
    made = results.prediction(h, [found])
    plain = figures.hung_picture(dataclasses.replace(made, findings=()), "", mirrored=mirrored, side=600)
    marked = figures.hung_picture(made, found.tracking_uid, mirrored=mirrored, side=600)
    red = (np.abs(marked.astype(int) - plain).sum(axis=2) > 60) & (marked[:, :, 0] > 200) & (marked[:, :, 1] < 120)
    ys, xs = np.nonzero(red)
    middle = 450 - 150 if mirrored else 150
    line = np.hypot((xs - middle) / 30.1, (ys - 200) / 20.2)
    on = (line > 0.85) & (line < 1.15)
    assert on.sum() > 150
    assert np.ptp(xs[on]) == pytest.approx(60, abs=5)
    assert plain[10, 0, 0] == (200 if mirrored else 0)


def test_the_worst_finding_is_drawn_even_below_the_operating_point_and_others_below_are_not():
    h = results.header()
    low, lower = results.finding(h, 1, 0.2), results.finding(h, 2, 0.1, x=600, y=900)
    made = results.prediction(h, [low, lower])
    none = figures.hung_picture(dataclasses.replace(made, findings=()), "", mirrored=False)
    both = figures.hung_picture(made, low.tracking_uid, mirrored=False)
    one = figures.hung_picture(dataclasses.replace(made, findings=(low,)), low.tracking_uid, mirrored=False)
    assert np.array_equal(both, one)
    assert not np.array_equal(one, none)


def test_the_worst_finding_of_a_side_is_that_of_the_highest_score_the_first_of_equal_ones():
    a, b, c, d = results.four_views()
    study = results.study(
        [
            results.prediction(a, [results.finding(a, 1, 0.2), results.finding(a, 2, 0.7)]),
            results.prediction(b, [results.finding(b, 1, 0.7)]),
            results.prediction(c),
            results.prediction(d, [results.finding(d, 1, 0.01)]),
        ]
    )
    found = pdf_views.worst(study)
    assert found[L][1].number == 2
    assert found[R][0].header.view is View.MLO
    assert pdf_views.worst(results.outcomes()["none"]) == {}


def _pages(tmp_path, result):
    path = tmp_path / "r.pdf"
    path.write_bytes(pdf.render(result, results.CONTEXT))
    text = subprocess.run(["pdftotext", str(path), "-"], capture_output=True, check=True).stdout.decode()
    return [" ".join(page.split()) for page in text.split("\f")[:-1]]


@PDFTOTEXT
@pytest.mark.parametrize("deidentified", [False, True])
def test_the_first_page_has_all_four_views_and_each_breasts_worst_finding(tmp_path, deidentified):
    first = _pages(tmp_path, dataclasses.replace(results.with_findings(), deidentified=deidentified))[0]
    for words in (
        "left CC 0.800, at or above 0.300", "left MLO 0.400, at or above 0.300", "right CC 0.000, below 0.300",
        "right MLO 0.050, below 0.300", "Worst finding: no. 1 left CC: mass-like 12 x 8 mm score 0.800, at or above 0.300",
        "Worst finding: no. 4 right MLO: mass-like 12 x 8 mm score 0.050, below 0.300", "Left breast score 0.800",
        "do not read from them",
    ):  # fmt: skip
        assert words in first


@PDFTOTEXT
def test_what_a_study_lacks_is_said(tmp_path):
    made = results.outcomes()
    first = _pages(tmp_path, made["none"])[0]
    assert first.count("No finding is reported. That excludes nothing.") == 2
    first = _pages(tmp_path, made["some-failed"])[0]
    assert "right CC: failed (truncated): nothing is said about it" in first
    assert "Right breast" not in first
    assert "Worst finding" not in _pages(tmp_path, made["all-failed"])[0]
    one_side = results.study([results.prediction(h) for h in results.four_views()[:2]])
    assert _pages(tmp_path, one_side)[0].count("no right image") == 2


@PDFTOTEXT
def test_an_unknown_side_is_no_side(tmp_path):
    first = _pages(tmp_path, results.awkward()["unknown-side"])[0]
    assert "Side unknown score 0.900" in first
    assert "Worst finding: no. 1 side unknown view unknown" in first
    assert "no left image" not in first
    assert "no right image" not in first


@PDFTOTEXT
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8, 13])
def test_any_number_of_images_hangs(tmp_path, count):
    headers = [results.header(side, view, n) for n, (side, view) in enumerate((results.VIEWS * 4)[:count], 1)]
    study = results.study([
        results.prediction(h, [results.finding(h, 1, 0.5, kind=RegionKind.CALCIFICATION)]) for h in headers
    ])  # fmt: skip
    pages = _pages(tmp_path, study)
    before = " ".join(pages[: len(pages) - count])
    assert before.count("0.500, at or above 0.300") == count + 2 * len(
        study.breasts
    )  # of a breast its own and its worst finding's
    if count <= 8:
        assert pages[0].count("0.500, at or above 0.300") == count + 2 * len(
            study.breasts
        )  # of a breast its own and its worst finding's


@PDFTOTEXT
def test_an_image_that_is_gone_says_so_in_its_place(tmp_path):
    made = results.with_findings()
    gone = dataclasses.replace(
        made, images=(dataclasses.replace(made.images[0], flags=(Flag.SOURCE_GONE,)), *made.images[1:])
    )
    assert "its file is not in the archive any more" in _pages(tmp_path, gone)[0]


@PDFTOTEXT
def test_the_last_page_says_the_models_own_rule(tmp_path):
    last = _pages(tmp_path, results.with_findings())[-1]
    assert all(sentence in last for sentence in results.CONTEXT.model.scoring)
    assert "three scales" in last
