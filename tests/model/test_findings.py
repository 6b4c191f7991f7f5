"""From scored regions to findings."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mammoscan.core.domain import Region, RegionKind
from mammoscan.model import findings

boxes = st.tuples(*[st.floats(0, 100)] * 2, *[st.floats(1, 100)] * 2).map(
    lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3])
)


def _region(box, saliency=0.0):
    x0, y0, x1, y1 = box
    contour = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    centre = ((x0 + x1) / 2, (y0 + y1) / 2)
    return Region(RegionKind.MASS, contour, box, centre, (x1 - x0) * (y1 - y0), None, saliency)


@given(st.lists(st.tuples(boxes, st.floats(0, 1), st.floats(0, 1)), max_size=12), st.integers(0, 6))
def test_findings_are_few_apart_and_highest_first(items, most):
    regions = [_region(box, saliency) for box, _, saliency in items]
    scores = [score for _, score, _ in items]
    chosen = findings.select(regions, scores, most=most)
    assert len(chosen) <= most
    assert [scores[i] for i in chosen] == sorted((scores[i] for i in chosen), reverse=True)
    if items and most:
        assert scores[chosen[0]] == max(scores)
    for a in chosen:
        for b in chosen:
            assert a == b or findings.overlap(regions[a].box, regions[b].box) < findings.SAME_PLACE


@given(st.lists(st.tuples(boxes, st.floats(0, 1)), max_size=8, unique_by=(lambda t: t[1])), st.randoms())
def test_the_order_of_the_regions_does_not_matter(items, random):
    shuffled = items[:]
    random.shuffle(shuffled)
    first = findings.select([_region(b) for b, _ in items], [s for _, s in items], most=5)
    second = findings.select([_region(b) for b, _ in shuffled], [s for _, s in shuffled], most=5)
    assert [items[i] for i in first] == [shuffled[i] for i in second]


@given(boxes, boxes)
def test_overlap_is_symmetric_and_a_share(first, second):
    share = findings.overlap(first, second)
    assert 0 <= share <= 1
    assert share == findings.overlap(second, first)
    assert findings.overlap(first, first) > 0.999
