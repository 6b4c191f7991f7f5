"""Metrics against scikit-learn, the two papers and published worked examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, root
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from mammoscan.audit import calibration, curves, froc
from mammoscan.audit.metrics import class_report, confusion_matrix, predictive_values, table_metrics

EXACT = {"abs": 1e-9, "rel": 1e-9}


@st.composite
def scored(draw):
    n = draw(st.integers(4, 60))
    seed = draw(st.integers(0, 2**31))
    ties = draw(st.sampled_from([3, 20, 10**6]))
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < draw(st.floats(0.1, 0.9))
    truth[:2] = True, False
    return truth, rng.integers(0, ties + 1, n) / ties


def counts(truth, scores):
    return curves.Ranking.of(truth, scores).counts()


@given(scored())
@settings(max_examples=150, deadline=None)
def test_areas_agree_with_scikit_learn(case):
    truth, scores = case
    tp, fp = counts(truth, scores)
    assert curves.auc(tp, fp) == pytest.approx(sk.roc_auc_score(truth, scores), **EXACT)
    assert curves.average_precision(tp, fp) == pytest.approx(sk.average_precision_score(truth, scores), **EXACT)
    assert curves.partial_auc(tp, fp) == pytest.approx(sk.roc_auc_score(truth, scores, max_fpr=0.1), **EXACT)


@given(scored(), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_table_metrics_agree_with_scikit_learn(case, threshold):
    truth, scores = case
    flagged = scores >= threshold
    tn, fp, fn, tp = sk.confusion_matrix(truth, flagged, labels=[False, True]).ravel()
    ours = table_metrics(tp, fp, fn, tn)
    theirs = {
        "sensitivity": sk.recall_score(truth, flagged),
        "specificity": sk.recall_score(~truth, ~flagged),
        "precision": sk.precision_score(truth, flagged, zero_division=np.nan),
        "npv": sk.precision_score(~truth, ~flagged, zero_division=np.nan),
        "accuracy": sk.accuracy_score(truth, flagged),
        "error_rate": 1 - sk.accuracy_score(truth, flagged),
        "f1": sk.f1_score(truth, flagged),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, flagged),
        "recall_rate": flagged.mean(),
        "cancers_per_1000": 1000 * (flagged & truth).sum() / len(truth),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, nan_ok=True, **EXACT), name
    if 0 < flagged.sum() < len(flagged):
        assert ours["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, flagged), **EXACT)
    else:
        assert np.isnan(ours["mcc"])


@given(scored())
@settings(max_examples=80, deadline=None)
def test_calibration_measures_agree_with_scikit_learn(case):
    truth, scores = case
    assert calibration.brier(truth, scores) == pytest.approx(sk.brier_score_loss(truth, scores), **EXACT)
    share, score = calibration_curve(truth, scores * (1 - 1e-12), n_bins=10)
    mine_score, mine_share, count = calibration.calibration_bins(truth, scores)
    if not np.any(np.isclose(scores * 10, np.round(scores * 10))):  # the edges belong to other bins there
        assert mine_share[count > 0] == pytest.approx(share, abs=1e-9)
        assert mine_score[count > 0] == pytest.approx(score, abs=1e-9)
        expected = np.sum(np.abs(share - score) * count[count > 0]) / len(truth)
        assert calibration.calibration_error(truth, scores) == pytest.approx(expected, abs=1e-9)


def test_calibration_slope_is_the_logistic_regression_of_scikit_learn():
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.02, 0.98, 800)
    truth = rng.random(800) < scores**1.5
    x = np.log(scores / (1 - scores))[:, None]
    theirs = LogisticRegression(C=np.inf, tol=1e-14, max_iter=1000, solver="newton-cholesky").fit(x, truth)
    ours = calibration.slope(truth, scores, np.arange(800))
    assert ours.value == pytest.approx(theirs.coef_[0, 0], abs=1e-9)
    assert ours.error > 0


def test_scores_drawn_from_their_own_probability_have_slope_one_and_intercept_zero():
    rng = np.random.default_rng(5)
    scores = rng.uniform(0.01, 0.99, 40000)
    truth = rng.random(40000) < scores
    for fit, ideal in ((calibration.slope, 1), (calibration.intercept, 0)):
        found = fit(truth, scores, np.arange(40000))
        assert abs(found.value - ideal) < 4 * found.error


def test_calibration_slope_is_undefined_where_scores_separate_the_classes():
    truth = np.array([False, False, True, True])
    assert np.isnan(calibration.slope(truth, np.array([0.1, 0.2, 0.8, 0.9]), np.arange(4)).value)


def test_second_papers_counts_give_its_table_1():
    # Benign 469 right of 617, malignant 1,206 right of 1,239.
    report = class_report(np.array([[469, 148], [33, 1206]]), ["benign", "malignant"])
    benign, malignant = report.rows
    assert [round(x, 2) for x in (benign.precision, malignant.precision)] == [0.93, 0.89]
    assert [round(x, 2) for x in (benign.recall, malignant.recall)] == [0.76, 0.97]
    assert [round(x, 2) for x in (benign.f1, malignant.f1)] == [0.84, 0.93]
    assert (benign.support, malignant.support) == (617, 1239)
    assert round(report.accuracy, 2) == 0.90
    # The exact figure is 1675 / 1856 = 90.248 %; the paper cuts it to 90.24 %.
    assert int(report.accuracy * 10000) / 100 == 90.24
    assert [round(x, 2) for x in (report.macro.precision, report.macro.recall, report.macro.f1)] == [
        0.91,
        0.87,
        0.88,
    ]
    weighted = report.weighted
    assert [round(x, 2) for x in (weighted.precision, weighted.recall, weighted.f1)] == [0.91, 0.90, 0.90]


@pytest.mark.parametrize("cancers", [1, 30, 57, 112])
def test_first_papers_114_cases_with_two_false_positives_are_over_98_percent_accurate(cancers):
    found = table_metrics(cancers, 2, 0, 112 - cancers)
    assert found["accuracy"] == pytest.approx(112 / 114)
    assert found["accuracy"] > 0.98
    assert found["sensitivity"] == 1


def test_class_report_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    true, predicted = rng.integers(0, 3, 500), rng.integers(0, 3, 500)
    names = ["normal", "benign", "malignant"]
    ours = class_report(confusion_matrix(true, predicted, 3), names)
    theirs = sk.classification_report(true, predicted, target_names=names, output_dict=True)
    rows = {**{r.name: r for r in ours.rows}, "macro avg": ours.macro, "weighted avg": ours.weighted}
    for name, row in rows.items():
        expected = [theirs[name][k] for k in ("precision", "recall", "f1-score", "support")]
        assert [row.precision, row.recall, row.f1, row.support] == pytest.approx(expected, **EXACT)
    assert ours.accuracy == pytest.approx(theirs["accuracy"], **EXACT)


def test_predictive_values_follow_altman_and_bland():
    # Altman and Bland, BMJ 1994;309:102 (doi 10.1136/bmj.309.6947.102): liver scan, sensitivity 231/258, specificity 54/86,
    # prevalence 0.25 gives PPV 0.45 and NPV 0.95.
    ppv, npv = predictive_values(231 / 258, 54 / 86, 0.25)
    assert (round(ppv, 2), round(npv, 2)) == (0.45, 0.95)


def test_predictive_values_at_the_observed_prevalence_are_the_observed_ones():
    found = table_metrics(40, 25, 10, 300)
    assert predictive_values(found["sensitivity"], found["specificity"], 50 / 375) == pytest.approx(
        (found["precision"], found["npv"]), **EXACT
    )


def test_undefined_metrics_are_nan_and_never_zero():
    found = table_metrics(0, 0, 0, 10)
    assert np.isnan(found["sensitivity"])
    assert np.isnan(found["precision"])
    assert np.isnan(found["balanced_accuracy"])
    assert found["specificity"] == 1


def test_threshold_for_sensitivity_is_the_highest_that_reaches_it():
    truth = np.array([1] * 10 + [0] * 5, dtype=bool)
    scores = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.1, 0.77, 0.4, 0.3, 0.2, 0.05])
    assert curves.threshold_for_sensitivity(curves.Ranking.of(truth, scores), 0.9) == 0.5
    assert curves.threshold_for_sensitivity(curves.Ranking.of(truth, scores), 1.0) == 0.1


def test_decision_curve_is_the_net_benefit_at_each_threshold():
    rng = np.random.default_rng(2)
    truth, scores = rng.random(200) < 0.3, rng.random(200)
    thresholds = np.array([0.1, 0.35, 0.7])
    model, everyone = curves.decision_curve(curves.Ranking.of(truth, scores), thresholds)
    for t, value, all_of_them in zip(thresholds, model, everyone, strict=True):
        flagged = scores >= t
        assert value == pytest.approx((flagged & truth).mean() - (flagged & ~truth).mean() * t / (1 - t), **EXACT)
        assert all_of_them == pytest.approx(truth.mean() - (~truth).mean() * t / (1 - t), **EXACT)


def test_froc_by_hand():
    # Four images; lesions found at 0.9 and 0.4, one missed; false marks at 0.8, 0.5, 0.3.
    zeros = np.zeros(3, dtype=np.intp)
    marks = froc.Marks(
        np.array([0.9, 0.4, -np.inf]), zeros, np.array([0.8, 0.5, 0.3]), zeros, np.zeros(4, dtype=np.intp)
    )
    rate, sensitivity = froc.froc_curve(marks)
    assert rate.tolist() == [0, 0, 0.25, 0.5, 0.5, 0.75]
    assert sensitivity == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert froc.sensitivity_at(marks, (0.25, 0.5, 4)) == pytest.approx([1 / 3, 2 / 3, 2 / 3])


def test_froc_agrees_with_chakraborty_and_winters_data():
    # One reader of Chakraborty and Winter, Radiology 1990;174:873, as the R package BayesianFROC prints the data: 259 lesions
    # in 57 images; by falling confidence 97, 32 and 31 hits and 1, 14 and 74 false marks.
    hits, false = np.repeat([3.0, 2.0, 1.0], [97, 32, 31]), np.repeat([3.0, 2.0, 1.0], [1, 14, 74])
    lesions = np.concatenate([hits, np.full(259 - 160, -np.inf)])
    zeros = [np.zeros(n, dtype=np.intp) for n in (259, len(false), 57)]
    marks = froc.Marks(lesions, zeros[0], false, zeros[1], zeros[2])
    rate, sensitivity = froc.froc_curve(marks)
    assert rate == pytest.approx(np.array([0, 1, 15, 89]) / 57, **EXACT)
    assert sensitivity == pytest.approx(np.array([0, 97, 129, 160]) / 259, **EXACT)
    assert froc.sensitivity_at(marks, (0.25, 1, 2)) == pytest.approx(np.array([97, 129, 160]) / 259, **EXACT)


@given(st.integers(0, 2**31), st.sampled_from([2, 10, 10**6]))
@settings(max_examples=80, deadline=None)
def test_froc_agrees_with_trying_every_threshold(seed, ties):
    rng = np.random.default_rng(seed)
    lesions, false, images = int(rng.integers(1, 30)), int(rng.integers(0, 60)), int(rng.integers(1, 20))
    scores = np.where(rng.random(lesions) < 0.3, -np.inf, rng.integers(0, ties + 1, lesions) / ties)
    wrong = rng.integers(0, ties + 1, false) / ties
    groups = [np.zeros(n, dtype=np.intp) for n in (lesions, false, images)]
    marks = froc.Marks(scores, groups[0], wrong, groups[1], groups[2])
    for rate in froc.FALSE_MARKS:
        thresholds = [np.inf, *scores[np.isfinite(scores)], *wrong]
        best = max((scores >= t).mean() for t in thresholds if (wrong >= t).sum() / images <= rate + 1e-12)
        assert froc.sensitivity_at(marks, (rate,))[0] == pytest.approx(best, **EXACT)


def test_calibration_intercept_and_error_of_the_slope_agree_with_an_independent_maximum():
    rng = np.random.default_rng(7)
    scores = rng.uniform(0.05, 0.95, 300)
    truth = rng.random(300) < scores**1.3
    x = np.log(scores / (1 - scores))

    def likelihood_equations(a, b):
        rest = truth - 1 / (1 + np.exp(-(a + b * x)))
        return float(rest.sum()), float((rest * x).sum())

    alone = brentq(lambda a: likelihood_equations(a, 1.0)[0], -5, 5, xtol=1e-13, rtol=1e-14)
    assert calibration.intercept(truth, scores, np.arange(300)).value == pytest.approx(alone, abs=1e-9)
    both = root(lambda v: likelihood_equations(*v), np.array([0.0, 1.0]), tol=1e-13)
    assert calibration.slope(truth, scores, np.arange(300)).value == pytest.approx(both.x[1], abs=1e-9)


def test_calibration_error_agrees_with_its_definition_case_by_case():
    rng = np.random.default_rng(9)
    scores, truth = rng.random(500), rng.random(500) < 0.4
    total = 0.0
    for low in range(10):
        inside = (scores >= low / 10) & (scores < (low + 1) / 10)
        total += abs(truth[inside].mean() - scores[inside].mean()) * inside.mean()
    assert calibration.calibration_error(truth, scores) == pytest.approx(total, **EXACT)
