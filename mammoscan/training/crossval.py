"""One fold: everything that is fitted, on training and validation patients only, then applied to the test's.

conv5 is trained on the training part; the validation part (the next fold) chooses its epoch. The linear heads
learn from both, and the scores of regions, images and breasts, which calibrate by being fitted, are fitted on
what heads said that had not seen the patient: each of these folds in turn is left out (Wolpert, Neural Netw 5
(1992) 241). Only conv5's own weight in a score is of the validation part alone.
Nothing here sees a test patient before all of that stands.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.model import outputs
from mammoscan.model.scores import Linear, RegionScore, Score
from mammoscan.model.terms import CLASSES, GRADES, KINDS, TISSUES
from mammoscan.training import heads, region, split, stacking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.training.examples import Examples
    from mammoscan.training.heads import Frozen
    from mammoscan.training.region import TailConfig

log = logging.getLogger(__name__)

WATCHED = 600  # candidates of the validation part that an epoch is judged by
CHOSEN = "chosen"  # the variant that a fold's own validation part prefers
ALL_LAYERS = "all layers"  # at true boxes and random places only, for the ablation
# The chosen variant, with the logits of the crop and its mirror image averaged; with age, density, view and side unknown.
FLIPPED, WITHHELD = "chosen, test-time flips", "chosen, clinical inputs withheld"


@dataclass(frozen=True, slots=True)
class Fold:
    """What a fold fitted: conv5, linear heads (lesion, pathology, tissue, grade; those for which
    there were labels), scores by variant, curve.
    """

    tail: dict[str, NDArray[Any]]
    heads: dict[str, Linear]
    regions: dict[str, RegionScore]
    variant: str
    image: Score | None
    breast: Score | None
    epoch: int
    curve: list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Said:
    """What a fold's model says of all rows (n) and films (m); nan where nothing is known.

    logits: by variant of the region's score, class logits (n, 3). kinds: kind logits. image, breast: log odds
    by film. grade, tissue: logits by film.
    """

    kinds: NDArray[np.float64]
    logits: dict[str, NDArray[np.float64]]
    image: NDArray[np.float64]
    breast: NDArray[np.float64]
    tissue: NDArray[np.float64]
    grade: NDArray[np.float64]


def fit(
    examples: Examples, frozen: Frozen, fold: NDArray[np.int64], training: Sequence[int], validation: int,
    config: TailConfig, folder: Path,
) -> Fold:  # fmt: skip
    """Fit everything on the folds ``training`` and ``validation``. fold: of every film."""
    of_row = fold[examples.film]
    usable = (frozen.cases.record >= 0) & (examples.label >= 0)
    rows = np.flatnonzero(np.isin(of_row, training) & usable)
    held = np.flatnonzero((of_row == validation) & usable)
    split.check_no_leak(
        np.concatenate([examples.group()[rows], examples.group()[held]]),
        np.concatenate([np.zeros(len(rows), np.int64), np.ones(len(held), np.int64)]),
    )
    inside = [*training, validation]
    own = heads.film_heads(examples, frozen, np.isin(fold, inside))
    own |= heads.region_heads(examples, frozen, np.flatnonzero(np.isin(of_row, inside) & usable))
    folder.mkdir(parents=True, exist_ok=True)
    watched = _watched(examples, held)
    trained = region.train(frozen.cases, rows, watched, config, folder) if config.epochs else region.Trained({}, -1, [])
    inputs = outputs.region_inputs(
        _conv5_of(examples, frozen, trained.weights, fold == validation)[0],
        heads.held_out(examples, frozen, of_row, inside),
        # Of sets of which only the first candidates are classified, later ones that hit a lesion teach nothing of order.
        np.where(stacking.searched_rows(examples), stacking.places(examples), np.nan),
        examples.features,
    )
    # Random places teach the heads; a score is of candidates and true boxes, and calibrated on those.
    rows = np.flatnonzero(np.isin(of_row, inside) & usable & (examples.kind != "random"))
    held = rows[of_row[rows] == validation]
    regions, losses = {}, {}
    for name, (base, more) in stacking.VARIANTS.items():
        if more and not config.epochs:
            continue
        regions[name] = stacking.region_score(base, more, inputs, examples, rows, held)
        losses[name] = stacking.loss(base, more, inputs, examples, rows[of_row[rows] != validation], held, config.seed)
    # Chosen on the validation part, like everything about conv5.
    variant = min(losses, key=lambda name: losses[name])
    log.info("%s: loss of the region score by variant %s", folder.name, {k: round(v, 4) for k, v in losses.items()})
    base, more = stacking.VARIANTS[variant]
    films = np.isin(fold, inside) if base else fold == validation
    odds = stacking.malignant(regions[variant], inputs)
    if base and more:
        # Of the other folds conv5 has seen the patients, so the same score without it speaks for them.
        (plain,) = (name for name, value in stacking.VARIANTS.items() if value == (base, ()))
        odds = np.where(of_row == validation, odds, stacking.malignant(regions[plain], inputs))
    image = stacking.image_score(examples, odds, films)
    breast = None
    if image is not None:
        of_film, x = stacking.image_rows(examples, odds, films)
        values = np.full(len(fold), np.nan)
        values[of_film] = image.log_odds(x)
        breast = stacking.breast_score(examples, values, films)
    return Fold(trained.weights, own, regions, variant, image, breast, trained.epoch, trained.curve)


def say(examples: Examples, frozen: Frozen, model: Fold, films: NDArray[np.bool_]) -> Said:
    """Apply a fold's model to some films and their rows."""
    rows = np.flatnonzero(films[examples.film] & (frozen.cases.record >= 0))
    n, m = len(examples.label), len(examples.source)
    conv5, kinds = _conv5_of(examples, frozen, model.tail, films)
    straight = np.full((n, len(CLASSES)), np.nan)
    straight[rows] = heads.say_regions(model.heads, frozen, rows)
    inputs = outputs.region_inputs(
        conv5[rows], straight[rows], stacking.places(examples)[rows], examples.features[rows]
    )
    logits = {}
    for name, score in model.regions.items():
        logits[name] = np.full((n, len(CLASSES)), np.nan)
        logits[name][rows] = score.logits(inputs[:, stacking.columns(score.inputs)])
    logits[CHOSEN] = logits[model.variant]
    logits |= _altered(examples, frozen, model, rows, conv5, straight)
    tissue, grade = (
        heads.say_films(model.heads, name, frozen, films, size)
        for name, size in (("tissue", len(TISSUES)), ("grade", len(GRADES)))
    )
    image, breast = np.full(m, np.nan), np.full(m, np.nan)
    if model.image is not None:
        of_film, x = stacking.image_rows(examples, outputs.malignant_odds(logits[CHOSEN]), films)
        image[of_film] = model.image.log_odds(x)
    if model.breast is not None:
        for members, x in stacking.breast_rows(examples, image, films):
            breast[members] = model.breast.log_odds(x[None])[0]
    return Said(kinds, logits, image, breast, tissue, grade)


def all_layers(
    examples: Examples, frozen: Frozen, fold: NDArray[np.int64], model: Fold, start: Mapping[str, NDArray[Any]],
    parts: tuple[Sequence[int], int, int], config: TailConfig, folder: Path,
) -> NDArray[np.float64]:  # fmt: skip
    """Class logits at the boxes and random places of a fold after training all layers at a low rate.

    Goes on from the fold's conv5. parts: training folds, validation fold, test fold. Its linear heads read
    frozen layers and would have to be fitted anew, so this is for comparison with conv5 alone.
    """
    store = folder / "all-layers.npy"
    if not store.exists():
        pixels = np.concatenate([examples.crops, examples.versions])[..., None]
        count = len(examples.label)
        versions = {
            row: np.flatnonzero(examples.version_of == row) + count for row in np.unique(examples.version_of).tolist()
        }
        cases = dataclasses.replace(
            frozen.cases,
            maps=pixels,
            record=np.where(frozen.cases.record >= 0, np.arange(count), -1),
            versions=versions,
        )
        of_row = fold[examples.film]
        usable = (cases.record >= 0) & (examples.label >= 0)
        boxes = usable & (examples.kind != "candidate")
        training, validation, test = parts
        trained = region.train(
            cases, np.flatnonzero(usable & np.isin(of_row, training)), np.flatnonzero(boxes & (of_row == validation)),
            config, folder / "all-layers", whole={**start, **model.tail},
        )  # fmt: skip
        rows = np.flatnonzero(boxes & (of_row == test))
        logits, _ = region.predict(cases, rows, trained.weights)
        found = np.full((count, len(CLASSES)), np.nan)
        found[rows] = logits
        partial = store.with_suffix(".partial.npy")
        np.save(partial, found)
        partial.rename(store)
    return np.asarray(np.load(store))


def _watched(examples: Examples, held: NDArray[np.intp]) -> NDArray[np.intp]:
    """The validation rows by which the epoch is chosen: all boxes, and candidates evenly among them."""
    candidate = examples.kind[held] == "candidate"
    some = held[candidate]
    chosen = some[np.linspace(0, len(some) - 1, min(WATCHED, len(some))).astype(int)]
    return np.concatenate([held[~candidate], chosen])


def _conv5_of(
    examples: Examples, frozen: Frozen, weights: dict[str, NDArray[Any]], films: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """conv5's class and kind logits of all rows of some films; nan for others."""
    rows = np.flatnonzero(films[examples.film] & (frozen.cases.record >= 0))
    conv5, kinds = (np.full((len(examples.label), size), np.nan) for size in (len(CLASSES), len(KINDS)))
    conv5[rows], kinds[rows] = _conv5(frozen, rows, weights)
    return conv5, kinds


def _conv5(
    frozen: Frozen, rows: NDArray[np.intp], weights: dict[str, NDArray[Any]], *,
    records: NDArray[np.intp] | None = None, clinical: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Class and kind logits; nan where the network has no conv5 of its own. records, clinical: instead of the rows'."""
    if weights:
        return region.predict(frozen.cases, rows, weights, records=records, clinical=clinical)
    return np.full((len(rows), len(CLASSES)), np.nan), np.full((len(rows), len(KINDS)), np.nan)


def _altered(
    examples: Examples, frozen: Frozen, model: Fold, rows: NDArray[np.intp], conv5: NDArray[np.float64],
    straight: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Class logits by the chosen variant with something changed at true boxes and random places, for the ablation."""
    score = model.regions[model.variant]
    wanted = stacking.columns(score.inputs)
    boxes = rows[frozen.mirrored[rows] >= 0]
    blank = np.zeros_like(frozen.cases.clinical[boxes])
    out = {}
    for name, records, facts in (
        (FLIPPED, frozen.mirrored[boxes], frozen.cases.clinical[boxes]),
        (WITHHELD, frozen.cases.record[boxes], blank),
    ):
        found = (
            _conv5(frozen, boxes, model.tail, records=records, clinical=facts)[0],
            heads.say_regions(model.heads, frozen, boxes, records=records, clinical=facts),
        )
        if name == FLIPPED:
            found = ((found[0] + conv5[boxes]) / 2, (found[1] + straight[boxes]) / 2)
        out[name] = np.full((len(examples.label), len(CLASSES)), np.nan)
        inputs = outputs.region_inputs(*found, np.full(len(boxes), np.nan), examples.features[boxes])
        out[name][boxes] = score.logits(inputs[:, wanted])
    return out


def save(folder: Path, fold: Fold) -> None:
    """Keep a fold's model: arrays in ``model.npz``, scores and curve in ``model.json``."""
    arrays = {f"tail/{name}": value for name, value in fold.tail.items()}
    for name, head in fold.heads.items():
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
    own = {
        name.removesuffix("/kernel"): Linear(value, arrays[name.removesuffix("kernel") + "bias"])
        for name, value in arrays.items()
        if name.endswith("/kernel") and not name.startswith("tail/")
    }
    return Fold(
        {name.removeprefix("tail/"): value for name, value in arrays.items() if name.startswith("tail/")},
        own, {name: RegionScore.of(score) for name, score in facts["regions"].items()}, facts["variant"],
        Score.of(facts["image"]) if facts["image"] else None,
        Score.of(facts["breast"]) if facts["breast"] else None, facts["epoch"], facts["curve"],
    )  # fmt: skip
