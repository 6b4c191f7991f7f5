"""Does it work alike for everyone? Subgroups with counts, intervals and a test for difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscan.audit.compare import equality_test
from mammoscan.audit.intervals import (
    Interval,
    auc_influence,
    auc_score_interval,
    bootstrap_sums,
    delong,
    hanley_mcneil,
    normal_interval,
    percentile,
    wilson,
)
from mammoscan.audit.match import Cases, Pair
from mammoscan.audit.measure import Settings, Threshold

Floats = NDArray[np.float64]
UNKNOWN = "unknown"
# With fewer cases of a class than this a group is marked small; it is shown all the same.
SMALL = 10


@dataclass(frozen=True, slots=True)
class Factor:
    """What divides the cases. positives_only: a property of lesions, that negatives lack."""

    name: str
    label: str
    of: Callable[[Pair], str]
    levels: tuple[str, ...]
    positives_only: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """One subgroup's value of one metric; value None means refused."""

    level: str
    factor: str
    group: str
    metric: str
    threshold_name: str
    value: float | None
    interval: Interval | None
    n: int
    positives: int
    small: bool
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """Wald test on log odds that a metric is the same in all known subgroups of a factor.

    small: one of them is small, so that p is not to be relied on.
    """

    level: str
    factor: str
    metric: str
    statistic: float
    freedom: int
    p: float
    small: bool


def _age_band(pair: Pair) -> str:
    age = pair.label.age if pair.label.age is not None else pair.image.age
    if age is None:
        return UNKNOWN
    return (
        "under 40"
        if age < 40
        else "70 and over"
        if age >= 70
        else f"{int(age // 10) * 10} to {int(age // 10) * 10 + 9}"
    )


def _size_band(pair: Pair) -> str:
    size = pair.label.size_mm
    if size is None:
        return UNKNOWN
    return "up to 10 mm" if size <= 10 else "over 10 to 20 mm" if size <= 20 else "over 20 mm"


_EVERY = ("region", "image", "breast", "patient", "study")
FACTORS = (
    Factor("density", "breast density", lambda p: p.label.density or p.image.density or UNKNOWN, _EVERY),
    Factor("age", "age in years", _age_band, _EVERY),
    Factor("view", "view", lambda p: p.image.view or UNKNOWN, ("region", "image")),
    Factor("laterality", "side", lambda p: p.image.laterality or UNKNOWN, ("region", "image", "breast")),
    Factor("manufacturer", "manufacturer", lambda p: p.image.manufacturer or UNKNOWN, _EVERY),
    Factor("year", "year of the study", lambda p: p.image.year or UNKNOWN, _EVERY),
    Factor("lesion_kind", "kind of lesion", lambda p: p.label.lesion_kind or UNKNOWN, _EVERY, positives_only=True),
    Factor("size", "size of the lesion", _size_band, _EVERY, positives_only=True),
)


def subgroups(
    cases: Cases, threshold: Threshold | None, settings: Settings
) -> tuple[tuple[Group, ...], tuple[Difference, ...]]:
    """Every factor of which at least one case is known.

    Groups of lesions (kind, size) hold positives; their AUC is against all negatives.
    """
    parts: list[_Part] = []
    for factor in FACTORS:
        if cases.level not in factor.levels:
            continue
        values = np.array(
            [_value(factor, members, positive=t) for members, t in zip(cases.members, cases.truth, strict=True)]
        )
        names = [str(n) for n in np.unique(values) if n]
        if not names or names == [UNKNOWN]:
            continue
        parts.append(_Part(cases, factor, values, names, threshold=threshold, settings=settings))
    rates = _rates(parts, cases, threshold, settings)
    groups = tuple(g for part in parts for g in part.groups(rates.get(part.factor.name, [])))
    return groups, tuple(t for part in parts for t in part.tests())


def _rates(
    parts: Sequence[_Part], cases: Cases, threshold: Threshold | None, settings: Settings
) -> dict[str, list[list[tuple[str, float, Interval]]]]:
    """Sensitivity and specificity of each group of each factor: (metric, value, interval).

    One bootstrap over patients serves all of them, since drawing takes longer than counting.
    """
    if threshold is None or not parts:
        return {}
    flagged = cases.scores >= threshold.value
    columns = [column for part in parts for column in part.counted(flagged)]
    patients = int(cases.groups.max()) + 1
    matrix = np.column_stack([np.bincount(cases.groups, c, patients) for c in columns]).astype(np.float64)
    repeats = bootstrap_sums(matrix, replicates=settings.replicates, seed=settings.seed)
    totals, at = matrix.sum(axis=0), 0
    out: dict[str, list[list[tuple[str, float, Interval]]]] = {}
    for part in parts:
        rows = out.setdefault(part.factor.name, [])
        for _ in part.names:
            row = []
            for metric in part.metrics:
                row.append((metric, *part.rate(totals[at : at + 2], repeats[:, at : at + 2])))
                at += 2
            rows.append(row)
    return out


def _value(factor: Factor, members: tuple[Pair, ...], *, positive: bool) -> str:
    if factor.positives_only:
        if not positive:
            return ""
        members = tuple(m for m in members if m.label.positive)
    known = [v for v in map(factor.of, members) if v != UNKNOWN]
    return known[0] if known else UNKNOWN


class _Part:
    """One factor of one level."""

    def __init__(
        self,
        cases: Cases,
        factor: Factor,
        values: NDArray[np.str_],
        names: list[str],
        *,
        threshold: Threshold | None,
        settings: Settings,
    ) -> None:
        self.cases, self.factor, self.names = cases, factor, names
        self.threshold, self.settings = threshold, settings
        self.inside = [values == name for name in names]
        # The cases that an AUC compares: lesions of a kind against all negatives.
        self.compared = [i | ~cases.truth if factor.positives_only else i for i in self.inside]
        self.patients = int(cases.groups.max()) + 1
        self.metrics = ("sensitivity",) if factor.positives_only else ("sensitivity", "specificity")
        self.independent = self.patients == len(cases.truth)

    def groups(self, rates: list[list[tuple[str, float, Interval]]]) -> list[Group]:
        out = []
        for number, name in enumerate(self.names):
            inside, compared = self.inside[number], self.compared[number]
            positives = int(self.cases.truth[inside].sum())
            negatives = int((~self.cases.truth[compared]).sum())
            n = int(inside.sum())

            if positives and negatives:
                value, interval = self._auc(compared)
                out.append(self._row(name, "auc", value, interval))
            else:
                missing = "negative" if positives else "positive"
                out.append(self._row(name, "auc", refused=f"needs both classes: no {missing} case among {n}"))
            for metric, share, interval in rates[number] if rates else ():
                if np.isfinite(share):
                    out.append(self._row(name, metric, share, interval))
                else:
                    out.append(self._row(name, metric, refused="no case in its denominator"))
        return out

    def _row(
        self,
        name: str,
        metric: str,
        value: float | None = None,
        interval: Interval | None = None,
        *,
        refused: str = "",
    ) -> Group:
        number = self.names.index(name)
        inside = self.inside[number]
        positives = int(self.cases.truth[inside].sum())
        return Group(
            level=self.cases.level,
            factor=self.factor.name,
            group=name,
            metric=metric,
            threshold_name=self.threshold.name if self.threshold and metric != "auc" else "",
            value=value,
            interval=interval,
            n=int(inside.sum()),
            positives=positives,
            small=self._is_small(number),
            refused=refused,
        )

    def _auc(self, inside: NDArray[np.bool_]) -> tuple[float, Interval]:
        truth, scores, groups = self.cases.truth[inside], self.cases.scores[inside], self.cases.groups[inside]
        _, dense = np.unique(groups, return_inverse=True)
        independent = int(dense.max()) + 1 == len(truth)
        result = delong(truth, scores, None if independent else dense)
        error = float(np.sqrt(max(float(result.covariance[0, 0]), 0.0)))
        method = "DeLong" if independent else "DeLong, clustered by patient (Obuchowski)"
        interval = normal_interval(float(result.auc[0]), error, method, self.settings.level)
        if not (np.isfinite(error) and error > 0):
            # Separated classes or a single case leave no variance, which is not certainty.
            positives, negatives = len(np.unique(groups[truth])), len(np.unique(groups[~truth]))
            interval = auc_score_interval(float(result.auc[0]), positives, negatives, self.settings.level)
        return float(result.auc[0]), interval

    def counted(self, flagged: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        """For each group and metric: the cases that are right, and all it is about."""
        truth = self.cases.truth
        out: list[NDArray[np.bool_]] = []
        for inside in self.inside:
            out += [inside & truth & flagged, inside & truth]
            if len(self.metrics) == 2:
                out += [inside & ~truth & ~flagged, inside & ~truth]
        return out

    def rate(self, totals: Floats, repeats: Floats) -> tuple[float, Interval]:
        """A proportion from (right, all), (2,), and its interval from replicates of them, (replicates, 2)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share, spread = totals[0] / totals[1], repeats[:, 0] / repeats[:, 1]
        interval, _ = percentile(spread, self.settings.level)
        if self.independent or not np.isfinite(interval.lower) or interval.lower == interval.upper:
            interval = wilson(float(totals[0]), float(totals[1]), self.settings.level)
        return float(share), interval

    def tests(self) -> list[Difference]:
        known = [i for i, name in enumerate(self.names) if name != UNKNOWN]
        out = [self._test("auc", known, self._auc_influence)]
        if self.threshold is not None:
            out.append(self._test("sensitivity", known, self._rate_influence(positive=True)))
            if not self.factor.positives_only:
                out.append(self._test("specificity", known, self._rate_influence(positive=False)))
        return [t for t in out if t is not None]

    def _test(self, metric: str, known: list[int], of: Callable[[int], _LogOdds | None]) -> Difference | None:
        found = [(i, odds) for i in known if (odds := of(i)) is not None]
        if len(found) < 2:
            return None
        influence = np.column_stack([odds.influence for _, odds in found])
        # What a group's own variance lacks counts as a patient of that group alone.
        lacking = np.diag([odds.lacking**0.5 for _, odds in found])
        values = np.array([odds.value for _, odds in found])
        statistic, freedom, p = equality_test(values, np.vstack([influence, lacking]))
        small = any(self._is_small(i) for i, _ in found)
        return Difference(self.cases.level, self.factor.name, metric, statistic, freedom, p, small)

    def _is_small(self, number: int) -> bool:
        truth = self.cases.truth
        return bool(truth[self.inside[number]].sum() < SMALL or (~truth[self.compared[number]]).sum() < SMALL)

    def _auc_influence(self, number: int) -> _LogOdds | None:
        inside = self.compared[number]
        truth, scores = self.cases.truth[inside], self.cases.scores[inside]
        m, n = int(truth.sum()), int((~truth).sum())
        if m < 2 or n < 2:
            return None
        sums = np.bincount(self.cases.groups[inside], auc_influence(truth, scores), self.patients)
        area = (float(delong(truth, scores).auc[0]) * m * n + 0.5) / (m * n + 1)
        # Separated classes have no spread of their own.
        least = hanley_mcneil(area, m, n) if float(sums @ sums) < 1e-12 else 0.0
        return _LogOdds.of(area, sums.astype(np.float64), least)

    def _rate_influence(self, *, positive: bool) -> Callable[[int], _LogOdds | None]:
        assert self.threshold is not None
        right = (self.cases.scores >= self.threshold.value) == self.cases.truth

        def of(number: int) -> _LogOdds | None:
            inside = self.inside[number] & (self.cases.truth == positive)
            n = int(inside.sum())
            if n < 2:
                return None
            share = float(right[inside].mean())
            sums = np.bincount(
                self.cases.groups[inside], (right[inside] - share) / np.sqrt(n * (n - 1.0)), self.patients
            )
            middle = (share * n + 0.5) / (n + 1)
            return _LogOdds.of(middle, sums.astype(np.float64), middle * (1 - middle) / n)

        return of


@dataclass(frozen=True, slots=True)
class _LogOdds:
    """A group's share or area on the scale of log odds, where groups near 1 can be compared.

    On the plain scale the error shrinks as the value nears 1, so that a group that is good by luck
    looks certain too, and a test of several groups calls them different too often. value: log odds
    of the share moved half a case (or pair) to the middle, which is finite at 0 and 1. influence:
    of each patient. lacking: variance to add so that all right or all wrong is not certainty.
    """

    value: float
    influence: Floats
    lacking: float

    @classmethod
    def of(cls, share: float, influence: Floats, least: float) -> _LogOdds:
        """From a share strictly within 0 to 1 and influence values with ``least`` variance, on the plain scale."""
        slope = 1 / (share * (1 - share))
        lacking = max(least - float(influence @ influence), 0.0)
        return cls(float(np.log(share / (1 - share))), slope * influence, slope**2 * lacking)
