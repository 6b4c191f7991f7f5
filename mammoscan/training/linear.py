"""Fits of the linear heads on stored features, and of the small models that turn outputs into scores."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mammoscan.model.scores import HELD, Linear, Score

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]
LEAD = 10.0  # standard deviation that the logits of a leading head are given, beside 1 of every other input


def fit_linear(
    x: NDArray[np.floating], label: NDArray[np.integer], weight: Floats, *, classes: int, strength: float,
    lead: Linear | None = None,
) -> Linear:  # fmt: skip
    """Multinomial logistic regression with an L2 penalty (``strength`` is its inverse, scikit-learn's C).

    lead: a head of the same inputs for a like question, fitted on more cases. What it says is a further
    input that the penalty hardly holds back; what comes out is a head of ``x`` alone.
    """
    mean, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64) + 1e-6
    z = ((x - mean) / scale).astype(np.float32)
    if lead is not None:
        # Less their mean: only differences of logits say anything.
        lead = Linear(*(a - a.mean(axis=-1, keepdims=True) for a in (lead.kernel, lead.bias)))
        said = lead.logits(x)
        middle, spread = said.mean(axis=0), (said.std(axis=0) + 1e-6) / LEAD
        z = np.hstack([z, ((said - middle) / spread).astype(np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # strongly regularised; the last digits don't matter
        fitted = LogisticRegression(C=strength, max_iter=100, tol=1e-3).fit(z, label, sample_weight=weight)
    kernel, bias = np.zeros((x.shape[1], classes)), np.full(classes, -20.0)
    coefficients, constants = fitted.coef_.T, fitted.intercept_
    if len(fitted.classes_) == 2:
        coefficients = np.hstack([np.zeros_like(coefficients), coefficients])
        constants = np.array([0.0, constants[0]])
    own, led = coefficients[: x.shape[1]] / scale[:, None], coefficients[x.shape[1] :]
    kernel[:, fitted.classes_] = own
    bias[fitted.classes_] = constants - mean @ own
    if lead is not None:
        led = led / spread[:, None]
        kernel[:, fitted.classes_] += lead.kernel @ led
        bias[fitted.classes_] += (lead.bias - middle) @ led
    return Linear(kernel, bias)


def fit_score(
    names: Sequence[str], x: NDArray[np.floating], truth: NDArray[np.bool_], weight: Floats, *, strength: float
) -> Score:
    """Logistic regression of ``truth`` on inputs (n, k), standardised, held at 3 deviations, nan as the mean.

    Raises
    ------
    ValueError
        When a class is missing.
    """
    mean, scale, z = _standardised(x)
    fitted = LogisticRegression(C=strength, max_iter=1000).fit(z, truth, sample_weight=weight)
    return Score(tuple(names), mean, scale, fitted.coef_[0].astype(np.float64), float(fitted.intercept_[0]))


def _standardised(x: NDArray[np.floating]) -> tuple[Floats, Floats, Floats]:
    """Mean and scale by column of inputs (n, k), and the inputs as ``Score`` sees them."""
    mean = np.array([float(np.mean(c[np.isfinite(c)])) if np.isfinite(c).any() else 0.0 for c in x.T])
    scale = np.array([float(np.std(c[np.isfinite(c)])) if np.isfinite(c).any() else 0.0 for c in x.T])
    scale[scale < 1e-9] = 1.0
    z = (np.asarray(x, np.float64) - mean) / scale
    return mean, scale, np.where(np.isfinite(z), np.clip(z, -HELD, HELD), 0.0)


def extended(
    score: Score, names: Sequence[str], x: NDArray[np.floating], more: NDArray[np.floating],
    truth: NDArray[np.bool_], *, strength: float,
) -> Score:  # fmt: skip
    """A score with further inputs, fitted on cases that have them: its own log odds weigh as one input.

    x: (n, len(score.inputs)). more: (n, len(names)); without any, the score is fitted to the cases' level. What
    comes out is again one weighted sum of all inputs.
    """
    mean, scale, held = _standardised(more)
    fitted = LogisticRegression(C=strength, max_iter=1000).fit(np.column_stack([score.log_odds(x), held]), truth)
    share, *weights = fitted.coef_[0].astype(np.float64)
    return Score(
        (*score.inputs, *names), np.append(score.mean, mean), np.append(score.scale, scale),
        np.append(share * score.weight, weights), float(share * score.intercept + fitted.intercept_[0]),
    )  # fmt: skip


def even(groups: NDArray[np.integer] | NDArray[np.str_]) -> Floats:
    """Weights that give every group the same sum, with mean 1."""
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    weight = 1.0 / sizes[index]
    return np.asarray(weight / weight.mean())
