"""Images wait for the network in bounded numbers, and what it says of one hangs on no other."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Analysed, Prediction
from mammoscan.image.crops import CropGeometry, crop_box
from mammoscan.image.features import REGION_FEATURES
from mammoscan.model import bundle, classify
from mammoscan.model.classify import BreastOutputs, RegionOutputs
from mammoscan.model.terms import CLASSES
from mammoscan.run import codec, score
from mammoscan.run.config import RunConfig
from mammoscan.run.plan import PlannedImage
from tests.report import results


@pytest.fixture(scope="module")
def model():
    return bundle.load(None)


def _analysed(number, regions, side):
    header = results.header(n=number)
    rng = np.random.default_rng(number)
    found = results.prediction(header)
    return Analysed(
        header=header,
        geometry=found.geometry,
        regions=tuple(results.finding(header, n, 0.5, x=150.0 + 20 * n).region for n in range(regions)),
        features=rng.random((regions, len(REGION_FEATURES))),
        image_features=found.image_features,
        crops=rng.integers(0, 255, (regions, side, side), dtype=np.uint8),
        tiles=rng.integers(0, 255, (2, side, side), dtype=np.uint8),
        preview=found.preview,
        flags=(),
        seconds=(),
    )


def _planned(analysed):
    return PlannedImage(analysed.header, analysed.header, "key", None)


def _scorer(model, tmp_path, **options):
    config = RunConfig(archive=tmp_path, out=tmp_path / "out", analysis=AnalysisConfig(max_findings=3), **options)
    return score.Scorer(model, config, 0.3)


class _Network:
    """Stands in for the network: no regions give nothing, and it keeps how many images came at once."""

    def __init__(self, *_, **__):
        self.evidence_kernel = np.ones(1, np.float32)
        self.seen = []

    def breasts(self, tiles):
        self.seen.append(len(tiles))
        return (BreastOutputs(),) * len(tiles)

    def predict(self, crops, clinical, features, rank):
        assert len(crops) == len(clinical) == len(features) == len(rank)
        n = len(crops)
        return RegionOutputs(
            np.full((n, len(CLASSES)), 1 / 3), np.ones((n, 2, 2, 1), np.float32), np.full(n, "", dtype=str)
        )


def test_images_without_any_region_do_not_pile_up(model, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "Classifier", _Network)
    scorer = _scorer(model, tmp_path)
    made = []
    for number in range(100):
        analysed = _analysed(number, 0, 8)
        scorer.add(_planned(analysed), analysed)
        if scorer.full:
            made += scorer.flush()
    made += scorer.flush()
    assert [image.header.sop_instance_uid for image, _ in made] == [f"1.2.3.4.5.1.{n}" for n in range(100)]
    assert max(scorer._classifier.seen) == score.IMAGES_AT_ONCE
    assert all((p.scores.normal, p.scores.malignancy, p.candidates) == (1.0, 0.0, 0) for _, p in made)
    assert scorer.flush() == []


def test_heat_is_laid_over_what_the_models_crops_show(model, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "Classifier", _Network)
    cut = CropGeometry(192, 1.25)
    scorer = _scorer(dataclasses.replace(model, crop=cut), tmp_path)
    analysed = _analysed(1, 2, 8)
    scorer.add(_planned(analysed), analysed)
    ((_, made),) = scorer.flush()
    shown = [crop_box(analysed.geometry, finding.region.box, cut.context) for finding in made.findings]
    assert [finding.heat_box for finding in made.findings] == shown


def test_many_regions_are_classified_before_many_images_wait(model, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "Classifier", _Network)
    scorer = _scorer(model, tmp_path)
    for number in range(3):
        assert not scorer.full
        analysed = _analysed(number, score.REGIONS_AT_ONCE // 3 + 1, 8)
        scorer.add(_planned(analysed), analysed)
    assert scorer.full
    assert len(scorer.flush()) == 3
    assert not scorer.full


def test_what_is_said_of_an_image_is_the_same_to_the_last_bit_whatever_was_classified_with_it(model, tmp_path):
    """A run that was killed classifies what is left in other company than one that was not."""
    scorer = _scorer(model, tmp_path)
    images = [_analysed(number, regions, model.crop.side) for number, regions in enumerate((3, 0, 1, 18, 5))]

    def said(*groups):
        out = {}
        for group in groups:
            for number in group:
                scorer.add(_planned(images[number]), images[number])
            out |= {image.header.sop_instance_uid: codec.encode(made) for image, made in scorer.flush()}
        return out

    together = said((0, 1, 2, 3, 4))
    assert len(together) == 5
    assert said((4,), (3,), (2,), (1,), (0,)) == together
    assert said((4, 2, 0), (3, 1)) == together
    assert all(isinstance(codec.decode(Prediction, content), Prediction) for content in together.values())


@pytest.mark.parametrize(
    ("memory", "size"),
    [(80e9, 256), (78.9e9, 256), (24e9, 64), (8e9, 32), (2e9, 16), (0, 16), (1e15, 512)],
)
def test_a_batch_fills_half_of_the_memory_that_a_gpu_says_it_has(monkeypatch, memory, size):
    tensorflow = pytest.importorskip("tensorflow")
    from tensorflow.python.client import device_lib

    grown = []
    monkeypatch.setattr(tensorflow.config, "list_physical_devices", lambda kind: [SimpleNamespace(kind=kind)])
    monkeypatch.setattr(tensorflow.config.experimental, "set_memory_growth", lambda _, on: grown.append(on))

    def devices(options):
        assert options.gpu_options.allow_growth, "the list would take the whole card"
        said = [("CPU", 268435456)] + ([("GPU", int(memory))] if memory else [])
        return [SimpleNamespace(device_type=kind, memory_limit=limit) for kind, limit in said]

    monkeypatch.setattr(device_lib, "list_local_devices", devices)
    assert classify._batch_size(tensorflow) == size
    assert grown == [True]


def test_tensorflow_says_the_memory_of_its_devices_under_the_name_that_is_read(monkeypatch):
    """The name that was read before is in no answer of TensorFlow's, so that every GPU got the CPU's batches."""
    tensorflow = pytest.importorskip("tensorflow")
    from tensorflow.python.client import device_lib

    assert [d.memory_limit > 0 for d in device_lib.list_local_devices() if d.device_type == "CPU"] == [True]
    monkeypatch.setattr(tensorflow.config, "list_physical_devices", lambda _: [])
    assert classify._batch_size(tensorflow) == classify.CPU_BATCH


def test_a_score_of_a_row_is_the_same_to_the_last_bit_whatever_rows_stand_with_it(model):
    rng = np.random.default_rng(0)
    lesion = model.region.lesion
    lesion = dataclasses.replace(lesion, weight=rng.normal(size=len(lesion.weight)))
    rows = rng.normal(size=(64, len(lesion.inputs)))
    whole = lesion.log_odds(rows)
    for count in (1, 2, 3, 5, 16, 63):
        assert np.array_equal(lesion.log_odds(rows[-count:]), whole[-count:])
        assert np.array_equal(lesion.log_odds(np.asfortranarray(rows[-count:])), whole[-count:])
