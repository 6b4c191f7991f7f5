"""Labels cover no outline and no other label wherever there is room, and never leave the picture."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.report import labels

SHAPE = (600, 450)


def _outline(x, y, wide, tall, corners, seed):
    """A wavy closed curve around a place."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    wave = 1 + 0.25 * np.random.default_rng(seed).uniform(-1, 1, corners)
    return np.column_stack([x + wide * wave * np.cos(angle), y + tall * wave * np.sin(angle)])


_ROUND = st.builds(
    _outline, st.floats(5, 445), st.floats(5, 595), st.floats(3, 70), st.floats(3, 70), st.integers(4, 40),
    st.integers(0, 99),
)  # fmt: skip
_SIZE = st.tuples(st.integers(8, 90), st.integers(8, 30))


def _clear_of(outline, box):
    """Whether no point of a box lies in or on a polygon: no corner of either in the other, no point of its sides."""
    x0, y0, x1, y1 = box
    polygon = outline.astype(np.float32).reshape(-1, 1, 2)
    across, down = np.linspace(x0, x1, 24), np.linspace(y0, y1, 12)
    if any(cv2.pointPolygonTest(polygon, (float(x), float(y)), False) >= 0 for x in across for y in down):
        return False
    steps = np.linspace(0, 1, 50)[:, None, None]
    x, y = (outline + steps * (np.roll(outline, -1, axis=0) - outline)).reshape(-1, 2).T
    return not bool(((x > x0) & (x < x1) & (y > y0) & (y < y1)).any())


def _meet(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(_ROUND, _SIZE), min_size=1, max_size=6))
def test_no_label_covers_an_outline_or_another_label(made):
    outlines, sizes = zip(*made, strict=True)
    placed = labels.place(SHAPE, outlines, sizes)
    for number, (found, size) in enumerate(zip(placed, sizes, strict=True)):
        x0, y0, x1, y1 = found.box
        assert (x1 - x0, y1 - y0) == size
        assert x0 >= 1
        assert y0 >= 1
        assert x1 < SHAPE[1]
        assert y1 < SHAPE[0]
        assert all(_clear_of(outline, found.box) for outline in outlines)
        assert not any(_meet(found.box, other.box) for other in placed[:number])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(_ROUND, _SIZE), min_size=1, max_size=6))
def test_a_label_that_stands_apart_has_a_line_to_its_outline(made):
    outlines, sizes = zip(*made, strict=True)
    for found, outline in zip(labels.place(SHAPE, outlines, sizes), outlines, strict=True):
        if found.leader is None:
            (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
            x0, y0, x1, y1 = found.box
            assert max(left - x1, x0 - right, top - y1, y0 - bottom) <= labels.GAP + 1
        else:
            start, end = found.leader
            assert np.abs(outline - end).sum(axis=1).min() == 0
            assert found.box[0] <= start[0] <= found.box[2]
            assert found.box[1] <= start[1] <= found.box[3]


def test_where_there_is_no_room_outside_a_label_lies_within_and_a_line_leads_to_its_outline():
    around = np.array([[2.0, 2.0], [447.0, 2.0], [447.0, 597.0], [2.0, 597.0]])
    inner = _outline(225, 300, 60, 60, 30, 1)
    first, second = labels.place(SHAPE, [around, inner], [(60, 20), (60, 20)])
    assert first.leader is not None
    assert second.leader is not None
    assert not _meet(first.box, second.box)
    for found in (first, second):
        assert _clear_of(inner, found.box)
        x0, y0, x1, y1 = found.box
        assert x0 > 2
        assert y0 > 2
        assert x1 < 447
        assert y1 < 597


@pytest.mark.parametrize("shape", [(8, 6), (20, 400), (400, 20)])
def test_a_picture_smaller_than_a_label_is_no_error(shape):
    (found,) = labels.place(shape, [np.array([[1.0, 1.0], [4.0, 1.0], [4.0, 4.0]])], [(60, 20)])
    assert (found.box[2] - found.box[0], found.box[3] - found.box[1]) == (60, 20)


def test_the_same_outlines_have_the_same_places():
    outlines = [_outline(100 + 40 * n, 200, 60, 50, 20, n) for n in range(5)]
    assert labels.place(SHAPE, outlines, [(60, 20)] * 5) == labels.place(SHAPE, outlines, [(60, 20)] * 5)
