"""Figures of a training as PNG, and all of them in one PDF."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from mammoscan.audit import calibration, curves, froc, intervals
from mammoscan.audit.metrics import confusion_matrix
from mammoscan.model.terms import CLASSES, KINDS, MALIGNANT, logistic
from mammoscan.training import crossval, evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from mammoscan.training.evaluate import Task
    from mammoscan.training.examples import Examples
    from mammoscan.training.train import Outcome

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#767676"  # Okabe and Ito 2008
SHOWN = 24  # crops in a grid
BAND = 500  # replicates of a curve's band
NOTE = "Out of fold, by patient. Research and second reading only; not a diagnosis."


def write(outcome: Outcome, folder: Path) -> list[Path]:
    """Write every figure that the data allow; the paths of the PNG files and of ``figures.pdf``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = figures(outcome)
    paths = []
    with PdfPages(folder / "figures.pdf", metadata={"CreationDate": None}) as pdf:
        for name, figure in made.items():
            FigureCanvasAgg(figure)
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=130)
            pdf.savefig(figure)
    return [*paths, folder / "figures.pdf"]


def figures(outcome: Outcome) -> dict[str, Figure]:
    """By file name without suffix."""
    e = outcome.examples
    odds = evaluate.malignancy(outcome)
    out: dict[str, Figure] = {}
    if all(m.curve for m in outcome.models):
        out["learning-curves"] = learning_curves([m.curve for m in outcome.models])
    out["confusion"] = confusion(outcome)
    chosen = evaluate.tasks(outcome, outcome.said.logits[crossval.CHOSEN]) | evaluate.image_tasks(outcome)
    shown = [
        t for n, t in chosen.items() if evaluate.bar_of(n, outcome.sets) is not None or "candidates on malignant" in n
    ]
    if shown:
        out["roc"] = _grid(shown, roc)
        out["precision-recall"] = _grid(shown, precision_recall)
    out["reliability"] = reliability(e, odds)
    free = [(s, evaluate.marks(e, odds, s)) for s in np.unique(e.source).tolist()]
    known = [(s, m) for s, m in free if m is not None]
    if known:
        out["froc"] = free_response(known)
    out["crops"] = crop_grid(outcome, odds, failures=False)
    out["failures"] = crop_grid(outcome, odds, failures=True)
    return out


def learning_curves(folds: Sequence[list[dict[str, float]]]) -> Figure:
    """Loss and error by epoch, training and validation, one line a fold."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for ax, kind in zip(figure.subplots(1, 2), ("loss", "error"), strict=True):
        for number, curve in enumerate(folds):
            epochs = [row["epoch"] + 1 for row in curve]
            ax.plot(epochs, [row[kind] for row in curve], color=BLUE, lw=1, marker=".",
                    label="training" if not number else None)  # fmt: skip
            ax.plot(epochs, [row[f"validation_{kind}"] for row in curve], color=ORANGE, lw=1, marker=".",
                    label="validation" if not number else None)  # fmt: skip
        ax.set(xlabel="epoch", ylabel="loss (cross-entropy)" if kind == "loss" else "error (share of crops)")
        ax.legend(frameon=False)
    figure.suptitle("Learning curves of conv5 and its heads, one line a fold (training: smoothed labels, altered crops)",
                    fontsize=9)  # fmt: skip
    return figure


def confusion(outcome: Outcome) -> Figure:
    """True class by the most probable one."""
    e, logits = outcome.examples, outcome.said.logits[crossval.CHOSEN]
    rows = np.isfinite(logits).all(axis=1) & (e.label >= 0) & (e.kind != evaluate.RANDOM)
    counts = confusion_matrix(e.label[rows].astype(np.intp), logits[rows].argmax(axis=1), len(CLASSES))
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    ax = figure.subplots()
    ax.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for i in range(len(CLASSES)):
        for j in range(len(CLASSES)):
            share = counts[i, j] / max(1, counts[i].sum())
            ax.text(j, i, f"{counts[i, j]}\n{share:.0%}", ha="center", va="center",
                    color="white" if share > 0.5 else "black")  # fmt: skip
    ax.set(xticks=range(3), yticks=range(3), xticklabels=CLASSES, yticklabels=CLASSES, xlabel="predicted",
           ylabel="true", title="Regions and true boxes of all sets")  # fmt: skip
    figure.supxlabel(NOTE, fontsize=7, color=GREY)
    return figure


def _grid(tasks: Sequence[Task], draw: object) -> Figure:
    columns = 3
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(4 * columns, 3.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, task in zip(axes, tasks, strict=False):
        draw(ax, task)  # type: ignore[operator]
        ax.set_title(textwrap.fill(task.name, 48), fontsize=8)
    for ax in axes[len(tasks) :]:
        ax.set_axis_off()
    figure.supxlabel(NOTE, fontsize=7, color=GREY)
    return figure


def roc(ax: Axes, task: Task) -> None:
    """ROC curve with its 95 % band from drawing patients."""
    ranking = curves.Ranking.of(task.truth, task.score)
    patients, index = np.unique(task.group, return_inverse=True)
    grid = np.linspace(0, 1, 101)

    def line(weight: NDArray[np.float64]) -> NDArray[np.float64]:
        tp, fp = ranking.counts(weight[index][ranking.order])
        if not tp[-1] or not fp[-1]:
            return np.full(len(grid), np.nan)
        return np.asarray(np.interp(grid, fp / fp[-1], tp / tp[-1]))

    drawn = intervals.bootstrap(len(patients), line, replicates=BAND)
    low, high = np.nanpercentile(drawn, (2.5, 97.5), axis=0)
    tp, fp = ranking.counts()
    x, y = curves.roc_points(tp, fp)
    ax.fill_between(grid, low, high, color=BLUE, alpha=0.2, lw=0)
    ax.plot(x, y, color=BLUE, lw=1.5, label=f"AUC {curves.auc(tp, fp):.3f}")
    ax.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    ax.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01))
    ax.legend(loc="lower right", frameon=False)


def precision_recall(ax: Axes, task: Task) -> None:
    """Precision by recall; dashed: the share of positives."""
    tp, fp = curves.Ranking.of(task.truth, task.score).counts()
    precision = tp[1:] / (tp[1:] + fp[1:])
    ax.step(tp[1:] / tp[-1], precision, where="post", color=BLUE, lw=1.5,
            label=f"average precision {curves.average_precision(tp, fp):.3f}")  # fmt: skip
    ax.axhline(float(task.truth.mean()), color=GREY, lw=0.8, ls="--")
    ax.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    ax.legend(loc="lower left", frameon=False)


def reliability(e: Examples, odds: NDArray[np.float64]) -> Figure:
    """Share of malignant regions by score, by set."""
    known = np.isfinite(odds) & (e.label >= 0) & (e.kind != evaluate.RANDOM)
    sets = np.unique(e.set_of()[known]).tolist()
    figure = Figure(figsize=(4 * max(1, len(sets)), 4), layout="constrained")
    for ax, source in zip(np.ravel(figure.subplots(1, max(1, len(sets)), squeeze=False)), sets, strict=True):
        rows = known & (e.set_of() == source)
        truth, score = e.label[rows] == MALIGNANT, logistic(odds[rows])
        mean, share, count = calibration.calibration_bins(truth, score)
        ax.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
        ax.scatter(mean, share, s=8 + 120 * np.sqrt(count / count.sum()), color=BLUE)
        error = calibration.calibration_error(truth, score)
        ax.set(xlabel="mean score", ylabel="share malignant", xlim=(0, 1), ylim=(0, 1))
        ax.set_title(f"{source}: calibration error {error:.3f}, {len(score)} regions", fontsize=8)
    figure.supxlabel(NOTE, fontsize=7, color=GREY)
    return figure


def free_response(found: Sequence[tuple[str, froc.Marks]]) -> Figure:
    """Malignant findings marked against false marks a film."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    ax = figure.subplots()
    for (source, marks), colour in zip(found, (BLUE, ORANGE, GREEN, GREY, "black") * 4, strict=False):
        rate, sensitivity = froc.froc_curve(marks)
        ax.step(rate, sensitivity, where="post", color=colour, label=f"{source} ({len(marks.lesion_scores)} findings)")
    ax.set(xlabel="false marks a film", ylabel="malignant findings marked", xlim=(0, 5), ylim=(0, 1.01))
    ax.legend(frameon=False)
    figure.supxlabel(NOTE, fontsize=7, color=GREY)
    return figure


def crop_grid(outcome: Outcome, odds: NDArray[np.float64], *, failures: bool) -> Figure:
    """Crops with label and score: drawn evenly over the scores, or the worst errors at true boxes."""
    e = outcome.examples
    known = np.isfinite(odds) & (e.label >= 0) & (e.kind != evaluate.RANDOM)
    if failures:
        rows = np.flatnonzero(known & (e.kind == "truth"))
        wrong = np.where(e.label[rows] == MALIGNANT, -odds[rows], odds[rows])
        rows = rows[np.argsort(-wrong)[:SHOWN]]
    else:
        parts = []
        for label in range(len(CLASSES)):
            of_class = np.flatnonzero(known & (e.label == label))
            falling = of_class[np.argsort(-odds[of_class])]
            parts.append(falling[np.linspace(0, len(falling) - 1, SHOWN // 3).astype(int)] if len(falling) else falling)
        rows = np.concatenate(parts)
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    for ax in (axes := figure.subplots(3, 8).ravel()):
        ax.set_axis_off()
    for ax, row in zip(axes, rows.tolist(), strict=False):
        ax.imshow(e.crops[row], cmap="gray", vmin=0, vmax=255)
        kind = f"\n{KINDS[e.lesion_kind[row]]}" if e.lesion_kind[row] >= 0 else ""
        ax.set_title(
            f"{e.source[e.film[row]]}: {CLASSES[e.label[row]]}{kind}\nscore {logistic(odds[row]):.2f}", fontsize=7
        )
    title = "Largest errors at true boxes" if failures else "Crops from the highest to the lowest score, by true class"
    figure.suptitle(title, fontsize=9)
    figure.supxlabel(NOTE, fontsize=7, color=GREY)
    return figure
