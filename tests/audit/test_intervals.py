"""Intervals and tests against published worked examples."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mammoscan.audit.compare import equality_test, mcnemar, mcnemar_counts, paired_delong
from mammoscan.audit.intervals import auc_influence, bootstrap, delong, normal_interval, percentile, wilson
from mammoscan.audit.match import Cases
from mammoscan.audit.measure import Settings, Threshold, measure_level

# DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837: 43 complete patients of the ovarian
# cancer study, (albumin, total protein, K-G score, outcome), as printed in the SAS/STAT User's Guide,
# PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves".
OVARIAN = np.array(
    """
    3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1
    3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0
    2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
    3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0
    3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
    3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
    """.split(),
    dtype=float,
).reshape(-1, 4)
TRUTH = OVARIAN[:, 3] == 1
ALBUMIN, PROTEIN, KG = OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2]


@pytest.mark.parametrize(
    ("scores", "area", "error", "lower", "upper"),
    [
        (ALBUMIN, 0.7366, 0.0927, 0.5549, 0.9182),
        (KG, 0.7258, 0.1028, 0.5243, 0.9273),
        (PROTEIN, 0.6478, 0.1000, 0.4518, 0.8439),
    ],
)
def test_delong_agrees_with_its_published_example(scores, area, error, lower, upper):
    found = delong(TRUTH, scores)
    spread = float(np.sqrt(found.covariance[0, 0]))
    interval = normal_interval(float(found.auc[0]), spread, "DeLong")
    assert [round(x, 4) for x in (found.auc[0], spread, interval.lower, interval.upper)] == [
        area,
        error,
        lower,
        upper,
    ]


def test_delong_contrast_agrees_with_its_published_example():
    found = delong(TRUTH, np.stack([ALBUMIN, KG, PROTEIN]))
    contrast = np.array([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]])
    difference = contrast @ found.auc
    chi_squared = difference @ np.linalg.solve(contrast @ found.covariance @ contrast.T, difference)
    assert round(float(chi_squared), 4) == 2.5340
    paired = paired_delong(TRUTH, ALBUMIN, KG)
    assert (round(paired.difference, 4), round(paired.difference / paired.z, 4)) == (0.0108, 0.0953)


def test_fast_delong_agrees_with_its_definition_to_1e_9():
    rng = np.random.default_rng(4)
    truth = rng.random(60) < 0.4
    scores = np.round(rng.random((2, 60)) + 0.3 * truth, 1)  # with ties
    p, n = scores[:, truth], scores[:, ~truth]
    psi = (p[:, :, None] > n[:, None, :]) + 0.5 * (p[:, :, None] == n[:, None, :])
    expected = np.cov(psi.mean(axis=2)) / p.shape[1] + np.cov(psi.mean(axis=1)) / n.shape[1]
    found = delong(truth, scores)
    assert found.auc == pytest.approx(psi.mean(axis=(1, 2)), abs=1e-9)
    assert found.covariance == pytest.approx(expected, abs=1e-9)


def test_clustered_delong_with_one_case_a_patient_is_delong():
    found = delong(TRUTH, np.stack([ALBUMIN, KG]), np.arange(len(TRUTH)))
    assert found.covariance == pytest.approx(delong(TRUTH, np.stack([ALBUMIN, KG])).covariance, abs=1e-12)


def test_copying_every_case_of_a_patient_does_not_narrow_the_clustered_interval():
    twice = delong(np.tile(TRUTH, 2), np.tile(ALBUMIN, 2), np.tile(np.arange(len(TRUTH)), 2))
    once = delong(TRUTH, ALBUMIN)
    assert twice.covariance[0, 0] == pytest.approx(once.covariance[0, 0], rel=1e-9)


def test_influence_values_carry_delongs_variance():
    assert np.sum(auc_influence(TRUTH, ALBUMIN) ** 2) == pytest.approx(
        delong(TRUTH, ALBUMIN).covariance[0, 0], rel=1e-9
    )


@pytest.mark.parametrize(
    ("count", "total", "lower", "upper"),
    # Newcombe, Stat Med 1998;17:857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_newcombes_table(count, total, lower, upper):
    found = wilson(count, total)
    assert (round(found.lower, 4), round(found.upper, 4)) == (lower, upper)


def test_mcnemar_agrees_with_agrestis_example():
    # Agresti, Categorical Data Analysis, 2nd ed., table 10.1: approval, 150 and 86 changed: z^2 = 17.36.
    found = mcnemar_counts(86, 150)
    assert round(found.statistic, 2) == 17.36
    assert found.p == pytest.approx(3.1e-5, rel=0.03)


def test_mcnemar_is_exact_where_few_cases_are_discordant():
    new = np.array([True] * 9 + [False])
    found = mcnemar(new, ~new)
    assert found.exact
    assert found.p == pytest.approx(2 * (1 + 10) / 1024)


def test_paired_delong_of_identical_scores_finds_no_difference():
    found = paired_delong(TRUTH, ALBUMIN, ALBUMIN)
    assert (found.difference, found.p) == (0, 1)


def test_equality_test_rejects_equal_rates_about_1_time_in_20_and_unequal_ones_nearly_always():
    rng = np.random.default_rng(0)

    def p(first, second):
        influence = np.zeros((400, 2))
        for k, x in enumerate((rng.random(200) < first, rng.random(200) < second)):
            influence[200 * k : 200 * (k + 1), k] = (x - x.mean()) / np.sqrt(200 * 199)
            values[k] = x.mean()
        return equality_test(values, influence)[2]

    values = np.zeros(2)
    assert 0.02 < np.mean([p(0.7, 0.7) < 0.05 for _ in range(600)]) < 0.09
    assert np.mean([p(0.9, 0.6) < 0.05 for _ in range(100)]) > 0.95


def cases(n=400, per_patient=4, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    scores = np.round(1 / (1 + np.exp(1.5 - 1.5 * truth - rng.normal(size=n))), 2)  # with ties
    return Cases("image", tuple(map(str, range(n))), truth, scores, np.arange(n) // per_patient, ())


def test_vectorised_bootstrap_is_the_naive_loop_to_1e_9():
    found = cases()
    measures = measure_level(found, [Threshold("t", 0.4)], Settings(replicates=60, seed=7)).measures
    rng = np.random.default_rng(7)
    naive = {"auc": [], "pr_auc": [], "partial_auc": [], "brier": [], "sensitivity": [], "precision": []}
    for _ in range(60):
        drawn = rng.integers(0, 100, 100)
        index = np.concatenate([np.flatnonzero(found.groups == g) for g in drawn])
        y, s = found.truth[index], found.scores[index]
        naive["auc"].append(roc_auc_score(y, s))
        naive["partial_auc"].append(roc_auc_score(y, s, max_fpr=0.1))
        naive["pr_auc"].append(average_precision_score(y, s))
        naive["brier"].append(np.mean((s - y) ** 2))
        naive["sensitivity"].append((s[y] >= 0.4).mean())
        naive["precision"].append(y[s >= 0.4].mean())
    for name, values in naive.items():
        measure = next(m for m in measures if m.metric == name)
        expected = np.quantile(values, [0.025, 0.975])
        assert [measure.interval.lower, measure.interval.upper] == pytest.approx(expected, abs=1e-9), name


def test_bootstrap_keeps_a_patients_cases_together():
    found = cases(per_patient=4)
    wide = measure_level(found, [], Settings(replicates=300)).measures[0].interval
    tiled = Cases(
        "image",
        found.ids * 2,
        np.tile(found.truth, 2),
        np.tile(found.scores, 2),
        np.tile(found.groups, 2),
        (),
    )
    same = measure_level(tiled, [], Settings(replicates=300)).measures[0].interval
    assert (same.lower, same.upper) == pytest.approx((wide.lower, wide.upper), abs=1e-9)


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    def spread(seed):
        return bootstrap(20, lambda w: w[:1], replicates=50, seed=seed)

    assert np.array_equal(spread(1), spread(1))
    assert not np.array_equal(spread(1), spread(2))


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        x = np.random.default_rng(seed).normal(size=80)
        interval, _ = percentile(
            bootstrap(80, lambda w, x=x: np.array([w @ x / w.sum()]), replicates=300, seed=seed)[:, 0]
        )
        covered += interval.lower <= 0 <= interval.upper
    assert 51 <= covered <= 60


def test_a_missing_class_refuses_only_the_metrics_that_need_it():
    found = cases()
    only_negative = Cases("image", found.ids, np.zeros(400, dtype=bool), found.scores, found.groups, ())
    measures = {
        m.metric: m for m in measure_level(only_negative, [Threshold("t", 0.4)], Settings(replicates=100)).measures
    }
    assert measures["auc"].value is None
    assert "positive" in measures["auc"].refused
    assert measures["sensitivity"].value is None
    assert measures["specificity"].value == pytest.approx(np.mean(found.scores < 0.4))
    assert measures["brier"].value is not None


def test_calibration_is_refused_for_scores_that_are_no_probabilities():
    found = cases()
    raw = Cases("image", found.ids, found.truth, found.scores * 10 - 3, found.groups, ())
    measures = {m.metric: m for m in measure_level(raw, [], Settings(replicates=100)).measures}
    assert "probabilities" in measures["brier"].refused
    assert measures["auc"].value == pytest.approx(roc_auc_score(found.truth, found.scores))
