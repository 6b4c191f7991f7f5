"""A stopped training goes on to the same result; classes are drawn alike; frozen maps are computed once."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from keras.src.applications import resnet

from mammoscan.image.crops import CropGeometry
from mammoscan.model import network
from mammoscan.model.terms import CLINICAL
from mammoscan.training import augment, heads, maps, region, split
from mammoscan.training.region import Cases, TailConfig
from tests.training import graphs

RNG = np.random.default_rng(0)
CONFIG = TailConfig(epochs=2, steps=2, batch=6)
CROP = CropGeometry(32, 1.6)


WIDE = resnet.stack_residual_blocks_v1


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """conv5 with one block and a sixteenth of its channels: nothing that is tried here hangs on how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            resnet, "stack_residual_blocks_v1", lambda x, filters, _, **more: WIDE(x, filters // 16, 1, **more)
        )
        yield


@pytest.fixture(scope="module")
def single(cases, tmp_path_factory):
    """Trained in single precision, whatever the machine computes in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(region, "precision", lambda: "float32")
        return region.train(cases, np.arange(24), np.arange(24, 36), CONFIG, tmp_path_factory.mktemp("single"))


@pytest.fixture(scope="module")
def cases():
    n = 36
    label = np.arange(n) % 3
    found = RNG.random((2 * n, 2, 2, network.CHANNELS)).astype(np.float16)
    found[:n][label == 2, :, :, :300] += 1
    return Cases(
        maps=found, record=np.arange(n), versions={i: np.array([n + i]) for i in range(0, n, 2)},
        label=label, lesion_kind=np.where(label > 0, label - 1, -1),
        clinical=RNG.normal(size=(n, len(CLINICAL))).astype(np.float32),
        source=np.array(["a", "b"] * (n // 2)), true_box=label > 0, graded=np.arange(n) % 6 != 5, crop=CROP,
    )  # fmt: skip


def test_a_stopped_training_goes_on_to_the_same_result(cases, tmp_path, monkeypatch):
    training, validation = np.arange(24), np.arange(24, 36)
    whole = region.train(cases, training, validation, CONFIG, tmp_path / "whole")
    save = region._Run.save

    def stop(self, *rest):
        save(self, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(region._Run, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        region.train(cases, training, validation, CONFIG, tmp_path / "stopped")
    monkeypatch.setattr(region._Run, "save", save)
    resumed = region.train(cases, training, validation, CONFIG, tmp_path / "stopped")
    assert len(resumed.curve) == 2
    assert resumed.epoch == whole.epoch
    # The losses of the second epoch hang on all that the checkpoint holds, the optimizer's state too.
    losses = [[row["loss"] for row in trained.curve] for trained in (whole, resumed)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    for name, value in whole.weights.items():
        assert np.allclose(value, resumed.weights[name], atol=1e-5), name
    one, two = (region.predict(cases, validation, t.weights)[0] for t in (whole, resumed))
    assert np.allclose(one, two, atol=1e-3)


def test_every_class_is_drawn_alike_and_small_sets_are_not_drowned():
    label = np.array([0] * 90 + [1] * 9 + [2] * 9)
    source = np.array(["big"] * 81 + ["small"] * 9 + ["big"] * 18)
    cases = Cases(np.zeros((1, 2, 2, 1024), np.float16), np.zeros(108, np.intp), {}, label, label - 1,
                  np.zeros((108, len(CLINICAL)), np.float32), source, label > 0,
                  np.ones(108, bool), CROP)  # fmt: skip
    drawn = region.balanced(cases, np.arange(108), np.random.default_rng(0), 3000)
    assert (np.abs(np.bincount(label[drawn]) / 3000 - 1 / 3) < 0.01).all()
    normal = drawn[label[drawn] == 0]
    assert 0.2 < (source[normal] == "small").mean() < 0.3  # 1 to 9 by count, 1 to 3 by root


def test_frozen_maps_are_computed_once_and_a_cut_record_again(tmp_path, monkeypatch):
    calls = []

    def frozen(side, weights):
        def call(crops):
            calls.append(len(crops))
            mean = crops.mean(axis=(1, 2, 3))[:, None]
            return np.ones((len(crops), 2, 2, 1024)) * mean[:, :, None, None], np.ones((len(crops), maps.POOLED)) * mean

        return call

    monkeypatch.setattr(network, "frozen", frozen)
    crops = RNG.integers(0, 255, (5, 32, 32), dtype=np.uint8)
    weights = {"conv1_conv/0": np.zeros((1, 1))}
    store = maps.MapStore(tmp_path, weights, CROP)
    rows = store.rows(crops[[0, 1, 2, 1]])
    assert rows.tolist() == [0, 1, 2, 1]
    assert len(calls) == 1
    again = maps.MapStore(tmp_path, weights, CROP)
    assert again.rows(crops[:3]).tolist() == [0, 1, 2]
    assert len(calls) == 1
    (path,) = tmp_path.glob("conv4-*/maps.bin")
    path.write_bytes(path.read_bytes()[:-7])  # as a stop in the middle of a batch leaves it
    cut = maps.MapStore(tmp_path, weights, CROP)
    rows = cut.rows(crops)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(cut.pooled()[rows][:, 0], crops.mean(axis=(1, 2)), rtol=1e-2)
    assert np.allclose(cut.maps()[rows][:, 0, 0, 0], crops.mean(axis=(1, 2)), rtol=1e-2)
    other = maps.MapStore(tmp_path, {"conv1_conv/0": np.ones((1, 1))}, CROP)
    assert other.rows(crops[3:4]).tolist() == [0]  # other weights, other records
    wider = maps.MapStore(tmp_path, weights, CropGeometry(32, 2.0))
    assert wider.rows(crops[3:4]).tolist() == [0]  # pooled over other places


def test_an_altered_crop_keeps_what_it_shows():
    large = np.zeros((58, 58), np.uint8)
    large[24:34, 24:34] = 200
    versions = [augment.alter(large, 40, np.random.default_rng(i)) for i in range(8)]
    assert all(v.shape == (40, 40) for v in versions)
    assert all(100 < v[18:22, 18:22].mean() < 255 and v[:5, :5].max() < 30 for v in versions)
    assert len({v.tobytes() for v in versions}) == 8


def test_the_split_file_holds_every_patient_once(tmp_path):
    patient = np.array(["p1", "p1", "p2", "p3"])
    strata = split.strata(patient, np.full(4, "s"), np.array(["normal", "malignant", "benign", ""]),
                          np.array(["a", "b", "", "c"]))  # fmt: skip
    assert strata["p1"][1] == "malignant"
    fold = split.folds(strata, count=3, seed=0)
    split.write(tmp_path / "splits.csv", strata, fold)
    lines = (tmp_path / "splits.csv").read_text().splitlines()
    assert lines[0] == "patient,set,worst_label,density,fold"
    assert [line.split(",")[0] for line in lines[1:]] == ["p1", "p2", "p3"]


def test_sets_without_benign_cases_do_not_teach_what_is_malignant():
    label = np.array([1, 2, 2, 2, 2, 0])
    source = np.array(["film", "film", "digital", "digital", "digital", "digital"])
    examples = SimpleNamespace(label=label, set_of=lambda: source)
    assert heads.two_sided(examples, np.arange(5)).tolist() == [True, True, False, False, False]
    assert heads.two_sided(examples, np.array([2, 3])).all()  # nothing else there


def test_an_ungraded_lesion_pulls_only_towards_lesion(cases):
    ungraded = dataclasses.replace(cases, graded=cases.label < 1)
    run = region._Run(network.tail(CROP, len(CLINICAL), 3, 4), CONFIG)
    rows = np.flatnonzero(cases.label == 2)[:6]
    before, _ = run.predict(ungraded, rows)
    for _ in range(30):
        run._step(cases.maps[cases.record[rows]], cases.clinical[rows], cases.label[rows],
                  np.full(6, -1), ungraded.graded[rows])  # fmt: skip
    after, _ = run.predict(ungraded, rows)
    assert after[:, 1:].mean() - after[:, 0].mean() > before[:, 1:].mean() - before[:, 0].mean() + 0.1
    bias = run.model.get_layer("logits").get_weights()[1]
    assert abs(bias[2] - bias[1]) < abs(bias[1:].mean() - bias[0])


def test_training_all_layers_moves_the_first_ones_and_leaves_their_statistics(cases, tmp_path, monkeypatch):
    monkeypatch.setattr(
        resnet, "stack_residual_blocks_v1", lambda x, filters, blocks, **more: WIDE(x, filters // 16, blocks, **more)
    )
    # The graph of all layers' gradients takes half a minute to build for one step; that of conv5 is built above.
    graphs.none_in_region(monkeypatch)
    whole = network.weights_of(network.resnet50(CropGeometry(64, 1.6), len(CLINICAL), 3, heads={"kind_logits": 4}))
    crops = RNG.integers(0, 255, (72, 64, 64, 1), dtype=np.uint8)
    on_crops = dataclasses.replace(cases, maps=crops, crop=CropGeometry(64, 1.6))
    config = TailConfig(epochs=1, steps=1, batch=6, rate=1e-3)
    trained = region.train(on_crops, np.arange(24), np.arange(24, 36), config, tmp_path, whole=whole)
    moved = {name for name, value in trained.weights.items() if not np.array_equal(value, whole[name])}
    assert {"conv2_block1_1_conv/0", "conv4_block6_3_conv/0", "conv5_block3_3_conv/0", "logits/0"} <= moved
    assert not any("_bn/" in name and not name.startswith("conv5") for name in moved)
    logits, kinds = region.predict(on_crops, np.arange(24, 36), trained.weights)
    assert logits.shape == (12, 3)
    assert kinds.shape == (12, 4)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_to_much_the_same_weights_which_stay_single(cases, single, tmp_path, monkeypatch, policy):
    training, validation = np.arange(24), np.arange(24, 36)
    monkeypatch.setattr(region, "precision", lambda: policy)
    results = [single, region.train(cases, training, validation, CONFIG, tmp_path)]
    assert {value.dtype for value in results[1].weights.values()} == {np.dtype(np.float32)}
    one, two = (region.predict(cases, validation, trained.weights)[0] for trained in results)
    assert not np.array_equal(one, two)
    assert np.allclose(one, two, atol=0.1)  # dropout draws another mask


@pytest.mark.parametrize(
    ("flags", "policy"),
    [("fpu avx2 avx512_bf16", "mixed_bfloat16"), ("amx_bf16 amx_tile", "mixed_bfloat16"),
     ("fp asimd i8mm bf16", "mixed_bfloat16"), ("fpu avx2 avx512f xbf16y", "float32")],
)  # fmt: skip
def test_precision_is_what_the_machine_computes_in(tmp_path, monkeypatch, flags, policy):
    monkeypatch.setattr(region, "CPUINFO", tmp_path / "cpuinfo")
    region.CPUINFO.write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert region.precision() == policy
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["a GPU"])
    assert region.precision() == "mixed_float16"


def test_scores_are_fitted_on_what_heads_said_that_saw_neither_the_patient_nor_the_test(monkeypatch):
    of_row = np.repeat([0, 1, 2, 3], 3)
    examples = SimpleNamespace(label=np.tile([0, 1, 2], 4))
    record = np.where(np.arange(12) == 4, -1, np.arange(12))
    frozen = SimpleNamespace(cases=SimpleNamespace(record=record))
    taught = []
    monkeypatch.setattr(heads, "region_heads", lambda _e, _f, rows: taught.append(rows) or len(taught))
    monkeypatch.setattr(heads, "say_regions", lambda own, _f, rows: np.full((len(rows), 3), float(own)))
    said = heads.held_out(examples, frozen, of_row, [0, 1, 3])  # fold 2 is the test's
    assert np.isnan(said[of_row == 2]).all()
    assert np.isnan(said[4]).all()  # not classified
    for fold in (0, 1, 3):
        rows = np.flatnonzero((of_row == fold) & (record >= 0))
        (own,) = np.unique(said[rows])
        assert not set(of_row[taught[int(own) - 1]]) & {fold, 2}
        assert 4 not in taught[int(own) - 1]
