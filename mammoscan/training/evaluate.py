"""Figures of a cross-validation: every one out of fold, by patient, with its interval. Pure functions.

Metrics and intervals are the audit's own (``mammoscan.audit``), so that a figure here and one there
mean the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.audit import calibration, curves, froc, intervals
from mammoscan.model import findings, outputs
from mammoscan.model.terms import GRADES, KINDS, MALIGNANT, TISSUES, logistic, softmax
from mammoscan.training import clinical, crossval, stacking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from mammoscan.training.datasets.traits import Traits
    from mammoscan.training.examples import Examples
    from mammoscan.training.train import Outcome

MARKS = (1.0, 2.0)  # false marks an image at which lesions found are told
REGIONS = (5, 10, 20)  # regions an image within which a lesion is hit
SPECIFICITY = 0.80  # at which the sensitivity of a set with a bar for it is told
RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Task:
    """Two classes to tell apart. score: higher for ``truth``; any monotone scale. group: patients."""

    name: str
    truth: NDArray[np.bool_]
    score: NDArray[np.float64]
    group: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with its 95 % interval; nan where it is undefined. bar: what it should reach, if any."""

    name: str
    value: float
    low: float
    high: float
    cases: int
    positive: int
    patients: int
    bar: float | None = None
    higher_is_better: bool = True

    @property
    def reached(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None or not np.isfinite(self.value):
            return None
        return self.value >= self.bar if self.higher_is_better else self.value <= self.bar


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of a training, as they go into metrics, description and card. points: for ``model.json``."""

    figures: list[Figure]
    ablation: list[Figure]
    subgroups: list[Figure]
    small_cnn: list[Figure]
    points: dict[str, dict[str, Any]]


def evaluate(outcome: Outcome, small_cnn: list[Figure], *, replicates: int) -> Evaluation:
    """Every figure of a cross-validation. small_cnn: those of the small network, made apart from it."""
    return Evaluation(
        figures(outcome, replicates=replicates), ablation(outcome, replicates=replicates),
        subgroups(outcome, replicates=replicates), small_cnn, operating_points(outcome),
    )  # fmt: skip


def bootstrapped(
    name: str,
    groups: NDArray[np.str_],
    statistic: Callable[[NDArray[np.float64]], float],
    *,
    replicates: int,
    cases: int,
    positive: int,
    bar: float | None = None,
    higher_is_better: bool = True,
) -> Figure:
    """A statistic of weights by case, with its interval from drawing patients with replacement."""
    patients, index = np.unique(groups, return_inverse=True)
    value = statistic(np.ones(len(groups)))
    if not np.isfinite(value):
        return Figure(name, float("nan"), float("nan"), float("nan"), cases, positive, len(patients), bar,
                      higher_is_better)  # fmt: skip
    drawn = intervals.bootstrap(
        len(patients), lambda weight: np.array([statistic(weight[index])]), replicates=replicates
    )
    interval, _ = intervals.percentile(drawn[:, 0])
    return Figure(name, value, interval.lower, interval.upper, cases, positive, len(patients), bar, higher_is_better)


def auc(task: Task, *, replicates: int) -> Figure:
    """Area under the ROC curve."""
    positive = int(task.truth.sum())
    if not len(task.truth):
        return Figure(task.name, float("nan"), float("nan"), float("nan"), 0, 0, 0)
    ranking = curves.Ranking.of(task.truth, task.score)

    def statistic(weight: NDArray[np.float64]) -> float:
        return curves.auc(*ranking.counts(weight[ranking.order]))

    return bootstrapped(
        task.name, task.group, statistic, replicates=replicates, cases=len(task.truth), positive=positive
    )


def sensitivity_at_specificity(task: Task, specificity: float, *, replicates: int) -> Figure:
    """Highest sensitivity at a threshold whose specificity is at least the given one."""
    ranking = curves.Ranking.of(task.truth, task.score)

    def statistic(weight: NDArray[np.float64]) -> float:
        tp, fp = ranking.counts(weight[ranking.order])
        if not tp[-1] or not fp[-1]:
            return float("nan")
        allowed = np.flatnonzero(fp <= (1 - specificity) * fp[-1] + 1e-9)
        return float(tp[allowed[-1]] / tp[-1])

    name = f"{task.name}: sensitivity at specificity {specificity:g}"
    return bootstrapped(
        name, task.group, statistic, replicates=replicates, cases=len(task.truth), positive=int(task.truth.sum())
    )


def calibration_error(task: Task, *, replicates: int, bar: float | None = None) -> Figure:
    """Expected calibration error over 10 bins; the score is a probability."""
    return bootstrapped(
        f"{task.name}: expected calibration error", task.group,
        lambda weight: calibration.calibration_error(task.truth, task.score, weight),
        replicates=replicates, cases=len(task.truth), positive=int(task.truth.sum()), bar=bar, higher_is_better=False,
    )  # fmt: skip


def agreement(
    name: str, truth: NDArray[np.intp], said: NDArray[np.intp], group: NDArray[np.str_], classes: int, *,
    replicates: int,
) -> list[Figure]:  # fmt: skip
    """Accuracy and quadratic kappa of ordered classes."""

    def kappa(weight: NDArray[np.float64]) -> float:
        return quadratic_kappa(truth, said, classes, weight)

    facts: dict[str, Any] = {"replicates": replicates, "cases": len(truth), "positive": 0}
    return [
        bootstrapped(f"{name}: accuracy", group, _share(truth == said), **facts),
        bootstrapped(f"{name}: quadratic kappa", group, kappa, **facts),
    ]


def _share(true: NDArray[np.bool_]) -> Callable[[NDArray[np.float64]], float]:
    """The weighted share of the cases of which something is true."""
    return lambda weight: float(np.dot(weight, true) / weight.sum())


def _median(values: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], float]:
    """The weighted (lower) median of the cases' values."""
    order = np.argsort(values, kind="stable")

    def statistic(weight: NDArray[np.float64]) -> float:
        total = np.cumsum(weight[order])
        return float(values[order][np.searchsorted(total, total[-1] / 2)])

    return statistic


def quadratic_kappa(
    truth: NDArray[np.intp], said: NDArray[np.intp], classes: int, weight: NDArray[np.float64]
) -> float:
    """Cohen's kappa with quadratic weights (Cohen, Psychol Bull 70 (1968) 213); nan where undefined."""
    seen = np.bincount(truth * classes + said, weight, classes * classes).reshape(classes, classes)
    seen = seen / seen.sum()
    cost = np.subtract.outer(np.arange(classes), np.arange(classes)) ** 2.0
    by_chance = float((cost * np.outer(seen.sum(axis=1), seen.sum(axis=0))).sum())
    return float("nan") if by_chance == 0 else 1.0 - float((cost * seen).sum()) / by_chance


def marks(examples: Examples, odds: NDArray[np.float64], source: str) -> froc.Marks | None:
    """Marks of a set's searched films against its malignant lesions, one mark a place.

    A mark hits where its centre lies in the lesion's box. Marks on benign lesions count as false.
    """
    films = np.flatnonzero((examples.source == source) & examples.searched)
    lesions = np.flatnonzero(np.isin(examples.lesion_film, films) & (examples.lesion_label == "malignant"))
    if not len(lesions) or not len(films):
        return None
    patients = {p: i for i, p in enumerate(np.unique(examples.patient[films]).tolist())}
    rows_of: dict[int, list[int]] = {}
    for row in np.flatnonzero(stacking.searched_rows(examples) & np.isfinite(odds)).tolist():
        rows_of.setdefault(int(examples.film[row]), []).append(row)
    lesion_scores = np.full(len(lesions), -np.inf)
    false_scores, false_groups = [], []
    for film in films.tolist():
        mine = [i for i, lesion in enumerate(lesions.tolist()) if examples.lesion_film[lesion] == film]
        kept: list[int] = []
        for row in sorted(rows_of.get(film, []), key=lambda r: -odds[r]):
            box = _box(examples.box[row])
            if any(findings.overlap(box, _box(examples.box[k])) >= findings.SAME_PLACE for k in kept):
                continue
            kept.append(row)
            hit = [i for i in mine if _inside(examples.centre[row], examples.lesion_box[lesions[i]])]
            for i in hit:
                lesion_scores[i] = max(lesion_scores[i], odds[row])
            if not hit:
                false_scores.append(odds[row])
                false_groups.append(patients[str(examples.patient[film])])
    return froc.Marks(
        lesion_scores, np.array([patients[str(examples.patient[examples.lesion_film[i]])] for i in lesions]),
        np.array(false_scores), np.array(false_groups, np.intp),
        np.array([patients[p] for p in examples.patient[films].tolist()]),
    )  # fmt: skip


def free_response(found: froc.Marks, name: str, *, replicates: int) -> list[Figure]:
    """Lesions found at each number of false marks an image."""
    patients = int(found.image_groups.max()) + 1
    sorted_marks = froc.sorted_marks(found)
    values = froc.sensitivity_at(found, MARKS)
    drawn = intervals.bootstrap(patients, lambda weight: sorted_marks.at(MARKS, weight), replicates=replicates)
    out = []
    for index, rate in enumerate(MARKS):
        interval, _ = intervals.percentile(drawn[:, index])
        out.append(
            Figure(f"{name}: malignant findings marked at {rate:g} false marks a film", float(values[index]),
                   interval.lower, interval.upper, len(found.image_groups), len(found.lesion_scores), patients)
        )  # fmt: skip
    return out


def malignancy(outcome: Outcome) -> NDArray[np.float64]:
    """Log odds of malignant (n,) by the region's score as it is shipped."""
    return outputs.malignant_odds(outcome.said.logits[crossval.CHOSEN])


def tasks(outcome: Outcome, logits: NDArray[np.float64]) -> dict[str, Task]:
    """What the regions' class logits (n, 3) are judged by, by name; a task without both classes is left out.

    Each question is asked of its own probability: malignant against benign of the odds of the two, finding
    against normal of the odds of any lesion; everything else of the malignancy.
    """
    e = outcome.examples
    odds, lesion_odds, pathology_odds = (
        f(logits) for f in (outputs.malignant_odds, outputs.lesion_odds, outputs.pathology_odds)
    )
    source, group, known = e.set_of(), e.group(), np.isfinite(odds) & (e.label >= 0)
    true_box, random, candidate = e.kind == "truth", e.kind == RANDOM, e.kind == "candidate"
    lesion, malignant = e.label > 0, e.label == MALIGNANT
    out: dict[str, Task] = {}

    def add(name: str, rows: NDArray[np.bool_], truth: NDArray[np.bool_], score: NDArray[np.float64] = odds) -> None:
        rows = rows & known
        if truth[rows].any() and not truth[rows].all():
            out[name] = Task(name, truth[rows], score[rows], group[rows])

    for s in np.unique(source).tolist():
        of = source == s
        add(f"{s}: malignant against benign, true boxes", of & true_box & lesion, malignant, pathology_odds)
        add(f"{s}: malignant against benign, true boxes, by the malignancy", of & true_box & lesion, malignant)
        add(f"{s}: findings against random normal places", of & (random | (true_box & lesion)), lesion, lesion_odds)
        add(
            f"{s}: malignant against everything else, true boxes and random places", of & (random | true_box), malignant
        )
        add(f"{s}: malignant boxes against own candidates without a finding",
            of & ((true_box & malignant) | (candidate & ~lesion)), malignant)  # fmt: skip
        add(f"{s}: candidates on malignant findings against all other candidates", of & candidate, malignant)
    return out


def image_tasks(outcome: Outcome) -> dict[str, Task]:
    """Whole images and breasts of the sets that have cancers and films without a lesion."""
    e, said = outcome.examples, outcome.said
    out: dict[str, Task] = {}

    def add(name: str, truth: NDArray[np.bool_], score: NDArray[np.float64], group: NDArray[np.str_]) -> None:
        if truth.any() and not truth.all():
            out[name] = Task(name, truth, score, group)

    malignant = e.film_label == "malignant"
    for s in stacking.screening_sets(e):
        rows = (e.source == s) & np.isfinite(said.image) & (malignant | e.clear)
        add(f"{s}: malignant against normal films", malignant[rows], said.image[rows], e.patient[rows])
        rows = (e.source == s) & np.isfinite(said.image) & (e.film_label != "")
        add(f"{s}: malignant against all other films", malignant[rows], said.image[rows], e.patient[rows])
        found = stacking.breast_rows(e, said.image, rows)
        truth = np.array([bool(malignant[members].any()) for members, _ in found])
        group = np.array([str(e.patient[members[0]]) for members, _ in found])
        score = np.array([float(said.breast[members[0]]) for members, _ in found])
        if np.isfinite(score).all():
            add(f"{s}: cancer by breast", truth, score, group)
            if len(withheld := _withheld(outcome, found)):
                add(f"{s}: cancer by breast, clinical data withheld", truth, withheld, group)
        age = np.array([x[outputs.BREAST_INPUTS.index("age_decades")] for _, x in found])
        if np.isfinite(age).all() and len(age):
            add(f"{s}: cancer by breast, age alone", truth, age, group)
        machine = np.array([str(e.machine[members[0]]) for members, _ in found])
        if len(np.unique(machine)) > 1:
            add(f"{s}: cancer by breast, machine alone", truth, _rates(machine, truth, np.array(
                [int(outcome.fold[members[0]]) for members, _ in found])), group)  # fmt: skip
    return out


def _withheld(outcome: Outcome, found: Sequence[tuple[NDArray[np.intp], NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Log odds of breasts by the folds' own scores with nothing said of their owner's columns; empty without such."""
    if not clinical.of(outcome.examples).columns:
        return np.zeros(0)
    out = []
    for members, x in found:
        score = outcome.models[int(outcome.fold[members[0]])].breast
        said = np.append(x[: len(outputs.BREAST_INPUTS)], np.full(len(x) - len(outputs.BREAST_INPUTS), np.nan))
        out.append(np.nan if score is None else float(score.log_odds(said[None])[0]))
    return np.array(out)


def _rates(name: NDArray[np.str_], truth: NDArray[np.bool_], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of cancers by machine among the other folds' breasts: what the machine alone gives away."""
    out = np.zeros(len(name))
    for index in range(len(name)):
        others = (name == name[index]) & (fold != fold[index])
        out[index] = (truth[others].sum() + 1) / (others.sum() + 2)
    return out


def bar_of(name: str, sets: Mapping[str, Traits]) -> float | None:
    """What the figure of a name (``set: what``) should reach by its set's reader; None where nothing is declared."""
    source, _, what = name.partition(": ")
    return sets[source].bar(what) if source in sets else None


def figures(outcome: Outcome, *, replicates: int) -> list[Figure]:
    """Every figure of the shipped kind of model, out of fold, with what its set should reach."""
    found = _figures(outcome, replicates=replicates)
    return [f if f.bar is not None else replace(f, bar=bar_of(f.name, outcome.sets)) for f in found]


def _figures(outcome: Outcome, *, replicates: int) -> list[Figure]:
    e, odds = outcome.examples, malignancy(outcome)
    of_regions, of_images = tasks(outcome, outcome.said.logits[crossval.CHOSEN]), image_tasks(outcome)
    out = [auc(task, replicates=replicates) for task in (of_regions | of_images).values()]
    for name, task in of_images.items():
        if bar_of(f"{name}: sensitivity at specificity {SPECIFICITY:g}", outcome.sets) is not None:
            out.append(sensitivity_at_specificity(task, SPECIFICITY, replicates=replicates))
    for source in np.unique(e.source).tolist():
        if (found := marks(e, odds, source)) is not None:
            out.extend(free_response(found, source, replicates=replicates))
    out.extend(_hit_figures(outcome, replicates=replicates))
    out.extend(_outline_figures(outcome, replicates=replicates))
    out.extend(_density_figures(outcome, replicates=replicates))
    out.extend(_calibration_figures(outcome, odds, replicates=replicates))
    out.extend(_kind_figures(outcome, replicates=replicates))
    return out


def _hit_figures(outcome: Outcome, *, replicates: int) -> list[Figure]:
    """Lesions that the first regions of their image hit, each image's ranked by trees that never saw its patient.

    A region hits where its centre lies in the ellipse of the lesion's box, or the lesion's centre in the
    region's box and that is less than four times as large.
    """
    e = outcome.examples
    out = []
    for source in np.unique(e.source).tolist():
        lesions = np.flatnonzero((e.source[e.lesion_film] == source) & e.searched[e.lesion_film])
        if not len(lesions):
            continue
        first = np.array([_first_hit(e, int(lesion)) for lesion in lesions])
        for most in REGIONS:
            hit = first < most
            out.append(
                bootstrapped(
                    f"{source}: lesions hit by the first {most} regions of their image",
                    e.patient[e.lesion_film[lesions]],
                    _share(hit),
                    replicates=replicates, cases=len(hit), positive=int(hit.sum()),
                )
            )  # fmt: skip
    return out


def _outline_figures(outcome: Outcome, *, replicates: int) -> list[Figure]:
    """Dice with the lesions that their set outlines of the first region that hits them, its outline drawn by a
    network that never saw their patient. Where a region is nearer to another lesion it counts as 0.
    """
    e = outcome.examples
    out = []
    for source in np.unique(e.source).tolist():
        lesions = np.flatnonzero((e.source[e.lesion_film] == source) & e.searched[e.lesion_film] & e.lesion_drawn)
        first = {lesion: _first_hit(e, lesion) for lesion in lesions.tolist()}
        hit = [lesion for lesion, rank in first.items() if rank < max(REGIONS)]
        if not hit:
            continue
        candidate = e.kind == "candidate"
        rows = [np.flatnonzero(candidate & (e.film == e.lesion_film[i]) & (e.rank == first[i]))[0] for i in hit]
        own = e.drawn[rows] == e.lesion_number[hit]
        for name, values in (("as drawn", e.dice), ("as grown", e.grown_dice)):
            out.append(
                bootstrapped(
                    f"{source}: median Dice of lesions hit by the first {max(REGIONS)} regions, outlines {name}",
                    e.patient[e.lesion_film[hit]], _median(np.where(own, values[rows], 0.0)),
                    replicates=replicates, cases=len(lesions), positive=len(hit),
                )
            )  # fmt: skip
    return out


def _first_hit(e: Examples, lesion: int) -> float:
    """Rank of the first candidate of its film that hits a lesion, infinite where none does."""
    x0, y0, x1, y1 = e.lesion_box[lesion]
    rows = np.flatnonzero((e.film == e.lesion_film[lesion]) & (e.kind == "candidate"))
    centre, half = np.array([x0 + x1, y0 + y1]) / 2, np.array([x1 - x0, y1 - y0]) / 2
    inside = (((e.centre[rows] - centre) / np.maximum(half, 0.5)) ** 2).sum(axis=1) <= 1
    box = e.box[rows]
    around = ((box[:, :2] <= centre) & (centre <= box[:, 2:])).all(axis=1)
    small = np.prod(box[:, 2:] - box[:, :2], axis=1) < 4 * (x1 - x0) * (y1 - y0)
    found = e.rank[rows][inside | (around & small)]
    return float(found.min()) if len(found) else np.inf


def _density_figures(outcome: Outcome, *, replicates: int) -> list[Figure]:
    e, said = outcome.examples, outcome.said
    out = []
    for terms, logits, name in (
        (TISSUES, said.tissue, "density F, G, D"),
        (GRADES, said.grade, "density a to d"),
    ):
        for source in np.unique(e.source).tolist():
            rows = (e.source == source) & np.isin(e.density, terms) & np.isfinite(logits).all(axis=1)
            if rows.any():
                truth = np.array([terms.index(d) for d in e.density[rows].tolist()], np.intp)
                out.extend(agreement(
                    f"{source}: {name}", truth, logits[rows].argmax(axis=1), e.patient[rows], len(terms),
                    replicates=replicates,
                ))  # fmt: skip
    return out


def _calibration_figures(outcome: Outcome, odds: NDArray[np.float64], *, replicates: int) -> list[Figure]:
    e = outcome.examples
    known = np.isfinite(odds) & (e.label >= 0) & (e.kind != RANDOM)
    out = []
    for source in [*np.unique(e.source).tolist(), "all sets"]:
        rows = known & ((e.set_of() == source) | (source == "all sets"))
        if rows.any():
            task = Task(f"{source}: regions", e.label[rows] == MALIGNANT, logistic(odds[rows]), e.group()[rows])
            out.append(calibration_error(task, replicates=replicates, bar=0.08))
    return out


def _kind_figures(outcome: Outcome, *, replicates: int) -> list[Figure]:
    """Lesion kind at true boxes: each kind against the others, where both occur in ten cases or more."""
    e, kinds = outcome.examples, outcome.said.kinds
    rows = (e.kind == "truth") & (e.lesion_kind >= 0) & np.isfinite(kinds).all(axis=1)
    out = []
    for index, kind in enumerate(KINDS):
        truth = e.lesion_kind[rows] == index
        if min(truth.sum(), (~truth).sum()) >= 10:
            task = Task(f"lesion kind: {kind} against the others, true boxes", truth,
                        softmax(kinds[rows])[:, index], e.group()[rows])  # fmt: skip
            out.append(auc(task, replicates=replicates))
    return out


def ablation(outcome: Outcome, *, replicates: int) -> list[Figure]:
    """The same tasks by the variants of the region's score."""
    out = []
    for variant, logits in outcome.said.logits.items():
        for name, task in tasks(outcome, logits).items():
            if bar_of(name, outcome.sets) is not None or name.endswith("against all other candidates"):
                figure = auc(task, replicates=replicates)
                out.append(Figure(f"{variant} | {name}", *_values(figure)))
    return out


def subgroups(outcome: Outcome, *, replicates: int) -> list[Figure]:
    """Malignant against benign at true boxes by density, kind of lesion, severity (subtlety) and size."""
    e = outcome.examples
    odds = outputs.pathology_odds(outcome.said.logits[crossval.CHOSEN])
    rows = np.flatnonzero((e.kind == "truth") & (e.label > 0) & np.isfinite(odds))
    at = {(int(f), int(n)): i for i, (f, n) in enumerate(zip(e.lesion_film, e.lesion_number, strict=True))}
    lesion = np.array([at[int(e.film[r]), int(e.lesion[r])] for r in rows], np.intp)
    size = (e.box[rows, 2] - e.box[rows, 0]) * (e.box[rows, 3] - e.box[rows, 1])
    share = np.sqrt(np.maximum(size, 0)) / e.height[e.film[rows]]
    factors = {
        "density": e.density[e.film[rows]],
        "lesion kind": np.array([KINDS[k] if k >= 0 else "" for k in e.lesion_kind[rows].tolist()]),
        "subtlety (1 subtle, 5 obvious)": np.array([str(v) if v > 0 else "" for v in e.subtlety[lesion].tolist()]),
        "assessment (BI-RADS)": e.assessment[lesion],
        "size": np.where(share < 0.04, "below 4 % of the image's height",
                         np.where(share < 0.08, "4 to 8 %", "above 8 %")),
    }  # fmt: skip
    out = []
    for source in np.unique(e.source).tolist():
        for factor, values in factors.items():
            for value in np.unique(values[values != ""]).tolist():
                chosen = rows[(values == value) & (e.set_of()[rows] == source)]
                truth = e.label[chosen] == MALIGNANT
                if min(truth.sum(), (~truth).sum()) >= 5:
                    task = Task(f"{source} | {factor} | {value}", truth, odds[chosen], e.group()[chosen])
                    out.append(auc(task, replicates=replicates))
    return out


def operating_points(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Thresholds chosen on the out-of-fold scores of the sets with cancers and normal films.

    sensitivity-0.90: the highest image score at or above which 0.90 of malignant films lie;
    specificity-0.90: the lowest above which at most 0.10 of the films without a lesion lie. ``breast``:
    the same for breasts. ``region``: 0.90 of the malignant lesions that a candidate hits; no candidate at
    or above it in 0.90 of the films without a lesion. ``cost``: what each costs on the same scores, by image
    and by breast.
    """
    e, said = outcome.examples, outcome.said
    odds = malignancy(outcome)
    sets = np.isin(e.source, stacking.screening_sets(e))
    ill = sets & (e.film_label == "malignant") & np.isfinite(said.image)
    well = sets & e.clear & np.isfinite(said.image)
    hits = (e.kind == "candidate") & (e.label == MALIGNANT) & np.isfinite(odds)
    best: dict[tuple[int, int], float] = {}
    for row in np.flatnonzero(hits).tolist():
        key = (int(e.film[row]), int(e.lesion[row]))
        best[key] = max(best.get(key, -np.inf), float(odds[row]))
    counted = stacking.searched_rows(e) & np.isfinite(odds)
    highest = np.array([odds[counted & (e.film == f)].max() for f in np.flatnonzero(well)])
    found = np.array(list(best.values()))
    breasts = [m for m, _ in stacking.breast_rows(e, said.image, sets & (e.film_label != ""))]
    by_breast = np.array([float(said.breast[m[0]]) for m in breasts])
    cancer = np.array([bool((e.film_label[m] == "malignant").any()) for m in breasts])
    clear = np.array([bool(e.clear[m].all()) for m in breasts])
    names = ("threshold", "breast", "region")
    sick = (said.image[ill], by_breast[cancer], found)
    healthy = (said.image[well], by_breast[clear], highest)
    at: dict[str, dict[str, Any]] = {
        "sensitivity-0.90": {
            name: float(logistic(np.quantile(odds, 0.10, method="lower")))
            for name, odds in zip(names, sick, strict=True)
        },
        "specificity-0.90": {
            name: float(logistic(np.nextafter(np.quantile(odds, 0.90, method="higher"), np.inf)))
            for name, odds in zip(names, healthy, strict=True)
        },
    }
    sources = ", ".join(sorted(set(e.source[ill | well].tolist())))
    for point in at.values():
        levels = zip(("image", "breast"), names[:2], sick[:2], healthy[:2], strict=True)
        point["cost"] = {"counted_on": f"out-of-fold scores of {sources}"} | {
            level: cost(logistic(above), logistic(below), point[name]) for level, name, above, below in levels
        }
    return at


def cost(cancers: NDArray[np.float64], healthy: NDArray[np.float64], threshold: float) -> dict[str, float | int]:
    """What a threshold on a score costs, as ``model.json`` holds it."""
    return {
        "sensitivity": float((cancers >= threshold).mean()),
        "specificity": float((healthy < threshold).mean()),
        "cancers": int(cancers.size),
        "healthy": int(healthy.size),
    }


def _values(figure: Figure) -> tuple[float, float, float, int, int, int]:
    return figure.value, figure.low, figure.high, figure.cases, figure.positive, figure.patients


def _box(values: NDArray[np.float64]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(v) for v in values)
    return x0, y0, x1, y1


def _inside(point: NDArray[np.float64], box: NDArray[np.float64]) -> bool:
    return bool(box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3])
