"""The folded network says what the network that was trained says; conv5 is asked of findings alone."""

import dataclasses

import numpy as np
import pytest

from mammoscan.core.domain import Density, Laterality, View
from mammoscan.core.errors import ModelError
from mammoscan.model import bundle, folded, network
from mammoscan.model.classify import CONV4, NAMED_TOGETHER, Classifier
from mammoscan.model.precision import Precision
from mammoscan.model.terms import CLASSES, CLINICAL, KINDS, MALIGNANT
from mammoscan.synthetic import phantom

SIDE = 160
AGREES = 1e-4


@pytest.fixture(scope="module")
def model():
    return bundle.load(None)


@pytest.fixture(scope="module")
def crops():
    """Twelve places of two phantoms, as dark and bright as they come, one wholly black and one wholly white."""
    found = [np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 255, np.uint8)]
    for view in (View.CC, View.MLO):
        spec = phantom.Spec(Laterality.LEFT, view, Density.C, height=900, width=720, patient=3)
        pixels = phantom.render(spec, 3)[0].astype(np.float64)
        grey = np.clip(255 * pixels / pixels.max(), 0, 255).astype(np.uint8)
        found += [grey[y : y + SIDE, x : x + SIDE] for y in (150, 400, 650) for x in (0, 200)]
    return np.stack(found)


@pytest.fixture(scope="module")
def clinical(crops):
    return np.random.default_rng(5).normal(size=(len(crops), len(CLINICAL))).astype(np.float32)


@pytest.fixture(scope="module")
def unfolded(model, crops, clinical):
    """What the Keras model says with the bundle's weights, conv4's maps among it."""
    trained = network.resnet50(model.crop, len(CLINICAL), len(CLASSES), heads=model.heads, shown=network.FROZEN_END)
    network.set_weights(trained, model.arrays())
    said = trained([crops[..., None].astype(np.float32), clinical], training=False)
    return {name: np.asarray(value) for name, value in said.items()}


@pytest.fixture(scope="module")
def said(model, crops, clinical):
    return Classifier(model, batch_size=len(crops)).step(crops, clinical).outputs()


def test_all_heads_and_the_evidence_are_those_of_the_network_as_it_was_trained(model, said, unfolded):
    for name in (*model.heads, "evidence"):
        if name == "kind_logits":
            continue
        expected = unfolded["maps"] @ network.evidence_kernel(model.arrays(), conv5=False)[:, MALIGNANT] \
            if name == "evidence" else unfolded[name]  # fmt: skip
        assert said[name].dtype == np.float32
        assert np.abs(said[name] - expected).max() <= AGREES * max(1.0, np.abs(expected).max()), name
    assert np.abs(unfolded["lesion_logits"]).max() > 0.5  # there is something to agree on


def test_conv5_and_its_heads_are_those_of_the_network_as_it_was_trained(model, crops, clinical, unfolded):
    import tensorflow as tf

    whole = folded.Folded(model.arrays(), model.crop, len(CLINICAL), model.heads, conv5=True, logits=len(CLASSES))
    fifth = whole.fifth(whole.stages(tf.constant(crops))[1])
    assert fifth.shape == (len(crops), 5, 5, 2048)
    for name, value in whole.of_conv5(fifth, tf.constant(clinical)).items():
        assert np.abs(np.asarray(value) - unfolded[name]).max() <= AGREES, name


class _Shifted(bundle.Bundle):
    """The bundled model with its head for the kind of a lesion moved, since it calls nearly everything a mass."""

    by = np.zeros(len(KINDS))

    def arrays(self):
        arrays = bundle.Bundle.arrays(self)
        return arrays | {"kind_logits/1": arrays["kind_logits/1"] + type(self).by}


def test_the_kind_of_a_lesion_is_asked_of_some_alone_and_hangs_on_none_beside_it(
    model, crops, clinical, unfolded, monkeypatch
):
    shift = -np.median(unfolded["kind_logits"], axis=0)
    monkeypatch.setattr(_Shifted, "by", shift)
    moved = _Shifted(**{field.name: getattr(model, field.name) for field in dataclasses.fields(model)})
    classifier = Classifier(moved, batch_size=len(crops))
    outputs = classifier.step(crops, clinical).outputs()
    assert "kind_logits" not in outputs
    expected = np.array(KINDS)[(unfolded["kind_logits"] + shift).argmax(axis=1)]
    assert len(set(expected)) > 2
    for chosen in ([0], [3, 1], list(range(NAMED_TOGETHER + 1)), list(range(len(expected)))):
        rows = {name: values[chosen] for name, values in outputs.items()}
        assert classifier.kinds(rows).tolist() == expected[chosen].tolist()
    without = {name: values for name, values in outputs.items() if name != CONV4}
    assert set(classifier.kinds(without)) == {""}


def test_conv5_is_not_read_where_neither_score_nor_kind_is_of_it(model):
    arrays = {name: value for name, value in model.arrays().items() if not name.startswith("conv5_")}
    assert not any(name.startswith("conv5_") for name in folded.convolutions(arrays, conv5=False))
    with pytest.raises(ModelError, match="layer conv5_block1_1_conv are missing"):
        folded.convolutions(arrays, conv5=True)


def test_what_lies_around_a_crop_is_zero_after_the_means_and_not_black():
    import tensorflow as tf

    rng = np.random.default_rng(1)
    stem = folded.Convolution(rng.normal(size=(7, 7, 3, 4)).astype(np.float32), np.zeros(4, np.float32))
    grey = rng.integers(0, 256, (1, 16, 16, 1)).astype(np.float32)
    around = [[0, 0], [3, 3], [3, 3], [0, 0]]
    expected = tf.nn.conv2d(np.concatenate([grey - mean for mean in network.MEANS], -1), stem.kernel, 2, around)
    two = np.concatenate([grey, np.ones_like(grey)], axis=-1)
    found = tf.nn.conv2d(two, folded.grey_stem(stem).kernel, 2, around)
    assert np.abs(np.asarray(found - expected)).max() <= 1e-6 * np.abs(expected).max() * 10


def test_weights_of_another_shape_are_refused_and_named(model, tmp_path):
    arrays = dict(model.arrays())
    arrays["conv3_block2_2_conv/0"] = arrays["conv3_block2_2_conv/0"][:, :, :, 1:]
    with pytest.raises(ModelError, match=r"w\.npz.*layer conv3_block2_2_conv have another shape"):
        folded.convolutions(arrays, conv5=False, path=tmp_path / "w.npz")


def test_every_size_of_batch_that_is_used_says_the_same_to_the_last_bit(model):
    classifier = Classifier(model)
    reference = classifier.sizes.reference
    first = classifier.probe(reference)
    classifier.sizes.measure(classifier.probe)
    classifier.sizes.measure(classifier.probe)
    for size in classifier.sizes.seconds_a_crop:
        for name, rows in classifier.probe(size).items():
            assert np.array_equal(rows, np.take(first[name], np.arange(size) % reference, axis=0)), (size, name)
    crops = np.random.default_rng(0).integers(0, 256, (reference, SIDE, SIDE), dtype=np.uint8)
    facts = np.zeros((reference, len(CLINICAL)), np.float32)
    together = classifier.step(crops, facts).outputs()
    alone = classifier.step(crops[5:6], facts[5:6]).outputs()
    assert all(np.array_equal(alone[name][0], rows[5]) for name, rows in together.items())


def test_bfloat16_computes_in_it_after_the_first_block_and_says_nearly_the_same(model, crops, clinical, said):
    classifier = Classifier(model, batch_size=len(crops), precision=Precision.BFLOAT16)
    half = classifier.step(crops, clinical).outputs()
    assert half[CONV4].dtype.name == "bfloat16"
    whole = folded.Folded(model.arrays(), model.crop, len(CLINICAL), model.heads, conv5=False, precision="bfloat16")
    kinds = {name: kernel.dtype.name for name, (kernel, _) in whole._convolutions.items()}
    assert {name for name, kind in kinds.items() if kind == "float32"} == {f"conv2_block1_{n}" for n in range(4)}
    assert set(kinds.values()) == {"float32", "bfloat16"}
    for name in ("lesion_logits", "pathology_logits"):
        assert half[name].dtype == np.float32
        moved = np.abs(half[name] - said[name]).max()
        assert 0 < moved < 0.5, name
    assert len(classifier.kinds(half)) == len(crops)
