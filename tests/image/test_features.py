"""Features of known shapes and textures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import graycomatrix, graycoprops

from mammoscan.image import features


def circle(radius: float, centre=(0.0, 0.0), n: int = 720) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)]) * radius + centre


def textured(seed: int, side: int = 40) -> np.ndarray:
    noise = np.random.default_rng(seed).random((side, side)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return ((soft - soft.min()) / (soft.max() - soft.min())).astype(np.float32)


@given(radius=st.floats(2, 200), x=st.floats(-500, 500), y=st.floats(-500, 500))
def test_a_disc_is_round_whole_and_has_its_area(radius, x, y):
    disc = circle(radius, (x, y))
    circularity, eccentricity, solidity, deviation = features.shape_measures(disc)
    assert circularity == pytest.approx(1.0, abs=0.01)
    assert eccentricity < 0.15
    assert solidity == pytest.approx(1.0, abs=0.01)
    assert deviation < 0.01
    assert features.polygon_area(disc) == pytest.approx(np.pi * radius**2, rel=1e-3)
    assert features.polygon_length(disc) == pytest.approx(2 * np.pi * radius, rel=1e-3)


@given(a=st.floats(5, 80), b=st.floats(5, 80))
def test_an_ellipse_has_the_eccentricity_of_its_axes(a, b):
    ellipse = circle(1.0) * (a, b)
    low, high = sorted((a, b))
    measured = features.shape_measures(ellipse)[1]
    # Eccentricities near 0 are roots of tiny differences; their squares are compared instead.
    assert measured**2 == pytest.approx(1 - (low / high) ** 2, abs=0.01)


@given(
    st.lists(st.floats(3, 30), min_size=8, max_size=40),
    st.floats(-100, 100), st.floats(-100, 100), st.floats(0.5, 4),
)  # fmt: skip
def test_shape_does_not_change_when_the_region_moves_or_grows(radii, x, y, factor):
    outline = circle(1.0, n=len(radii)) * np.array(radii)[:, None]
    moved = outline * factor + (x, y)
    np.testing.assert_allclose(features.shape_measures(moved), features.shape_measures(outline), atol=2e-2)


def test_a_star_is_less_round_and_less_solid_than_a_disc():
    star = circle(20.0, n=64) * np.where(np.arange(64) % 8 < 4, 1.0, 0.4)[:, None]
    assert features.shape_measures(star)[0] < 0.5
    assert features.shape_measures(star)[2] < 0.9
    assert features.shape_measures(star)[3] > 0.2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), distance=st.integers(1, 4))
def test_haralick_features_are_those_of_scikit_image(seed, distance):
    pixels = textured(seed)
    ours = features.glcm_features(pixels, np.ones(pixels.shape, bool), distance)
    levels = np.minimum(pixels * features.GREY_LEVELS, features.GREY_LEVELS - 1).astype(np.uint8)
    # Our 45 and 135 degree neighbours are ``distance`` steps away on the diagonal, as in Haralick 1973;
    # scikit-image rounds the circle's points, so only distances where both agree are compared there.
    rows, columns = np.array([0, 45, 90, 135]), distance
    theirs = []
    for angle in rows:
        reach = columns * (np.sqrt(2) if angle in (45, 135) else 1.0)
        matrix = graycomatrix(
            levels, [reach], [np.deg2rad(angle)], levels=features.GREY_LEVELS, symmetric=True, normed=True
        )
        p = matrix[:, :, 0, 0]
        entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
        theirs.append(
            [graycoprops(matrix, k)[0, 0] for k in ("contrast", "homogeneity", "energy", "correlation")] + [entropy]
        )
    np.testing.assert_allclose(ours, np.mean(theirs, axis=0), rtol=1e-6, atol=1e-9)


def test_a_flat_texture_has_no_contrast_and_no_entropy():
    flat = np.full((20, 20), 0.4, np.float32)
    contrast, homogeneity, energy, correlation, entropy = features.glcm_features(flat, np.ones((20, 20), bool), 2)
    assert (contrast, homogeneity, energy, correlation) == (0.0, 1.0, 1.0, 1.0)
    assert entropy == pytest.approx(0.0)


def test_texture_of_a_region_without_pairs_is_undefined():
    mask = np.zeros((10, 10), bool)
    mask[4, 4] = True
    assert np.isnan(features.glcm_features(np.ones((10, 10), np.float32), mask, 3)).all()


def test_every_feature_is_documented_with_unit_formula_and_source():
    assert tuple(features.FEATURE_DOCS) == features.REGION_FEATURES
    assert all(len(doc) == 3 and all(doc) for doc in features.FEATURE_DOCS.values())


def test_an_empty_breast_has_no_structured_tissue():
    assert not features.structured_tissue(np.ones((20, 20), np.float32), np.zeros((20, 20), bool), mm=0.2).any()


def test_the_structured_half_of_a_breast_is_told_from_the_smooth_half():
    rng = np.random.default_rng(0)
    plain = np.full((300, 400), 0.3, np.float32)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (300, 200)).astype(np.float32), (0, 0), 8)
    plain[:, 200:] += 0.15 * texture / texture.std()
    dense = features.structured_tissue(plain, np.ones(plain.shape, bool), mm=0.2)
    assert dense[:, 260:].mean() > 0.6
    assert dense[:, :140].mean() < 0.02
