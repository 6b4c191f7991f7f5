"""One fold: everything that is fitted, on training and validation patients only, then applied to the test's.

Training part: the linear head, conv5 and its heads, the density heads. Validation part (the next
fold): the epoch, and the scores of regions, images and breasts, which calibrate by being fitted.
Nothing here sees a test patient before all of that stands.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.model import linear, outputs, region, split
from mammoscan.model.datasets.film import KINDS
from mammoscan.model.scores import Linear, Score
from mammoscan.model.terms import CLASSES, CLINICAL, MALIGNANT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.model.examples import Examples
    from mammoscan.model.maps import MapStore
    from mammoscan.model.region import Cases, TailConfig

log = logging.getLogger(__name__)

LINEAR_STRENGTH = 3e-4
DENSITY_STRENGTH = 1e-3
REGION_STRENGTH = 0.1
SCORE_STRENGTH = 1.0
TISSUES = ("F", "G", "D")
GRADES = ("a", "b", "c", "d")
# What the score of a region is fitted on, by name; the ablation shows them side by side.
VARIANTS = {
    "linear": outputs.NETWORK_INPUTS[2:],
    "linear and handcrafted": outputs.REGION_INPUTS[2:],
    "conv5": outputs.NETWORK_INPUTS[:2],
    "both": outputs.NETWORK_INPUTS,
    "both and handcrafted": outputs.REGION_INPUTS,
}


CHOSEN = "chosen"  # the variant that a fold's own validation part prefers


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is computed once for all folds.

    cases: by row. record: a row's record, -1 where it is not classified. versions: (v,) records of the
    altered crops. tiles: (films, POOLED), the whole breast. pooled: all records.
    """

    cases: Cases
    versions: NDArray[np.intp]
    tiles: NDArray[np.float32]
    pooled: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Fold:
    """What a fold fitted: heads, scores by variant, curve."""

    tail: dict[str, NDArray[Any]]
    linear: Linear
    tissue: Linear
    grade: Linear
    regions: dict[str, Score]
    variant: str
    image: Score | None
    breast: Score | None
    epoch: int
    curve: list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Said:
    """What a fold's model says of all rows (n) and films (m); nan where nothing is known.

    conv5, linear: class logits. kinds: kind logits. odds: by variant, log odds of malignant. image:
    log odds by film. grade, tissue: logits by film.
    """

    conv5: NDArray[np.float64]
    linear: NDArray[np.float64]
    kinds: NDArray[np.float64]
    odds: dict[str, NDArray[np.float64]]
    image: NDArray[np.float64]
    breast: NDArray[np.float64]
    tissue: NDArray[np.float64]
    grade: NDArray[np.float64]


def freeze(examples: Examples, store: MapStore) -> Frozen:
    """Run the frozen layers over everything that any fold needs."""
    from mammoscan.model.region import Cases

    count = len(examples.label)
    record = np.full(count, -1, np.intp)
    wanted = np.flatnonzero(examples.classified)
    record[wanted] = store.rows(examples.crops[wanted])
    versions = store.rows(examples.versions)
    films = len(examples.source)
    of_tiles = store.rows(examples.tiles.reshape(-1, *examples.tiles.shape[2:])).reshape(films, 2)
    pooled = store.pooled()
    by_row: dict[int, list[int]] = {}
    for row, found in zip(examples.version_of.tolist(), versions.tolist(), strict=True):
        by_row.setdefault(row, []).append(found)
    cases = Cases(
        maps=store.maps(), record=record, versions={row: np.array(v, np.intp) for row, v in by_row.items()},
        label=examples.label, lesion_kind=examples.lesion_kind, clinical=examples.clinical,
        source=examples.set_of(), true_box=examples.kind == "truth",
    )  # fmt: skip
    return Frozen(cases, versions, pooled[of_tiles].astype(np.float32).mean(axis=1), pooled)


def fit(
    examples: Examples, frozen: Frozen, fold: NDArray[np.int64], training: Sequence[int], validation: int,
    config: TailConfig, folder: Path,
) -> Fold:  # fmt: skip
    """Fit everything on the folds ``training`` and ``validation``. fold: of every film."""
    of_row = fold[examples.film]
    usable = (frozen.cases.record >= 0) & (examples.label >= 0) & (examples.kind != "random")
    rows = np.flatnonzero(np.isin(of_row, training) & usable)
    held = np.flatnonzero((of_row == validation) & usable)
    split.check_no_leak(
        np.concatenate([examples.group()[rows], examples.group()[held]]),
        np.concatenate([np.zeros(len(rows), np.int64), np.ones(len(held), np.int64)]),
    )
    heads = _density_heads(examples, frozen, np.isin(fold, training))
    head = _linear_head(examples, frozen, rows)
    folder.mkdir(parents=True, exist_ok=True)
    trained = region.train(frozen.cases, rows, held, config, folder) if config.epochs else region.Trained({}, -1, [])
    conv5, _ = _conv5(frozen, held, trained.weights)
    inputs = outputs.region_inputs(conv5, head.logits(_linear_inputs(frozen, held)), examples.features[held])
    truth = examples.label[held] == MALIGNANT
    regions, losses = {}, {}
    for name, wanted in VARIANTS.items():
        if not config.epochs and set(wanted) & set(outputs.NETWORK_INPUTS[:2]):
            continue
        x = inputs[:, [outputs.REGION_INPUTS.index(w) for w in wanted]]
        regions[name] = linear.fit_score(wanted, x, truth, np.ones(len(held)), strength=REGION_STRENGTH)
        losses[name] = _cross_fitted_loss(wanted, x, truth, examples.group()[held], config.seed)
    # Chosen on the validation part, like everything about the scores.
    variant = min(losses, key=lambda name: losses[name])
    log.info("%s: loss of the region score by variant %s", folder.name, {k: round(v, 4) for k, v in losses.items()})
    partial = Fold(trained.weights, head, *heads, regions, variant, None, None, trained.epoch, trained.curve)
    said = say(examples, frozen, partial, fold == validation)
    image = _image_score(examples, said, fold == validation, variant)
    if image is not None:
        partial = _with(partial, image=image)
        said = say(examples, frozen, partial, fold == validation)
    breast = _breast_score(examples, said, fold == validation) if image is not None else None
    return _with(partial, breast=breast)


def say(examples: Examples, frozen: Frozen, model: Fold, films: NDArray[np.bool_]) -> Said:
    """Apply a fold's model to some films and their rows."""
    rows = np.flatnonzero(films[examples.film] & (frozen.cases.record >= 0))
    n, m = len(examples.label), len(examples.source)
    conv5, kinds = np.full((n, len(CLASSES)), np.nan), np.full((n, len(KINDS)), np.nan)
    straight = np.full((n, len(CLASSES)), np.nan)
    conv5[rows], kinds[rows] = _conv5(frozen, rows, model.tail)
    straight[rows] = model.linear.logits(_linear_inputs(frozen, rows))
    inputs = outputs.region_inputs(conv5[rows], straight[rows], examples.features[rows])
    odds = {}
    for name, score in model.regions.items():
        odds[name] = np.full(n, np.nan)
        odds[name][rows] = score.log_odds(inputs[:, [outputs.REGION_INPUTS.index(w) for w in score.inputs]])
    odds[CHOSEN] = odds[model.variant]
    image, breast = np.full(m, np.nan), np.full(m, np.nan)
    if model.image is not None:
        of_film, x = image_rows(examples, odds[model.variant], films)
        image[of_film] = model.image.log_odds(x)
    if model.breast is not None:
        for members, x in breast_rows(examples, image, films):
            breast[members] = model.breast.log_odds(x[None])[0]
    density = np.hstack([frozen.tiles, np.zeros((m, len(CLINICAL)), np.float32)])
    tissue, grade = (np.where(films[:, None], h.logits(density), np.nan) for h in (model.tissue, model.grade))
    return Said(conv5, straight, kinds, odds, image, breast, tissue, grade)


def searched_rows(examples: Examples) -> NDArray[np.bool_]:
    """The candidates by which an image is judged: those that are classified whether or not they hit a lesion."""
    from mammoscan.model.examples import CLASSIFIED

    most = np.array([CLASSIFIED.get(s, 10**6) for s in examples.source.tolist()], np.int64)
    return np.asarray((examples.kind == "candidate") & (examples.rank < most[examples.film]))


def image_rows(
    examples: Examples, odds: NDArray[np.float64], films: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(film, inputs of its score) of the searched films that have regions."""
    rows = np.flatnonzero(searched_rows(examples) & films[examples.film])
    of_film = examples.film[rows]
    found = np.unique(of_film)
    inputs = [outputs.image_inputs(odds[rows[of_film == one]]) for one in found]
    return found, np.array(inputs).reshape(len(found), len(outputs.IMAGE_INPUTS))


def breast_rows(
    examples: Examples, image: NDArray[np.float64], films: NDArray[np.bool_]
) -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """(films, inputs of the score) of every breast with a scored image."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index in np.flatnonzero(films & np.isfinite(image)).tolist():
        groups.setdefault((str(examples.patient[index]), str(examples.side[index])), []).append(index)
    out = []
    for _, members in sorted(groups.items()):
        ages = examples.age[members]
        age = float(np.nanmean(ages)) if np.isfinite(ages).any() else None
        out.append((np.array(members, np.intp), outputs.breast_inputs(image[members].tolist(), age)))
    return out


def screening_sets(examples: Examples) -> list[str]:
    """Sets with both cancers and films without a lesion: what scores of whole images are fitted and judged on."""
    return [
        str(s)
        for s in np.unique(examples.source)
        if (examples.clear & (examples.source == s)).any()
        and ((examples.film_label == "malignant") & (examples.source == s)).any()
    ]


def class_weights(examples: Examples, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Weights that make classes alike, and within a class sets by the root of their size; mean 1."""
    weight = np.zeros(len(rows))
    for label in np.unique(examples.label[rows]):
        of_class = examples.label[rows] == label
        _, index, sizes = np.unique(examples.set_of()[rows][of_class], return_inverse=True, return_counts=True)
        part = 1.0 / np.sqrt(sizes[index])
        weight[of_class] = part / part.sum()
    return np.asarray(weight / weight.mean())


def _conv5(
    frozen: Frozen, rows: NDArray[np.intp], weights: dict[str, NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Class and kind logits; nan where the network has no conv5 of its own."""
    if weights:
        return region.predict(frozen.cases, rows, weights)
    return np.full((len(rows), len(CLASSES)), np.nan), np.full((len(rows), len(KINDS)), np.nan)


def _cross_fitted_loss(
    names: Sequence[str], x: NDArray[np.float64], truth: NDArray[np.bool_], group: NDArray[np.str_], seed: int
) -> float:
    """Log loss of a score on the validation part itself, in three parts by patient."""
    patients, index = np.unique(group, return_inverse=True)
    part = (np.random.default_rng(seed).permutation(len(patients)) % 3)[index]
    p = np.full(len(truth), truth.mean())
    for number in range(3):
        rest = part != number
        if truth[rest].any() and not truth[rest].all():
            score = linear.fit_score(names, x[rest], truth[rest], np.ones(int(rest.sum())), strength=REGION_STRENGTH)
            p[~rest] = score(x[~rest])
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(truth, np.log(p), np.log(1 - p))))


def _linear_inputs(frozen: Frozen, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.hstack([frozen.pooled[frozen.cases.record[rows]].astype(np.float32), frozen.cases.clinical[rows]])


def _linear_head(examples: Examples, frozen: Frozen, rows: NDArray[np.intp]) -> Linear:
    chosen = np.isin(examples.version_of, rows)
    both = np.concatenate([rows, examples.version_of[chosen]])
    versions = np.hstack(
        [frozen.pooled[frozen.versions[chosen]].astype(np.float32), examples.clinical[examples.version_of[chosen]]]
    )
    x = np.concatenate([_linear_inputs(frozen, rows), versions])
    return linear.fit_linear(
        x, examples.label[both], class_weights(examples, both), classes=len(CLASSES), strength=LINEAR_STRENGTH
    )


def _density_heads(examples: Examples, frozen: Frozen, films: NDArray[np.bool_]) -> tuple[Linear, Linear]:
    """Linear heads for F, G, D and for a to d on the whole breast's pooled features."""
    out = []
    for terms in (TISSUES, GRADES):
        rows = np.flatnonzero(films & np.isin(examples.density, terms))
        facts = np.zeros((len(rows), len(CLINICAL)), np.float32)
        label = np.array([terms.index(d) for d in examples.density[rows].tolist()], np.int64)
        if len(np.unique(label)) < 2:
            size = frozen.tiles.shape[1] + len(CLINICAL)
            out.append(Linear(np.zeros((size, len(terms))), np.full(len(terms), np.nan)))
            continue
        weight = np.ones(len(rows)) / len(rows) * len(rows)
        out.append(
            linear.fit_linear(
                np.hstack([frozen.tiles[rows], facts]), label, weight, classes=len(terms), strength=DENSITY_STRENGTH
            )
        )
    return out[0], out[1]


def _image_score(examples: Examples, said: Said, films: NDArray[np.bool_], variant: str) -> Score | None:
    known = films & np.isin(examples.source, screening_sets(examples)) & (examples.film_label != "")
    of_film, x = image_rows(examples, said.odds[variant], known)
    truth = examples.film_label[of_film] == "malignant"
    if truth.all() or not truth.any():
        return None
    weight = linear.even(examples.source[of_film])
    return linear.fit_score(outputs.IMAGE_INPUTS, x, truth, weight, strength=SCORE_STRENGTH)


def _breast_score(examples: Examples, said: Said, films: NDArray[np.bool_]) -> Score | None:
    known = films & np.isin(examples.source, screening_sets(examples)) & (examples.film_label != "")
    found = breast_rows(examples, said.image, known)
    truth = np.array([bool((examples.film_label[members] == "malignant").any()) for members, _ in found])
    if not len(truth) or truth.all() or not truth.any():
        return None
    weight = linear.even(np.array([str(examples.source[members[0]]) for members, _ in found]))
    return linear.fit_score(
        outputs.BREAST_INPUTS, np.stack([x for _, x in found]), truth, weight, strength=SCORE_STRENGTH
    )


def _with(fold: Fold, **changes: Any) -> Fold:
    import dataclasses

    return dataclasses.replace(fold, **changes)


def save(folder: Path, fold: Fold) -> None:
    """Keep a fold's model: arrays in ``model.npz``, scores and curve in ``model.json``."""
    arrays = {f"tail/{name}": value for name, value in fold.tail.items()}
    for name in ("linear", "tissue", "grade"):
        head: Linear = getattr(fold, name)
        arrays |= {f"{name}/kernel": head.kernel, f"{name}/bias": head.bias}
    np.savez(folder / "model.npz", allow_pickle=False, **arrays)
    facts = {
        "regions": {name: score.facts() for name, score in fold.regions.items()}, "variant": fold.variant,
        "image": fold.image.facts() if fold.image else None, "breast": fold.breast.facts() if fold.breast else None,
        "epoch": fold.epoch, "curve": fold.curve,
    }  # fmt: skip
    partial = folder / "model.partial.json"
    partial.write_text(json.dumps(facts, indent=1))
    partial.rename(folder / "model.json")  # last: a fold counts as done when this is there


def load(folder: Path) -> Fold | None:
    """A fold that is done; None where it is not."""
    if not (folder / "model.json").exists():
        return None
    facts = json.loads((folder / "model.json").read_text())
    with np.load(folder / "model.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    straight, tissue, grade = (
        Linear(arrays[f"{name}/kernel"], arrays[f"{name}/bias"]) for name in ("linear", "tissue", "grade")
    )
    return Fold(
        {name.removeprefix("tail/"): value for name, value in arrays.items() if name.startswith("tail/")},
        straight, tissue, grade, {name: Score.of(score) for name, score in facts["regions"].items()}, facts["variant"],
        Score.of(facts["image"]) if facts["image"] else None,
        Score.of(facts["breast"]) if facts["breast"] else None, facts["epoch"], facts["curve"],
    )  # fmt: skip
