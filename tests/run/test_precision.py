"""A results folder holds scores of one precision: another is told of, and makes them again."""

import json

import pytest

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.console import Console
from tests import small

ORDER = ("float32", "bfloat16", "bfloat16", "float32")  # what "auto" takes hangs on the machine


class _Console(Console):
    """Keeps the notes."""

    def __init__(self):
        super().__init__(quiet=True)
        self.said = ""

    def note(self, text):
        self.said += text + "\n"


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Runs over one image in ``ORDER``: what each counted, said and wrote."""
    place = tmp_path_factory.mktemp("precision")
    out = place / "out"
    small.write(place / "archive" / "cc.dcm", small.image(small.ANNA))
    found = []
    for wanted in ORDER:
        console = _Console()
        counts = small.run(
            place / "archive", out, console=console, precision=wanted, write=("cad-sr",),
            analysis=AnalysisConfig(max_regions=4),
        )  # fmt: skip
        (row,) = small.table(out, "images")
        (report,) = (path.read_bytes() for path in out.rglob("*.dcm"))
        made = json.loads((out / "run.json").read_text())["precision"]
        found.append((counts, console.said, row["malignancy"], made, report))
    return found


def test_another_precision_makes_results_again_and_the_same_one_keeps_them(story):
    assert [(counts.analysed, counts.unchanged) for counts, *_ in story] == [(1, 0), (1, 0), (0, 1), (1, 0)]
    first, half, kept, last = (score for _, _, score, *_ in story)
    assert first == last
    assert half == kept
    assert 0 < abs(float(first) - float(half)) < 0.05


def test_that_all_is_made_again_is_said_with_the_reason(story):
    first, half, kept, last = (said for _, said, *_ in story)
    assert "made again" not in first + kept
    assert "computed in float32; all are made again in bfloat16 (--precision bfloat16)" in half
    assert "computed in bfloat16; all are made again in float32 (--precision float32)" in last


def test_run_json_and_the_report_say_the_precision(story):
    for (*_, made, report), wanted in zip(story, ORDER, strict=True):
        assert made == wanted
        assert f", {wanted}, mammoscan ".encode() in report
