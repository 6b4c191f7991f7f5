"""Figures of an audit as SVG or PNG. Colours are safe for colour-blind readers (Okabe and Ito 2008)."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mammoscan.audit import calibration, curves, froc
from mammoscan.audit.intervals import wilson
from mammoscan.audit.measure import LevelAudit, Measure, Threshold, is_probability
from mammoscan.audit.metrics import ClassReport
from mammoscan.audit.story import Audit
from mammoscan.audit.subgroups import FACTORS, Group

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"
MOST_POINTS = 1500
Floats = NDArray[np.float64]


def all_figures(audit: Audit) -> dict[str, Figure]:
    """Every figure that the data allow, by title."""
    level = audit.primary
    out: dict[str, Figure] = {}
    both = bool(level.cases.truth.any()) and not bool(level.cases.truth.all())
    name = level.cases.level
    if both:
        out[f"ROC curve ({name} level)"] = _figure(lambda ax: roc(ax, level))
        out[f"Precision and recall ({name} level)"] = _figure(lambda ax: precision_recall(ax, level))
    out[f"Scores ({name} level)"] = _figure(lambda ax: histogram(ax, level))
    if is_probability(level.cases.scores):
        out[f"Calibration ({name} level)"] = _figure(lambda ax: reliability(ax, level))
        if both:
            out[f"Decision curve ({name} level)"] = _figure(lambda ax: decision(ax, level))
    regions = audit.regions
    if regions is not None:
        out["Free-response ROC (lesions)"] = _figure(lambda ax: free_response(ax, regions.marks, audit.froc))
    for threshold in level.thresholds:
        out[f"Confusion matrix at {threshold.name} ({name} level)"] = _figure(
            partial(confusion, level=level, threshold=threshold), 3.7, 3.2
        )
    for where, how, report in audit.classes:
        if where == name and len(report.rows) > 2:
            out[f"Confusion matrix by {how} ({name} level)"] = _figure(
                partial(class_confusion, report=report, how=how), 3.7, 3.2
            )
    shown = [g for g in audit.groups if g.level == name]
    if shown:
        out[f"Subgroups ({name} level)"] = forest(shown, level)
    return out


def svg(figure: Figure) -> str:
    """The figure as an SVG element without XML or DOCTYPE lines; the same bytes each time."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "mammoscan"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, dpi: int = 170) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _figure(draw: Callable[[Axes], None], width: float = 4.6, height: float = 4.2) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    draw(axes)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure


def _thin(*columns: Floats) -> list[Floats]:
    """At most some 1,500 points of a curve, evenly by position, both ends kept."""
    n = len(columns[0])
    if n <= MOST_POINTS:
        return list(columns)
    keep = np.unique(np.linspace(0, n - 1, MOST_POINTS).astype(int))
    return [c[keep] for c in columns]


def _points(ax: Axes, level: LevelAudit, place: Callable[[int, int, int, int], tuple[float, float]]) -> None:
    """Mark the operating points; none where its place is undefined."""
    markers = "osD^vP*X"
    for number, threshold in enumerate(level.thresholds):
        tp, fp, fn, tn = level.tables[threshold.name]
        with np.errstate(invalid="ignore", divide="ignore"):
            x, y = place(tp, fp, fn, tn)
        if np.isfinite(x) and np.isfinite(y):
            ax.plot(
                x,
                y,
                markers[number % len(markers)],
                color=RED,
                ms=6,
                mec="white",
                label=f"{threshold.name} ({threshold.value:.3g})",
                clip_on=False,
                zorder=3,
            )


def _text(level: LevelAudit, metric: str, name: str) -> str:
    m = next(m for m in level.measures if m.metric == metric)
    if m.value is None:
        return name
    span = f" ({m.interval.lower:.3f} to {m.interval.upper:.3f})" if m.interval else ""
    return f"{name} {m.value:.3f}{span}"


def roc(ax: Axes, level: LevelAudit) -> None:
    """Sensitivity against false positive rate."""
    tp, fp = curves.Ranking.of(level.cases.truth, level.cases.scores).counts()
    x, y = _thin(*curves.roc_points(tp, fp))
    ax.plot([0, 1], [0, 1], "--", color=GREY, lw=0.8)
    ax.plot(x, y, color=BLUE, lw=1.8, label=_text(level, "auc", "AUC"))
    _points(ax, level, lambda tp, fp, fn, tn: (fp / max(fp + tn, 1), tp / max(tp + fn, 1)))
    ax.set(
        xlabel="1 - specificity (false positive rate)",
        ylabel="sensitivity, TP/(TP+FN)",
        xlim=(-0.01, 1.01),
        ylim=(0, 1.01),
    )
    ax.legend(fontsize=7.5, loc="lower right", frameon=False)


def precision_recall(ax: Axes, level: LevelAudit) -> None:
    """Precision against sensitivity, as steps, with the share of positives as the chance line."""
    tp, fp = curves.Ranking.of(level.cases.truth, level.cases.scores).counts()
    reached, share = tp[1:] / tp[-1], tp[1:] / (tp[1:] + fp[1:])
    # From no case flagged on; the first precision holds from there.
    recall, precision = _thin(np.append(0.0, reached), np.append(share[0], share))
    ax.axhline(float(level.cases.truth.mean()), ls="--", color=GREY, lw=0.8)
    ax.step(recall, precision, where="pre", color=BLUE, lw=1.8, label=_text(level, "pr_auc", "average precision"))
    _points(ax, level, lambda tp, fp, fn, _: (tp / max(tp + fn, 1), tp / (tp + fp) if tp + fp else float("nan")))
    ax.set(
        xlabel="sensitivity (recall)",
        ylabel="precision (positive predictive value)",
        xlim=(0, 1.01),
        ylim=(0, 1.02),
    )
    ax.legend(fontsize=7.5, loc="best", frameon=False)


def histogram(ax: Axes, level: LevelAudit) -> None:
    """How the scores of negatives and positives lie, as shares of their class."""
    scores, truth = level.cases.scores, level.cases.truth
    ends = (0.0, 1.0) if is_probability(scores) else (float(scores.min()), float(scores.max()) + 1e-9)
    edges = np.linspace(*ends, 26)
    for value, colour, name in ((False, BLUE, "negative"), (True, ORANGE, "positive")):
        part = scores[truth == value]
        if len(part):
            weights = np.full(len(part), 1 / len(part))
            ax.hist(
                part,
                edges.tolist(),
                weights=weights,
                color=colour,
                alpha=0.55,
                label=f"{name} (n = {len(part)})",
            )
    for number, threshold in enumerate(level.thresholds):
        ax.axvline(threshold.value, color=RED, lw=1, ls=("-", "--", ":", "-.")[number % 4], label=threshold.name)
    ax.set(xlabel="malignancy score", ylabel="share of the class")
    ax.set_ylim(top=ax.get_ylim()[1] * 1.3)  # room for the legend
    ax.legend(fontsize=7.5, ncols=2, loc="upper center", edgecolor="none", framealpha=0.9)


def reliability(ax: Axes, level: LevelAudit) -> None:
    """Observed share of positives against the score, in ten bins with Wilson intervals."""
    score, share, count = calibration.calibration_bins(level.cases.truth, level.cases.scores)
    ax.plot([0, 1], [0, 1], "--", color=GREY, lw=0.8)
    used = np.flatnonzero(count)
    spans = [wilson(round(share[i] * count[i]), count[i]) for i in used]
    low = [max(share[i] - s.lower, 0) for i, s in zip(used, spans, strict=True)]
    high = [max(s.upper - share[i], 0) for i, s in zip(used, spans, strict=True)]
    ax.errorbar(score[used], share[used], [low, high], fmt="o-", color=BLUE, ecolor=BLUE, elinewidth=0.9, ms=4, lw=1.2)
    for i in used:
        ax.annotate(
            f"{count[i]:.0f}",
            (score[i], share[i]),
            textcoords="offset points",
            xytext=(4, 4),
            fontsize=6.5,
            color=GREY,
        )
    ax.set(
        xlabel="mean score in the bin (numbers: cases)",
        ylabel="observed share of positives",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )


def decision(ax: Axes, level: LevelAudit) -> None:
    """Net benefit over threshold probabilities (Vickers and Elkin 2006)."""
    ranking = curves.Ranking.of(level.cases.truth, level.cases.scores)
    thresholds = np.linspace(0.005, 0.995, 199)
    model, everyone = curves.decision_curve(ranking, thresholds)
    ax.plot(thresholds, model, color=BLUE, lw=1.8, label="recall by score")
    ax.plot(thresholds, everyone, color=ORANGE, lw=1.1, ls="--", label="recall everyone")
    ax.axhline(0, color=GREY, lw=0.9, label="recall no one")
    top = max(float(level.cases.truth.mean()), 0.02)
    ax.set(
        xlabel="threshold probability",
        ylabel="net benefit (true positives per case)",
        xlim=(0, 1),
        ylim=(-0.3 * top, 1.1 * top),
    )
    ax.legend(fontsize=7.5, frameon=False)


def free_response(ax: Axes, marks: froc.Marks, measures: Sequence[Measure]) -> None:
    """Lesion sensitivity against false marks per image."""
    rate, sensitivity = _thin(*froc.froc_curve(marks))
    ax.step(rate, sensitivity, where="post", color=BLUE, lw=1.8)
    for m in measures:
        x = float(m.metric.rpartition("_")[2])
        if m.value is not None and m.interval and x <= rate[-1] * 1.05:
            low, high = max(m.value - m.interval.lower, 0), max(m.interval.upper - m.value, 0)
            ax.errorbar(x, m.value, [[low], [high]], fmt="o", color=RED, ms=4, elinewidth=0.9)
    ax.set(xlabel="false marks per image", ylabel="share of malignant lesions found", ylim=(0, 1.02))
    # Nobody reads on with more false marks than that.
    right = min(max(float(rate[-1]), 0.1), 2 * froc.FALSE_MARKS[-1])
    ax.set_xlim(-0.02 * right, 1.02 * right)


def confusion(ax: Axes, level: LevelAudit, threshold: Threshold) -> None:
    """Two-by-two table at a threshold, with row shares."""
    tp, fp, fn, tn = level.tables[threshold.name]
    _matrix(ax, np.array([[tn, fp], [fn, tp]]), ("negative", "positive"), ("not flagged", "flagged"))
    ax.set(xlabel=f"flagged: score {threshold.value:.3g} and above", ylabel="truth")


def class_confusion(ax: Axes, report: ClassReport, how: str) -> None:
    """Table of several classes, with row shares."""
    names = [r.name for r in report.rows]
    _matrix(ax, report.matrix, names, names)
    ax.set(xlabel=f"called, by {how}", ylabel="truth")


def _matrix(ax: Axes, counts: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str]) -> None:
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(len(rows)):
        for column in range(len(columns)):
            share = f"\n{shares[row, column]:.1%} of row" if sums[row, 0] else ""
            ax.text(
                column,
                row,
                f"{counts[row, column]:,}{share}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.55 else "black",
                fontsize=10 if len(columns) == 2 else 8,
            )
    ax.set_xticks(range(len(columns)), columns, fontsize=9)
    ax.set_yticks(range(len(rows)), rows, fontsize=9)
    ax.spines[:].set_visible(False)


def forest(groups: Sequence[Group], level: LevelAudit) -> Figure:
    """AUC, sensitivity and specificity of every subgroup with intervals; small groups hollow, refused ones in words."""
    labels = {f.name: f.label for f in FACTORS}
    metrics = [m for m in ("auc", "sensitivity", "specificity") if any(g.metric == m for g in groups)]
    found = {(g.factor, g.group, g.metric): g for g in groups}
    ticks: list[float] = []
    names: list[str] = []
    lines: list[tuple[float, str, str]] = []
    for factor in dict.fromkeys(g.factor for g in groups):
        ticks.append(float(len(ticks)))
        names.append(labels[factor].upper())
        for g in (g for g in groups if g.factor == factor and g.metric == "auc"):
            lines.append((float(len(ticks)), factor, g.group))
            ticks.append(float(len(ticks)))
            names.append(f"{g.group}  ({g.positives}/{g.n}{', small' if g.small else ''})")
    figure = Figure(figsize=(8.6, 1.2 + 0.25 * len(ticks)), layout="constrained")
    FigureCanvasAgg(figure)
    threshold = level.thresholds[0] if level.thresholds else None
    for number, metric in enumerate(metrics):
        ax = figure.add_subplot(1, len(metrics), number + 1)
        ax.spines[["top", "right"]].set_visible(False)
        where = threshold.name if threshold and metric != "auc" else ""
        overall = next(m for m in level.measures if m.metric == metric and m.threshold_name == where)
        if overall.value is not None:
            ax.axvline(overall.value, color=RED, lw=0.9, ls="--", zorder=0)
        for y, factor, group in lines:
            _line(ax, y, found.get((factor, group, metric)))
        ax.set_yticks(ticks, names if number == 0 else [], fontsize=7.5)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"], fontsize=7.5)
        ax.set(xlim=(-0.03, 1.03), ylim=(len(ticks) - 0.4, -0.8))
        ax.set_xlabel(f"{'AUC' if metric == 'auc' else metric}{f' at {where}' if where else ''}", fontsize=8)
        ax.grid(axis="x", color="#e6e6e6", lw=0.6)
        ax.set_axisbelow(True)
    figure.supxlabel(
        "(positives/cases), 95 % intervals; hollow: fewer than 10 of a class; dashed: all cases", fontsize=7.5
    )
    return figure


def _line(ax: Axes, y: float, group: Group | None) -> None:
    if group is None:
        return
    if group.value is None:
        short = "no value: one class only" if group.metric == "auc" else "no value: no such case"
        ax.text(0.02, y, short, fontsize=6.5, va="center", color=GREY, bbox={"fc": "white", "ec": "none", "pad": 0.6})
        return
    if group.interval:
        ax.plot([group.interval.lower, group.interval.upper], [y, y], color=BLUE, lw=1.2, clip_on=False)
    ax.plot(group.value, y, "s", ms=4.5, color=BLUE, mfc="white" if group.small else BLUE, clip_on=False)
