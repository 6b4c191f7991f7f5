"""Are the scores probabilities? Brier score, calibration error, slope and intercept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10
# Scores of exactly 0 or 1 have no finite log odds.
EDGE = 1e-12


@dataclass(frozen=True, slots=True)
class Fit:
    """A coefficient with its standard error, robust to several cases of a patient."""

    value: float
    error: float


def brier(truth: NDArray[np.bool_], scores: Floats) -> float:
    """Mean squared difference of score and truth (Brier 1950), 0 to 1."""
    return float(np.mean((scores - truth) ** 2))


def bin_of(scores: Floats, bins: int = BINS) -> NDArray[np.intp]:
    """Number of the equal-width bin over 0 to 1 that holds each score; 1.0 is in the last."""
    return np.minimum((np.asarray(scores) * bins).astype(np.intp), bins - 1)


def calibration_bins(truth: NDArray[np.bool_], scores: Floats, bins: int = BINS) -> tuple[Floats, Floats, Floats]:
    """(mean score, share positive, cases) per bin; nan where a bin is empty."""
    index = bin_of(scores, bins)
    count = np.bincount(index, minlength=bins).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return (
            np.bincount(index, scores, bins) / count,
            np.bincount(index, np.asarray(truth, dtype=np.float64), bins) / count,
            count,
        )


def calibration_error(
    truth: NDArray[np.bool_], scores: Floats, weights: Floats | None = None, bins: int = BINS
) -> float:
    """Expected calibration error: mean over cases of |share positive - mean score| in their bin.

    Naeini, Cooper and Hauskrecht, AAAI 2015, for a binary outcome; equal-width bins.
    """
    weighted = (truth - scores) if weights is None else (truth - scores) * weights
    gaps = np.bincount(bin_of(scores, bins), weighted, bins)
    return float(np.abs(gaps).sum() / (len(scores) if weights is None else weights.sum()))


def slope(truth: NDArray[np.bool_], scores: Floats, groups: NDArray[np.intp]) -> Fit:
    """Slope of the logistic regression of truth on the score's log odds (Cox 1958); ideal 1."""
    line = np.column_stack([np.ones(len(scores)), log_odds(scores)])
    return _logistic(line, np.zeros(len(scores)), np.asarray(truth, dtype=np.float64), groups)[1]


def intercept(truth: NDArray[np.bool_], scores: Floats, groups: NDArray[np.intp]) -> Fit:
    """Calibration in the large: the intercept with the slope held at 1; ideal 0."""
    ones = np.ones((len(scores), 1))
    return _logistic(ones, log_odds(scores), np.asarray(truth, dtype=np.float64), groups)[0]


def log_odds(scores: Floats) -> Floats:
    """log(p / (1 - p)), with p kept off 0 and 1 by 1e-12."""
    p = np.clip(np.asarray(scores, dtype=np.float64), EDGE, 1 - EDGE)
    return np.asarray(np.log(p) - np.log1p(-p))


def _logistic(x: Floats, offset: Floats, y: Floats, groups: NDArray[np.intp]) -> list[Fit]:
    """Maximum likelihood by Newton's method with step halving; sandwich errors by patient.

    nan where the likelihood has no maximum (classes that the scores separate) or one predictor
    is constant. Errors: White (1980) with Liang and Zeger's (1986) sums over clusters.
    """
    nothing = [Fit(float("nan"), float("nan"))] * x.shape[1]
    if np.linalg.matrix_rank(x) < x.shape[1] or y.min() == y.max():
        return nothing
    beta = np.zeros(x.shape[1])
    likelihood = _log_likelihood(x @ beta + offset, y)
    for _ in range(100):
        p = _logistic_function(x @ beta + offset)
        information = (x * (p * (1 - p))[:, None]).T @ x
        try:
            step = np.linalg.solve(information, x.T @ (y - p))
        except np.linalg.LinAlgError:
            return nothing
        scale = 1.0
        while (new := _log_likelihood(x @ (beta + scale * step) + offset, y)) < likelihood and scale > 1e-8:
            scale /= 2
        beta, likelihood = beta + scale * step, new
        if np.abs(beta).max() > 1e4:  # separated: the estimate runs away
            return nothing
        if np.abs(step).max() < 1e-11 * (1 + np.abs(beta).max()):
            break
    else:
        return nothing
    p = _logistic_function(x @ beta + offset)
    information = (x * (p * (1 - p))[:, None]).T @ x
    sums = np.column_stack([np.bincount(groups, x[:, j] * (y - p)) for j in range(x.shape[1])])
    clusters = len(np.unique(groups))
    bread = np.linalg.inv(information)
    covariance = bread @ (sums.T @ sums) @ bread * (clusters / max(clusters - 1, 1))
    return [Fit(float(b), float(e)) for b, e in zip(beta, np.sqrt(np.diag(covariance)), strict=True)]


def _logistic_function(z: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -700, 700))))


def _log_likelihood(z: Floats, y: Floats) -> float:
    return float(np.sum(y * z - np.logaddexp(0, z)))
