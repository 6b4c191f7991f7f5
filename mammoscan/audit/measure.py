"""Every metric of one level, each with its unit, number of cases and interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscan.audit import calibration, curves, froc
from mammoscan.audit.intervals import (
    LEVEL,
    REPLICATES,
    SEED,
    Interval,
    auc_score_interval,
    bootstrap,
    delong,
    normal_interval,
    percentile,
    quantile,
    square_and_add,
    wilson,
)
from mammoscan.audit.match import Cases, Regions
from mammoscan.audit.metrics import METRICS, predictive_values, proportions, table_metrics

Floats = NDArray[np.float64]
SCORE_METRICS = ("auc", "partial_auc", "pr_auc", "brier", "calibration_error")
# Sensitivities of which the audit always says what threshold would give them.
SENSITIVITIES = (0.8, 0.85, 0.9, 0.95, 0.98, 1.0)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score at and above which a case is flagged. chosen_here: read off these same cases."""

    name: str
    value: float
    chosen_here: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """How intervals are made. replicates: of the bootstrap. prevalence: 0 to 1, or None."""

    replicates: int = REPLICATES
    seed: int = SEED
    level: float = LEVEL
    prevalence: float | None = None
    sensitivities: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of the audit; value None means refused, and ``refused`` says why.

    interval: the one to quote. other: a second one by another method, where there is one.
    count: (cases counted, cases in the denominator) of a proportion, else None.
    """

    level: str
    metric: str
    label: str
    unit: str
    threshold_name: str
    threshold: float | None
    value: float | None
    interval: Interval | None
    other: Interval | None
    n: int
    positives: int
    patients: int
    refused: str = ""
    note: str = ""
    count: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """What it takes on these cases to reach a sensitivity: the highest threshold that does.

    sensitivity, specificity: reached with it (nan without negatives). flagged: cases.
    """

    wanted: float
    threshold: float
    sensitivity: float
    specificity: float
    flagged: int


@dataclass(frozen=True, slots=True)
class LevelAudit:
    """A level's cases, its measures and its two-by-two tables (threshold name to tp, fp, fn, tn)."""

    cases: Cases
    measures: tuple[Measure, ...]
    thresholds: tuple[Threshold, ...]
    tables: dict[str, tuple[int, int, int, int]]


def is_probability(scores: Floats) -> bool:
    """Whether all scores lie in 0 to 1, so that they can be held to be probabilities."""
    return bool(len(scores)) and float(scores.min()) >= 0 and float(scores.max()) <= 1


def measure_level(cases: Cases, thresholds: Sequence[Threshold], settings: Settings) -> LevelAudit:
    """All metrics of one level.

    A metric whose classes are missing is refused alone; the others are given.
    """
    ranking = curves.Ranking.of(cases.truth, cases.scores)
    found = [
        Threshold(f"sensitivity {s:g} here", curves.threshold_for_sensitivity(ranking, s), chosen_here=True)
        for s in dict.fromkeys(settings.sensitivities)
        if cases.truth.any()
    ]
    every = (*thresholds, *found)
    statistic = _Statistic(cases, ranking, every)
    patients = int(cases.groups.max()) + 1
    point = statistic(np.ones(patients))[None]
    repeats = bootstrap(patients, statistic, replicates=settings.replicates, seed=settings.seed)
    make = _Maker(cases, settings)
    measures = [
        make.measure(
            name, point[0, i], repeats[:, i], other=make.analytic(name), spare=make.spare(name, float(point[0, i]))
        )
        for i, name in enumerate(SCORE_METRICS)
    ]
    measures += make.calibration_fits()
    tables: dict[str, tuple[int, int, int, int]] = {}
    for number, threshold in enumerate(every):
        values = _at(point, number, threshold, settings)
        spread = _at(repeats, number, threshold, settings)
        tp, fp, fn, tn = (round(float(x[0])) for x in _counts(point, number))
        tables[threshold.name] = (tp, fp, fn, tn)
        ratios = proportions(tp, fp, fn, tn)
        for name in values:
            wilson_interval = wilson(*ratios[name], level=settings.level) if name in ratios else None
            measures.append(
                make.measure(
                    name,
                    float(values[name][0]),
                    spread[name],
                    other=wilson_interval,
                    spare=_without_spread(name, (tp, fp, fn, tn), settings),
                    threshold=threshold,
                    count=ratios.get(name),
                )
            )
    return LevelAudit(cases, tuple(measures), every, tables)


def reaches(cases: Cases, sensitivities: Sequence[float] = SENSITIVITIES) -> tuple[Reach, ...]:
    """What threshold would give each sensitivity on these cases; none without positives."""
    if not cases.truth.any():
        return ()
    ranking = curves.Ranking.of(cases.truth, cases.scores)
    tp, fp = ranking.counts()
    out = []
    for wanted in sensitivities:
        threshold = curves.threshold_for_sensitivity(ranking, wanted)
        at = ranking.cut(threshold)
        specificity = float(1 - fp[at] / fp[-1]) if fp[-1] else float("nan")
        out.append(Reach(wanted, threshold, float(tp[at] / tp[-1]), specificity, int(tp[at] + fp[at])))
    return tuple(out)


def _without_spread(name: str, table: tuple[int, int, int, int], settings: Settings) -> Interval | None:
    """An interval for a metric whose replicates all agree, from Wilson's; None where there is none.

    Counts of 0 or n leave the bootstrap nothing to vary, which is not certainty.
    """
    tp, fp, fn, tn = table
    level = settings.level
    if name == "cancers_per_1000":
        found = wilson(tp, tp + fp + fn + tn, level)
        return Interval(1000 * found.lower, 1000 * found.upper, "Wilson")
    if name == "f1":  # F1 = 2J / (1 + J) of the proportion J = TP / (TP + FP + FN)
        found = wilson(tp, tp + fp + fn, level)
        return Interval(2 * found.lower / (1 + found.lower), 2 * found.upper / (1 + found.upper), "Wilson, transformed")
    if not tp + fn or not tn + fp:
        return None
    sensitivity, specificity = wilson(tp, tp + fn, level), wilson(tn, tn + fp, level)
    if name == "balanced_accuracy":
        shares = tp / (tp + fn), tn / (tn + fp)
        return square_and_add((sensitivity, specificity), shares, (0.5, 0.5))
    if name in {"ppv_at_prevalence", "npv_at_prevalence"} and settings.prevalence is not None:
        # Both limits together: wider than 95 %, never narrower.
        which = 0 if name.startswith("ppv") else 1
        low, high = (
            predictive_values(a, b, settings.prevalence)[which]
            for a, b in ((sensitivity.lower, specificity.lower), (sensitivity.upper, specificity.upper))
        )
        return Interval(float(low), float(high), "Wilson's limits of sensitivity and specificity")
    return None


def measure_froc(regions: Regions, settings: Settings, patients: int) -> tuple[Measure, ...]:
    """Lesion sensitivity at fixed numbers of false marks per image, with patient-level intervals."""
    order = froc.sorted_marks(regions.marks)
    point = order.at(froc.FALSE_MARKS, None)
    drawn_from = int(regions.marks.image_groups.max()) + 1
    repeats = bootstrap(
        drawn_from,
        lambda w: order.at(froc.FALSE_MARKS, w),
        replicates=settings.replicates,
        seed=settings.seed,
    )
    most = float(order.curve()[0][-1])
    out = []
    for i, rate in enumerate(froc.FALSE_MARKS):
        interval, _ = percentile(repeats[:, i], settings.level)
        if not np.isfinite(interval.lower) or interval.lower == interval.upper:
            interval = wilson(round(point[i] * regions.lesions), regions.lesions, settings.level)
        note = "n counts images, positives count malignant lesions"
        if rate > most:
            note += f"; the results' marks end at {most:.2f} false marks per image"
        out.append(
            Measure(
                level="region",
                metric=f"froc_sensitivity_at_{rate:g}",
                label=f"lesion sensitivity at {rate:g} false marks per image",
                unit="proportion of lesions",
                threshold_name="",
                threshold=None,
                value=float(point[i]),
                interval=interval,
                other=None,
                n=len(regions.marks.image_groups),
                positives=regions.lesions,
                patients=patients,
                note=note,
                count=(round(point[i] * regions.lesions), regions.lesions),
            )
        )
    return tuple(out)


class _Statistic:
    """One replicate as a vector: score metrics, P, N, then TP and FP by threshold.

    What is a sum over cases is summed by patient once; only the areas need the sorted order.
    """

    def __init__(self, cases: Cases, ranking: curves.Ranking, thresholds: Sequence[Threshold]) -> None:
        groups = cases.groups
        patients = int(groups.max()) + 1
        self.groups = groups[ranking.order]
        self.drawn = np.empty(len(groups), dtype=np.float32)
        corners = ranking.corners()
        self.starts = np.append(0, corners[:-1] + 1)
        self.where = np.flatnonzero(ranking.positive)
        # Positives of one score share a corner.
        self.positive_starts = np.flatnonzero(np.diff(np.searchsorted(corners, self.where), prepend=-1))
        self.gains = np.unique(np.searchsorted(corners, self.where))
        truth = cases.truth.astype(np.float64)
        columns = [np.bincount(groups, truth, patients), np.bincount(groups, 1 - truth, patients)]
        flags = [cases.scores >= t.value for t in thresholds]
        columns += [np.bincount(groups, truth * flag, patients) for flag in flags]
        columns += [np.bincount(groups, (1 - truth) * flag, patients) for flag in flags]
        self.by_patient = np.column_stack(columns)
        self.calibration: Floats | None = None
        if is_probability(cases.scores):
            gap = truth - cases.scores
            bins = calibration.bin_of(cases.scores)
            flat = np.bincount(groups * calibration.BINS + bins, gap, patients * calibration.BINS)
            squared = np.bincount(groups, gap**2, patients)
            self.calibration = np.column_stack([squared, flat.reshape(patients, calibration.BINS)])

    def __call__(self, drawn: Floats) -> Floats:
        sums = drawn @ self.by_patient
        # Counts are whole numbers, which the short form holds exactly; half as long, they stay in the processor's cache.
        # Into the same memory each time: fresh pages cost more than what is written to them.
        weights = drawn.astype(np.float32).take(self.groups, out=self.drawn, mode="clip")
        tp, fp = np.zeros(len(self.starts) + 1), np.zeros(len(self.starts) + 1)
        if len(self.where):
            tp[1 + self.gains] = np.add.reduceat(weights[self.where], self.positive_starts, dtype=np.float64)
        np.cumsum(np.add.reduceat(weights, self.starts, dtype=np.float64) - tp[1:], out=fp[1:])
        tp = np.cumsum(tp)
        brier = error = float("nan")
        total = sums[0] + sums[1]
        if self.calibration is not None and total:
            squared, *gaps = drawn @ self.calibration
            brier, error = squared / total, float(np.abs(gaps).sum()) / total
        areas = [curves.auc(tp, fp), curves.partial_auc(tp, fp), curves.average_precision(tp, fp)]
        return np.concatenate([areas, [brier, error], sums])


def _counts(rows: Floats, number: int) -> tuple[Floats, Floats, Floats, Floats]:
    start = len(SCORE_METRICS)
    thresholds = (rows.shape[1] - start - 2) // 2
    tp, fp = rows[:, start + 2 + number], rows[:, start + 2 + thresholds + number]
    return tp, fp, rows[:, start] - tp, rows[:, start + 1] - fp


def _at(rows: Floats, number: int, threshold: Threshold, settings: Settings) -> dict[str, Any]:
    out = table_metrics(*_counts(rows, number), threshold=threshold.value)
    if settings.prevalence is not None:
        out["ppv_at_prevalence"], out["npv_at_prevalence"] = predictive_values(
            out["sensitivity"], out["specificity"], settings.prevalence
        )
    return out


class _Maker:
    """Turns values and replicates into measures, or refusals."""

    def __init__(self, cases: Cases, settings: Settings) -> None:
        self.cases = cases
        self.settings = settings
        self.positives = int(cases.truth.sum())
        self.patients = len(np.unique(cases.groups))
        # Wilson and plain DeLong hold where cases are independent: one a patient.
        self.independent = self.patients == len(cases.truth)
        self.probability = is_probability(cases.scores)

    def measure(
        self,
        name: str,
        value: float,
        repeats: Floats,
        *,
        other: Interval | None = None,
        spare: Interval | None = None,
        threshold: Threshold | None = None,
        count: tuple[int, int] | None = None,
    ) -> Measure:
        refused = self._refusal(name)
        if not refused and not np.isfinite(value):
            refused = "undefined: no case in its denominator"
        if refused:
            return self._row(name, None, None, None, threshold, refused=refused)
        drawn, used = percentile(repeats, self.settings.level)
        notes = []
        if threshold is not None and threshold.chosen_here:
            notes.append("threshold chosen on these same cases: optimistic")
        # The bootstrap of 0 of n or n of n has no width; Wilson's interval has.
        has_width = bool(drawn.lower < drawn.upper)
        interval = drawn
        if other is not None and other.method == "Wilson" and (self.independent or not has_width):
            interval, other = other, drawn
        elif not has_width:
            for found in (spare, other):
                if found is not None and found.lower < found.upper:
                    interval, other = found, drawn
                    break
        if other is not None and not np.isfinite(other.lower):
            other = None
        if not interval.lower < interval.upper:
            notes.append("the interval has no width: all replicates agree, which is not certainty")
        elif not self.independent and interval is not drawn and "Wilson" in interval.method:
            notes.append("cases taken as independent, since the bootstrap over patients has no width")
        if interval is drawn and used < len(repeats):
            notes.append(f"{used} of {len(repeats)} replicates defined")
        return self._row(name, value, interval, other, threshold, note="; ".join(notes), count=count)

    def analytic(self, name: str) -> Interval | None:
        if name != "auc" or self.positives < 2 or len(self.cases.truth) - self.positives < 2:
            return None
        groups = None if self.independent else self.cases.groups
        result = delong(self.cases.truth, self.cases.scores, groups)
        variance = float(result.covariance[0, 0])
        method = "DeLong" if groups is None else "DeLong, clustered by patient (Obuchowski)"
        return normal_interval(float(result.auc[0]), float(np.sqrt(max(variance, 0.0))), method, self.settings.level)

    def spare(self, name: str, value: float) -> Interval | None:
        """An interval of an AUC without spread; patients are counted, not cases, so that it is not too narrow."""
        if name != "auc" or not np.isfinite(value):
            return None
        truth, groups = self.cases.truth, self.cases.groups
        positives, negatives = len(np.unique(groups[truth])), len(np.unique(groups[~truth]))
        return auc_score_interval(float(value), positives, negatives, self.settings.level)

    def calibration_fits(self) -> list[Measure]:
        out = []
        for name, fit in (
            ("calibration_slope", calibration.slope),
            ("calibration_intercept", calibration.intercept),
        ):
            refused = self._refusal(name)
            if refused:
                out.append(self._row(name, None, None, None, None, refused=refused))
                continue
            result = fit(self.cases.truth, self.cases.scores, self.cases.groups)
            if not np.isfinite(result.value):
                reason = "undefined: the scores separate the classes, or are all equal"
                out.append(self._row(name, None, None, None, None, refused=reason))
                continue
            half = quantile(self.settings.level) * result.error
            method = "logistic regression, errors clustered by patient"
            interval = Interval(result.value - half, result.value + half, method)
            out.append(self._row(name, result.value, interval, None, None))
        return out

    def _refusal(self, name: str) -> str:
        n = len(self.cases.truth)
        needs = METRICS[name].needs
        if "P" in needs and self.positives == 0:
            return f"needs positive cases: none of {n} is positive"
        if "N" in needs and self.positives == n:
            return f"needs negative cases: none of {n} is negative"
        if not self.probability and name in {
            "brier",
            "calibration_error",
            "calibration_slope",
            "calibration_intercept",
            "net_benefit",
        }:
            return "needs probabilities: some scores lie outside 0 to 1"
        return ""

    def _row(
        self,
        name: str,
        value: float | None,
        interval: Interval | None,
        other: Interval | None,
        threshold: Threshold | None,
        *,
        refused: str = "",
        note: str = "",
        count: tuple[int, int] | None = None,
    ) -> Measure:
        metric = METRICS[name]
        label = metric.label
        if name.endswith("_at_prevalence") and self.settings.prevalence is not None:
            label = label.replace("the given prevalence", f"a prevalence of {self.settings.prevalence:g}")
        return Measure(
            level=self.cases.level,
            metric=name,
            label=label,
            unit=metric.unit,
            threshold_name=threshold.name if threshold else "",
            threshold=threshold.value if threshold else None,
            value=None if value is None else float(value),
            interval=interval,
            other=other,
            n=len(self.cases.truth),
            positives=self.positives,
            patients=self.patients,
            refused=refused,
            note=note,
            count=count,
        )
