"""Does it work alike for everyone? Subgroups with counts, intervals and a test for difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mammoscan.audit.compare import equality_test
from mammoscan.audit.intervals import (
    Interval,
    Placements,
    auc_score_interval,
    bootstrap_sums,
    hanley_mcneil,
    normal_interval,
    percentile,
    wilson,
)
from mammoscan.audit.match import Cases, Members, Pair
from mammoscan.audit.measure import Settings, Threshold
from mammoscan.core.columns import TextColumn

Floats = NDArray[np.float64]
UNKNOWN = "unknown"
# With fewer cases of a class than this a group is marked small; it is shown all the same.
SMALL = 10


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What is known of the members of cases, one row a member, '' and nan where nothing is; what a label says goes first.

    sizes: mm. ages: years. positive: whether the member's label is malignant.
    """

    densities: TextColumn
    ages: Floats
    views: TextColumn
    lateralities: TextColumn
    manufacturers: TextColumn
    years: TextColumn
    lesion_kinds: TextColumn
    sizes: Floats
    positive: NDArray[np.bool_]

    @classmethod
    def of(cls, members: Sequence[tuple[Pair, ...]]) -> tuple[Facts, NDArray[np.intp]]:
        """The facts of all members of all cases, and where those of each case begin, (cases + 1,)."""
        if isinstance(members, Members):
            return cls._of_table(members), members.starts
        flat = [pair for found in members for pair in found]
        labels, images = [p.label for p in flat], [p.image for p in flat]
        ages = [i.age if t.age is None else t.age for t, i in zip(labels, images, strict=True)]
        facts = cls(
            densities=TextColumn.of(t.density or i.density for t, i in zip(labels, images, strict=True)),
            ages=np.array([np.nan if age is None else age for age in ages], dtype=np.float64),
            views=TextColumn.of(i.view for i in images),
            lateralities=TextColumn.of(i.laterality for i in images),
            manufacturers=TextColumn.of(i.manufacturer for i in images),
            years=TextColumn.of(i.year for i in images),
            lesion_kinds=TextColumn.of(t.lesion_kind for t in labels),
            sizes=np.array([np.nan if t.size_mm is None else t.size_mm for t in labels], dtype=np.float64),
            positive=np.array([t.positive for t in labels], dtype=bool),
        )
        return facts, np.cumsum([0, *map(len, members)], dtype=np.intp)

    @classmethod
    def _of_table(cls, members: Members) -> Facts:
        images, labels = members.pairs.images, members.pairs.labels
        image, label = members.pairs.image[members.order], members.pairs.label[members.order]
        main = labels.mains()[label]
        stated = labels.densities.taken(main)
        ages = labels.ages[main]
        return cls(
            densities=stated.over(images.densities.taken(image)),
            ages=np.where(np.isnan(ages), images.ages[image], ages),
            views=images.views.taken(image),
            lateralities=images.lateralities.taken(image),
            manufacturers=images.manufacturers.taken(image),
            years=images.years.taken(image),
            lesion_kinds=labels.lesion_kinds.taken(main),
            sizes=labels.sizes[main],
            positive=members.pairs.positive()[members.order],
        )


@dataclass(frozen=True, slots=True)
class Factor:
    """What divides the cases; '' where it is unknown. positives_only: a property of lesions, that negatives lack."""

    name: str
    label: str
    of: Callable[[Facts], TextColumn]
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


_AGES = ("", "under 40", "40 to 49", "50 to 59", "60 to 69", "70 and over")
_SIZES = ("", "up to 10 mm", "over 10 to 20 mm", "over 20 mm")


def _age_band(facts: Facts) -> TextColumn:
    ages = np.nan_to_num(facts.ages, nan=-1.0)
    band = np.where(ages < 40, 1, np.where(ages >= 70, 5, ages // 10 - 2)).astype(np.int32)
    return TextColumn(np.where(np.isnan(facts.ages), 0, band).astype(np.int32), _AGES)


def _size_band(facts: Facts) -> TextColumn:
    # nan is beyond all limits, and then set apart.
    band = 1 + np.searchsorted([10.0, 20.0], facts.sizes, side="left")
    return TextColumn(np.where(np.isnan(facts.sizes), 0, band).astype(np.int32), _SIZES)


_EVERY = ("region", "image", "breast", "patient", "study")
FACTORS = (
    Factor("density", "breast density", lambda f: f.densities, _EVERY),
    Factor("age", "age in years", _age_band, _EVERY),
    Factor("view", "view", lambda f: f.views, ("region", "image")),
    Factor("laterality", "side", lambda f: f.lateralities, ("region", "image", "breast")),
    Factor("manufacturer", "manufacturer", lambda f: f.manufacturers, _EVERY),
    Factor("year", "year of the study", lambda f: f.years, _EVERY),
    Factor("lesion_kind", "kind of lesion", lambda f: f.lesion_kinds, _EVERY, positives_only=True),
    Factor("size", "size of the lesion", _size_band, _EVERY, positives_only=True),
)


def subgroups(
    cases: Cases, threshold: Threshold | None, settings: Settings
) -> tuple[tuple[Group, ...], tuple[Difference, ...]]:
    """Every factor of which at least one case is known.

    Groups of lesions (kind, size) hold positives; their AUC is against all negatives.
    """
    parts: list[_Part] = []
    facts, starts = Facts.of(cases.members)
    for factor in FACTORS:
        if cases.level not in factor.levels:
            continue
        of_case, names = _values(factor, facts, starts, cases.truth)
        if not names or names == [UNKNOWN]:
            continue
        parts.append(_Part(cases, factor, of_case, names, threshold=threshold, settings=settings))
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
    matrix = sparse.hstack([part.counted(flagged) for part in parts], format="csc")
    repeats = bootstrap_sums(matrix, replicates=settings.replicates, seed=settings.seed)
    totals, at = np.asarray(matrix.sum(axis=0)).reshape(-1), 0
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


def _values(
    factor: Factor, facts: Facts, starts: NDArray[np.intp], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], list[str]]:
    """The group of each case, (n,), as a place in the names of all groups, -1 where it is in none.

    It is that of the first member of which it is known; of a lesion's property, of the first malignant one.
    """
    column = factor.of(facts)
    behind = len(column)
    known = column.where(lambda value: value not in {"", UNKNOWN})
    if factor.positives_only:
        known &= facts.positive
    first = np.minimum.reduceat(np.where(known, np.arange(behind), behind), starts[:-1])
    found = first < behind
    codes = np.where(found, column.codes[np.minimum(first, behind - 1)], -1)
    inside = truth if factor.positives_only else np.ones(len(truth), dtype=bool)
    unknown = bool((inside & ~found).any())
    present = {column.values[code] for code in np.unique(codes[inside & found]).tolist()}
    names = sorted(present | ({UNKNOWN} if unknown else set()))
    places = {name: place for place, name in enumerate(names)}
    # The last one is what a code of -1 means.
    of_code = np.array([*(places.get(value, -1) for value in column.values), places.get(UNKNOWN, -1)], dtype=np.intp)
    return np.where(inside, of_code[codes], -1), names


class _Part:
    """One factor of one level. of_case: the group of each case, as a place in ``names``, -1 for none."""

    def __init__(
        self,
        cases: Cases,
        factor: Factor,
        of_case: NDArray[np.intp],
        names: list[str],
        *,
        threshold: Threshold | None,
        settings: Settings,
    ) -> None:
        self.cases, self.factor, self.of_case, self.names = cases, factor, of_case, names
        self.threshold, self.settings = threshold, settings
        inside = of_case >= 0
        self.n = np.bincount(of_case[inside], minlength=len(names))
        self.positives = np.bincount(of_case[inside & cases.truth], minlength=len(names))
        # An AUC compares the cases of a group; lesions of a kind with all negatives.
        self.negatives = self.n - self.positives
        if factor.positives_only:
            self.negatives = np.full(len(names), int((~cases.truth).sum()))
        self.patients = int(cases.groups.max()) + 1
        self.metrics = ("sensitivity",) if factor.positives_only else ("sensitivity", "specificity")
        self.independent = self.patients == len(cases.truth)
        self._areas: dict[int, Placements] = {}

    def compared(self, number: int) -> NDArray[np.intp]:
        """The cases that the AUC of a group compares."""
        inside = self.of_case == number
        return np.flatnonzero(inside | ~self.cases.truth if self.factor.positives_only else inside)

    def area(self, number: int, compared: NDArray[np.intp]) -> Placements:
        """How the cases of a group lie to each other; found once."""
        if number not in self._areas:
            self._areas[number] = Placements.of(self.cases.truth[compared], self.cases.scores[compared])
        return self._areas[number]

    def groups(self, rates: list[list[tuple[str, float, Interval]]]) -> list[Group]:
        out = []
        for number in range(len(self.names)):
            positives, n = int(self.positives[number]), int(self.n[number])
            if positives and self.negatives[number]:
                value, interval = self._auc(number)
                out.append(self._row(number, "auc", value, interval))
            else:
                missing = "negative" if positives else "positive"
                out.append(self._row(number, "auc", refused=f"needs both classes: no {missing} case among {n}"))
            for metric, share, interval in rates[number] if rates else ():
                if np.isfinite(share):
                    out.append(self._row(number, metric, share, interval))
                else:
                    out.append(self._row(number, metric, refused="no case in its denominator"))
        return out

    def _row(
        self,
        number: int,
        metric: str,
        value: float | None = None,
        interval: Interval | None = None,
        *,
        refused: str = "",
    ) -> Group:
        return Group(
            level=self.cases.level,
            factor=self.factor.name,
            group=self.names[number],
            metric=metric,
            threshold_name=self.threshold.name if self.threshold and metric != "auc" else "",
            value=value,
            interval=interval,
            n=int(self.n[number]),
            positives=int(self.positives[number]),
            small=self._is_small(number),
            refused=refused,
        )

    def _auc(self, number: int) -> tuple[float, Interval]:
        compared = self.compared(number)
        truth, groups = self.cases.truth[compared], self.cases.groups[compared]
        of_patient = np.bincount(groups, minlength=self.patients)
        independent = int(of_patient.max()) == 1
        result = self.area(number, compared).delong(None if independent else groups)
        error = float(np.sqrt(max(float(result.covariance[0, 0]), 0.0)))
        method = "DeLong" if independent else "DeLong, clustered by patient (Obuchowski)"
        interval = normal_interval(float(result.auc[0]), error, method, self.settings.level)
        if not (np.isfinite(error) and error > 0):
            # Separated classes or a single case leave no variance, which is not certainty.
            positives, negatives = len(np.unique(groups[truth])), len(np.unique(groups[~truth]))
            interval = auc_score_interval(float(result.auc[0]), positives, negatives, self.settings.level)
        return float(result.auc[0]), interval

    def counted(self, flagged: NDArray[np.bool_]) -> sparse.csc_array:
        """For each group and metric two columns, by patient: cases that are right, and all it is about."""
        truth, width = self.cases.truth, 2 * len(self.metrics)
        patients: list[NDArray[np.intp]] = []
        columns: list[NDArray[np.intp]] = []
        for place, of_metric, right in ((0, truth, flagged), (2, ~truth, ~flagged))[: len(self.metrics)]:
            about = np.flatnonzero(of_metric & (self.of_case >= 0))
            good = about[right[about]]
            patients += [self.cases.groups[good], self.cases.groups[about]]
            columns += [self.of_case[good] * width + place, self.of_case[about] * width + place + 1]
        rows, at = np.concatenate(patients), np.concatenate(columns)
        shape = (self.patients, width * len(self.names))
        return sparse.coo_array((np.ones(len(rows)), (rows, at)), shape=shape).tocsc()

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
        return bool(min(self.positives[number], self.negatives[number]) < SMALL)

    def _auc_influence(self, number: int) -> _LogOdds | None:
        m, n = int(self.positives[number]), int(self.negatives[number])
        if m < 2 or n < 2:
            return None
        compared = self.compared(number)
        found = self.area(number, compared)
        sums = np.bincount(self.cases.groups[compared], found.influence(), self.patients)
        area = (float(found.delong().auc[0]) * m * n + 0.5) / (m * n + 1)
        # Separated classes have no spread of their own.
        least = hanley_mcneil(area, m, n) if float(sums @ sums) < 1e-12 else 0.0
        return _LogOdds.of(area, sums.astype(np.float64), least)

    def _rate_influence(self, *, positive: bool) -> Callable[[int], _LogOdds | None]:
        assert self.threshold is not None
        right = (self.cases.scores >= self.threshold.value) == self.cases.truth

        def of(number: int) -> _LogOdds | None:
            inside = np.flatnonzero((self.of_case == number) & (self.cases.truth == positive))
            n = len(inside)
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
