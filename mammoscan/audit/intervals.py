"""Intervals: Wilson for proportions, DeLong for areas, bootstrap over patients for everything.

The bootstrap draws patients with replacement, so that two views of a breast stay together
(Rutter, Acad Radiol 2000;7:413). Drawing is by counts: one replicate needs a weight per case, not
a copy of the cases, and with cases sorted once all thresholds follow from two cumulative sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.sparse import csc_array, csr_array

Floats = NDArray[np.float64]
REPLICATES = 2000
SEED = 20240
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval with how it was made."""

    lower: float
    upper: float
    method: str


@dataclass(frozen=True, slots=True)
class Delong:
    """AUCs of k scores on the same cases with their covariance (k, k)."""

    auc: Floats
    covariance: Floats


def quantile(level: float = LEVEL) -> float:
    """Two-sided normal quantile: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(count: float, total: float, level: float = LEVEL) -> Interval:
    """Wilson's score interval for a proportion (JASA 1927;22:209); nan where there is no case."""
    if total == 0:
        return Interval(float("nan"), float("nan"), "Wilson")
    z = quantile(level)
    p = count / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    # Rounding must not exclude the estimate at the ends.
    lower = 0.0 if count == 0 else float(centre - half)
    upper = 1.0 if count == total else float(centre + half)
    return Interval(lower, upper, "Wilson")


def square_and_add(parts: tuple[Interval, ...], values: tuple[float, ...], weights: tuple[float, ...]) -> Interval:
    """Interval of a weighted sum of independent proportions from their own (Newcombe, Stat Med 1998;17:873).

    ``weights`` are above 0.
    """
    value = sum(w * v for w, v in zip(weights, values, strict=True))
    low = sum((w * (v - p.lower)) ** 2 for w, v, p in zip(weights, values, parts, strict=True))
    high = sum((w * (p.upper - v)) ** 2 for w, v, p in zip(weights, values, parts, strict=True))
    return Interval(float(value - low**0.5), float(value + high**0.5), "Wilson, square and add")


def auc_score_interval(area: float, positives: int, negatives: int, level: float = LEVEL) -> Interval:
    """Interval of an AUC that has a width also at 0 and 1, and with one case of a class.

    All areas that lie within z standard errors of the one found, each with its own error after
    Hanley and McNeil, Radiology 1982;143:29 (Newcombe, Stat Med 2006;25:559, method 4).
    """
    lower = _lowest_area(area, positives, negatives, level)
    upper = 1 - _lowest_area(1 - area, negatives, positives, level)
    return Interval(lower, upper, "Hanley-McNeil, score")


def hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """Variance of an AUC from its value and the numbers of cases (Radiology 1982;143:29)."""
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    spread = (positives - 1) * (q1 - area * area) + (negatives - 1) * (q2 - area * area)
    return (area * (1 - area) + spread) / (positives * negatives)


def _lowest_area(area: float, positives: int, negatives: int, level: float) -> float:
    if area <= 0:
        return 0.0
    z = quantile(level)

    def excess(candidate: float) -> float:
        return float(area - candidate - z * max(hanley_mcneil(candidate, positives, negatives), 0.0) ** 0.5)

    return float(brentq(excess, 0.0, area - 1e-9, xtol=1e-12))


def delong(truth: NDArray[np.bool_], scores: Floats, groups: NDArray[np.intp] | None = None) -> Delong:
    """AUCs and their covariance without resampling.

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837, computed by midranks after Sun and
    Xu, IEEE Signal Process Lett 2014;21:1389, in O(n log n). With ``groups`` (patients with
    several cases) the placements are summed by patient first: Obuchowski, Biometrics 1997;53:567.

    Parameters
    ----------
    truth: (n,). scores: (k, n) or (n,). groups: (n,) patient numbers 0.., or None.

    Raises
    ------
    ValueError
        Where a class is missing.
    """
    found = [Placements.of(truth, row) for row in np.atleast_2d(np.asarray(scores, dtype=np.float64))]
    return _delong(found, groups)


@dataclass(frozen=True, slots=True)
class Placements:
    """How positive and negative cases lie to each other.

    truth: bool (n,). positives: of each positive, in their order, the share of negatives below it, ties one half.
    negatives: of each negative the share of positives above it.
    """

    truth: NDArray[np.bool_]
    positives: Floats
    negatives: Floats

    @classmethod
    def of(cls, truth: NDArray[np.bool_], scores: Floats) -> Placements:
        """Compare cases, after sorting them once. Raises ValueError where a class is missing."""
        truth = np.asarray(truth, dtype=bool)
        m = int(truth.sum())
        n = len(truth) - m
        if m == 0 or n == 0:
            raise ValueError("the AUC needs positive and negative cases")
        order = np.argsort(scores, kind="stable")
        rising = scores[order]
        starts = np.flatnonzero(np.append(True, rising[1:] != rising[:-1]))
        lengths = np.diff(np.append(starts, len(order)))
        at = np.add.reduceat(truth[order].astype(np.int64), starts)
        before = np.cumsum(at) - at
        # Of each score: positives and negatives below it, with half of those at it.
        run = np.empty(len(order), dtype=np.intp)
        run[order] = np.repeat(np.arange(len(starts)), lengths)
        below_p, below_n = before + at / 2, starts - before + (lengths - at) / 2
        return cls(truth, below_n[run[truth]] / n, 1 - below_p[run[~truth]] / m)

    def delong(self, groups: NDArray[np.intp] | None = None) -> Delong:
        """The AUC and its variance (see ``delong``)."""
        return _delong([self], groups)

    def influence(self) -> Floats:
        """Each case's influence on the AUC, (n,); nan where a class has fewer than two cases.

        The sum of their squares is DeLong's variance; summed by patient first, they carry the
        dependence of a patient's cases.
        """
        m, n = len(self.positives), len(self.negatives)
        if m < 2 or n < 2:
            return np.full(len(self.truth), np.nan)
        mean = self.positives.mean()
        out = np.empty(len(self.truth))
        out[self.truth] = (self.positives - mean) / np.sqrt(m * (m - 1.0))
        out[~self.truth] = (self.negatives - mean) / np.sqrt(n * (n - 1.0))
        return out


def _delong(found: Sequence[Placements], groups: NDArray[np.intp] | None) -> Delong:
    positives, negatives = np.stack([f.positives for f in found]), np.stack([f.negatives for f in found])
    areas = positives.mean(axis=1)
    if groups is None:
        m, n = positives.shape[1], negatives.shape[1]
        return Delong(areas, _covariance(positives) / m + _covariance(negatives) / n)
    truth = found[0].truth
    return Delong(areas, _clustered(truth, positives - areas[:, None], negatives - areas[:, None], groups))


def _covariance(rows: Floats) -> Floats:
    if rows.shape[1] < 2:
        return np.full((len(rows), len(rows)), np.nan)
    return np.atleast_2d(np.cov(rows))


def _clustered(truth: NDArray[np.bool_], p: Floats, n: Floats, groups: NDArray[np.intp]) -> Floats:
    count = int(groups.max()) + 1
    sums_p = np.stack([np.bincount(groups[truth], row, count) for row in p])
    sums_n = np.stack([np.bincount(groups[~truth], row, count) for row in n])
    m, nn = p.shape[1], n.shape[1]
    of_p, of_n = np.bincount(groups[truth], minlength=count) > 0, np.bincount(groups[~truth], minlength=count) > 0
    i_p, i_n, i = int(of_p.sum()), int(of_n.sum()), int((of_p | of_n).sum())
    if i_p < 2 or i_n < 2:
        return np.full((len(p), len(p)), np.nan)
    s_p = sums_p @ sums_p.T * i_p / ((i_p - 1) * m * m)
    s_n = sums_n @ sums_n.T * i_n / ((i_n - 1) * nn * nn)
    cross = sums_p @ sums_n.T * i / ((i - 1) * m * nn)
    return np.asarray(s_p + s_n + cross + cross.T)


def normal_interval(value: float, error: float, method: str, level: float = LEVEL, *, clip: bool = True) -> Interval:
    """Value +- z x error, cut to 0 to 1 where ``clip``."""
    half = float(quantile(level) * error)
    value = float(value)
    lower, upper = value - half, value + half
    return Interval(max(lower, 0.0), min(upper, 1.0), method) if clip else Interval(lower, upper, method)


def bootstrap(
    patients: int,
    statistic: Callable[[Floats], Floats],
    *,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Floats:
    """Values of ``statistic`` in replicates that draw patients with replacement.

    Parameters
    ----------
    patients: how many there are. statistic: how often each was drawn, (patients,), to values (k,).

    Returns
    -------
    float64 (replicates, k); nan where a replicate leaves a value undefined.
    """
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            statistic(np.bincount(rng.integers(0, patients, patients), minlength=patients).astype(np.float64))
            for _ in range(replicates)
        ]
    )


def bootstrap_sums(
    by_patient: Floats | csc_array, *, replicates: int = REPLICATES, seed: int = SEED, at_once: int = 64
) -> Floats:
    """Sums over the patients drawn, as ``bootstrap`` draws them; many replicates in one matrix product.

    Parameters
    ----------
    by_patient: what each patient adds, (patients, k), dense or sparse; mostly zeros, since a patient is in few groups.

    Returns
    -------
    float64 (replicates, k).
    """
    rng = np.random.default_rng(seed)
    patients = by_patient.shape[0]
    adds = csr_array(by_patient.T)
    out = np.empty((replicates, by_patient.shape[1]))
    for start in range(0, replicates, at_once):
        stop = min(start + at_once, replicates)
        drawn = [np.bincount(rng.integers(0, patients, patients), minlength=patients) for _ in range(start, stop)]
        out[start:stop] = (adds @ np.stack(drawn, axis=1).astype(np.float64)).T
    return out


def percentile(values: Floats, level: float = LEVEL) -> tuple[Interval, int]:
    """Percentile interval (Efron 1979) and how many replicates it rests on.

    A metric that is defined in fewer than half of the replicates has no interval.
    """
    sound = values[np.isfinite(values)]
    if len(sound) * 2 < len(values) or not len(sound):
        return Interval(float("nan"), float("nan"), "bootstrap over patients"), len(sound)
    lower, upper = np.quantile(sound, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(lower), float(upper), "bootstrap over patients"), len(sound)
