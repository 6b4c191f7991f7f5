"""Percent density by area: against phantoms of known share, and the pictures that show what was counted."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from mammoscan.core.domain import Density, Image, Laterality, View
from mammoscan.image import analyse, dense, features, preprocess
from mammoscan.report import figures
from mammoscan.synthetic import phantom
from mammoscan.training.datasets import images
from tests.report import results


def drawn(tmp_path, *, share=None, density=Density.B, view=View.CC, side=Laterality.LEFT, height=450, noise=0.0,
          depth=95.0, seed=1, spacing=True):  # fmt: skip
    """A prepared phantom, its image, and its true percent density."""
    spec = phantom.Spec(
        side, view, density, height=height, width=round(0.8 * height), depth_mm=depth, patient=seed, glandular=share
    )
    stored, truth = phantom.render(spec, seed)
    pixels = stored.astype(np.float32) / 4095
    if noise:
        grain = np.random.default_rng(seed).normal(0, noise, pixels.shape)
        pixels = np.clip(pixels + grain, 0, 1).astype(np.float32)
    header = images.plain_header(
        tmp_path / "phantom.png", name="phantom", patient="phantom", laterality=side, view=view,
        rows=pixels.shape[0], columns=pixels.shape[1], mm=truth.mm if spacing else None,
    )  # fmt: skip
    image = Image(header, pixels, np.zeros(pixels.shape, bool))
    true = 100 * truth.dense.sum() / (truth.breast & ~truth.pectoral).sum()
    return image, preprocess.prepare(image), float(true)


def percent(prepared):
    return features.image_features(prepared, dense.dense_pixels(prepared)).percent_density


CLASSES = (Density.A, Density.B, Density.C, Density.D)
SEEDS = (1, 2, 3, 4)


def errors(tmp_path, **how):
    """How far percent density lies from the truth, in points, on phantoms that differ in all that chance sets."""
    found = [drawn(tmp_path, seed=seed, **how) for seed in SEEDS]
    return np.abs([percent(prepared) - true for _, prepared, true in found])


@pytest.mark.parametrize("view", [View.CC, View.MLO])
@pytest.mark.parametrize("density", CLASSES)
def test_phantoms_shares_are_found_within_5_points_in_the_mean(tmp_path, density, view):
    found = errors(tmp_path, density=density, view=view)
    assert found.mean() <= 5.0
    assert found.max() <= 12.0


@pytest.mark.xfail(strict=True, reason="of 64 such phantoms 11 were off by more than 5 points, the worst by 11.7")
def test_every_phantoms_share_is_found_within_5_points(tmp_path):
    for density in CLASSES:
        for view in (View.CC, View.MLO):
            assert errors(tmp_path, density=density, view=view).max() <= 5.0


@pytest.mark.parametrize("share", [0.03, 0.12, 0.3, 0.55, 0.8])
def test_shares_between_the_classes_are_found_as_well(tmp_path, share):
    assert errors(tmp_path, share=share).mean() <= 5.0


@pytest.mark.parametrize(
    "other", [{"height": 900}, {"depth": 70.0}, {"depth": 120.0}, {"noise": 0.01}, {"noise": 0.02}, {"spacing": False}]
)
def test_neither_size_nor_noise_nor_an_unknown_spacing_takes_it_further_off(tmp_path, other):
    assert errors(tmp_path, density=Density.C, **other).mean() <= 5.0


def test_a_denser_phantom_never_counts_less(tmp_path):
    found = [percent(drawn(tmp_path, share=share, seed=3)[1]) for share in (0.05, 0.15, 0.3, 0.45, 0.6, 0.75)]
    assert found == sorted(found)


def test_the_mirrored_breast_has_the_same_share(tmp_path):
    image, prepared, _ = drawn(tmp_path, density=Density.C, view=View.MLO)
    mirrored = Image(image.header, np.ascontiguousarray(image.pixels[:, ::-1]), image.padding)
    assert percent(preprocess.prepare(mirrored)) == pytest.approx(percent(prepared), abs=0.5)


def test_neither_skin_nor_muscle_nor_air_is_counted(tmp_path):
    _, prepared, _ = drawn(tmp_path, density=Density.D, view=View.MLO)
    counted = dense.dense_pixels(prepared)
    depth = dense.below_skin(prepared.breast | prepared.pectoral) * prepared.geometry.mm
    assert counted.any()
    assert not (counted & prepared.pectoral).any()
    assert not (counted & ~prepared.breast).any()
    assert depth[counted].min() > dense.SKIN_MM - 2 * dense.GRID_MM


def test_a_breast_too_small_to_judge_has_nothing_dense_and_does_not_fail(tmp_path):
    tiny = np.zeros((120, 120), bool)
    tiny[50:60, 0:10] = True
    assert dense.measure(np.full((120, 120), 0.5, np.float32), tiny, np.zeros_like(tiny), mm=1.0) is None


@pytest.mark.parametrize("side", [Laterality.LEFT, Laterality.RIGHT])
def test_the_thresholded_picture_shows_the_pixels_that_are_counted(tmp_path, side):
    image, prepared, _ = drawn(tmp_path, density=Density.C, view=View.MLO, side=side, height=900)
    counted = dense.dense_pixels(prepared)
    picture = analyse.preview(image, prepared.geometry, counted)
    breast = analyse.preview(image, prepared.geometry, prepared.breast).dense
    shown = 100 * picture.dense.sum() / breast.sum()
    assert shown == pytest.approx(features.image_features(prepared, counted).percent_density, abs=0.5)
    # What is tinted in the report's second picture is the preview's mask and nothing else.
    prediction = results.prediction(image.header, ())
    prediction = dataclasses.replace(prediction, preview=picture)
    original, tinted, *_ = figures.five_pictures(prediction, side=max(picture.pixels.shape))
    changed = (original != tinted).any(axis=2)
    mask = picture.dense.astype(np.uint8)
    assert not (changed & ~picture.dense).any()
    inside = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
    assert changed[inside].mean() > 0.99
