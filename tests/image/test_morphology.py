"""Dilation, erosion and holes of masks, against OpenCV's and SciPy's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mammoscan.image import morphology
from tests import plain


@st.composite
def masks(draw):
    """Specks, dust and wide shapes with bays and holes, in pictures of all sizes."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    noise = rng.random((height, width)).astype(np.float32)
    sigma = draw(st.sampled_from([0.0, 1.0, 4.0]))
    if sigma:
        noise = cv2.GaussianBlur(noise, (0, 0), sigma)
    return noise > np.quantile(noise, draw(st.sampled_from([0.0, 0.02, 0.3, 0.6, 0.95, 1.0])))


@settings(max_examples=150, deadline=None)
@given(masks(), st.integers(1, 35))
def test_dilation_and_erosion_by_runs_are_those_of_opencv(mask, reach):
    np.testing.assert_array_equal(morphology.dilated(mask, reach), plain.dilated(mask, reach))
    np.testing.assert_array_equal(morphology.eroded(mask, reach), plain.eroded(mask, reach))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 50), st.integers(1, 9))
def test_openings_by_parts_are_those_of_opencv(seed, height, width, reach):
    plane = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    np.testing.assert_array_equal(morphology.opened(plane, reach), cv2.morphologyEx(plane, cv2.MORPH_OPEN, kernel))


@pytest.mark.parametrize("value", [False, True])
def test_nothing_stays_nothing_and_all_stays_all(value):
    mask = np.full((20, 30), value)
    assert (morphology.dilated(mask, 4) == value).all()
    assert (morphology.eroded(mask, 4) == value).all()
    assert (morphology.fill_holes(mask) == value).all()


@settings(max_examples=150, deadline=None)
@given(masks())
def test_holes_are_those_of_scipy(mask):
    np.testing.assert_array_equal(morphology.fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_holes_are_filled_and_bays_are_not():
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    mask[3:5, 3:5] = False
    mask[1:3, 6] = False
    filled = morphology.fill_holes(mask)
    assert filled[3:5, 3:5].all()
    assert not filled[1:3, 6].any()
