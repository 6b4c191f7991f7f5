"""The review page in a real browser: from files and over HTTP, with what it asks for and complains of."""

import csv
import dataclasses
import time

import pytest

from mammoscan.audit import labels
from mammoscan.audit.labels import Key
from mammoscan.core.domain import Laterality, View
from mammoscan.review import opinions, worklist
from mammoscan.training.datasets import tables
from mammoscan.training.datasets.manifest import NEEDED
from tests.report import results
from tests.review import folders
from tests.review.browser import MISSING, Browser, Keys, served

pytestmark = [pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Three studies: one with findings, one of a person whose header is full of markup, one that failed."""
    hostile = folders.four(
        2, patient=folders.HOSTILE, name=folders.HOSTILE, scores=(0.5, 0, 0, 0), study_description=folders.HOSTILE
    )
    hostile = dataclasses.replace(hostile, study=dataclasses.replace(hostile.study, accession_number=folders.HOSTILE))
    failed = results.outcomes()["all-failed"]
    earlier = folders.four(3, patient="DEMO-1", date="20230101", scores=(0.1, 0, 0, 0), age=63.0)
    made = [with_nipples(r) for r in (folders.four(1), hostile, failed, earlier)]
    return folders.write(tmp_path_factory.mktemp("pages") / "out", made)


def with_nipples(result):
    """A study whose nipples were found."""
    return dataclasses.replace(
        result, images=tuple(dataclasses.replace(p, nipple=(860.0, 600.0)) for p in result.images)
    )


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """The browser as it is when it is new: nothing kept, nothing complained of."""
    yield chromium
    assert chromium.complaints() == []


def fresh(browser, out):
    """The list of a folder, by a reader who was never here."""
    address = (out / "index.html").as_uri()
    browser.open(address)
    browser.js("localStorage.clear()")
    browser.open(address)
    browser.asked_for()


def opened(browser, patient="DEMO-1"):
    links = [a for a in browser.all("table.list tbody td:nth-child(2) a") if a.text == patient]
    links[0].click()
    browser.until(lambda: browser.all(".panel"), "a study")
    browser.until(
        lambda: browser.js(
            "return [...document.querySelectorAll('img.picture')].every((i) => i.complete && i.naturalWidth)"
        )
    )


def patients(browser):
    return browser.texts("table.list tbody td:nth-child(2)")


def test_the_list_shows_the_most_suspicious_study_first_and_sorts_and_filters(browser, out):
    fresh(browser, out)
    failed = results.PATIENT.patient_id
    assert patients(browser) == ["DEMO-1", folders.TABLED, "DEMO-1", failed]
    assert browser.texts("table.list tbody tr:first-child td")[:7] == [
        "1",
        "DEMO-1",
        "ACC1",
        "2026-01-01",
        "66",
        "0.050",
        "▲ 0.800",
    ]
    assert browser.texts("table.list tbody tr:first-child td.earlier a") == ["2023-01-01"]
    assert browser.texts("table.list tbody tr:first-child td.earlier span") == ["R 0.000, L 0.100, density ~b"]
    assert browser.texts("table.list tbody tr:first-child td:nth-child(13)") == ["+0.700"]
    assert browser.texts("table.list tbody tr:first-child td:nth-child(14)") == ["1"]
    (head,) = (b for b in browser.all("th button") if b.text == "Age")
    head.click()
    assert browser.texts("table.list tbody td:nth-child(5)") == ["63", "66", "66", "66"]
    assert browser.js("return arguments[0].parentNode.getAttribute('aria-sort')", head) == "ascending"
    browser.one("input[name=query]").send_keys("acc3")
    browser.until(lambda: len(patients(browser)) == 1)
    assert browser.texts("#count") == ["1 of 4 studies"]
    browser.button("Clear").click()
    for name, expected in (("above", 2), ("failed", 1), ("unread", 4), ("outside", 0)):
        box = browser.one(f"input[name={name}]")
        box.click()
        assert len(patients(browser)) == expected, name
        box.click()
    browser.js(
        "const n = document.querySelector('input[name=from]'); n.value = '2024-01-01'; n.dispatchEvent(new Event('input'))"
    )
    assert len(patients(browser)) == 3


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_nothing_is_asked_for_but_what_lies_in_the_folder(browser, out, scheme):
    with served(out) as address:
        start = address if scheme == "http" else out.as_uri()
        browser.asked_for()
        browser.open(f"{start}/index.html")
        opened(browser)
        browser.keys("d")
        time.sleep(1)  # the next study is fetched ahead
        asked = browser.asked_for()
    assert {a for a in asked if not a.startswith(start + "/")} == set()
    assert f"{start}/studies/1.2.3.4.1/review-01.jpg" in asked
    below = {a.removeprefix(start + "/").partition("?")[0] for a in asked}
    assert all((out / name).is_file() for name in below)


def test_a_study_is_hung_right_and_left_back_to_back(browser, out):
    fresh(browser, out)
    opened(browser)
    captions = browser.texts(".view figcaption b")
    assert captions == ["R CC", "L CC", "R MLO", "L MLO"]
    boxes = browser.js(
        "return [...document.querySelectorAll('.film')].map((f) => { const b = f.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; })"
    )
    for right, left in (boxes[:2], boxes[2:]):
        assert 0 <= left[0] - right[2] < 6  # they touch
        assert abs(left[1] - right[1]) < 1
    # The stored images have their chest wall on the left: right ones are turned over for hanging, and say so.
    assert browser.js(
        "return [...document.querySelectorAll('.flip')].map((f) => f.classList.contains('mirrored'))"
    ) == [True, False, True, False]
    assert sum("mirrored" in text for text in browser.texts(".view figcaption")) == 2
    assert browser.js("return [...document.querySelectorAll('img.picture')].map((i) => i.naturalHeight)") == [1200] * 4


def test_further_views_hang_below_the_usual_ones(browser, tmp_path):
    whole = folders.four(1)
    extra = whole.images[2]  # right CC
    header = dataclasses.replace(extra.header, view=View.XCCL, sop_instance_uid="1.2.3.4.1.1.5")
    unknown = dataclasses.replace(
        header, view=View.UNKNOWN, laterality=Laterality.UNKNOWN, sop_instance_uid="1.2.3.4.1.1.6"
    )
    more = tuple(dataclasses.replace(extra, header=h, findings=()) for h in (unknown, header))
    out = folders.write(tmp_path / "out", [dataclasses.replace(whole, images=(*more, *whole.images))])
    fresh(browser, out)
    opened(browser)
    assert browser.texts(".view figcaption b") == ["R CC", "L CC", "R MLO", "L MLO", "R XCCL", "? ?"]
    assert browser.texts(".view.none") == ["no left image", ""]


def test_a_mark_lies_on_its_lesion_at_any_zoom_and_when_turned_over(browser, out):
    """The picture has a bright square about (300, 400); the finding's box is 240 to 360, 360 to 440."""
    fresh(browser, out)
    opened(browser)
    browser.keys("l")
    share = """
        const view = document.querySelector(`.view[data-image="${arguments[0]}"]`), film = view.querySelector('.film').getBoundingClientRect();
        const mark = view.querySelector('.mark .line').getBoundingClientRect();
        return [(mark.left + mark.right) / 2 - film.left, (mark.top + mark.bottom) / 2 - film.top].map((v, i) => v / [film.width, film.height][i]);
    """
    for image, across in (("1.2.3.4.1.1.1", 300 / 900), ("1.2.3.4.1.1.4", 1 - 300 / 900)):
        for zoom in ("", "+++"):
            figure = browser.one(f".view[data-image='{image}']")
            browser.js("arguments[0].focus()", figure)
            browser.keys(zoom)
            x, y = browser.js(share, image)
            assert abs(x - across) < 0.004
            assert abs(y - 400 / 1200) < 0.004
    assert "%" in browser.texts(".scale")[0]


def test_findings_and_marks_lead_to_each_other(browser, out):
    fresh(browser, out)
    opened(browser)
    browser.all(".pick")[0].click()
    uid = browser.js("return document.querySelector('.card.selected').dataset.uid")
    assert browser.js("return document.querySelector('.mark.selected').dataset.uid") == uid
    middle = browser.js(
        "const p = document.querySelector('.mark.selected').closest('.pane').getBoundingClientRect(), m = document.querySelector('.mark.selected .line').getBoundingClientRect(); return [(m.left + m.right - p.left - p.right) / 2, (m.top + m.bottom - p.top - p.bottom) / 2]"
    )
    assert middle == pytest.approx([0, 0], abs=40)  # no further beyond the chest wall than the picture goes
    browser.keys("0")
    assert browser.all(".card.selected") == []
    mark = next(m for m in browser.all(".mark.above") if m.get_attribute("data-uid") != uid)
    mark.click()
    assert browser.js("return document.querySelector('.card.selected').dataset.uid") == mark.get_attribute("data-uid")
    # Below the operating point a mark is shown when it is asked for.
    below = browser.js("return [...document.querySelectorAll('.mark.below')].map((m) => getComputedStyle(m).display)")
    assert set(below) == {"none"}
    browser.keys("l")
    assert "none" not in browser.js(
        "return [...document.querySelectorAll('.mark.below')].map((m) => getComputedStyle(m).display)"
    )
    browser.keys("m")
    assert set(
        browser.js("return [...document.querySelectorAll('.mark')].map((m) => getComputedStyle(m).display)")
    ) == {"none"}
    browser.keys("ml")


def test_zoom_pan_window_invert_heat_and_dense_tissue(browser, out):
    fresh(browser, out)
    opened(browser)
    pane = browser.all(".pane")[1]
    wide = browser.js("return document.querySelectorAll('.film')[1].offsetWidth")
    for _ in range(3):
        browser.js(
            "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: -200, clientX: 900, clientY: 250, cancelable: true}))",
            pane,
        )
    assert browser.js("return document.querySelectorAll('.film')[1].offsetWidth") > 3 * wide
    left = browser.js("return document.querySelectorAll('.film')[1].offsetLeft")
    browser.drag(pane, (0.5, 0.8), (0.4, 0.8))
    assert browser.js("return document.querySelectorAll('.film')[1].offsetLeft") < left
    browser.keys("w")
    browser.drag(pane, (0.3, 0.3), (0.5, 0.4))
    levels = browser.js(
        "const f = document.querySelector('feFuncR'); return [Number(f.getAttribute('slope')), Number(f.getAttribute('intercept'))]"
    )
    assert levels[0] < 1
    assert "url" in browser.js("return getComputedStyle(document.querySelector('img.picture')).filter")
    browser.keys("i")
    assert browser.js("return Number(document.querySelector('feFuncR').getAttribute('slope'))") == pytest.approx(
        -levels[0]
    )
    browser.keys("v0")
    assert browser.js("return getComputedStyle(document.querySelector('img.picture')).filter") == "none"
    browser.keys("hd")
    assert "none" not in browser.js(
        "return [...document.querySelectorAll('.heat')].map((m) => getComputedStyle(m).display)"
    )
    browser.until(
        lambda: browser.js(
            "return [...document.querySelectorAll('img.dense')].every((i) => i.complete && i.naturalWidth)"
        )
    )
    browser.keys("hd")
    browser.keys("2")
    assert browser.js("return document.querySelectorAll('.view.solo').length") == 1
    browser.keys(Keys.ESCAPE)
    assert browser.js("return document.querySelectorAll('.view.solo').length") == 0


def test_the_next_study_is_a_key_away_and_what_was_opened_is_read(browser, out):
    fresh(browser, out)
    opened(browser)
    browser.until(lambda: browser.texts(".bar .muted") == ["1 of 4"])
    browser.keys("n")
    browser.until(lambda: "1.2.3.4.2" in browser.driver.current_url)
    browser.until(lambda: browser.texts(".bar .muted") == ["2 of 4"])
    browser.keys("p")
    browser.until(lambda: "1.2.3.4.1" in browser.driver.current_url and browser.texts(".bar .muted") == ["1 of 4"])
    browser.keys(Keys.ESCAPE)
    browser.until(lambda: browser.all("table.list tbody tr"))
    assert browser.texts("button.read") == ["read", "read", "unread", "unread"]
    browser.open((out / "index.html").as_uri())
    assert browser.texts("button.read") == ["read", "read", "unread", "unread"]


def test_markup_in_a_header_is_text_and_nothing_else(browser, out):
    fresh(browser, out)
    next(a for a in browser.all("table.list tbody a") if a.text == folders.TABLED).click()
    browser.wait(".panel")
    assert browser.texts(".bar h1") == [folders.HOSTILE]
    assert any(text.startswith(folders.HOSTILE) for text in browser.texts(".facts td"))
    assert browser.js("return document.querySelectorAll('img[src=x], main script').length") == 0
    assert browser.js("return document.title").startswith("mammoscan review")


def test_a_study_that_failed_says_why_and_one_without_a_page_says_what_to_do(browser, out):
    browser.open((out / "index.html").as_uri() + "#/study/1.2.3.4.5")
    browser.wait(".panel")
    assert "No image of this study could be analysed" in browser.texts(".missing")[0]
    assert len(browser.texts(".reasons li")) == 4
    assert "truncated" in browser.texts(".reasons li")[0]
    for folder in ("no-such-study", "..%2F..%2Fetc"):
        browser.driver.get((out / "index.html").as_uri() + f"#/study/{folder}")
        browser.until(lambda: browser.texts("h1") == ["No review page"])
    # The browser itself complains of a script that is not there; of nothing else.
    assert all("no-such-study/review.js" in line for line in browser.complaints())


def test_everything_has_a_name_for_those_who_hear_the_page(browser, out):
    fresh(browser, out)
    unnamed = "return [...document.querySelectorAll('button,a[href],input,select')].filter((n) => !(n.textContent.trim() || n.getAttribute('aria-label') || n.closest('label'))).map((n) => n.outerHTML)"
    assert browser.js(unnamed) == []
    opened(browser)
    assert browser.js(unnamed) == []
    assert browser.js(
        "return [...document.querySelectorAll('.view,.mark')].every((n) => n.getAttribute('aria-label') || n.classList.contains('none'))"
    )
    browser.js("document.querySelector('.mark.above').focus()")
    browser.keys(Keys.ENTER)
    assert browser.all(".card.selected")


# --------------------------------------------------------------------------- feedback


def give_initials(browser, initials):
    browser.one("#reader").send_keys(initials, Keys.ENTER)
    browser.until(lambda: browser.all(".said"))


def choose(browser, card, name, value):
    browser.js(
        "const n = arguments[0].querySelector(`select[name=${arguments[1]}]`); n.value = arguments[2]; n.dispatchEvent(new Event('change'))",
        card,
        name,
        value,
    )


def exported(browser):
    for path in browser.downloads.iterdir():
        path.unlink()
    browser.one("#export").click()
    (path,) = browser.until(lambda: list(browser.downloads.glob("*.csv")))
    browser.until(lambda: path.read_bytes().endswith(b"\n"))
    return path


def test_feedback_is_kept_exported_and_read_by_audit_and_train(browser, out):
    fresh(browser, out)
    opened(browser)
    browser.button("Box").click()  # without initials nothing can be drawn
    assert browser.js("return document.activeElement.id") == "reader"
    give_initials(browser, "A=B C")
    assert browser.one("#reader").get_attribute("value") == "ABC"
    card = browser.all(".findings .card")[0]
    card.find_element("css selector", ".choice").click()
    choose(browser, card, "stated", "malignant")
    choose(browser, card, "kind", "mass")
    note = card.find_element("css selector", "input[name=note]")
    note.send_keys('=1+1, "so"', Keys.TAB)
    breasts = [c for c in browser.all(".panel .card") if "right breast" in c.text]
    choose(browser, breasts[0], "stated", "normal")
    browser.keys("c")
    browser.drag(browser.all(".pane")[3], (0.25, 0.5), (0.3, 0.5))
    drawn = browser.until(lambda: browser.all(".card.drawn"))[0]
    assert len(browser.all(".mark.drawn")) == 1
    choose(browser, drawn, "stated", "benign")
    browser.open((out / "index.html").as_uri() + "#/study/1.2.3.4.1")  # what was said is there again
    browser.wait(".said")
    assert len(browser.all(".mark.drawn")) == 1
    assert browser.js("return document.querySelector('.findings .card .choice').getAttribute('aria-pressed')") == "true"
    browser.open((out / "index.html").as_uri())
    path = exported(browser)
    assert path.name == "feedback-ABC.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    assert tuple(rows[0]) == opinions.COLUMNS
    assert [(r["laterality"], r["view"], r["about"], r["label"], r["stated"], r["decision"]) for r in rows] == [
        ("L", "CC", "finding", "malignant", "malignant", "agree"),
        ("L", "MLO", "missed", "benign", "benign", "missed"),
        ("R", "CC", "breast", "normal", "normal", "none"),
        ("R", "MLO", "breast", "normal", "normal", "none"),
    ]
    assert rows[0]["note"] == '\'=1+1, "so"'
    assert [float(rows[0][c]) for c in ("x0", "y0", "x1", "y1")] == [239.8, 359.5, 360.2, 440.5]

    # Read as it is, by both.
    found = labels.read_labels(path)
    assert found.key is Key.SOP
    truth = {label.key[0]: label for label in found.labels}
    assert {uid: label.class_name for uid, label in truth.items()} == {
        "1.2.3.4.1.1.1": "malignant", "1.2.3.4.1.1.2": "benign", "1.2.3.4.1.1.3": "normal", "1.2.3.4.1.1.4": "normal",
    }  # fmt: skip
    assert len(truth["1.2.3.4.1.1.1"].lesions) == 1
    manifest = tables.read_table(path, NEEDED)
    assert [(r.get("path"), r.get("label"), r.get("kind")) for r in manifest] == [
        ("1/1.dcm", "malignant", "mass"), ("1/2.dcm", "benign", ""), ("1/3.dcm", "normal", ""), ("1/4.dcm", "normal", ""),
    ]  # fmt: skip
    # The same rule stands on both sides.
    read = opinions.read(path)
    for image in {row.image for row in read}:
        own = [row for row in read if row.image == image]
        assert [r.cells["label"] for r in opinions.labelled(own)] == [r.cells["label"] for r in own]


def test_an_opinion_without_a_class_is_no_label_and_a_contradiction_is_none_either(browser, out):
    fresh(browser, out)
    opened(browser)
    give_initials(browser, "XY")
    cards = browser.all(".findings .card")
    cards[0].find_elements("css selector", ".choice")[1].click()
    choose(browser, cards[1], "stated", "malignant")
    left = next(c for c in browser.all(".panel .card") if "left breast" in c.text)
    choose(browser, left, "stated", "normal")
    assert "A breast stated normal has a lesion" in browser.one("[role=alert]").text
    browser.open((out / "index.html").as_uri())
    path = exported(browser)
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    by_view = {view: [r["label"] for r in rows if r["view"] == view] for view in ("CC", "MLO")}
    assert by_view == {"CC": ["", "normal"], "MLO": ["", ""]}
    found = labels.read_labels(path)
    assert len(found.labels) == 1
    assert "3 rows are opinions" in found.notes[0]


def test_two_readers_of_one_browser_do_not_see_each_others_words(browser, out):
    fresh(browser, out)
    opened(browser)
    give_initials(browser, "A")
    browser.all(".choice")[0].click()
    browser.one("#reader").clear()
    give_initials(browser, "B")
    assert browser.js(
        "return [...document.querySelectorAll('.choice')].every((c) => c.getAttribute('aria-pressed') === 'false')"
    )


def test_nothing_said_of_another_folder_is_exported(browser, out, tmp_path):
    """Pages of all folders share what a browser keeps for files: an export must not carry another folder's codes."""
    other = folders.write(tmp_path / "other", [folders.four(7)])
    fresh(browser, out)
    opened(browser)
    give_initials(browser, "A")
    browser.all(".choice")[0].click()
    browser.open((other / "index.html").as_uri())
    assert browser.one("#export").text == "Export feedback on 0 studies"
    browser.open((out / "index.html").as_uri())
    browser.until(lambda: browser.one("#export").text == "Export feedback on 1 study")


def test_who_goes_on_before_a_study_is_there_sees_the_last_one_alone(browser, out):
    fresh(browser, out)
    browser.js("for (const n of ['1.2.3.4.1', '1.2.3.4.2', '1.2.3.4.3']) location.hash = `#/study/${n}`")
    browser.until(lambda: browser.texts(".bar .muted") == ["3 of 4"])
    assert len(browser.all(".desk")) == 1
    marks = browser.js("return document.querySelectorAll('.tools [aria-pressed=true]').length")
    browser.keys("h")  # one page hears it, not three
    assert browser.js("return document.querySelectorAll('.tools [aria-pressed=true]').length") == marks + 1
    browser.keys("h")


# --------------------------------------------------------------------------- many studies


def test_twenty_thousand_studies(browser, tmp_path):
    out = folders.many(tmp_path / "out", 20_000)
    assert worklist.write(out) == 20_000
    first = browser.open((out / "index.html").as_uri())
    browser.until(lambda: browser.texts("#count") == ["20,000 of 20,000 studies"])
    began = time.perf_counter()
    browser.open((out / "index.html").as_uri())
    browser.until(lambda: browser.texts("#count") == ["20,000 of 20,000 studies"])
    whole = time.perf_counter() - began
    assert len(browser.all("table.list tbody tr")) == 100
    began = time.perf_counter()
    box = browser.one("input[name=query]")
    box.send_keys("a00012345")
    browser.until(lambda: browser.texts("#count") == ["1 of 20,000 studies"])
    searched = time.perf_counter() - began
    box.clear()
    browser.button("Clear").click()
    began = time.perf_counter()
    next(b for b in browser.all("th button") if b.text == "Patient").click()
    codes = patients(browser)
    print(
        f"20,000 studies: first rows in {first:.2f} s, all in {whole:.2f} s, searched in {searched:.2f} s, sorted in {time.perf_counter() - began:.2f} s"
    )
    assert codes == sorted(codes)
    browser.button("Last").click()
    assert browser.texts(".pager span") == ["page 200 of 200"]


def test_a_finding_leads_to_its_counterpart_in_the_earlier_study_and_back(browser, out):
    fresh(browser, out)
    opened(browser)
    browser.until(lambda: browser.texts(".bar a[href*='1.2.3.4.3']"), "the earlier study")
    assert browser.texts(".before tbody th a") == ["2023-01-01"]
    assert browser.texts(".before tbody td") == ["0.000 +0.050 since density ~b", "0.100 +0.700 since density ~b"]
    cards = dict(zip(browser.texts(".findings .pick .number"), browser.texts(".findings p.earlier b"), strict=True))
    assert cards == {"1": "seen before", "2": "seen before", "3": "new", "4": "new"}
    said = browser.texts(".findings p.earlier")
    assert (
        said[0]
        == "seen before on 2023-01-01, score then 0.100 (finding 1 of that study, places 0 mm apart). show it there"
    )
    assert said[1] == "new: no finding of its kind was reported at its place on 2023-01-01. "
    assert "upper half, 59 mm from the nipple" in browser.texts(".findings .card p.muted")[0]
    browser.all(".findings p.earlier a")[0].click()
    browser.until(lambda: browser.texts(".bar h1 + span") == ["2023-01-01"], "the earlier study")
    browser.until(lambda: browser.texts(".card.selected .pick .number") == ["1"], "its counterpart")
    browser.until(lambda: browser.texts(".findings p.earlier"), "the way back")
    assert browser.texts(".findings p.earlier")[0] == "seen again on 2026-01-01, score then 0.800. show it there"
    assert "none of this patient" not in browser.js("return document.body.textContent")
    browser.all(".findings p.earlier a")[0].click()
    browser.until(lambda: browser.texts(".bar h1 + span") == ["2026-01-01"], "the later study")
    browser.until(lambda: browser.texts(".card.selected .pick .number") == ["1"], "the finding")


def test_the_page_says_how_scores_come_about(browser, out):
    fresh(browser, out)
    opened(browser)
    assert browser.texts(".scoring li") == list(results.CONTEXT.model.scoring)
