"""Images wait for the network in bounded numbers, and what it says of one hangs on no other."""

import contextlib
import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Analysed
from mammoscan.image.crops import CropGeometry, crop_box
from mammoscan.image.features import REGION_FEATURES
from mammoscan.model import bundle, classify
from mammoscan.run import codec, score
from mammoscan.run.config import RunConfig
from mammoscan.run.plan import PlannedImage
from tests.devices import TimedDevice
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


def _scorer(model, tmp_path, device=None, **options):
    config = RunConfig(archive=tmp_path, out=tmp_path / "out", analysis=AnalysisConfig(max_findings=3), **options)
    return score.Scorer(model, config, 0.3, device=device and (lambda: device))


def _said(scorer, images, *groups):
    """What is said of images, by SOPInstanceUID; each group is computed together."""
    out = {}
    for group in groups:
        made = []
        for number in group:
            scorer.add(_planned(images[number]), images[number])
            made += scorer.collect()
        made += scorer.finish()
        assert scorer.pending == 0
        out |= {image.header.sop_instance_uid: codec.encode_scored(scored) for image, scored in made}
    return out


def test_images_without_any_region_do_not_pile_up_but_share_the_batches(model, tmp_path):
    device = TimedDevice(16)
    with contextlib.closing(_scorer(model, tmp_path, device)) as scorer:
        images = [_analysed(number, 0 if number % 3 else 5, 8) for number in range(60)]
        made = []
        for analysed in images[:-1]:
            scorer.add(_planned(analysed), analysed)
        while len(made) < 55:  # without the last, partly filled batch, or it waits here for ever
            made += scorer.collect()
        scorer.add(_planned(images[-1]), images[-1])
        made += scorer.finish()
    assert [image.header.sop_instance_uid for image, _ in made] == [f"1.2.3.4.5.1.{n}" for n in range(60)]
    assert [p.candidates for _, p in made] == [len(analysed.regions) for analysed in images]
    assert all((p.scores.normal, p.scores.malignancy) == (1.0, 0.0) for _, p in made if not p.candidates)
    crops = sum(len(analysed.regions) + 2 for analysed in images)
    assert [given for given, _ in device.batches] == [16] * (crops // 16) + [crops % 16]


def test_a_model_without_a_word_on_whole_breasts_is_shown_none(model, tmp_path):
    heads = {name: size for name, size in model.heads.items() if name not in classify.BREAST_HEADS}
    device = TimedDevice(4)
    with contextlib.closing(_scorer(dataclasses.replace(model, heads=heads), tmp_path, device)) as scorer:
        for number, regions in enumerate((0, 3, 0)):
            analysed = _analysed(number, regions, 8)
            scorer.add(_planned(analysed), analysed)
        assert [p.candidates for _, p in scorer.collect()] == [0, 0]
        ((_, prediction),) = scorer.finish()
    assert prediction.tissue == ""
    assert prediction.density.density is prediction.image_features.density
    assert device.batches == [(3, 4)]


def test_tiles_speak_for_the_breast_and_regions_for_themselves(model, tmp_path):
    """They stand in one batch, and must not be taken for each other."""
    analysed = _analysed(1, 4, 8)
    with contextlib.closing(_scorer(model, tmp_path, TimedDevice(64))) as scorer:
        scorer.add(_planned(analysed), analysed)
        ((_, one),) = scorer.finish()
        for other, changes in ((dataclasses.replace(analysed, tiles=255 - analysed.tiles), "tissue"),
                               (dataclasses.replace(analysed, crops=255 - analysed.crops), "scores")):  # fmt: skip
            scorer.add(_planned(other), other)
            ((_, two),) = scorer.finish()
            assert (two.tissue != one.tissue) == (changes == "tissue")
            assert (two.scores != one.scores) == (changes == "scores")


def test_heat_is_laid_over_what_the_models_crops_show(model, tmp_path):
    cut = CropGeometry(192, 1.25)
    analysed = _analysed(1, 2, 8)
    with contextlib.closing(_scorer(dataclasses.replace(model, crop=cut), tmp_path, TimedDevice(4))) as scorer:
        scorer.add(_planned(analysed), analysed)
        ((_, made),) = scorer.finish()
    shown = [crop_box(analysed.geometry, finding.region.box, cut.context) for finding in made.findings]
    assert shown
    assert [finding.heat_box for finding in made.findings] == shown


def test_what_the_network_raises_reaches_who_adds_and_no_image_is_lost_silently(model, tmp_path):
    with contextlib.closing(_scorer(model, tmp_path, TimedDevice(4, fails_at=1))) as scorer:
        for number in range(2):
            analysed = _analysed(number, 2, 8)
            scorer.add(_planned(analysed), analysed)
        with pytest.raises(MemoryError, match="on the device"):
            scorer.finish()
        ((image, _),) = scorer.collect()
        assert image.header.sop_instance_uid == "1.2.3.4.5.1.0"
        assert scorer.pending == 1
        with pytest.raises(MemoryError, match="on the device"):
            scorer.collect()


def test_tensorflow_is_not_loaded_before_there_is_something_to_classify():
    code = (
        "import pathlib, sys\nfrom mammoscan.run.config import RunConfig\nfrom mammoscan.model import bundle\n"
        "from mammoscan.run.score import Scorer\n"
        "scorer = Scorer(bundle.load(None), RunConfig(archive=pathlib.Path(), out=pathlib.Path()), 0.3)\n"
        "assert scorer.finish() == scorer.collect() == []\nscorer.close()\nassert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_said_of_an_image_is_the_same_to_the_last_bit_whatever_was_classified_with_it(model, tmp_path):
    """A run that was killed classifies what is left in other company than one that was not."""
    images = [_analysed(number, regions, model.crop.side) for number, regions in enumerate((3, 0, 1, 18, 5))]
    with contextlib.closing(_scorer(model, tmp_path)) as scorer:
        together = _said(scorer, images, (0, 1, 2, 3, 4))
        assert len(together) == 5
        assert _said(scorer, images, (4,), (3,), (2,), (1,), (0,)) == together
        assert _said(scorer, images, (4, 2, 0), (3, 1)) == together
    assert len({*together.values()}) == 5


def test_what_is_said_is_the_same_to_the_last_bit_with_every_size_of_batch_that_measuring_may_choose(model, tmp_path):
    images = [_analysed(number, regions, model.crop.side) for number, regions in enumerate((3, 0, 17, 9))]
    order = tuple(range(len(images)))
    said = {}
    device = classify.Classifier(model)
    sizes = device.sizes
    with contextlib.closing(_scorer(model, tmp_path, device)) as scorer:
        said[sizes.size] = _said(scorer, images, order)
        while sizes._untried and sizes._untried[0] <= 32:
            sizes.measure(device.probe)
        assert classify.CPU_BATCH in sizes.seconds_a_crop
        for size in sorted(sizes.seconds_a_crop):
            sizes.size = size
            said[size] = _said(scorer, images, order[::-1])
    assert all(found == said[classify.CPU_BATCH] for found in said.values())


@pytest.mark.parametrize(
    ("memory", "size"),
    [(80e9, 256), (78.9e9, 256), (24e9, 64), (8e9, 32), (2e9, 16), (0, 16), (1e15, 512)],
)
def test_a_batch_fills_half_of_the_memory_that_a_gpu_says_it_has(monkeypatch, memory, size):
    import tensorflow as tf
    from tensorflow.python.client import device_lib

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [SimpleNamespace(kind=kind)])

    def devices(options):
        assert options.gpu_options.allow_growth, "the list would take the whole card"
        said = [("CPU", 268435456)] + ([("GPU", int(memory))] if memory else [])
        return [SimpleNamespace(device_type=kind, memory_limit=limit) for kind, limit in said]

    monkeypatch.setattr(device_lib, "list_local_devices", devices)
    assert classify._batch_sizes(tf) == (size, size)


def test_tensorflow_says_the_memory_of_its_devices_under_the_name_that_is_read(monkeypatch):
    """The name that was read before is in no answer of TensorFlow's, so that every GPU got the CPU's batches."""
    import tensorflow as tf
    from tensorflow.python.client import device_lib

    assert [d.memory_limit > 0 for d in device_lib.list_local_devices() if d.device_type == "CPU"] == [True]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert classify._batch_sizes(tf) == (classify.CPU_BATCH, classify.MOST_CPU_BATCH)


def test_a_score_of_a_row_is_the_same_to_the_last_bit_whatever_rows_stand_with_it(model):
    rng = np.random.default_rng(0)
    lesion = model.region.lesion
    lesion = dataclasses.replace(lesion, weight=rng.normal(size=len(lesion.weight)))
    rows = rng.normal(size=(64, len(lesion.inputs)))
    whole = lesion.log_odds(rows)
    for count in (1, 2, 3, 5, 16, 63):
        assert np.array_equal(lesion.log_odds(rows[-count:]), whole[-count:])
        assert np.array_equal(lesion.log_odds(np.asfortranarray(rows[-count:])), whole[-count:])
