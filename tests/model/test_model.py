"""The bundle is verified, scores do not depend on their neighbours, no patient leaks."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Density, DensityReading, DensitySource, Laterality, OperatingPoint, PointCost
from mammoscan.core.errors import LabelError, ModelError, UsageError
from mammoscan.image.crops import CropGeometry
from mammoscan.model import bundle
from mammoscan.model.classify import Classifier, image_scores
from mammoscan.model.explain import grad_cam
from mammoscan.model.terms import CLASSES, CLINICAL, clinical_inputs, softmax
from mammoscan.report import pdf_words
from mammoscan.training import evaluate, split
from mammoscan.training.datasets import folders
from tests.report import results


@pytest.fixture(scope="module")
def classifier():
    return Classifier(bundle.load(None), batch_size=4)


@pytest.fixture
def copied(tmp_path):
    place = bundle.load(None).weights_path.parent
    for name in ("model.json", "weights.npz", "ranking.npz", "outlines.npz"):
        shutil.copy2(place / name, tmp_path / name)
    return tmp_path


def test_the_bundled_model_is_described_without_tensorflow():
    code = (
        "import sys\nfrom mammoscan.model import bundle\nb = bundle.load(None)\n"
        "assert {'sensitivity-0.90', 'specificity-0.90'} <= set(b.points)\n"
        "assert b.identity.licence and b.identity.limits\nassert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_operating_point_is_the_one_that_passes_nine_of_ten_healthy_and_the_other_can_be_chosen():
    model = bundle.load(None)
    assert AnalysisConfig().point == "specificity-0.90"
    assert model.point("specificity-0.90").image > model.point("sensitivity-0.90").image


def test_a_threshold_of_the_users_own_is_a_point_on_all_scores_of_unknown_cost():
    point = bundle.load(None).point(AnalysisConfig(threshold=0.25).point)
    assert point == OperatingPoint("threshold 0.25", 0.25, 0.25, 0.25, PointCost())


def test_a_point_that_the_model_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(UsageError, match=r"no operating point 'perfect'.*sensitivity-0\.90, specificity-0\.90"):
        bundle.load(None).point("perfect")


def test_what_an_operating_point_costs_is_said_from_the_description(copied):
    facts = json.loads((copied / "model.json").read_text())
    for point in facts["operating_points"].values():
        point["cost"] = {
            "counted_on": "a film set",
            "image": {"sensitivity": 0.437, "specificity": 0.9, "cancers": 16, "healthy": 10},
            "breast": {"sensitivity": 0.5},
        }
    (copied / "model.json").write_text(json.dumps(facts))
    assert pdf_words.cost(bundle.load(copied).point("specificity-0.90").cost) == (
        "flags 10 of 100 healthy films, finds 44 of 100 films with cancer; "
        "flags an unknown number of 100 healthy breasts, finds 50 of 100 breasts with cancer (counted on a film set)"
    )


def test_a_model_that_does_not_say_what_its_operating_points_cost_has_them_unknown(copied):
    facts = json.loads((copied / "model.json").read_text())
    for point in facts["operating_points"].values():
        point.pop("cost", None)
    (copied / "model.json").write_text(json.dumps(facts))
    said = pdf_words.cost(bundle.load(copied).point("specificity-0.90").cost)
    assert said.count("an unknown number of 100") == 4


def test_the_bundled_model_says_what_both_its_operating_points_cost():
    for cost in (point.cost for point in bundle.load(None).points.values()):
        for level in (cost.image, cost.breast):
            assert level.sensitivity is not None
            assert level.specificity is not None
            assert min(level.cancers, level.healthy) > 0
        assert cost.counted_on


def test_costs_are_shares_at_or_above_and_below_the_threshold():
    found = evaluate.cost(np.array([0.2, 0.5, 0.9]), np.array([0.1, 0.5]), 0.5)
    assert found == {"sensitivity": pytest.approx(2 / 3), "specificity": 0.5, "cancers": 3, "healthy": 2}


def test_truncated_weights_are_refused_and_named(copied):
    weights = copied / "weights.npz"
    weights.write_bytes(weights.read_bytes()[:1_000_000])
    with pytest.raises(ModelError, match=r"weights\.npz.*truncated"):
        bundle.load(copied).arrays()


def test_another_models_description_is_refused(copied):
    facts = json.loads((copied / "model.json").read_text())
    facts["classes"] = ["cat", "dog"]
    (copied / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="other classes"):
        bundle.load(copied)
    (copied / "model.json").write_text("{")
    with pytest.raises(ModelError, match="not a model description"):
        bundle.load(copied)
    with pytest.raises(ModelError, match="no model here"):
        bundle.load(copied / "nowhere")


def test_how_crops_are_cut_is_the_descriptions():
    model = bundle.load(None)
    assert model.crop == CropGeometry(160, 1.6)
    assert model.crop.facts() == json.loads((model.weights_path.parent / "model.json").read_text())["crop"]


@pytest.mark.parametrize(
    ("crop", "said"),
    [
        ({"side": 160, "context": 1.6, "shape": "circle"}, "shape, which this version does not know"),
        ({"side": 160}, "lacks 'context'"),
        ({"side": 160.5, "context": 1.6}, "side 160.5"),
        ({"side": "160", "context": 1.6}, "damaged.*side '160'"),
        ({"side": 0, "context": 1.6}, "0 pixels"),
        ({"side": 160, "context": 0.5}, "0.5 of their region"),
        ({"side": 160, "context": float("nan")}, "nan of their region"),
        ({"side": 150, "context": 1.6}, "no multiple of 32"),
        ({"side": 64, "context": 1.6}, "no cell to the region's middle"),
        ({"side": 160, "context": 2.5}, "no cell to the region's middle"),
        (160, "damaged"),
    ],
    ids=str,
)
def test_a_model_whose_crops_this_version_cannot_cut_or_see_is_refused(copied, crop, said):
    facts = json.loads((copied / "model.json").read_text())
    (copied / "model.json").write_text(json.dumps(facts | {"crop": crop}))
    with pytest.raises(ModelError, match=said) as caught:
        bundle.load(copied)
    assert "model.json" in str(caught.value)


def test_scores_do_not_depend_on_batch_size_or_order(classifier):
    rng = np.random.default_rng(0)
    side = classifier.bundle.crop.side
    crops = rng.integers(0, 255, (7, side, side), dtype=np.uint8)
    facts = rng.normal(size=(7, len(CLINICAL))).astype(np.float32)
    first = classifier.predict(crops, facts)
    order = rng.permutation(7)
    second = Classifier(classifier.bundle, batch_size=3).predict(crops[order], facts[order])
    assert np.abs(first.malignancy[order] - second.malignancy).max() <= 1e-3
    assert np.allclose(first.probabilities.sum(axis=1), 1.0)
    assert ((first.malignancy >= 0) & (first.malignancy <= 1)).all()
    heat = grad_cam(first.evidence)
    assert heat.shape[0] == 7
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_what_was_found_late_is_less_likely_a_lesion_and_an_unknown_place_says_nothing(classifier):
    side = classifier.bundle.crop.side
    crops = np.random.default_rng(1).integers(0, 255, (3, side, side), dtype=np.uint8)
    facts = np.zeros((3, len(CLINICAL)), np.float32)
    early, late = (
        classifier.predict(crops, facts, rank=np.full(3, place)).probabilities[:, 0] for place in (0.0, 25.0)
    )
    assert (late > early).all()
    unknown = classifier.predict(crops, facts, rank=np.full(3, np.nan)).probabilities
    assert np.array_equal(unknown, classifier.predict(crops, facts).probabilities)


def test_no_crops_give_no_scores_and_an_image_without_regions_scores_nothing(classifier):
    outputs = classifier.predict(np.empty((0, 160, 160), np.uint8), np.empty((0, len(CLINICAL)), np.float32))
    assert len(outputs.malignancy) == 0
    scores = image_scores(outputs, None)
    assert (scores.normal, scores.malignancy) == (1.0, 0.0)


def test_grad_cam_is_the_evidence_for_malignant_relative_to_its_highest():
    evidence = np.array([[[2.0, 0.0], [-3.0, 1.0]], [[-1.0, -2.0], [0.0, -1.0]]], np.float32)
    heat = grad_cam(evidence)
    assert np.array_equal(heat, [[[1.0, 0.0], [0.0, 0.5]], [[0.0, 0.0], [0.0, 0.0]]])
    assert heat.dtype == np.float32


def test_the_evidence_is_the_maps_of_the_last_stage_summed_by_their_weight_in_the_malignant_logit(classifier):
    from mammoscan.model import network

    side, arrays = classifier.bundle.crop.side, classifier.bundle.arrays()
    crops = np.random.default_rng(2).integers(0, 255, (2, side, side), dtype=np.uint8)
    stages = network.frozen(
        classifier.bundle.crop, {name: value for name, value in arrays.items() if "_logits/" not in name}
    )
    stage, _ = stages(crops[..., None].astype(np.float32))
    found = classifier.predict(crops, np.zeros((2, len(CLINICAL)), np.float32)).evidence
    expected = np.asarray(stage) @ network.evidence_kernel(arrays, conv5=False)[:, 2]
    assert found.shape == (2, side // 16, side // 16)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@given(st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5))
def test_probabilities_sum_to_one(logits):
    p = softmax(np.array(logits))
    assert np.allclose(p.sum(axis=1), 1.0)
    assert p.shape[1] == len(CLASSES)


def test_missing_age_and_density_are_states_of_their_own():
    header = results.header()
    known = clinical_inputs(header, DensityReading(Density.A, DensitySource.REPORT, Laterality.LEFT))
    estimate = clinical_inputs(header, DensityReading(Density.A, DensitySource.ESTIMATE, Laterality.LEFT))
    ageless = clinical_inputs(
        results.header(age=None), DensityReading(Density.UNKNOWN, DensitySource.NONE, Laterality.LEFT)
    )
    assert list(known[[0, 2]]) == [1, 1]
    assert list(estimate[2:4]) == [0, 0]
    assert list(ageless[:4]) == [0, 0, 0, 0]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_folds_never_share_a_patient_and_deal_out_every_stratum(seed):
    rng = np.random.default_rng(seed)
    patient = np.array([f"p{n}" for n in rng.integers(0, 60, 300)])
    label = rng.choice(["normal", "benign", "malignant"], 300)
    strata = split.strata(patient, np.full(300, "s"), label, rng.choice(["a", "b", ""], 300))
    found = split.folds(strata, count=5, seed=seed)
    part = np.array([found[p] for p in patient])
    split.check_no_leak(patient, part)
    assert found == split.folds(strata, count=5, seed=seed)
    for stratum in set(strata.values()):
        sizes = np.bincount([found[p] for p in strata if strata[p] == stratum], minlength=5)
        assert sizes.max() - sizes.min() <= 1


def test_a_leaked_patient_is_caught():
    with pytest.raises(LabelError, match="p1"):
        split.check_no_leak(np.array(["p1", "p2", "p1"]), np.array([0, 0, 1]))


def test_a_folder_without_its_columns_or_with_a_wrong_side_names_the_row(tmp_path):
    (tmp_path / "mias").mkdir()
    table = tmp_path / "mias" / "labels.csv"
    table.write_text("image,patient\nmdb001,p1\n")
    with pytest.raises(LabelError, match="columns missing"):
        folders.read(tmp_path, "mias")
    head = "image,patient,laterality,view,density,abnormality,severity,x,y,radius\n"
    table.write_text(head + "mdb001,p1,X,MLO,F,NORM,,,,\n")
    with pytest.raises(LabelError, match=r"row 2.*laterality"):
        folders.read(tmp_path, "mias")
    table.write_text(head + "mdb001,p1,R,MLO,F,CIRC,M,100,200,30\n")
    (film,) = folders.read(tmp_path, "mias")
    assert film.findings() == (("malignant", (70.0, 170.0, 130.0, 230.0)),)
    with pytest.raises(LabelError, match=r"mdb001\.png"):
        film.image()
