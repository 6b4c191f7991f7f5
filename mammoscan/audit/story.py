"""The story of an audit: read, join, measure, compare, judge. Writing is in ``report``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np

from mammoscan.audit.compare import McNemar, PairedAuc, changed_sides, mcnemar, paired_delong
from mammoscan.audit.froc import FALSE_MARKS
from mammoscan.audit.images import CLASSES
from mammoscan.audit.intervals import Interval
from mammoscan.audit.labels import COLUMNS, Labels, read_labels
from mammoscan.audit.match import Cases, Joined, Regions, build, build_regions, join, levels_for
from mammoscan.audit.measure import LevelAudit, Measure, Settings, Threshold, measure_froc, measure_level
from mammoscan.audit.metrics import ALIASES, METRICS, ClassReport, class_report, confusion_matrix
from mammoscan.audit.results import IMAGE_COLUMNS, Results, read_results
from mammoscan.audit.subgroups import Difference, Group, subgroups
from mammoscan.core.errors import LabelError, UsageError


class AuditExit(int, Enum):
    """Exit statuses of ``mammoscan audit``."""

    FINE = 0
    UNMATCHED = 1  # some labels or results found no partner
    USAGE = 2
    BELOW_BAR = 5  # a --fail-under is not met; goes before UNMATCHED


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """What to audit, against what, and how."""

    results: Path
    labels: Path
    out: Path
    columns: tuple[tuple[str, str], ...] = ()  # name, heading
    levels: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    settings: Settings = field(default_factory=Settings)
    baseline: Path | None = None
    fail_under: tuple[str, ...] = ()
    archive: Path | None = None  # for pictures of the cases


@dataclass(frozen=True, slots=True)
class Bar:
    """A ``--fail-under``: ``[level.]metric[@threshold name][.lower]=value``."""

    text: str
    level: str
    metric: str
    threshold: str
    lower: bool
    least: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a bar is met, by the value found (None: refused or missing, which fails).

    interval: of the metric. refused: why the metric has no value.
    """

    bar: Bar
    level: str
    value: float | None
    met: bool
    interval: Interval | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One level of two results on their common cases."""

    level: str
    n: int
    positives: int
    only_new: int
    only_baseline: int
    auc: PairedAuc | None
    refused: str
    threshold: Threshold | None
    baseline_threshold: Threshold | None  # the baseline's own of that name, else the same score
    mcnemar: McNemar | None
    changed: tuple[tuple[str, bool, float, float], ...]  # id, truth, new score, baseline score


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything found, ready to be written."""

    config: AuditConfig
    joined: Joined
    levels: tuple[LevelAudit, ...]
    regions: Regions | None
    region_note: str
    froc: tuple[Measure, ...]
    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]
    classes: tuple[tuple[str, str, ClassReport], ...]  # level, how classes were decided, report
    comparisons: tuple[Comparison, ...]
    baseline: Results | None
    verdicts: tuple[Verdict, ...]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """All measures of all levels."""
        return tuple(m for level in self.levels for m in level.measures) + self.froc

    @property
    def primary(self) -> LevelAudit:
        """The level to show first: the coarsest above the region that the labels speak about."""
        order = ("patient", "study", "breast", "image", "region")
        return min(self.levels, key=lambda a: order.index(a.cases.level) if len(a.cases.truth) else 9)

    @property
    def exit(self) -> AuditExit:
        """The one place that decides the exit status."""
        if not all(v.met for v in self.verdicts):
            return AuditExit.BELOW_BAR
        if self.joined.unmatched_labels or self.joined.unmatched_results:
            return AuditExit.UNMATCHED
        return AuditExit.FINE


def named(threshold: float) -> str:
    """Name of a threshold that has no other; two that differ have two names."""
    return f"threshold {threshold:.15g}"


def check(config: AuditConfig) -> Labels:
    """Find what is wrong with options and labels before anything takes long; raises as ``audit``. Returns the labels."""
    for text in config.fail_under:
        parse_bar(text)
    labels = read_labels(config.labels, _split_columns(config.columns)[0])
    levels_for(labels.key, config.levels)
    return labels


def audit(config: AuditConfig, labels: Labels | None = None) -> Audit:
    """Audit results against labels, which are read where ``check`` has not done so.

    Raises
    ------
    LabelError
        For labels or results that cannot be used, with their rows, or that never meet.
    UsageError
        For options that do not fit the labels.
    """
    bars = tuple(parse_bar(text) for text in config.fail_under)
    for_labels, for_results, for_baseline = _split_columns(config.columns)
    labels = labels or read_labels(config.labels, for_labels)
    results = read_results(config.results, for_results)
    levels = levels_for(labels.key, config.levels)
    joined = join(labels, results)
    if not joined.pairs:
        raise LabelError(
            f"none of {len(labels.labels)} labels meets one of {len(results.images)} results by {labels.key.value}",
            path=config.labels,
            remedy="check the identifiers, or choose columns with --column",
        )
    regions, region_note = _regions(joined, levels, wanted="region" in config.levels)
    cases = [regions.cases] if regions is not None and len(regions.cases.truth) else []
    built = [build(joined, level) for level in levels if level != "region"]
    cases += [c for c in built if len(c.truth)]
    audits = tuple(measure_level(c, _points(results, config, c.level), config.settings) for c in cases)
    froc: tuple[Measure, ...] = ()
    if regions is not None:
        froc = measure_froc(regions, config.settings, len(np.unique(regions.marks.image_groups)))
    parts = [subgroups(c, next(iter(_points(results, config, c.level)), None), config.settings) for c in cases]
    baseline = read_results(config.baseline, for_baseline) if config.baseline else None
    comparisons: tuple[Comparison, ...] = ()
    if baseline is not None:
        other = join(labels, baseline)
        comparisons = tuple(
            _compare(c, build(other, c.level), _points(results, config, c.level), baseline.points(c.level))
            for c in cases
            if c.level != "region"
        )
        if not any(c.n for c in comparisons):
            raise LabelError(
                f"no case of the results has a partner in the baseline by {labels.key.value}",
                path=baseline.source,
                remedy="give results of the same cases, or choose columns with --column baseline.NAME=HEADING",
            )
    found = Audit(
        config=config,
        joined=joined,
        levels=audits,
        regions=regions,
        region_note=region_note,
        froc=froc,
        groups=tuple(g for groups, _ in parts for g in groups),
        differences=tuple(d for _, tests in parts for d in tests),
        classes=tuple(report for c in cases for report in class_reports(c, _points(results, config, c.level))),
        comparisons=comparisons,
        baseline=baseline,
        verdicts=(),
    )
    return dataclasses.replace(found, verdicts=tuple(judge(bar, found) for bar in bars))


def _split_columns(
    columns: tuple[tuple[str, str], ...],
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Chosen headings of labels, results and baseline.

    ``results.NAME`` and ``baseline.NAME`` say whose; a bare name is of the labels, or of the results
    where labels have no such column (``score``). What is not said of a baseline is as in the results.
    """
    found: dict[str, dict[str, str]] = {"labels": {}, "results": {}, "baseline": {}}
    for name, heading in columns:
        whose, dot, bare = name.partition(".")
        if not dot:
            whose, bare = ("labels" if name in COLUMNS else "results"), name
        if whose not in found or bare not in (COLUMNS if whose == "labels" else IMAGE_COLUMNS):
            raise UsageError(
                f"unknown column name {name!r}",
                remedy=f"labels: {', '.join(COLUMNS)}; results.NAME or baseline.NAME: {', '.join(IMAGE_COLUMNS)}",
            )
        found[whose][bare] = heading
    return found["labels"], found["results"], found["results"] | found["baseline"]


def _regions(joined: Joined, levels: tuple[str, ...], *, wanted: bool) -> tuple[Regions | None, str]:
    if "region" not in levels:
        return None, "not asked for, or the labels are not about images"
    regions = build_regions(joined)
    if regions is None:
        why = (
            "the labels locate no malignant lesion in a matched image"
            if joined.results.has_marks
            else "the results hold no findings with positions"
        )
        if wanted:
            raise UsageError(f"no region level: {why}")
        return None, why
    if regions.left_out:
        return regions, f"{regions.left_out} images left out: their cancer has no location of its own"
    return regions, ""


def _points(results: Results, config: AuditConfig, level: str) -> tuple[Threshold, ...]:
    """The thresholds of a level: the run's own, the model's, those asked for."""
    points = results.points(level)
    for value in config.thresholds:
        points.setdefault(named(value), value)  # a run with --threshold names its own in the same way
    return tuple(Threshold(name, value) for name, value in points.items())


def class_reports(cases: Cases, thresholds: tuple[Threshold, ...]) -> list[tuple[str, str, ClassReport]]:
    """Per-class reports: three classes where both sides know them, and two at each threshold."""
    out = []
    if cases.true_class is not None and cases.predicted_class is not None:
        matrix = confusion_matrix(cases.true_class, cases.predicted_class, len(CLASSES))
        used = [i for i in range(len(CLASSES)) if matrix[i].sum() or matrix[:, i].sum()]
        names = [CLASSES[i] for i in used]
        out.append((cases.level, "most probable class", class_report(matrix[np.ix_(used, used)], names)))
    for threshold in thresholds:
        flagged = (cases.scores >= threshold.value).astype(np.intp)
        matrix = confusion_matrix(cases.truth.astype(np.intp), flagged, 2)
        out.append((cases.level, threshold.name, class_report(matrix, ["negative", "positive"])))
    return out


def _compare(new: Cases, baseline: Cases, thresholds: tuple[Threshold, ...], own: Mapping[str, float]) -> Comparison:
    """Compare on the common cases; ``own`` are the baseline's operating points by name."""
    places = {name: i for i, name in enumerate(baseline.ids)}
    common = [(i, places[name]) for i, name in enumerate(new.ids) if name in places]
    a, b = (np.array([pair[k] for pair in common], dtype=np.intp) for k in (0, 1))
    truth, scores, others = new.truth[a], new.scores[a], baseline.scores[b]
    auc, refused = None, ""
    _, dense = np.unique(new.groups[a], return_inverse=True)
    groups = None if len(set(dense.tolist())) == len(dense) else dense
    if truth.sum() < 2 or (~truth).sum() < 2:
        refused = "needs at least two positive and two negative common cases"
    else:
        auc = paired_delong(truth, scores, others, groups)
    threshold = thresholds[0] if thresholds else None
    theirs: Threshold | None = None
    test: McNemar | None = None
    changed: tuple[tuple[str, bool, float, float], ...] = ()
    if threshold is not None:
        theirs = Threshold(threshold.name, own.get(threshold.name, threshold.value))
        flags, other_flags = scores >= threshold.value, others >= theirs.value
        test = mcnemar(flags == truth, other_flags == truth, groups)
        changed = tuple(
            (new.ids[a[i]], bool(truth[i]), float(scores[i]), float(others[i]))
            for i in changed_sides(flags, other_flags)
        )
    return Comparison(
        new.level, len(common), int(truth.sum()), len(new.ids) - len(common), len(baseline.ids) - len(common),
        auc, refused, threshold, theirs, test, changed,
    )  # fmt: skip


# --------------------------------------------------------------------------- bars


def parse_bar(text: str) -> Bar:
    """Read ``auc=0.85``, ``breast.auc.lower=0.8``, ``sensitivity@sensitivity-0.90=0.85``.

    Raises
    ------
    UsageError
        Where the text is no such thing.
    """
    left, sign, right = text.rpartition("=")
    name, _, threshold = left.partition("@")
    lower = name.endswith(".lower") or threshold.endswith(".lower")
    name, threshold = name.removesuffix(".lower"), threshold.removesuffix(".lower")
    level, dot, metric = name.partition(".")
    if not dot or level not in {"region", "image", "breast", "patient", "study"}:
        level, metric = "", name
    metric = ALIASES.get(metric, metric)
    known = (*METRICS, *(f"froc_sensitivity_at_{rate:g}" for rate in FALSE_MARKS))
    try:
        least = float(right)
    except ValueError:
        least = float("nan")
    if not sign or metric not in known or not np.isfinite(least):
        raise UsageError(
            f"--fail-under {text!r} is not understood",
            remedy=f"write [LEVEL.]METRIC[@THRESHOLD][.lower]=VALUE with one of {', '.join(known)}",
        )
    return Bar(text, level, metric, threshold, lower, least)


def judge(bar: Bar, found: Audit) -> Verdict:
    """Hold a bar to the measures. Metrics where less is better must not exceed it.

    Raises
    ------
    UsageError
        Where the audit has no such level or threshold: nothing was measured that could pass or fail.
    """
    level = bar.level or ("region" if bar.metric.startswith("froc_") else found.primary.cases.level)
    candidates = [m for m in found.measures if m.level == level and m.metric == bar.metric]
    if bar.threshold:
        candidates = [m for m in candidates if m.threshold_name == bar.threshold]
    if not candidates:
        points = sorted({m.threshold_name for m in found.measures if m.threshold_name})
        raise UsageError(
            f"--fail-under {bar.text!r}: not measured at {level} level"
            + f" and {bar.threshold!r}" * bool(bar.threshold),
            remedy=f"levels here: {', '.join(dict.fromkeys(m.level for m in found.measures))}; "
            f"thresholds here: {', '.join(points) or 'none, give one with --threshold'}",
        )
    measure = candidates[0]
    better_high = bar.metric not in METRICS or METRICS[bar.metric].higher_is_better
    value = measure.value
    if bar.lower and value is not None:
        interval = measure.interval
        edge = None if interval is None else interval.lower if better_high else interval.upper
        value = edge if edge is not None and np.isfinite(edge) else None
    met = value is not None and bool(value >= bar.least if better_high else value <= bar.least)
    return Verdict(bar, level, None if value is None else float(value), met, measure.interval, measure.refused)


def as_mapping(settings: Settings) -> Mapping[str, object]:
    """Settings for the written record."""
    return dataclasses.asdict(settings)
