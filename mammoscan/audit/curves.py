"""Curves over all thresholds from one sorted order: ROC, precision-recall, partial area.

A case is flagged where its score is at or above the threshold. Cases with equal scores move
together, so ties are exact. The order is found once; weights (how often the bootstrap drew a
case) then only need cumulative sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscan.audit.metrics import ratio

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Cases by falling score.

    order: intp (n,), indices by falling score. positive: float64 (n,) 0 or 1, in that order.
    ends: intp (k,), last position of each run of equal scores. scores: float64 (k,), falling.
    """

    order: NDArray[np.intp]
    positive: Floats
    ends: NDArray[np.intp]
    scores: Floats

    @classmethod
    def of(cls, truth: NDArray[np.bool_], scores: Floats) -> Ranking:
        """Sort cases. Raises ValueError where a score is not finite."""
        scores = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ValueError("a score is missing or not finite")
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(falling) else np.zeros(0, np.intp)
        return cls(order, np.asarray(truth)[order].astype(np.float64), ends, falling[ends])

    def counts(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """(TP, FP) at or above each distinct score, starting with (0, 0): float64 (k + 1,).

        ``weights`` is (n,), already in the order of the ranking.
        """
        positive = self.positive if weights is None else self.positive * weights
        total = np.arange(1.0, len(positive) + 1) if weights is None else np.cumsum(weights)
        tp, every = np.zeros(len(self.ends) + 1), np.zeros(len(self.ends) + 1)
        if len(self.ends) == len(positive):
            np.cumsum(positive, out=tp[1:])
            every[1:] = total
        else:
            tp[1:] = np.cumsum(positive)[self.ends]
            every[1:] = total[self.ends]
        return tp, every - tp

    def corners(self) -> NDArray[np.intp]:
        """Last positions of the stretches between which the curves only run straight.

        Consecutive scores without a positive case move the ROC curve along one straight line, so
        that all areas follow from the far fewer corners; every score with a positive keeps its own.
        """
        if not len(self.ends):
            return self.ends
        sums = np.add.reduceat(self.positive, np.append(0, self.ends[:-1] + 1))
        holds = sums > 0
        return np.asarray(self.ends[holds | np.append(holds[1:], True)])

    def cut(self, threshold: float) -> int:
        """Index into ``counts`` of a threshold: cases with score >= threshold are flagged."""
        return int(np.searchsorted(-self.scores, -threshold, side="right"))


def auc(tp: Floats, fp: Floats) -> float:
    """Area under the ROC curve by the trapezoid rule: the Mann-Whitney statistic, ties one half."""
    area = float(np.dot(np.diff(fp), tp[1:] + tp[:-1])) / 2
    return float(ratio(area, tp[-1] * fp[-1]))


def partial_auc(tp: Floats, fp: Floats, *, min_specificity: float = 0.9) -> float:
    """Area at specificity above ``min_specificity``, standardised so that chance is 0.5.

    McClish, Med Decis Making 1989;9:190: (1 + (A - min) / (max - min)) / 2.
    """
    if tp[-1] == 0 or fp[-1] == 0:
        return float("nan")
    most = 1 - min_specificity
    limit = most * fp[-1]
    stop = int(np.searchsorted(fp, limit, side="right"))  # fp[stop - 1] <= limit < fp[stop]
    area = float(np.dot(np.diff(fp[:stop]), tp[1:stop] + tp[: stop - 1])) / 2
    if stop < len(fp):
        share = (limit - fp[stop - 1]) / (fp[stop] - fp[stop - 1])
        edge = tp[stop - 1] + share * (tp[stop] - tp[stop - 1])
        area += (limit - fp[stop - 1]) * (tp[stop - 1] + edge) / 2
    area /= tp[-1] * fp[-1]
    smallest = most**2 / 2
    return float((1 + (area - smallest) / (most - smallest)) / 2)


def average_precision(tp: Floats, fp: Floats) -> float:
    """Area under the precision-recall curve as a step function: sum of precision x gain in recall.

    Linear interpolation is too optimistic there (Davis and Goadrich, ICML 2006).
    """
    flagged = tp[1:] + fp[1:]
    gain = np.diff(tp)
    seen = gain > 0
    return float(ratio(np.dot(gain[seen] / flagged[seen], tp[1:][seen]), tp[-1]))


def threshold_for_sensitivity(ranking: Ranking, sensitivity: float) -> float:
    """The highest threshold, an observed score, whose sensitivity is at least ``sensitivity``."""
    tp, _ = ranking.counts()
    if tp[-1] == 0:
        return float("nan")
    # The tolerance keeps 0.9 of 10 positives at 9 despite 0.9 * 10 > 9 in binary.
    index = int(np.searchsorted(tp, sensitivity * tp[-1] - 1e-9 * tp[-1], side="left"))
    return float(ranking.scores[max(index, 1) - 1])


def roc_points(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """(false positive rate, sensitivity) for drawing."""
    return np.asarray(ratio(fp, fp[-1])), np.asarray(ratio(tp, tp[-1]))


def decision_curve(ranking: Ranking, thresholds: Floats) -> tuple[Floats, Floats]:
    """(net benefit of the scores, of flagging everyone) at probabilities ``thresholds`` (< 1)."""
    tp, fp = ranking.counts()
    total = tp[-1] + fp[-1]
    cuts = np.searchsorted(-ranking.scores, -thresholds, side="right")
    odds = thresholds / (1 - thresholds)
    return (tp[cuts] - fp[cuts] * odds) / total, (tp[-1] - fp[-1] * odds) / total
