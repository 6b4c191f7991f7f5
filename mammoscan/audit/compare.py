"""Two scores on the same cases: paired DeLong, McNemar, which cases changed side; subgroups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2, norm

from mammoscan.audit.intervals import LEVEL, Interval, delong, normal_interval

Floats = NDArray[np.float64]
# Below so many discordant cases (or patients with any) the chi-squared approximation is poor; the exact test is used.
EXACT_BELOW = 25


@dataclass(frozen=True, slots=True)
class PairedAuc:
    """Difference of two AUCs, new minus baseline."""

    auc: float
    baseline: float
    difference: float
    interval: Interval
    z: float
    p: float


@dataclass(frozen=True, slots=True)
class McNemar:
    """Cases on which only one of two is right (McNemar, Psychometrika 1947;12:153).

    statistic: chi-squared without continuity correction, 1 degree of freedom; p by it, or exact
    where fewer than 25 are discordant. clustered: patients with several cases were kept together.
    """

    only_new_right: int
    only_baseline_right: int
    statistic: float
    p: float
    exact: bool
    clustered: bool = False


def paired_delong(
    truth: NDArray[np.bool_],
    new: Floats,
    baseline: Floats,
    groups: NDArray[np.intp] | None = None,
    level: float = LEVEL,
) -> PairedAuc:
    """Test whether two correlated AUCs differ (see ``intervals.delong``); p is nan without variance."""
    both = delong(truth, np.stack([new, baseline]), groups)
    difference = float(both.auc[0] - both.auc[1])
    contrast = np.array([1.0, -1.0])
    variance = float(contrast @ both.covariance @ contrast)
    # Cancellation leaves a tiny or negative variance where the two rank the cases alike.
    error = float("nan") if np.isnan(variance) else float(np.sqrt(variance)) if variance > 1e-18 else 0.0
    if error > 0:
        z = difference / error
        p = float(2 * norm.sf(abs(z)))
    else:
        z, p = (0.0, 1.0) if error == 0 and difference == 0 else (float("nan"), float("nan"))
    interval = normal_interval(difference, error, "paired DeLong", level, clip=False)
    return PairedAuc(float(both.auc[0]), float(both.auc[1]), difference, interval, z, p)


def mcnemar(
    new_right: NDArray[np.bool_], baseline_right: NDArray[np.bool_], groups: NDArray[np.intp] | None = None
) -> McNemar:
    """Compare two sets of decisions on the same cases.

    With ``groups`` (patients with several cases) the difference d of a patient's discordant counts
    is what varies: chi-squared is (sum of d)^2 / sum of d^2, the score test with errors clustered
    by patient (after Liang and Zeger, Biometrika 1986;73:13), and McNemar's own with one case a
    patient. The exact test turns the signs of the patients' differences in all ways.
    """
    b, c = new_right & ~baseline_right, ~new_right & baseline_right
    if groups is None:
        return mcnemar_counts(int(b.sum()), int(c.sum()))
    steps = np.bincount(groups, b.astype(float) - c).astype(np.int64)
    steps = steps[steps != 0]
    total = int(steps.sum())
    counts = int(b.sum()), int(c.sum())
    if not len(steps):
        return McNemar(*counts, 0.0, 1.0, exact=True, clustered=True)
    statistic = total**2 / float(steps @ steps)
    if len(steps) < EXACT_BELOW:
        return McNemar(*counts, statistic, _sign_flips(np.abs(steps), total), exact=True, clustered=True)
    return McNemar(*counts, statistic, float(chi2.sf(statistic, 1)), exact=False, clustered=True)


def _sign_flips(sizes: NDArray[np.int64], total: int) -> float:
    """Share of all sign patterns whose sum lies at least as far from 0 as ``total``."""
    share = np.ones(1)  # of each possible sum, -most to most
    for size in sizes:
        wider = np.zeros(len(share) + 2 * size)
        wider[: len(share)] += share / 2
        wider[2 * size :] += share / 2
        share = wider
    sums = np.arange(len(share)) - int(sizes.sum())
    return min(float(share[np.abs(sums) >= abs(total)].sum()), 1.0)


def mcnemar_counts(only_new: int, only_baseline: int) -> McNemar:
    """McNemar's test from its two discordant counts."""
    total = only_new + only_baseline
    if total == 0:
        return McNemar(0, 0, 0.0, 1.0, exact=True)
    statistic = (only_new - only_baseline) ** 2 / total
    if total < EXACT_BELOW:
        return McNemar(only_new, only_baseline, statistic, float(binomtest(only_new, total).pvalue), exact=True)
    return McNemar(only_new, only_baseline, statistic, float(chi2.sf(statistic, 1)), exact=False)


def changed_sides(new_flag: NDArray[np.bool_], baseline_flag: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices of the cases that one flags and the other does not."""
    return np.flatnonzero(new_flag != baseline_flag)


def equality_test(values: Floats, influence: Floats) -> tuple[float, int, float]:
    """Wald test that k estimates are equal, from their patients' influence values (patients, k).

    Patients may contribute to several estimates (both views of a breast): the covariance is that
    of the influence values. Returns (chi-squared, degrees of freedom, p).
    """
    patients, k = influence.shape
    if k < 2 or patients < 2:
        return float("nan"), 0, float("nan")
    covariance = influence.T @ influence
    contrast = np.hstack([np.eye(k - 1), -np.ones((k - 1, 1))])
    difference = contrast @ values
    spread = contrast @ covariance @ contrast.T
    if not np.isfinite(spread).all() or np.linalg.matrix_rank(spread, tol=1e-15) < k - 1:
        return float("nan"), k - 1, float("nan")
    statistic = float(difference @ np.linalg.solve(spread, difference))
    return statistic, k - 1, float(chi2.sf(statistic, k - 1))
