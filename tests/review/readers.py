"""A reader at the page who knows the truth: opens every study, says what is what, draws what was missed."""

import math

from selenium import webdriver

from tests.review.browser import Keys

_SEEN = """
    return [...document.querySelectorAll('.mark:not(.drawn)')].map((mark) => {
        const box = mark.querySelector('.line').getBBox();
        return {uid: mark.dataset.uid, image: mark.closest('.view').dataset.image, x: box.x + box.width / 2, y: box.y + box.height / 2,
                above: mark.classList.contains('above')};
    });
"""
_PLACE = """
    const view = document.querySelector(`.view[data-image="${arguments[0]}"]`), film = view.querySelector('.film').getBoundingClientRect();
    const svg = view.querySelector('.marks').viewBox.baseVal, turned = view.querySelector('.flip').classList.contains('mirrored');
    return arguments[1].map(([x, y]) => [film.left + (turned ? svg.width - x : x) * film.width / svg.width, film.top + y * film.height / svg.height]);
"""
_CHOOSE = """
    const node = document.querySelector(arguments[0]).querySelector(`select[name=${arguments[1]}]`);
    node.value = arguments[2];
    node.dispatchEvent(new Event('change'));
"""


def read_all(browser, address, truth, initials, *, stated=lambda _, label: label):
    """Read every study of a work list.

    truth: rows of labels by SOPInstanceUID. stated: what this reader takes an image's label for, '' for nothing.
    """
    browser.open(address)
    for folder in browser.js("return [...document.querySelectorAll('tr[data-folder]')].map((r) => r.dataset.folder)"):
        browser.driver.get(f"{address}#/study/{folder}")
        browser.until(
            lambda folder=folder: browser.js(
                "return (document.querySelector('.panel') || {}).isConnected && location.hash.endsWith(arguments[0])",
                folder,
            )
        )
        name = browser.one("#reader")
        if name.get_attribute("value") != initials:
            name.clear()
            name.send_keys(initials, Keys.ENTER)
            browser.until(lambda: browser.all(".said"))
        _read(browser, truth, stated)


def _read(browser, truth, stated):
    browser.keys("l")
    seen = browser.js(_SEEN)
    images = browser.js("return [...document.querySelectorAll('.view[data-image]')].map((v) => v.dataset.image)")
    normal = {}
    for image in images:
        row = truth[image]
        label = stated(image, row["label"])
        normal.setdefault(row["laterality"], []).append(label)
        own = [mark for mark in seen if mark["image"] == image]
        if not row["x"]:
            for mark in own:
                if mark["above"]:
                    browser.js(
                        "document.querySelector(`.card[data-uid='${arguments[0]}'] .choice:last-of-type`).click()",
                        mark["uid"],
                    )
            continue
        x, y, radius = (float(row[c]) for c in ("x", "y", "radius"))
        hit = min((m for m in own), key=lambda m: math.hypot(m["x"] - x, m["y"] - y), default=None)
        if hit and math.hypot(hit["x"] - x, hit["y"] - y) < radius:
            browser.js("document.querySelector(`.card[data-uid='${arguments[0]}'] .choice`).click()", hit["uid"])
            card = f".card[data-uid='{hit['uid']}']"
        else:
            _draw(browser, image, (x, y), radius)
            card = ".card.drawn:last-child"
        if label in {"benign", "malignant"}:
            browser.js(_CHOOSE, card, "stated", label)
            browser.js(_CHOOSE, card, "kind", row["kind"])
    for side, labels in normal.items():
        title = {"L": "left breast", "R": "right breast"}[side]
        if set(labels) == {"normal"}:
            browser.js(
                "[...document.querySelectorAll('.card')].find((c) => c.textContent.startsWith(arguments[0])).id = 'breast'",
                title,
            )
            browser.js(_CHOOSE, "#breast", "stated", "normal")
            browser.js("document.getElementById('breast').id = ''")
    browser.keys("l")


def _draw(browser, image, centre, radius):
    before = len(browser.all(".card.drawn"))
    browser.keys("c")
    (ax, ay), (bx, by) = browser.js(_PLACE, image, [centre, (centre[0], centre[1] + radius)])
    chain = webdriver.ActionChains(browser.driver, duration=0)
    chain.w3c_actions.pointer_action.move_to_location(round(ax), round(ay))
    chain.click_and_hold()
    chain.w3c_actions.pointer_action.move_to_location(round(bx), round(by))
    chain.release().perform()
    browser.until(lambda: len(browser.all(".card.drawn")) == before + 1, "a drawn place")
    browser.js("document.activeElement.blur()")  # keys are for the page again
