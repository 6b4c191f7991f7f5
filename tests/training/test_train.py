"""`mammoscan train` end to end on a small set of phantoms, and what it leaves used by `run`."""

import csv
import functools
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner

from mammoscan.cli import main
from mammoscan.core import store
from mammoscan.core.domain import Density, Laterality, RegionKind, View
from mammoscan.core.errors import ExitCode, ModelError
from mammoscan.image import trace
from mammoscan.image.crops import CropGeometry
from mammoscan.image.segment import ranking
from mammoscan.model import bundle, network
from mammoscan.synthetic.phantom import Lesion, Spec, render
from mammoscan.training import rank, tracing, train
from mammoscan.training.datasets.layouts import MANIFEST
from tests import small
from tests.training import graphs

OWN = ["clinical_family", "clinical_parity"]
HEAD = [*(column.name for column in MANIFEST), *OWN]
PATIENTS = 12
HEIGHT, WIDTH = 600, 480
LABELS = ("normal", "benign", "malignant")
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", autouse=True)
def short():
    """The smallest crops that the network takes, few trees and small batches: how well it learns is not tried here.

    conv5 is trained without a graph, which would be built anew for every fold; ``test_region`` builds it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "CROP", CropGeometry(96, train.CROP.context))
        patch.setattr(rank, "TREES", 40)
        patch.setattr(tracing, "EPOCHS", 2)
        patch.setattr(tracing, "BATCH", 16)
        patch.setattr(train, "TrainConfig", functools.partial(train.TrainConfig, batch=8, replicates=200))
        graphs.none_in_region(patch)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Both sides of patients: normal ones, and such with a round benign or a spiculated malignant mass."""
    root = tmp_path_factory.mktemp("data")
    with (root / "manifest.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, HEAD)
        table.writeheader()
        for patient in range(PATIENTS):
            for side in (Laterality.LEFT, Laterality.RIGHT):
                label = LABELS[patient % 3] if side is Laterality.LEFT else "normal"
                lesions = () if label == "normal" else (Lesion(RegionKind.MASS, label == "malignant", 7.0),)
                density = tuple(Density)[patient % 4]
                spec = Spec(side, View.MLO, density, lesions, height=HEIGHT, width=WIDTH, patient=patient)
                pixels, truth = render(spec, seed=100 * patient + (side is Laterality.LEFT))
                name = f"p{patient}-{side.value}.png"
                PIL.Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(root / name)
                row = {"path": name, "patient": f"p{patient}", "laterality": side.value, "view": "MLO", "label": label,
                       "density": density.value, "age": 40 + patient, "pixel_mm": f"{truth.mm:.4f}",
                       "clinical_family": ("no", "", "yes")[patient % 3], "clinical_parity": patient % 4}  # fmt: skip
                for placed in truth.lesions:
                    x, y, r = placed.x, placed.y, placed.radius
                    row |= {"x0": x - r, "y0": y - r, "x1": x + r, "y1": y + r, "kind": "mass"}
                table.writerow(row)
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights of the right shape from stem to conv4; nothing was learnt by them."""
    import keras

    keras.utils.set_random_seed(0)
    model = network.resnet50(train.CROP, 1, 3, conv5=False, heads={"lesion_logits": 2})
    arrays = {k: v for k, v in network.weights_of(model).items() if not k.startswith("lesion")}
    path = tmp_path_factory.mktemp("start") / "start.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def trained(data, start, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "model"
    run_train(data, start, out)
    return out


def run_train(data: Path, start: Path, out: Path) -> str:
    arguments = ["train", str(data), "--out", str(out), "--start", str(start), "--folds", "3", "--epochs", "1",
                 "--steps", "2", "--searched", "12", "--seed", "3"]  # fmt: skip
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_everything_promised_is_written(trained):
    for name in ("model.json", "weights.npz", "ranking.npz", "outlines.npz", "README.md", "metrics.json", "metrics.csv",
                 "predictions.csv", "splits.csv", "train.log"):  # fmt: skip
        assert (trained / name).stat().st_size, name
    pictures = {path.name for path in (trained / "figures").iterdir()}
    assert {"learning-curves.png", "confusion.png", "roc.png", "precision-recall.png", "reliability.png", "froc.png",
            "crops.png", "failures.png", "figures.pdf"} <= pictures  # fmt: skip


def test_columns_of_the_manifests_own_are_inputs_of_the_bundle_and_of_a_run(trained, tmp_path):
    found = bundle.load(trained)
    assert [(column.name, column.categories) for column in found.columns] == [
        ("clinical_family", ("no", "yes")), ("clinical_parity", ()),
    ]  # fmt: skip
    weight = dict(zip(found.breast.inputs, found.breast.weight.tolist(), strict=True))
    # Of the phantoms with a cancer all say yes, of those without no or nothing: a column that matters.
    assert weight["clinical_family: yes"] > 0.2 > max(weight["clinical_family: no"], weight["clinical_family: missing"])
    card = (trained / "README.md").read_text()
    assert "| `clinical_family` | categories: no, yes |" in card
    archive = small.archive(tmp_path / "archive")
    scores = {}
    for said in ("yes", "no"):
        table = tmp_path / f"{said}.csv"
        table.write_text(f"patient_id,clinical_family,clinical_parity\nANNA-1,{said},2\n")
        out = tmp_path / said
        small.run(archive, out, model=trained, clinical_csv=table)
        scores[said] = {row["patient_id"]: float(row["malignancy"]) for row in small.table(out, "studies")}
    assert scores["yes"]["ANNA-1"] > scores["no"]["ANNA-1"]
    assert scores["yes"]["BERTA-2"] == scores["no"]["BERTA-2"]


def test_no_patient_is_in_two_folds_and_every_prediction_is_out_of_fold(trained):
    with (trained / "splits.csv").open() as stream:
        fold = {row["patient"]: row["fold"] for row in csv.DictReader(stream)}
    assert len(fold) == PATIENTS
    with (trained / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["what"] for row in rows} >= {"image", "truth", "candidate"}
    assert all(row["fold"] == fold[row["patient"]] for row in rows)


def test_the_bundle_names_its_ranking_and_outlines_and_run_uses_them(trained, demo, tmp_path):
    found = bundle.load(trained)
    assert found.ranking == trained / "ranking.npz"
    assert set(found.heads) >= {"lesion_logits", "pathology_logits", "grade_logits", "kind_logits"}
    shipped = ranking.frozen()
    own = ranking.at(found.ranking)
    assert len(own.value) == rank.TREES
    assert own.value.shape != shipped.value.shape or not np.array_equal(own.value, shipped.value)
    assert found.outlines == trained / "outlines.npz"
    assert not np.array_equal(trace.at(found.outlines).kernels[0], trace.frozen().kernels[0])
    chosen = sorted((demo / "archive").rglob("*.dcm"))[:2]
    few = tmp_path / "few"
    few.mkdir()
    for path in chosen:
        (few / path.name).write_bytes(path.read_bytes())
    result = CliRunner().invoke(main, ["run", str(few), "--out", str(tmp_path / "reports"), "--model", str(trained),
                                       "--settle-seconds", "0"], catch_exceptions=False)  # fmt: skip
    assert result.exit_code == 0, result.output
    with (tmp_path / "reports" / "images.csv").open() as stream:
        images = list(csv.DictReader(stream))
    assert images
    assert {row["model_sha256"] for row in images} == {found.identity.sha256}
    assert all(0 <= float(row["malignancy"]) <= 1 for row in images)


def test_the_same_command_does_nothing_again_and_gives_the_same(data, start, trained):
    before = {name: (trained / name).read_bytes() for name in ("weights.npz", "metrics.json", "predictions.csv")}
    run_train(data, start, trained)
    for name, content in before.items():
        assert (trained / name).read_bytes() == content, name


def test_two_trainings_into_one_folder_do_not_meet(data, start, trained):
    with store.output_lock(trained):
        arguments = ["train", str(data), "--out", str(trained), "--start", str(start), "--folds", "3"]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == ExitCode.LOCKED
    assert "another run" in result.output


@pytest.mark.parametrize(("damaged", "what"), [("ranking.npz", "ranking"), ("outlines.npz", "outlines")])
def test_a_damaged_ranking_and_damaged_outlines_are_refused(trained, tmp_path, damaged, what):
    for name in ("model.json", "weights.npz", "ranking.npz", "outlines.npz"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    (tmp_path / damaged).write_bytes(b"nothing")
    with pytest.raises(ModelError, match=what):
        bundle.load(tmp_path)


def test_metrics_have_intervals_and_their_cases(trained):
    facts = json.loads((trained / "metrics.json").read_text())
    figures = facts["cross-validation"]
    assert figures
    for figure in figures:
        if figure["value"] is not None:
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["patients"] <= PATIENTS


@pytest.mark.parametrize("name", ["a\\b", "x" * 65, " ", "two\nlines"])
def test_a_name_that_dicom_cannot_hold_is_refused_before_anything_is_trained(data, start, tmp_path, name):
    arguments = ["train", str(data), "--out", str(tmp_path / "out"), "--start", str(start), "--name", name]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "--name" in result.output
    assert not (tmp_path / "out").exists()


def test_a_model_is_called_by_its_folder_in_what_it_says(trained):
    found = bundle.load(trained)
    assert (found.identity.name, found.identity.version) == (trained.name, "1")
