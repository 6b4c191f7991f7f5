"""What a radiologist sees: the first page in words, galleries, baseline, marks of small groups, links."""

import base64
import dataclasses
import html
import json
import re
import shutil
import subprocess
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from mammoscan.audit import gallery
from mammoscan.audit.lesions import Mark, box, circle, from_mask
from mammoscan.audit.match import Pair
from mammoscan.audit.results import ImageResult
from mammoscan.core.domain import Laterality, View
from mammoscan.synthetic.dicom import Shown, Subject, file_bytes, mammogram_dataset
from tests.audit.tables import FINDINGS, IMAGES, rows_of, run_audit, write_csv

EXAMPLE = ImageResult("1", "1", "1.dcm", "P", "1.9", "L", "CC", 0.9, None, "", None, "", "", "")


def text_of(pdf):
    """The words of a PDF, blanks and breaks as one blank."""
    if shutil.which("pdftotext") is None:
        pytest.skip("needs pdftotext (poppler-utils)")
    found = subprocess.run(["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, text=True)
    return " ".join(found.stdout.split())


def lead(page):
    """The sentences of the first page with whether each stands in red."""
    inside = page[page.index("<div class='lead'>") : page.index("<nav>")]
    return [(html.unescape(text), bool(bad)) for bad, text in re.findall(r"<p( class='bad')?>(.*?)</p>", inside)]


def audit_scores(tmp_path, positives, negatives, *options):
    """Audit scores of patients with and without cancer; the page and the command's output."""
    rows = [(f"P{i}", s, int(i < len(positives))) for i, s in enumerate([*positives, *negatives])]
    scores = write_csv(tmp_path / "s.csv", ["patient_id", "score"], [(p, s) for p, s, _ in rows])
    labels = write_csv(tmp_path / "l.csv", ["patient_id", "label"], [(p, t) for p, _, t in rows])
    result = run_audit(scores, "--labels", labels, "--out", tmp_path / "out", *options)
    return (tmp_path / "out" / "audit.html").read_text(), result.output


USELESS = [
    ([0.9] * 20, [0.4] * 20, "0.1", "flags every one of the 40 patients, so that a flag says nothing"),
    ([0.9] * 20, [0.4] * 20, "0.95", "flags none of the 40 patients"),
    ([0.2] * 5 + [0.9] * 15, [0.5] * 20, "0.3", "flags every one of the 20 patients without cancer"),
]


@pytest.mark.parametrize(("positives", "negatives", "threshold", "words"), USELESS, ids=[w[3][:24] for w in USELESS])
def test_an_operating_point_that_is_of_no_use_is_called_so_in_red(tmp_path, positives, negatives, threshold, words):
    page, output = audit_scores(tmp_path, positives, negatives, "--threshold", threshold)
    red = [text for text, bad in lead(page) if bad]
    assert len(red) == 1
    assert words in red[0]
    assert red[0].endswith("such an operating point is of no use here.")
    assert red[0] in output
    assert red[0] in text_of(tmp_path / "out" / "audit.pdf")


def test_what_another_threshold_would_do_is_said_where_the_scores_separate(tmp_path):
    _, output = audit_scores(tmp_path, [0.9] * 18 + [0.1] * 2, [0.4] * 15 + [0.95] * 5, "--threshold", "0.05")
    assert (
        "a threshold of 0.9 would have flagged 18 of 20 patients with cancer and 5 of 20 without (read off these cases"
        in output
    )


def test_a_second_operating_point_that_flags_everybody_is_named(tmp_path):
    page, _ = audit_scores(tmp_path, [0.9] * 20, [0.4] * 20, "--threshold", "0.6", "--threshold", "0.2")
    red = [text for text, bad in lead(page) if bad]
    assert [text.partition(" it flags")[0] for text in red] == ["At “threshold 0.2” (scores of 0.2 and above)"]
    page, _ = audit_scores(tmp_path, [0.9] * 20, [0.4] * 20, *(x for n in "6321" for x in ("--threshold", f"0.{n}")))
    (red,) = [text for text, bad in lead(page) if bad]
    assert red.startswith(
        "At “threshold 0.3” (scores of 0.3 and above), “threshold 0.2” (scores of 0.2 and above) and "
        "“threshold 0.1” (scores of 0.1 and above) it flags every one of the 40 patients"
    )


def test_an_operating_point_that_flags_the_healthy_more_often_than_the_sick_is_said(tmp_path):
    positives, negatives = [0.2] * 15 + [0.9] * 5, [0.2] * 10 + [0.9] * 10
    page, output = audit_scores(tmp_path, positives, negatives, "--threshold", "0.5")
    words = "It flags patients without cancer at least as often as those with cancer, which shows no use of it."
    assert words in [text for text, _ in lead(page)]
    assert words in output


def test_an_operating_point_that_chance_could_equal_is_said_and_a_good_one_is_not(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    doubtful, output = audit_scores(
        tmp_path / "a", [0.9] * 11 + [0.1] * 9, [0.9] * 9 + [0.1] * 11, "--threshold", "0.5"
    )
    assert "do not show that it tells patients with cancer from those without better than drawing lots" in output
    good, output = audit_scores(tmp_path / "b", [0.9] * 18 + [0.1] * 2, [0.9] * 3 + [0.1] * 17, "--threshold", "0.5")
    assert "drawing lots" not in output
    assert not [text for page in (doubtful, good) for text, bad in lead(page) if bad]


def test_a_requirement_that_is_not_met_stands_in_red(tmp_path):
    page, _ = audit_scores(tmp_path, [0.9] * 12, [0.4] * 12, "--fail-under", "auc=1.1", "--fail-under", "auc=0.5")
    assert [text for text, bad in lead(page) if bad] == ["Requirement auc=1.1 (patient level): 1.0000, NOT met."]


def test_unmatched_labels_and_results_are_counted_on_the_first_page(study, tmp_path):
    run, _, rows = study
    labels = write_csv(tmp_path / "some.csv", ["sop_instance_uid", "label", "x", "y", "radius"],
                       [*rows[:-3], ["9.9", "malignant", "", "", ""], ["8.8", "normal", "", "", ""]])  # fmt: skip
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "image")
    counts = json.loads((tmp_path / "out" / "metrics.json").read_text())["counts"]
    assert counts == {"pairs": 157, "unmatched_labels": 2, "unmatched_results": 3}
    words = [text for text, _ in lead((tmp_path / "out" / "audit.html").read_text())]
    assert "Not in these numbers: 2 labels without a result and 3 results without a label (unmatched.csv)." in words


def test_every_small_group_is_shown_and_marked_on_the_page_and_in_the_pdf(study, tmp_path):
    run, labels, _ = study
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "patient")
    groups = json.loads((tmp_path / "out" / "metrics.json").read_text())["subgroups"]
    small = sum(g["small"] for g in groups)
    page = (tmp_path / "out" / "audit.html").read_text()
    table = page[page.index("id='subgroups'") : page.index("Do they differ?")]
    assert table.count("<tr>") == 1 + len(groups)
    assert table.count(">small group<") == small > 0
    marked = re.findall(r"<tr>(?:(?!</tr>).)*>small group<", table)
    assert all(re.search(r"breast density|age in years|manufacturer|year of the study", row) for row in marked)
    written = text_of(tmp_path / "out" / "audit.pdf")
    assert written.count("small") >= small
    assert "small groups: unreliable" in written


def test_cases_that_changed_sides_are_listed_with_their_reports_those_wrong_now_first(tmp_path):
    run = tmp_path / "run"
    (run / "studies" / "1.9.3").mkdir(parents=True)
    (run / "studies" / "1.9.3" / "report.pdf").write_bytes(b"%PDF")
    scores = [0.9, 0.9, 0.2, 0.7, 0.1, 0.1]  # the first three with cancer
    images = [
        [f"{i}.dcm", f"1.2.{i}", f"1.9.{i}", f"P{i}", "L", "CC", 50, "a", "A", "2022", s] for i, s in enumerate(scores)
    ]
    write_csv(run / "images.csv", IMAGES, images)
    (run / "run.json").write_text(json.dumps({"threshold": 0.5, "threshold_name": "op"}))
    other = [0.9, 0.3, 0.8, 0.2, 0.6, 0.1]
    baseline = write_csv(
        tmp_path / "b.csv",
        ["sop_instance_uid", "patient_id", "score"],
        [[f"1.2.{i}", f"P{i}", s] for i, s in enumerate(other)],
    )
    labels = write_csv(tmp_path / "l.csv", ["sop_instance_uid", "label"], [[f"1.2.{i}", int(i < 3)] for i in range(6)])
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--baseline", baseline)
    assert "4 changed sides: 2 are right now and were wrong there, 2 the reverse." in result.output
    rows = [r for r in rows_of(tmp_path / "out" / "changed.csv") if r["level"] == "patient"]
    assert [(r["case"], r["truth"], float(r["score"]), float(r["baseline_score"]), r["now"]) for r in rows] == [
        ("P2", "positive", 0.2, 0.8, "not flagged, now wrong"),
        ("P3", "negative", 0.7, 0.2, "flagged, now wrong"),
        ("P1", "positive", 0.9, 0.3, "flagged, now right"),
        ("P4", "negative", 0.1, 0.6, "not flagged, now right"),
    ]
    assert [(r["patient"], r["images"], r["report"]) for r in rows][:2] == [
        ("P2", "2.dcm", ""), ("P3", "3.dcm", "studies/1.9.3/report.pdf")
    ]  # fmt: skip
    page = (tmp_path / "out" / "audit.html").read_text()
    items = re.findall(r"<li>(P\d), (.*?)</li>", page)
    assert [name for name, _ in items] == ["P2", "P3", "P1", "P4"]
    (link,) = re.findall(r"href='([^']+report\.pdf)'", items[1][1])
    assert (tmp_path / "out" / link).resolve() == run / "studies" / "1.9.3" / "report.pdf"
    assert "P2, with cancer: score 0.200, baseline 0.800; not flagged, now wrong." in text_of(
        tmp_path / "out" / "audit.pdf"
    )


# --------------------------------------------------------------------------- pictures


@pytest.fixture
def pictured(tmp_path):
    """Six images with misses and false alarms at 0.5, their archive and reports: (run, labels)."""
    archive, run = tmp_path / "archive", tmp_path / "run"
    archive.mkdir()
    rng = np.random.default_rng(0)
    images, findings, labels = [], [], []
    # score, truth
    cases = [
        (0.3, "malignant"),
        (0.1, "malignant"),
        (0.9, "malignant"),
        (0.6, "normal"),
        (0.8, "benign"),
        (0.2, "normal"),
    ]
    for i, (score, truth) in enumerate(cases):
        pixels = np.zeros((1000, 900), dtype=np.uint16)
        cv2.ellipse(pixels, (0, 500), (500, 420), 0, -90, 90, 1800, cv2.FILLED)
        pixels = np.where(pixels > 0, pixels + rng.integers(0, 300, pixels.shape), 0).astype(np.uint16)
        ds = mammogram_dataset(
            pixels, laterality=Laterality.LEFT, view=View.CC, subject=Subject(f"P{i}"), spacing_mm=0.2,
            shown=Shown(bits=12, window=((1500, 3000),)),
        )  # fmt: skip
        path = archive / f"a {i}.dcm"
        path.write_bytes(file_bytes(ds))
        study = str(ds.StudyInstanceUID)
        report = run / "studies" / study / "report.pdf"
        report.parent.mkdir(parents=True)
        report.write_bytes(b"%PDF")
        images.append([path.name, ds.SOPInstanceUID, study, f"P{i}", "L", "CC", 50, "a", "A", "2022", score])
        findings.append([ds.SOPInstanceUID, 1, "mass-like", 250, 400, 200, 350, 300, 450, 9000, score])
        labels.append([path.name, truth, *((250, 600, 40) if truth != "normal" else ("", "", ""))])
    write_csv(run / "images.csv", IMAGES, images)
    write_csv(run / "findings.csv", FINDINGS, findings)
    (run / "run.json").write_text(
        json.dumps({"threshold": 0.5, "threshold_name": "threshold 0.5", "archive": str(archive)})
    )
    return run, write_csv(tmp_path / "labels.csv", ["path", "label", "x", "y", "radius"], labels[::-1])


def cards_of(page, title):
    """(score, truth, who and image, link, picture) of each card of a gallery."""
    start = page.index(f"<h2>{title}")
    part = page[start : page.index("<h2", start + 4)]
    found = re.findall(
        r"base64,([^']+)'><b>score ([\d.]+)</b>, truth (\w+)<br>(.*?)<br><span class='muted'>(.*?)</span><br><a href='(.*?)'",
        part,
    )
    return [(float(s), t, who, image, link, base64.b64decode(data)) for data, s, t, who, image, link in found]


def test_galleries_show_the_worst_first_with_pictures_that_link_to_their_reports(pictured, tmp_path):
    run, labels = pictured
    out = tmp_path / "some where" / "out"
    assert run_audit(run, "--labels", labels, "--out", out, "--threshold", "0.7").exit_code == 0
    page = (out / "audit.html").read_text()
    expected = {
        "Worst misses at threshold 0.5 (image level): 2 of 2": [(0.1, "malignant", "a 1.dcm"), (0.3, "malignant", "a 0.dcm")],
        "Worst false alarms at threshold 0.5 (image level): 2 of 2": [(0.8, "benign", "a 4.dcm"), (0.6, "normal", "a 3.dcm")],
        "Worst misses at threshold 0.7 (image level): 2 of 2": [(0.1, "malignant", "a 1.dcm"), (0.3, "malignant", "a 0.dcm")],
        "Worst false alarms at threshold 0.7 (image level): 1 of 1": [(0.8, "benign", "a 4.dcm")],
    }  # fmt: skip
    studies = {r["path"]: r["study_instance_uid"] for r in rows_of(run / "images.csv")}
    for title, wanted in expected.items():
        cards = cards_of(page, title)
        assert [(score, truth, image) for score, truth, _, image, _, _ in cards] == wanted, title
        for _, truth, who, image, link, data in cards:
            assert who == f"P{image[2]} L CC"
            assert (out / unquote(link)).resolve() == run / "studies" / studies[image] / "report.pdf"
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(int)
            green = (np.abs(picture - gallery.TRUTH).sum(axis=2) < 90).sum()
            blue = (np.abs(picture - gallery.BENIGN).sum(axis=2) < 90).sum()
            assert (green > 50, blue > 50) == (truth == "malignant", truth == "benign")
            assert (np.abs(picture - gallery.MARK).sum(axis=2) < 90).sum() > 50
            # Of the 900 columns the breast fills 500: the empty ones are cut off.
            assert picture.shape[1] < 0.65 * picture.shape[0]
    links = re.findall(rb"/URI \((.*?)\)", (out / "audit.pdf").read_bytes())
    assert len(links) == 7
    for link in links:
        assert (out / unquote(link.decode())).resolve().is_file()


def test_a_threshold_that_the_run_has_already_is_not_measured_twice_and_near_ones_keep_apart(pictured, tmp_path):
    run, labels = pictured
    options = [x for t in ("0.5", "0.12345678", "0.12345679") for x in ("--threshold", t)]
    options += ["--sensitivity", "0.6", "--sensitivity", "0.6"]
    assert run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "image", *options).exit_code == 0
    names = [r["threshold_name"] for r in rows_of(tmp_path / "out" / "metrics.csv") if r["metric"] == "accuracy"]
    assert names == ["threshold 0.5", "threshold 0.12345678", "threshold 0.12345679", "sensitivity 0.6 here"]


def drawn(pixels, **more):
    """The picture of an image with marks, lesions and others, flagged from 0.5 on: int (rows, columns, BGR)."""
    image = dataclasses.replace(EXAMPLE, marks=more.pop("marks", ()))
    data = gallery.draw(pixels, Pair(image, None, **more), threshold=0.5)
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(int)


def middle(where):
    y, x = np.nonzero(where)
    return (x.min() + x.max()) / 2, (y.min() + y.max()) / 2


@pytest.mark.parametrize("kind", ["circle", "box", "mask", "mark"])
def test_overlays_lie_on_what_they_mean_also_where_the_background_is_cut_off(kind):
    # A bright square stands for the lesion, in a breast on the right of a mostly black image.
    pixels = np.zeros((3000, 2400), dtype=np.uint8)
    pixels[700:2600, 1500:] = 70
    pixels[1380:1420, 1880:1920] = 255
    mask = np.zeros(pixels.shape, dtype=bool)
    mask[1300:1500, 1800:2000] = True
    lesion = {"circle": circle(1900, 1400, 100), "box": box(1800, 1300, 2000, 1500), "mask": from_mask(mask)}
    colour = gallery.MARK if kind == "mark" else gallery.TRUTH
    if kind == "mark":  # below the threshold and with no score beside it: only the highest has one
        marks = (
            Mark("1", (1900, 1400), (1800, 1300, 2000, 1500), None, 0.2),
            Mark("2", (1600, 2400), (1590, 2390, 1610, 2410), None, 0.3),
        )
        picture = drawn(pixels, marks=marks)
        picture = picture[: round(0.7 * len(picture))]  # the second mark lies below
    else:
        picture = drawn(pixels, lesions=(lesion[kind],))
    outline = np.abs(picture - colour).sum(axis=2) < 90
    bright = picture.min(axis=2) > 200
    assert outline.any()
    assert middle(outline) == pytest.approx(middle(bright), abs=2)
    y, x = np.nonzero(outline)
    by, bx = np.nonzero(bright)
    assert (x.max() - x.min()) / (bx.max() - bx.min() + 1) == pytest.approx(200 / 40, rel=0.15)
    assert (y.max() - y.min()) / (by.max() - by.min() + 1) == pytest.approx(200 / 40, rel=0.15)


def test_a_lesion_at_the_edge_or_in_the_dark_stays_in_the_picture():
    pixels = np.zeros((1000, 1000), dtype=np.uint8)
    pixels[100:900, 600:] = 70
    picture = drawn(pixels, lesions=(circle(300, 950, 30),))
    y, x = np.nonzero(np.abs(picture - gallery.TRUTH).sum(axis=2) < 90)
    assert x.min() > 0
    assert y.max() < len(picture) - 1


def test_a_blank_image_is_shown_whole():
    assert drawn(np.zeros((400, 300), dtype=np.uint8)).shape == (640, 480, 3)


def test_scores_of_two_marks_at_one_place_do_not_cover_each_other():
    place = (480, 480, 520, 520)
    pixels = np.full((1000, 1000), 120, dtype=np.uint8)

    def ground(marks):
        return (drawn(pixels, marks=marks).max(axis=2) < 30).sum()

    first, second = Mark("1", (500, 500), place, None, 0.91), Mark("2", (500, 500), place, None, 0.82)
    frame = ground((first,)) - ground(())
    assert ground((first, second)) - ground((first,)) > 0.6 * frame


# --------------------------------------------------------------------------- the files themselves


def test_the_page_loads_nothing_and_no_number_reads_nan(pictured, tmp_path):
    run, labels = pictured
    out = tmp_path / "out"
    run_audit(run, "--labels", labels, "--out", out, "--threshold", "0.05", "--threshold", "0.99")
    page = (out / "audit.html").read_text()
    assert not re.search(r"<(script|link|iframe|object|embed|base|form)\b|@import|srcset|\bon\w+=", page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r"src=['\"]([^'\"]+)", page))
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]+)", page))
    addresses = set(re.findall(r"https?://[^\s'\"<>]+", page))
    assert {
        a
        for a in addresses
        if not a.startswith(("http://www.w3.org/", "http://purl.org/", "http://creativecommons.org/"))
    } == set()
    words = html.unescape(re.sub(r"<svg.*?</svg>|<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    assert not re.search(r"\b(nan|inf|None)\b", words)
    assert "undefined" in words
    written = text_of(out / "audit.pdf")
    assert not re.search(r"\b(nan|inf|None)\b", written)
    assert "undefined" in written


def test_the_pdf_holds_every_figure_gallery_and_table_of_the_page(pictured, tmp_path):
    run, labels = pictured
    out = tmp_path / "out"
    run_audit(run, "--labels", labels, "--out", out, "--baseline", run, "--sensitivity", "0.9")
    page, written = (out / "audit.html").read_text(), text_of(out / "audit.pdf")
    figures = [html.unescape(title) for title in re.findall(r"<figcaption>(.*?)</figcaption>", page)]
    assert len(figures) >= 9
    pictures = re.findall(r"<h2[^>]*>((?:Worst|Against|All metrics|Subgroups)[^<]*)", page)
    assert len(pictures) == 5
    # Titles of figures that stand side by side are mingled line by line.
    words = set(written.split())
    for title in (*figures, *pictures):
        assert set(title.split()) <= words, title
    images = (out / "audit.pdf").read_bytes()
    assert images.count(b"/SMask ") == len(figures)  # a figure is a PNG, that has a mask; a picture a JPEG
    assert images.count(b"/DCTDecode") == page.count("data:image/jpeg") == 4


def test_a_picture_is_never_of_another_image_that_lies_there_now(pictured, tmp_path):
    run, labels = pictured
    archive = tmp_path / "archive"
    (archive / "a 1.dcm").write_bytes((archive / "a 2.dcm").read_bytes())  # the worst miss
    (archive / "a 0.dcm").write_bytes((archive / "a 0.dcm").read_bytes()[:5000])
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out")
    assert result.exit_code == 0
    page = (tmp_path / "out" / "audit.html").read_text()
    assert page.count("no picture: the file holds another image now than the one that has this score") == 1
    assert page.count("no picture: ") == 2
    assert "fewer pixel bytes than the header announces" in page
