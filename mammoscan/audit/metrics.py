"""Metrics of a two-by-two table, and per-class reports. Pure functions on counts.

Sensitivity (recall) is TP / (TP + FN). One of the two papers this work follows prints
TP / (TP + TN), which is not a sensitivity; it is not used here.

All functions take counts as scalars or arrays of one shape (bootstrap replicates) and give nan
where a denominator is zero: an undefined metric is never replaced by 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric is: its label, its unit, and which classes it needs.

    proportion: whether it is a simple proportion of cases, so that Wilson's interval applies.
    needs_threshold: whether it is read at one threshold (else over all of them).
    """

    label: str
    unit: str
    needs: str  # '' any case, 'P' positives, 'N' negatives, 'PN' both
    proportion: bool = False
    needs_threshold: bool = True
    higher_is_better: bool = True


METRICS: dict[str, Metric] = {
    "auc": Metric("area under the ROC curve", "0 to 1", "PN", needs_threshold=False),
    "partial_auc": Metric(
        "partial area under the ROC curve at specificity above 0.9 (McClish)",
        "0 to 1, chance 0.5",
        "PN",
        needs_threshold=False,
    ),
    "pr_auc": Metric("area under the precision-recall curve (average precision)", "0 to 1", "P", needs_threshold=False),
    "brier": Metric("Brier score", "0 to 1", "", needs_threshold=False, higher_is_better=False),
    "calibration_slope": Metric("calibration slope", "log odds per log odds, ideal 1", "PN", needs_threshold=False),
    "calibration_intercept": Metric(
        "calibration intercept (slope held at 1)", "log odds, ideal 0", "PN", needs_threshold=False
    ),
    "calibration_error": Metric(
        "expected calibration error, 10 bins",
        "probability, 0 to 1",
        "",
        needs_threshold=False,
        higher_is_better=False,
    ),
    "sensitivity": Metric("sensitivity (recall), TP/(TP+FN)", "proportion of positives", "P", proportion=True),
    "specificity": Metric("specificity, TN/(TN+FP)", "proportion of negatives", "N", proportion=True),
    "precision": Metric(
        "precision (positive predictive value), TP/(TP+FP)", "proportion of flagged", "", proportion=True
    ),
    "npv": Metric("negative predictive value, TN/(TN+FN)", "proportion of unflagged", "", proportion=True),
    "accuracy": Metric("accuracy, (TP+TN)/all", "proportion of cases", "", proportion=True),
    "error_rate": Metric("error rate, (FP+FN)/all", "proportion of cases", "", proportion=True, higher_is_better=False),
    "f1": Metric("F1 score", "0 to 1", "P"),
    "balanced_accuracy": Metric("balanced accuracy", "0 to 1", "PN"),
    "mcc": Metric("Matthews correlation coefficient", "-1 to 1", "PN"),
    "recall_rate": Metric(
        "recall rate (share flagged)", "proportion of cases", "", proportion=True, higher_is_better=False
    ),
    "cancers_per_1000": Metric("cancers found per 1,000", "per 1,000 cases of these", "P"),
    "ppv_at_prevalence": Metric("positive predictive value at the given prevalence", "proportion of flagged", "PN"),
    "npv_at_prevalence": Metric("negative predictive value at the given prevalence", "proportion of unflagged", "PN"),
    "net_benefit": Metric("net benefit, the threshold read as a probability", "true positives per case", "PN"),
}
ALIASES = {
    "recall": "sensitivity",
    "ppv": "precision",
    "roc_auc": "auc",
    "average_precision": "pr_auc",
    "ece": "calibration_error",
}


def ratio(numerator: Any, denominator: Any) -> Any:
    """Divide; nan where the denominator is zero."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    out = np.divide(top, bottom, out=np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan), where=bottom != 0)
    return out if out.ndim else float(out)


def proportions(tp: Any, fp: Any, fn: Any, tn: Any) -> dict[str, tuple[Any, Any]]:
    """(numerator, denominator) of every metric that is a proportion of cases."""
    total = tp + fp + fn + tn
    return {
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "precision": (tp, tp + fp),
        "npv": (tn, tn + fn),
        "accuracy": (tp + tn, total),
        "error_rate": (fp + fn, total),
        "recall_rate": (tp + fp, total),
    }


def table_metrics(tp: Any, fp: Any, fn: Any, tn: Any, *, threshold: float | None = None) -> dict[str, Any]:
    """Every metric of a two-by-two table.

    F1 is 2TP/(2TP+FP+FN); Matthews correlation after Matthews (1975), nan where a margin is empty
    (scikit-learn prints 0 there). ``threshold``, where it is a probability below 1, adds the net
    benefit TP/n - FP/n * t/(1-t) (Vickers and Elkin 2006).
    """
    tp, fp, fn, tn = (np.asarray(x, dtype=np.float64) for x in (tp, fp, fn, tn))
    total = tp + fp + fn + tn
    out = {name: ratio(a, b) for name, (a, b) in proportions(tp, fp, fn, tn).items()}
    out["f1"] = ratio(2 * tp, 2 * tp + fp + fn)
    out["balanced_accuracy"] = (out["sensitivity"] + out["specificity"]) / 2
    out["mcc"] = ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn)))
    out["cancers_per_1000"] = 1000 * ratio(tp, total)
    if threshold is not None and 0 <= threshold < 1:
        out["net_benefit"] = net_benefit(tp, fp, total, threshold)
    return out


def net_benefit(tp: Any, fp: Any, total: Any, threshold: Any) -> Any:
    """Net benefit in true positives per case (Vickers and Elkin, Med Decis Making 2006;26:565)."""
    return ratio(tp, total) - ratio(fp, total) * threshold / (1 - threshold)


def predictive_values(sensitivity: Any, specificity: Any, prevalence: float) -> tuple[Any, Any]:
    """(PPV, NPV) at a prevalence (0 to 1) by Bayes' theorem."""
    true_positive, false_positive = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    true_negative, false_negative = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return (
        ratio(true_positive, true_positive + false_positive),
        ratio(true_negative, true_negative + false_negative),
    )


# --------------------------------------------------------------------------- several classes


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One line of a per-class report; support is a number of cases."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class ClassReport:
    """Per-class metrics, their plain mean (macro) and their mean weighted by support.

    matrix: int64 (true class, predicted class), in the order of ``rows``.
    """

    rows: tuple[ClassRow, ...]
    accuracy: float
    macro: ClassRow
    weighted: ClassRow
    matrix: NDArray[np.int64]


def class_report(matrix: NDArray[np.int64], names: Sequence[str]) -> ClassReport:
    """Report from a confusion matrix of counts, rows true and columns predicted.

    An undefined metric is nan, and so is a mean that holds one.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    if counts.shape != (len(names), len(names)):
        raise ValueError(
            f"a confusion matrix of {len(names)} classes has shape {(len(names),) * 2}, not {counts.shape}"
        )
    right, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    columns = (ratio(right, predicted), ratio(right, support), ratio(2 * right, support + predicted))
    total = int(support.sum())
    rows = tuple(_class_row(name, [float(c[i]) for c in columns], int(support[i])) for i, name in enumerate(names))
    macro = _class_row("macro average", [float(c.mean()) for c in columns], total)
    weighted = _class_row(
        "weighted average", [float(ratio((c * support)[support > 0].sum(), total)) for c in columns], total
    )
    return ClassReport(rows, float(ratio(right.sum(), total)), macro, weighted, counts)


def _class_row(name: str, values: Sequence[float], support: int) -> ClassRow:
    precision, recall, f1 = values
    return ClassRow(name, precision, recall, f1, support)


def confusion_matrix(true: NDArray[np.intp], predicted: NDArray[np.intp], classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes), rows true and columns predicted, from class numbers 0..classes-1."""
    flat = np.bincount(np.asarray(true) * classes + np.asarray(predicted), minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)
