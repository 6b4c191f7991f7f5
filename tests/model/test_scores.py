"""Scores are plain numbers that travel; missing inputs are the mean; figures are those of known cases."""

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from mammoscan.model import outputs
from mammoscan.model.scores import Linear, RegionScore, Score
from mammoscan.model.terms import logistic, softmax
from mammoscan.run import deidentify
from mammoscan.training import evaluate, linear


def test_a_score_reads_back_as_it_was_written():
    rng = np.random.default_rng(0)
    x, truth = rng.normal(size=(200, 2)), rng.random(200) < 0.5
    score = linear.fit_score(("a", "b"), x, truth, np.ones(200), strength=1.0)
    again = Score.of(score.facts())
    assert np.array_equal(score(x), again(x))
    with pytest.raises(ValueError, match="other inputs"):
        Score.of({**score.facts(), "weight": [1.0]})


def test_a_missing_input_counts_as_its_mean_and_a_wild_one_is_held():
    score = Score(("a",), np.array([2.0]), np.array([1.0]), np.array([1.0]), 0.5)
    odds = score.log_odds(np.array([[np.nan], [2.0], [5.0], [500.0]]))
    assert odds.tolist() == [0.5, 0.5, 3.5, 3.5]


def test_a_score_that_is_told_of_a_patient_is_the_whole_score_of_her():
    names = ("highest", "clinical_bmi", "age_decades", "clinical_bmi: missing")
    rng = np.random.default_rng(3)
    whole = Score(names, rng.normal(size=4), rng.random(4) + 0.5, rng.normal(size=4), 0.3)
    for bmi in (24.0, None, 1e9):
        row = np.array([1.2, np.nan if bmi is None else bmi, -0.7, float(bmi is None)])
        told = whole.told((("clinical_bmi", bmi),))
        assert told.inputs == ("highest", "age_decades")
        assert told.log_odds(row[None, [0, 2]]) == pytest.approx(whole.log_odds(row[None]))
    plain = Score(names[:1], np.zeros(1), np.ones(1), np.ones(1), 0.0)
    assert plain.told(()).facts() == plain.facts()


def test_a_fitted_score_follows_its_input_and_is_calibrated_on_its_own_cases():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 1))
    truth = rng.random(4000) < 1 / (1 + np.exp(-2 * x[:, 0]))
    score = linear.fit_score(("a",), x, truth, np.ones(4000), strength=1.0)
    assert abs(float(score(x).mean()) - float(truth.mean())) < 0.01
    assert np.all(np.diff(score(np.linspace(-2, 2, 9)[:, None])) > 0)


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2)])
def test_a_linear_head_folds_its_standardisation_in(present):
    rng = np.random.default_rng(2)
    label = rng.choice(present, 600)
    x = rng.normal(size=(600, 5)) * 3 + 7
    x[:, 0] += 12 * label
    head = linear.fit_linear(x, label, np.ones(600), classes=3, strength=1.0)
    assert (head.logits(x).argmax(axis=1) == label).mean() > 0.9
    assert np.isfinite(head.bias).all()


def test_a_head_that_is_led_needs_fewer_cases_and_reads_the_same_inputs():
    """Three classes that are a coarser reading of four; few cases of the three, many of the four."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2060, 40)) * 2 + 1
    level = (x[:, :8] - 1).sum(axis=1)
    four, three = np.digitize(level, (-4, 0, 4)), np.digitize(level, (-3, 3))
    many, few, new = slice(0, 1000), slice(1000, 1060), slice(1060, None)
    lead = linear.fit_linear(x[many], four[many], np.ones(1000), classes=4, strength=1e-2)
    right = {}
    for name, by in (("led", lead), ("alone", None)):
        head = linear.fit_linear(x[few], three[few], np.ones(60), classes=3, strength=1e-2, lead=by)
        assert head.kernel.shape == (40, 3)
        right[name] = float((head.logits(x[new]).argmax(axis=1) == three[new]).mean())
    assert right["led"] > right["alone"] + 0.05
    # Only differences of logits say anything: a constant added changes nothing but rounding.
    moved = Linear(lead.kernel + 3.0, lead.bias - 1.0)
    again, first = (
        linear.fit_linear(x[few], three[few], np.ones(60), classes=3, strength=1e-2, lead=by) for by in (lead, moved)
    )
    np.testing.assert_allclose(again.logits(x[new]), first.logits(x[new]), atol=1e-2)


def test_a_score_takes_further_inputs_and_keeps_what_it_knows():
    rng = np.random.default_rng(7)
    x, more = rng.normal(size=(2000, 2)), rng.normal(size=(2000, 1))
    truth = rng.random(2000) < logistic(2 * x[:, 0] + 1.5 * more[:, 0])
    known = linear.fit_score(("a", "b"), x[:1000], truth[:1000], np.ones(1000), strength=1.0)
    both = linear.extended(known, ("c",), x[1000:], more[1000:], truth[1000:], strength=1.0)
    assert both.inputs == ("a", "b", "c")
    whole = np.hstack([x, more])
    # Where the new input is missing it counts as its mean, and the order is that of the score before.
    missing = np.column_stack([x, np.full(2000, np.nan)])
    assert np.array_equal(np.argsort(both.log_odds(missing)), np.argsort(known.log_odds(x)))
    new = rng.normal(size=(4000, 3))
    said = logistic(2 * new[:, 0] + 1.5 * new[:, 2])
    assert np.abs(both(new) - said).mean() < 0.05 < np.abs(known(new[:, :2]) - said).mean()
    assert both(whole).shape == (2000,)


def test_weights_make_groups_alike():
    weight = linear.even(np.array(["a", "a", "a", "b"]))
    assert weight.mean() == pytest.approx(1.0)
    assert weight[:3].sum() == pytest.approx(weight[3])


def test_inputs_of_regions_images_and_breasts():
    conv5, straight = np.full((2, 3), np.nan), np.array([[0.0, 0.0, 2.0], [3.0, 0.0, 0.0]])
    measured = np.zeros((2, len(outputs.REGION_INPUTS) - 5))
    inputs = outputs.region_inputs(conv5, straight, np.array([0.0, np.nan]), measured)
    assert inputs[0, outputs.REGION_INPUTS.index(outputs.ORDER)] == 0.0
    assert np.isnan(inputs[1, outputs.REGION_INPUTS.index(outputs.ORDER)])  # a true box has no place in an order
    assert np.isnan(inputs[:, :2]).all()
    p = softmax(straight)
    assert inputs[:, 2] == pytest.approx(np.log((p[:, 1] + p[:, 2]) / p[:, 0]))
    assert inputs[:, 3].tolist() == [2.0, 0.0]
    assert outputs.lesion_odds(straight) == pytest.approx(inputs[:, 2])
    assert outputs.malignant_odds(straight) == pytest.approx(np.log(p[:, 2] / (1 - p[:, 2])))
    assert outputs.image_inputs(np.array([1.0, 4.0, 3.0, 2.0])).tolist() == [4.0]
    less_salient = np.full(outputs.JUDGED + 5, 1.0)
    less_salient[outputs.JUDGED :] = 9.0
    assert outputs.image_inputs(less_salient).tolist() == [1.0]
    assert outputs.breast_inputs([1.0, 3.0], 65.0).tolist() == [3.0, 1.0]
    assert np.isnan(outputs.breast_inputs([1.0], None)[1])
    # A run without identities knows no higher age, and its scores must be those of a run with them.
    assert outputs.OLDEST == deidentify.OLDEST
    assert outputs.breast_inputs([1.0], 97.0).tolist() == outputs.breast_inputs([1.0], 90.0).tolist()


def test_two_heads_of_two_classes_make_three():
    rng = np.random.default_rng(5)
    lesion, pathology = rng.normal(size=(2, 6, 2))
    logits = outputs.class_logits(outputs.head_odds(lesion), outputs.head_odds(pathology))
    found, worse = softmax(lesion)[:, 1], softmax(pathology)[:, 1]
    assert softmax(logits) == pytest.approx(np.column_stack([1 - found, found * (1 - worse), found * worse]))
    assert outputs.lesion_odds(logits) == pytest.approx(outputs.head_odds(lesion))
    assert outputs.pathology_odds(logits) == pytest.approx(outputs.head_odds(pathology))


def test_a_regions_malignancy_is_that_of_a_lesion_times_that_of_malignant():
    names = ("a", "b")
    rng = np.random.default_rng(6)
    lesion, pathology = (
        Score(names, rng.normal(size=2), rng.random(2) + 0.5, rng.normal(size=2), float(rng.normal())) for _ in range(2)
    )
    both = RegionScore(lesion, pathology)
    x = rng.normal(size=(8, 2))
    p = softmax(both.logits(x))
    assert p[:, 2] == pytest.approx(lesion(x) * pathology(x))
    assert p[:, 0] == pytest.approx(1 - lesion(x))
    again = RegionScore.of(json.loads(json.dumps(both.facts())))
    assert again.logits(x) == pytest.approx(both.logits(x))
    other = both.facts() | {"pathology": pathology.facts() | {"inputs": ["a", "c"]}}
    with pytest.raises(ValueError, match="different inputs"):
        RegionScore.of(other)


def test_quadratic_kappa_is_scikit_learns():
    rng = np.random.default_rng(3)
    truth, said = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    said[:200] = truth[:200]
    found = evaluate.quadratic_kappa(truth, said, 4, np.ones(300))
    assert found == pytest.approx(cohen_kappa_score(truth, said, weights="quadratic"))


def test_an_interval_counts_patients_not_cases():
    rng = np.random.default_rng(4)
    truth = rng.random(60) < 0.5
    score = truth + rng.normal(size=60)
    names = np.array([f"p{i}" for i in range(60)])
    once = evaluate.auc(evaluate.Task("t", truth, score, names), replicates=300)
    copied = evaluate.auc(
        evaluate.Task("t", np.tile(truth, 10), np.tile(score, 10), np.tile(names, 10)), replicates=300
    )
    assert copied.value == pytest.approx(once.value)
    assert copied.patients == 60
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.2)


def test_sensitivity_at_a_specificity_is_that_of_a_real_threshold():
    truth = np.array([True, True, True, False, False, False, False, False])
    score = np.array([9.0, 5.0, 1.0, 6.0, 4.0, 3.0, 2.0, 0.0])
    task = evaluate.Task("t", truth, score, np.arange(8).astype(str))
    assert evaluate.sensitivity_at_specificity(task, 0.8, replicates=10).value == pytest.approx(2 / 3)
    assert evaluate.sensitivity_at_specificity(task, 1.0, replicates=10).value == pytest.approx(1 / 3)


def test_a_bar_is_reached_or_missed_in_its_own_direction():
    assert evaluate.Figure("a", 0.8, 0.7, 0.9, 1, 1, 1, bar=0.75).reached
    assert not evaluate.Figure("e", 0.09, 0, 1, 1, 1, 1, bar=0.08, higher_is_better=False).reached
    assert evaluate.Figure("n", 0.8, 0, 1, 1, 1, 1).reached is None
