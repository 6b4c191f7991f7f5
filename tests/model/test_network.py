"""What is pooled from conv4, and the weights that Grad-CAM gives its channels."""

import numpy as np
import pytest

from mammoscan.image.crops import CropGeometry
from mammoscan.model import network

RNG = np.random.default_rng(3)
SIDE = 10  # of conv4 for a crop of 160 pixels


@pytest.fixture(scope="module")
def stages():
    """A model with conv3 and conv4 as its inputs, and what ``pooled_features`` makes of them."""
    import keras

    third, fourth = keras.Input((2 * SIDE, 2 * SIDE, 512)), keras.Input((SIDE, SIDE, network.CHANNELS))
    named = keras.Model([third, fourth], [
        keras.layers.ReLU(name=network.MIDDLE_END)(third), keras.layers.ReLU(name=network.FROZEN_END)(fourth)
    ])  # fmt: skip
    return keras.Model([third, fourth], network.pooled_features(named, CropGeometry(16 * SIDE, 1.6)))


@pytest.fixture(scope="module")
def maps():
    def some(side, channels):
        return RNG.random((2, side, side, channels), dtype=np.float32) * RNG.random(channels, dtype=np.float32)

    return some(2 * SIDE, 512), some(SIDE, network.CHANNELS)


def test_a_regions_place_and_its_surround_are_pooled_apart(stages, maps):
    third, fourth = maps
    around = np.ones((SIDE, SIDE), bool)
    around[2:8, 2:8] = False
    outside, centre = fourth[:, around], fourth[:, 2:8, 2:8]
    expected = np.concatenate([
        third.mean((1, 2)), third.max((1, 2)), fourth.mean((1, 2)), fourth.max((1, 2)), centre.mean((1, 2)),
        centre.max((1, 2)), outside.mean(1), outside.max(1), fourth[:, 4:6, 4:6].mean((1, 2)), fourth.std((1, 2)),
    ], axis=1)  # fmt: skip
    found = np.asarray(stages(list(maps)))
    assert found.shape == (2, network.POOLED)
    assert np.allclose(found, expected, atol=1e-5)


def test_a_regions_place_is_where_its_crop_shows_it():
    assert network.inner(CropGeometry(160, 1.6)) == (slice(2, 8), slice(4, 6))
    assert network.inner(CropGeometry(320, 1.25)) == (slice(2, 18), slice(4, 16))
    assert not network.unfit(CropGeometry(320, 1.25))


def test_maps_of_two_cells_are_pooled_too():
    """Small crops of tests and of other configurations have conv4 maps of 2 x 2."""
    model = network.resnet50(CropGeometry(32, 1.6), 1, 1, conv5=False, heads={"lesion_logits": 2})
    out = model([RNG.integers(0, 255, (1, 32, 32, 1)).astype(np.float32), np.zeros((1, 1), np.float32)])
    assert np.isfinite(np.asarray(out["lesion_logits"])).all()


def test_the_evidence_of_a_channel_is_the_mean_gradient_over_places(stages, maps):
    """Selvaraju et al., equation 1, by TensorFlow's own gradient of the sum of both heads' log odds."""
    import tensorflow as tf

    heads = {f"{name}_logits/0": RNG.normal(size=(network.POOLED + 8, 2)).astype(np.float32)
             for name in ("lesion", "pathology")}  # fmt: skip
    odds = sum(kernel[: network.POOLED, 1] - kernel[: network.POOLED, 0] for kernel in heads.values())
    third, fourth = tf.constant(maps[0][:1]), tf.constant(maps[1][:1])
    with tf.GradientTape() as tape:
        tape.watch(fourth)
        score = tf.linalg.matvec(stages([third, fourth]), tf.constant(odds))
    gradient = np.asarray(tape.gradient(score, fourth))[0].mean(axis=(0, 1))
    evidence = network.evidence_kernel(heads, conv5=False)[:, 2]
    assert np.allclose(gradient * SIDE * SIDE, evidence, atol=1e-2)
