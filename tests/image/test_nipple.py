"""The nipple: the point of the skin farthest from the chest wall."""

import dataclasses

import numpy as np
import pytest

from mammoscan.core.domain import Density, Image, Laterality, Spacing, SpacingSource, View
from mammoscan.image import nipple, preprocess
from mammoscan.synthetic import phantom
from tests.report import results

ROWS, COLUMNS = 900, 720


def _prepared(side, view, seed=1, *, cut=0, **changes):
    pixels, truth = phantom.render(phantom.Spec(side, view, Density.B, height=ROWS, width=COLUMNS, patient=seed), seed)
    if cut:
        pixels = pixels[:, :-cut] if side is Laterality.LEFT else pixels[:, cut:]
    spacing = Spacing(truth.mm, truth.mm, SpacingSource.IMAGER)
    h = results.header(side, view, spacing=spacing, rows=ROWS, columns=pixels.shape[1], **changes)
    image = Image(h, (pixels / 4095).astype(np.float32), np.zeros(pixels.shape, bool))
    return preprocess.prepare(image), truth


@pytest.mark.parametrize("view", [View.CC, View.MLO])
@pytest.mark.parametrize("side", [Laterality.LEFT, Laterality.RIGHT])
def test_a_nipple_in_profile_is_found_to_a_few_millimetres(side, view):
    prepared, truth = _prepared(side, view)
    x, y = nipple.place(prepared)
    rows, columns = np.nonzero(truth.breast)
    tip = columns.max() + 1 if side is Laterality.LEFT else columns.min()
    height = rows[columns == (columns.max() if side is Laterality.LEFT else columns.min())].mean()
    assert abs(x - tip) * truth.mm < 2
    assert abs(y - height) * truth.mm < 3


def test_nothing_is_said_where_the_picture_ends_before_the_skin_does():
    assert nipple.place(_prepared(Laterality.LEFT, View.CC, cut=400)[0]) is None
    assert nipple.place(_prepared(Laterality.RIGHT, View.CC, cut=400)[0]) is None


def test_nothing_is_said_of_parts_of_a_breast_and_of_unknown_views():
    prepared, _ = _prepared(Laterality.LEFT, View.CC)
    for changes in ({"view": View.UNKNOWN}, {"partial_view": True}):
        header = dataclasses.replace(prepared.header, **changes)
        assert nipple.place(dataclasses.replace(prepared, header=header)) is None


def test_an_outline_without_a_tip_has_no_nipple():
    flat = np.zeros((200, 100), bool)
    flat[20:180, :60] = True
    assert nipple.tip(flat, 0.4) is None
    assert nipple.tip(np.zeros((50, 50), bool), 0.4) is None
    rows = np.arange(200)
    fold = np.arange(100)[None] < np.clip(90 - rows, 0, 90)[:, None]  # farthest at its upper end: an armpit
    assert nipple.tip(fold, 0.4) is None
    heap = np.arange(100)[None] < (80 - abs(rows - 120) * 0.6)[:, None]
    assert nipple.tip(heap, 0.4) == (80, 120.5)
