"""An audit in plain words: what a radiologist reads first."""

from __future__ import annotations

import math

from mammoscan.audit.measure import LevelAudit, Measure
from mammoscan.audit.story import Audit

UNITS = {
    "region": "findings",
    "image": "images",
    "breast": "breasts",
    "patient": "patients",
    "study": "studies",
}


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


def find(level: LevelAudit, metric: str, threshold: str = "") -> Measure:
    """A level's measure; thresholds by name, '' for metrics over all thresholds."""
    return next(m for m in level.measures if m.metric == metric and m.threshold_name == threshold)


def summary(audit: Audit) -> tuple[str, ...]:
    """Sentences for the first page."""
    level = audit.primary
    units = UNITS[level.cases.level]
    n, positives = len(level.cases.truth), int(level.cases.truth.sum())
    out = [f"{n:,} {units} were held against your labels: {positives:,} with cancer and {n - positives:,} without."]
    auc = find(level, "auc")
    if auc.value is not None:
        span = (
            f" (95 % interval {100 * auc.interval.lower:.0f} to {100 * auc.interval.upper:.0f})" if auc.interval else ""
        )
        out.append(
            f"Shown one of the {units} with cancer and one without, the system gave the higher score to the one with cancer "
            f"{100 * auc.value:.0f} times in 100{span}. Guessing would give 50."
        )
    else:
        out.append(f"How well the scores separate cancer from the rest cannot be said: {auc.refused}.")
    if level.thresholds:
        t = level.thresholds[0]
        tp, fp, fn, tn = level.tables[t.name]
        out.append(f"At the operating point “{t.name}” (score {t.value:.3g} and above is flagged):")
        if tp + fn:
            out.append(
                f"it found {tp:,} of {tp + fn:,} cancers and missed {fn:,}: sensitivity {percent(find(level, 'sensitivity', t.name))};"
            )
        if tn + fp:
            out.append(
                f"it flagged {fp:,} of {tn + fp:,} {units} without cancer: specificity {percent(find(level, 'specificity', t.name))};"
            )
        if tp + fp:
            out.append(
                f"of {tp + fp:,} flagged {units}, {tp:,} had cancer: precision {percent(find(level, 'precision', t.name))}."
            )
    else:
        out.append(
            "No operating point is known, so sensitivity and specificity are not given; name one with --threshold."
        )
    out.append(
        f"The share with cancer among these {units} is {100 * positives / n:.1f} %. "
        "In screening it is well under 1 %, where precision is lower: see the predictive values at a prevalence."
    )
    if audit.froc:
        one = next(m for m in audit.froc if m.metric == "froc_sensitivity_at_1")
        out.append(f"With at most one false mark per image, {percent(one)} of the located cancers were marked.")
    lost, rest = len(audit.joined.unmatched_labels), len(audit.joined.unmatched_results)
    if lost or rest:
        out.append(
            f"Not in these numbers: {lost:,} labels without a result and {rest:,} results without a label (unmatched.csv)."
        )
    for v in audit.verdicts:
        value = "no value" if v.value is None else f"{v.value:.4f}"
        out.append(f"Requirement {v.bar.text} ({v.level} level): {value}, {'met' if v.met else 'NOT met'}.")
    return tuple(out)


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
            f"Intervals are 95 %: bootstrap over patients ({s.replicates:,} replicates, seed {s.seed}), Wilson for proportions "
            "where cases are independent or the bootstrap has no width, DeLong for AUC (in metrics.csv beside the bootstrap)."
        ),
        "Sensitivity is TP/(TP+FN).",
        "A case scores as its most suspicious image, and is positive where any of its labelled images is.",
        "Research and second reading only; an audit on your own cases says nothing about other cases.",
    )
