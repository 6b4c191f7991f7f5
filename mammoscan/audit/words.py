"""An audit in plain words: what a radiologist reads first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mammoscan.audit.compare import McNemar
from mammoscan.audit.images import ImageResult
from mammoscan.audit.measure import LevelAudit, Measure, Threshold, is_probability, reaches
from mammoscan.audit.story import Audit, Comparison, Verdict
from mammoscan.audit.subgroups import FACTORS, SMALL

UNITS = {
    "region": "findings",
    "image": "images",
    "breast": "breasts",
    "patient": "patients",
    "study": "studies",
}

NAMES = {"auc": "AUC"}
MOST_CHANGED = 20  # cases that changed sides that the pages list; changed.csv has all
# What a reader must not overlook stands in red; these are the words that such sentences hold.
NOT_MET, NO_USE = "NOT met", "is of no use here"


def alarming(sentence: str) -> bool:
    """Whether a sentence of ``summary`` is one that must not be overlooked."""
    return NOT_MET in sentence or NO_USE in sentence


def number(m: Measure) -> str:
    """A measure with its interval, or why there is none."""
    if m.value is None:
        return f"not given ({m.refused})"
    digits = 1 if m.metric == "cancers_per_1000" else 3
    span = ""
    if m.interval is not None and math.isfinite(m.interval.lower):
        span = f" ({m.interval.lower:.{digits}f} to {m.interval.upper:.{digits}f})"
    return f"{m.value:.{digits}f}{span}"


def three(value: float) -> str:
    """A number with three digits, or that it is undefined."""
    return f"{value:.3f}" if math.isfinite(value) else "undefined"


def percent(m: Measure) -> str:
    """A proportion in per cent with its interval."""
    if m.value is None:
        return f"not given ({m.refused})"
    span = ""
    if m.interval is not None and math.isfinite(m.interval.lower):
        span = f" (95 % interval {100 * m.interval.lower:.1f} to {100 * m.interval.upper:.1f} %)"
    return f"{100 * m.value:.1f} %{span}"


def cases_of(m: Measure) -> str:
    """The cases that a measure rests on."""
    if m.count is not None:
        return f"{m.count[0]:,} of {m.count[1]:,}"
    return f"{m.n:,} ({m.positives:,} positive)"


def find(level: LevelAudit, metric: str, threshold: str = "") -> Measure:
    """A level's measure; thresholds by name, '' for metrics over all thresholds."""
    return next(m for m in level.measures if m.metric == metric and m.threshold_name == threshold)


def summary(audit: Audit) -> tuple[str, ...]:
    """Sentences for the first page."""
    level = audit.primary
    units = UNITS[level.cases.level]
    n, positives = len(level.cases.truth), int(level.cases.truth.sum())
    out = [f"{n:,} {units} were held against your labels: {positives:,} with cancer and {n - positives:,} without."]
    if min(positives, n - positives) < SMALL:
        out.append(
            f"That is few: with under {SMALL} {units} of one kind every figure below is uncertain, as its interval shows."
        )
    out += _ranking(level, units)
    if level.thresholds:
        out += _operating_point(level, level.thresholds[0], units, audit.config.settings.prevalence)
        out += _other_points(level)
    else:
        out.append(
            "No operating point is known, so sensitivity and specificity are not given; name one with --threshold."
        )
    out += _calibration(level, units)
    if audit.froc:
        one = next(m for m in audit.froc if m.metric == "froc_sensitivity_at_1")
        hits = f"{one.count[0]:,} of {one.count[1]:,}" if one.count else "none"
        out.append(f"With at most one false mark per image, {hits} located cancers were marked: {percent(one)}.")
    out += _groups(audit)
    out += _baseline(audit, units)
    lost, rest = len(audit.joined.unmatched_labels), len(audit.joined.unmatched_results)
    if lost or rest:
        out.append(
            f"Not in these numbers: {lost:,} labels without a result and {rest:,} results without a label (unmatched.csv)."
        )
    out += [f"{note[0].upper()}{note[1:]}." for note in audit.joined.notes]
    for v in audit.verdicts:
        value = "no value" if v.value is None else f"{v.value:.4f}"
        out.append(f"Requirement {v.bar.text} ({v.level} level): {value}, {'met' if v.met else NOT_MET}.")
    return tuple(out)


def missed(v: Verdict) -> str:
    """A ``--fail-under`` that is not met: by how much, and how certain the value is."""
    said = f"--fail-under {v.bar.text} is {NOT_MET} ({v.level} level): "
    if v.value is None:
        return f"{said}no value, {v.refused or 'the interval has no such limit'}"
    side = "below" if v.value < v.bar.least else "above"
    span = ""
    if v.interval is not None and math.isfinite(v.interval.lower):
        span = f" (95 % interval {v.interval.lower:.4f} to {v.interval.upper:.4f})"
    return f"{said}{v.value:.4f} is {abs(v.value - v.bar.least):.2g} {side} {v.bar.least:g}{span}"


def complaints(audit: Audit) -> tuple[str, ...]:
    """What is wrong, one line each, for a run that otherwise says nothing: bars not met, cases without a partner."""
    out = [missed(v) for v in audit.verdicts if not v.met]
    lost, rest = len(audit.joined.unmatched_labels), len(audit.joined.unmatched_results)
    if lost or rest:
        out.append(
            f"{lost:,} labels without a result, {rest:,} results without a label: see {audit.config.out / 'unmatched.csv'}"
        )
    return tuple(out)


def _ranking(level: LevelAudit, units: str) -> list[str]:
    auc = find(level, "auc")
    if auc.value is None:
        return [f"How well the scores separate cancer from the rest cannot be said: {auc.refused}."]
    span = f" (95 % interval {100 * auc.interval.lower:.0f} to {100 * auc.interval.upper:.0f})" if auc.interval else ""
    out = [
        f"Shown one of the {units} with cancer and one without, the system gave the higher score to the one with cancer "
        f"{100 * auc.value:.0f} times in 100{span}. Guessing would give 50."
    ]
    if auc.interval and auc.interval.lower <= 0.5 <= auc.interval.upper:
        out.append("Guessing lies within that interval: these cases do not show that the scores are of any use.")
    return out


def _operating_point(level: LevelAudit, t: Threshold, units: str, prevalence: float | None) -> list[str]:
    tp, fp, fn, tn = level.tables[t.name]
    out = [f"The operating point is “{t.name}”: {units} with a score of {t.value:.3g} and above are flagged."]
    sensitivity, specificity = find(level, "sensitivity", t.name), find(level, "specificity", t.name)
    if tp + fn:
        out.append(f"It found {tp:,} of {tp + fn:,} cancers and missed {fn:,}: sensitivity {percent(sensitivity)}.")
    if tn + fp:
        out.append(f"It flagged {fp:,} of {tn + fp:,} {units} without cancer: specificity {percent(specificity)}.")
    if doubt := uselessness(level, t):
        out.append(doubt[0].upper() + doubt[1:])
        out += _instead(level, units) if NO_USE in doubt else []
    if tp + fp:
        out.append(
            f"Of {tp + fp:,} flagged {units}, {tp:,} had cancer: precision {percent(find(level, 'precision', t.name))}. "
            f"Here {100 * (tp + fn) / len(level.cases.truth):.1f} % have cancer; precision is lower where fewer do."
        )
    if sensitivity.value is not None and specificity.value is not None and prevalence is not None:
        found = 1000 * prevalence * sensitivity.value
        alarms = 1000 * (1 - prevalence) * (1 - specificity.value)
        out.append(
            f"If 1,000 {units} were read of which {1000 * prevalence:.3g} have cancer, these figures would mean "
            f"{found + alarms:,.0f} flagged, {found:.1f} of them with cancer."
        )
    return out


def uselessness(level: LevelAudit, t: Threshold) -> str:
    """Why an operating point does not help on these cases, as a sentence; '' where it does."""
    tp, fp, fn, tn = level.tables[t.name]
    units, total = UNITS[level.cases.level], tp + fp + fn + tn
    if not fn + tn:
        return f"it flags every one of the {total:,} {units}, so that a flag says nothing; such an operating point {NO_USE}."
    if not tp + fp:
        return f"it flags none of the {total:,} {units}; such an operating point {NO_USE}."
    if not (tp + fn and fp + tn):
        return ""
    if not tn:
        return f"it flags every one of the {fp:,} {units} without cancer; such an operating point {NO_USE}."
    if tp * (fp + tn) <= fp * (tp + fn):
        return f"it flags {units} without cancer at least as often as those with cancer, which shows no use of it."
    interval = find(level, "balanced_accuracy", t.name).interval
    if interval is not None and interval.lower <= 0.5:
        return f"these cases do not show that it tells {units} with cancer from those without better than drawing lots."
    return ""


def _other_points(level: LevelAudit) -> list[str]:
    """Which operating points after the first do not help, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for t in level.thresholds[1:]:
        if found := uselessness(level, t):
            reasons.setdefault(found, []).append(f"“{t.name}” (scores of {t.value:.3g} and above)")
    return [
        f"At {', '.join(names[:-1])}{' and ' if names[1:] else ''}{names[-1]} {found}"
        for found, names in reasons.items()
    ]


def _instead(level: LevelAudit, units: str) -> list[str]:
    """What another threshold would do, where the operating point does not help but the scores might."""
    (found,) = reaches(level.cases, (0.9,)) or (None,)
    if found is None or not found.specificity > 0 or found.sensitivity + found.specificity <= 1:
        return []
    positives = int(level.cases.truth.sum())
    hits = round(found.sensitivity * positives)
    return [
        f"On these cases a threshold of {found.threshold:.3g} would have flagged {hits:,} of {positives:,} {units} with cancer "
        f"and {found.flagged - hits:,} of {len(level.cases.truth) - positives:,} without (read off these cases, so too good for others)."
    ]


def _calibration(level: LevelAudit, units: str) -> list[str]:
    truth, scores = level.cases.truth, level.cases.scores
    if not is_probability(scores):
        return []
    interval = find(level, "calibration_intercept").interval
    if interval is None or not math.isfinite(interval.lower):
        return [f"Whether the scores are right as probabilities cannot be judged on these {units}."]
    verdict = "too high" if interval.upper < 0 else "too low" if interval.lower > 0 else ""
    end = f"as probabilities the scores are {verdict}" if verdict else "no further apart than chance explains"
    return [
        f"Read as a probability, the mean score says that {100 * float(scores.mean()):.0f} % have cancer, and "
        f"{100 * float(truth.mean()):.0f} % of these {units} do: {end}."
    ]


def _groups(audit: Audit) -> list[str]:
    level = audit.primary.cases.level
    made = [d for d in audit.differences if d.level == level and math.isfinite(d.p)]
    tests = [d for d in made if not d.small]
    if not tests:
        return ["The groups are too small to say whether they differ."] if made else []
    labels = {f.name: f.label for f in FACTORS}
    shown = [f"{NAMES.get(d.metric, d.metric)} by {labels[d.factor]} (p = {d.p:.2g})" for d in tests if d.p < 0.05]
    number_of = f"{len(tests)} comparison" + "s" * (len(tests) != 1)
    chance = f"of {number_of} about {len(tests) / 20:.2g} would look different by chance alone"
    if shown:
        return [f"Groups differ: {', '.join(shown)}; {chance}."]
    return [f"No difference between groups is shown ({chance}); small groups can hide one."]


def _baseline(audit: Audit, units: str) -> list[str]:
    found = shown_comparison(audit)
    if found is None or audit.baseline is None:
        return []
    name = audit.baseline.name
    if found.auc is None:
        return [f"Against {name} on {found.n:,} common {units}: {found.refused}."]
    a = found.auc
    return [
        f"Against {name} on {found.n:,} common {units}: AUC {a.auc:.3f}, there {a.baseline:.3f}; difference "
        f"{a.difference:+.3f} (95 % interval {a.interval.lower:+.3f} to {a.interval.upper:+.3f}). "
        f"{_sides(changed(audit, found))}."
    ]


def changed_line(c: Changed) -> str:
    """A case that changed sides, in one line."""
    whose = c.image.patient_id
    name = c.case if not whose or whose in c.case else f"{whose}, {c.case}"
    truth = "with cancer" if c.positive else "without cancer"
    return f"{name}, {truth}: score {c.score:.3f}, baseline {c.baseline:.3f}; {c.state}."


def shown_comparison(audit: Audit) -> Comparison | None:
    """The comparison of the level shown first."""
    return next((c for c in audit.comparisons if c.level == audit.primary.cases.level), None)


def _sides(cases: Sequence[Changed]) -> str:
    if not cases:
        return "None changed sides"
    right = sum(c.right for c in cases)
    return f"{len(cases):,} changed sides: {right:,} are right now and were wrong there, {len(cases) - right:,} the reverse"


@dataclass(frozen=True, slots=True)
class Changed:
    """A case that one of two results flags and the other does not. right: whether it now is."""

    case: str
    positive: bool
    score: float
    baseline: float
    flagged: bool
    right: bool
    image: ImageResult  # its most suspicious one
    images: tuple[str, ...]

    @property
    def state(self) -> str:
        """What it is now, in words."""
        return f"{'flagged' if self.flagged else 'not flagged'}, now {'right' if self.right else 'wrong'}"


def changed(audit: Audit, comparison: Comparison) -> tuple[Changed, ...]:
    """The cases that changed sides, those first that are wrong now."""
    cases = next(a.cases for a in audit.levels if a.cases.level == comparison.level)
    places = {name: i for i, name in enumerate(cases.ids)}
    out = []
    for name, truth, new, old in comparison.changed:
        members = cases.members[places[name]]
        flagged = comparison.threshold is not None and new >= comparison.threshold.value
        images = tuple(m.image.path or m.image.id for m in members)
        out.append(Changed(name, truth, new, old, flagged, flagged == truth, members[0].image, images))
    return tuple(sorted(out, key=lambda c: c.right))


def both_thresholds(audit: Audit) -> str:
    """At what scores two results flag."""
    c = audit.comparisons[0]
    if c.threshold is None or c.baseline_threshold is None:
        return "No operating point is known, so decisions are not compared."
    return f"Flagged at {c.threshold.name}: {c.threshold.value:.4g} and above here, {c.baseline_threshold.value:.4g} in the baseline."


def mcnemar(test: McNemar) -> str:
    """McNemar's test in a table cell."""
    how = "exact" if test.exact else f"chi-squared {test.statistic:.2f}"
    kept = ", clustered by patient" if test.clustered else ""
    return (
        f"right only here {test.only_new_right:,}, only in the baseline {test.only_baseline_right:,}; "
        f"p = {test.p:.3g} ({how}{kept})"
    )


def caveats(audit: Audit) -> tuple[str, ...]:
    """What to keep in mind."""
    notes = [
        note for level in audit.levels for note in (f"{level.cases.level} level: {text}" for text in level.cases.notes)
    ]
    if audit.region_note:
        notes.append(f"region level: {audit.region_note}")
    s = audit.config.settings
    return (
        *dict.fromkeys(notes),
        (
            f"Intervals are 95 %: bootstrap over patients ({s.replicates:,} replicates, seed {s.seed}); Wilson for proportions "
            "where cases are independent. Where all replicates agree, which is not certainty, a stated formula gives the "
            "interval instead. DeLong's interval for AUC stands in metrics.csv beside the bootstrap's."
        ),
        "Sensitivity (recall) is TP/(TP+FN), specificity TN/(TN+FP), precision TP/(TP+FP).",
        "A case scores as its most suspicious image, and is positive where any of its labelled images is.",
        "The p values are not corrected for the number of tests.",
        "For research and second reading only; an audit on your own cases says nothing about other cases.",
    )
