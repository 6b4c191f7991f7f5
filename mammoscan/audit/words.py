"""An audit in plain words: what a radiologist reads first."""

from __future__ import annotations

import math

from mammoscan.audit.compare import McNemar
from mammoscan.audit.measure import LevelAudit, Measure, Threshold, is_probability
from mammoscan.audit.story import Audit
from mammoscan.audit.subgroups import FACTORS, SMALL

UNITS = {
    "region": "findings",
    "image": "images",
    "breast": "breasts",
    "patient": "patients",
    "study": "studies",
}

NAMES = {"auc": "AUC"}


def number(m: Measure) -> str:
    """A measure with its interval, or why there is none."""
    if m.value is None:
        return f"not given ({m.refused})"
    digits = 1 if m.metric == "cancers_per_1000" else 3
    span = ""
    if m.interval is not None and math.isfinite(m.interval.lower):
        span = f" ({m.interval.lower:.{digits}f} to {m.interval.upper:.{digits}f})"
    return f"{m.value:.{digits}f}{span}"


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
    out += _baseline(audit, level, units)
    lost, rest = len(audit.joined.unmatched_labels), len(audit.joined.unmatched_results)
    if lost or rest:
        out.append(
            f"Not in these numbers: {lost:,} labels without a result and {rest:,} results without a label (unmatched.csv)."
        )
    for v in audit.verdicts:
        value = "no value" if v.value is None else f"{v.value:.4f}"
        out.append(f"Requirement {v.bar.text} ({v.level} level): {value}, {'met' if v.met else 'NOT met'}.")
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
            f"{found + alarms:.0f} flagged, {found:.1f} of them with cancer."
        )
    return out


def _calibration(level: LevelAudit, units: str) -> list[str]:
    truth, scores = level.cases.truth, level.cases.scores
    if not is_probability(scores):
        return []
    interval = find(level, "calibration_intercept").interval
    if interval is None or not math.isfinite(interval.lower):
        return [f"Whether the scores are right as probabilities cannot be judged on these {units}."]
    verdict = "too high" if interval.upper < 0 else "too low" if interval.lower > 0 else "in line with that on average"
    return [
        f"Read as a probability, the mean score says that {100 * float(scores.mean()):.0f} % have cancer, and "
        f"{100 * float(truth.mean()):.0f} % of these {units} do: as probabilities the scores are {verdict}."
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


def _baseline(audit: Audit, level: LevelAudit, units: str) -> list[str]:
    found = next((c for c in audit.comparisons if c.level == level.cases.level), None)
    if found is None or audit.baseline is None:
        return []
    name = audit.baseline.name
    if found.auc is None:
        return [f"Against {name} on {found.n:,} common {units}: {found.refused}."]
    a = found.auc
    return [
        f"Against {name} on {found.n:,} common {units}: AUC {a.auc:.3f}, there {a.baseline:.3f}; difference "
        f"{a.difference:+.3f} (95 % interval {a.interval.lower:+.3f} to {a.interval.upper:+.3f}). "
        f"{len(found.changed):,} changed sides."
    ]


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
