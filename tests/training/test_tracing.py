"""The network that draws outlines: numpy says what Keras says, and it learns what people draw."""

from __future__ import annotations

import numpy as np
import pytest

from mammoscan.core.errors import LabelError
from mammoscan.image import trace
from mammoscan.image.trace import CHANNELS, SIDE, Tracer
from mammoscan.training import tracing
from mammoscan.training.datasets.film import Lesion

YY, XX = np.mgrid[0:SIDE, 0:SIDE] + 0.5


def blobs(count: int, seed: int) -> tracing.Cases:
    """Bright blobs, each twice as wide as the core of it that was grown."""
    rng = np.random.default_rng(seed)
    windows, truth = np.zeros((count, SIDE, SIDE, CHANNELS), np.float16), np.zeros((count, SIDE, SIDE), np.float16)
    for plane, inside in zip(windows, truth, strict=True):
        x, y, radius = rng.uniform(12, 20), rng.uniform(12, 20), rng.uniform(5, 9)
        far = np.hypot(XX - x, YY - y)
        plane[..., 0] = 3 * (far < radius) + rng.normal(0, 0.3, (SIDE, SIDE))
        plane[..., 1], plane[..., 2] = 1.0, far < radius / 2
        inside[:] = far < radius
    return tracing.Cases(windows, truth, np.ones(count, np.float32), np.arange(count))


def test_numpy_gives_what_keras_gives():
    model = tracing.network()
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.2, w.shape).astype(np.float32) for w in model.get_weights()]
    model.set_weights(weights)
    windows = rng.normal(size=(5, SIDE, SIDE, CHANNELS)).astype(np.float32)
    expected = 1 / (1 + np.exp(-model(windows).numpy().astype(np.float64)))
    tracer = Tracer(tuple(weights[::2]), tuple(weights[1::2]))
    np.testing.assert_allclose(tracer(windows), expected, atol=1e-4)


def test_it_learns_how_far_a_lesion_reaches_and_is_read_back(tmp_path):
    tracer = tracing.fit(blobs(256, 1), np.arange(256), seed=1)
    new = blobs(40, 2)
    said, truth = tracer(new.windows.astype(np.float32)) > 0.5, new.truth > 0.5
    grown = new.windows[..., 2] > 0.5

    def dice(mask):
        return 2 * (mask & truth).sum(axis=(1, 2)) / (mask.sum(axis=(1, 2)) + truth.sum(axis=(1, 2)))

    assert np.median(dice(grown)) < 0.5
    assert np.median(dice(said)) > 0.85
    tracing.save(tracer, tmp_path / trace.FILE)
    np.testing.assert_array_equal(trace.at(tmp_path / trace.FILE)(new.windows[:2].astype(np.float32)) > 0.5, said[:2])


def test_without_examples_the_remedy_is_said():
    with pytest.raises(LabelError, match="no region overlaps a lesion"):
        tracing.fit(blobs(3, 1), np.arange(0), seed=1)


def test_a_box_stands_for_the_ellipse_in_it():
    points = tracing.points(Lesion("benign", "", (10.0, 20.0, 30.0, 60.0)))
    assert points.min(axis=0) == pytest.approx([10, 20])
    assert points.max(axis=0) == pytest.approx([30, 60])
    drawn = ((1.0, 2.0), (3.0, 2.0), (3.0, 5.0))
    assert tracing.points(Lesion("benign", "", (1, 2, 3, 5), drawn)).tolist() == [list(p) for p in drawn]
