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

from mammoscan.features import REGION_FEATURES
from mammoscan.model import linear, outputs, region, split
from mammoscan.model.scores import Linear, RegionScore, Score
from mammoscan.model.terms import CLASSES, CLINICAL, GRADES, KINDS, MALIGNANT, TISSUES, softmax

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.model.examples import Examples
    from mammoscan.model.maps import MapStore
    from mammoscan.model.region import Cases, TailConfig

log = logging.getLogger(__name__)

# Of the heads' penalties (scikit-learn's C), by head.
STRENGTH = {"lesion": 3e-4, "pathology": 5e-4, "tissue": 1e-4, "grade": 3e-4}
WATCHED = 600  # candidates of the validation part that an epoch is judged by
REGION_STRENGTH = 0.1
SCORE_STRENGTH = 1.0
# What the score of a region is fitted on, by name; the ablation shows them side by side.
# First those that are known of every fold, then those of the validation part alone.
_LINEAR = (*outputs.LINEAR_INPUTS, outputs.ORDER)
_BOTH = (*_LINEAR, *REGION_FEATURES)
VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear": (_LINEAR, ()),
    "linear, without the order": (outputs.LINEAR_INPUTS, ()),
    "linear and handcrafted": (_BOTH, ()),
    "conv5": ((), outputs.CONV5_INPUTS),
    "both": (_LINEAR, outputs.CONV5_INPUTS),
    "both and handcrafted": (_BOTH, outputs.CONV5_INPUTS),
}

CHOSEN = "chosen"  # the variant that a fold's own validation part prefers
ALL_LAYERS = "all layers"  # at true boxes and random places only, for the ablation
# The chosen variant, with the logits of the crop and its mirror image averaged; with age, density, view and side unknown.
FLIPPED, WITHHELD = "chosen, test-time flips", "chosen, clinical inputs withheld"


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is computed once for all folds.

    cases: by row. record: a row's record, -1 where it is not classified. versions: (v,) records of the
    altered crops. mirrored: (n,) records of the mirrored crops, -1 where a row has none. tiles: (films,
    POOLED), the whole breast. pooled: all records.
    """

    cases: Cases
    mirrored: NDArray[np.intp]
    versions: NDArray[np.intp]
    tiles: NDArray[np.float32]
    pooled: NDArray[np.float16]


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


def freeze(examples: Examples, store: MapStore) -> Frozen:
    """Run the frozen layers over everything that any fold needs."""
    from mammoscan.model.region import Cases

    count = len(examples.label)
    record = np.full(count, -1, np.intp)
    wanted = np.flatnonzero(examples.classified)
    record[wanted] = store.rows(examples.crops[wanted])
    versions = store.rows(examples.versions)
    # Only for the ablation, which asks for boxes and random places; twice the work in use would buy little.
    mirrored = np.full(count, -1, np.intp)
    boxes = np.flatnonzero(examples.classified & (examples.kind != "candidate"))
    mirrored[boxes] = store.rows(np.ascontiguousarray(examples.crops[boxes][:, :, ::-1]))
    films = len(examples.source)
    of_tiles = store.rows(examples.tiles.reshape(-1, *examples.tiles.shape[2:])).reshape(films, 2)
    pooled = store.pooled()
    by_row: dict[int, list[int]] = {}
    for row, found in zip(examples.version_of.tolist(), versions.tolist(), strict=True):
        by_row.setdefault(row, []).append(found)
    graded = (examples.label < 1) | two_sided(examples, np.arange(count))
    cases = Cases(
        maps=store.maps(), record=record, versions={row: np.array(v, np.intp) for row, v in by_row.items()},
        label=examples.label, lesion_kind=examples.lesion_kind, clinical=examples.clinical,
        source=examples.set_of(), true_box=examples.kind == "truth", graded=graded,
    )  # fmt: skip
    return Frozen(cases, mirrored, versions, pooled[of_tiles].astype(np.float32).mean(axis=1), pooled)


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
    heads = _film_heads(examples, frozen, np.isin(fold, inside))
    heads |= _region_heads(examples, frozen, np.flatnonzero(np.isin(of_row, inside) & usable))
    folder.mkdir(parents=True, exist_ok=True)
    watched = _watched(examples, held)
    trained = region.train(frozen.cases, rows, watched, config, folder) if config.epochs else region.Trained({}, -1, [])
    inputs = outputs.region_inputs(
        _conv5_of(examples, frozen, trained.weights, fold == validation)[0],
        _linear_held_out(examples, frozen, of_row, inside),
        # Of sets of which only the first candidates are classified, later ones that hit a lesion teach nothing of order.
        np.where(searched_rows(examples), places(examples), np.nan),
        examples.features,
    )
    # Random places teach the heads; a score is of candidates and true boxes, and calibrated on those.
    rows = np.flatnonzero(np.isin(of_row, inside) & usable & (examples.kind != "random"))
    held = rows[of_row[rows] == validation]
    regions, losses = {}, {}
    for name, (base, more) in VARIANTS.items():
        if more and not config.epochs:
            continue
        regions[name] = _region_score(base, more, inputs, examples, rows, held)
        losses[name] = _loss(base, more, inputs, examples, rows[of_row[rows] != validation], held, config.seed)
    # Chosen on the validation part, like everything about conv5.
    variant = min(losses, key=lambda name: losses[name])
    log.info("%s: loss of the region score by variant %s", folder.name, {k: round(v, 4) for k, v in losses.items()})
    base, more = VARIANTS[variant]
    films = np.isin(fold, inside) if base else fold == validation
    odds = _malignant(regions[variant], inputs)
    if base and more:
        # Of the other folds conv5 has seen the patients, so the same score without it speaks for them.
        (plain,) = (name for name, value in VARIANTS.items() if value == (base, ()))
        odds = np.where(of_row == validation, odds, _malignant(regions[plain], inputs))
    image = _image_score(examples, odds, films)
    breast = None
    if image is not None:
        of_film, x = image_rows(examples, odds, films)
        values = np.full(len(fold), np.nan)
        values[of_film] = image.log_odds(x)
        breast = _breast_score(examples, values, films)
    return Fold(trained.weights, heads, regions, variant, image, breast, trained.epoch, trained.curve)


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


def say(examples: Examples, frozen: Frozen, model: Fold, films: NDArray[np.bool_]) -> Said:
    """Apply a fold's model to some films and their rows."""
    rows = np.flatnonzero(films[examples.film] & (frozen.cases.record >= 0))
    n, m = len(examples.label), len(examples.source)
    conv5, kinds = _conv5_of(examples, frozen, model.tail, films)
    straight = np.full((n, len(CLASSES)), np.nan)
    straight[rows] = _linear(model.heads, frozen, rows)
    inputs = outputs.region_inputs(conv5[rows], straight[rows], places(examples)[rows], examples.features[rows])
    logits = {}
    for name, score in model.regions.items():
        logits[name] = np.full((n, len(CLASSES)), np.nan)
        logits[name][rows] = score.logits(inputs[:, _columns(score.inputs)])
    logits[CHOSEN] = logits[model.variant]
    logits |= _altered(examples, frozen, model, rows, conv5, straight)
    tissue, grade = (
        _of_films(model.heads, name, frozen, films, size)
        for name, size in (("tissue", len(TISSUES)), ("grade", len(GRADES)))
    )
    image, breast = np.full(m, np.nan), np.full(m, np.nan)
    if model.image is not None:
        of_film, x = image_rows(examples, outputs.malignant_odds(logits[CHOSEN]), films)
        image[of_film] = model.image.log_odds(x)
    if model.breast is not None:
        for members, x in breast_rows(examples, image, films):
            breast[members] = model.breast.log_odds(x[None])[0]
    return Said(kinds, logits, image, breast, tissue, grade)


def _altered(
    examples: Examples, frozen: Frozen, model: Fold, rows: NDArray[np.intp], conv5: NDArray[np.float64],
    straight: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Class logits by the chosen variant with something changed at true boxes and random places, for the ablation."""
    score = model.regions[model.variant]
    wanted = _columns(score.inputs)
    boxes = rows[frozen.mirrored[rows] >= 0]
    blank = np.zeros_like(frozen.cases.clinical[boxes])
    out = {}
    for name, records, facts in (
        (FLIPPED, frozen.mirrored[boxes], frozen.cases.clinical[boxes]),
        (WITHHELD, frozen.cases.record[boxes], blank),
    ):
        found = (
            _conv5(frozen, boxes, model.tail, records=records, clinical=facts)[0],
            _linear(model.heads, frozen, boxes, records=records, clinical=facts),
        )
        if name == FLIPPED:
            found = ((found[0] + conv5[boxes]) / 2, (found[1] + straight[boxes]) / 2)
        out[name] = np.full((len(examples.label), len(CLASSES)), np.nan)
        inputs = outputs.region_inputs(*found, np.full(len(boxes), np.nan), examples.features[boxes])
        out[name][boxes] = score.logits(inputs[:, wanted])
    return out


def searched_rows(examples: Examples) -> NDArray[np.bool_]:
    """The candidates by which an image is judged: those that are classified whether or not they hit a lesion."""
    from mammoscan.model.examples import CLASSIFIED

    most = np.array([CLASSIFIED.get(s, 10**6) for s in examples.source.tolist()], np.int64)
    return np.asarray((examples.kind == "candidate") & (examples.rank < most[examples.film]))


def places(examples: Examples) -> NDArray[np.float64]:
    """Every row's place in its film's order of saliency, 0 the first; nan where it was not found by it."""
    return np.where(examples.kind == "candidate", examples.rank, np.nan)


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


def class_weights(label: NDArray[np.int64], source: NDArray[np.str_]) -> NDArray[np.float64]:
    """Weights that make classes alike, and within a class sets by the root of their size; mean 1."""
    weight = np.zeros(len(label))
    for one in np.unique(label):
        _, index, sizes = np.unique(source[label == one], return_inverse=True, return_counts=True)
        part = 1.0 / np.sqrt(sizes[index])
        weight[label == one] = part / part.sum()
    return np.asarray(weight / weight.mean())


def _conv5(
    frozen: Frozen, rows: NDArray[np.intp], weights: dict[str, NDArray[Any]], *,
    records: NDArray[np.intp] | None = None, clinical: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Class and kind logits; nan where the network has no conv5 of its own. records, clinical: instead of the rows'."""
    if weights:
        return region.predict(frozen.cases, rows, weights, records=records, clinical=clinical)
    return np.full((len(rows), len(CLASSES)), np.nan), np.full((len(rows), len(KINDS)), np.nan)


def _columns(names: Sequence[str]) -> NDArray[np.intp]:
    return np.array([outputs.REGION_INPUTS.index(name) for name in names], np.intp)


def _malignant(score: RegionScore, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    return outputs.malignant_odds(score.logits(inputs[:, _columns(score.inputs)]))


def _linear_held_out(
    examples: Examples, frozen: Frozen, of_row: NDArray[np.int64], folds: Sequence[int]
) -> NDArray[np.float64]:
    """Class logits (n, 3) of the rows of some folds, each by linear heads fitted on the others of them; else nan."""
    out = np.full((len(of_row), len(CLASSES)), np.nan)
    known = frozen.cases.record >= 0
    for one in folds:
        others = np.isin(of_row, [f for f in folds if f != one])
        heads = _region_heads(examples, frozen, np.flatnonzero(others & known & (examples.label >= 0)))
        rows = np.flatnonzero((of_row == one) & known)
        out[rows] = _linear(heads, frozen, rows)
    return out


def _region_score(
    base: tuple[str, ...], more: tuple[str, ...], inputs: NDArray[np.float64], examples: Examples,
    rows: NDArray[np.intp], held: NDArray[np.intp], *, level: bool = False,
) -> RegionScore:  # fmt: skip
    """Lesion or not; malignant or benign from the lesions of sets that have both.

    inputs: (n, len(REGION_INPUTS)). base: those to fit on ``rows``. more: those to add, fitted on ``held``.
    level: fit to the level of ``held`` even if there are none to add.
    """

    def fitted(worse: int) -> Score:
        on, of = (_taught(examples, some, worse) for some in (rows, held))
        score = None
        if base:
            score = linear.fit_score(
                base, inputs[np.ix_(on, _columns(base))], examples.label[on] >= worse, np.ones(len(on)),
                strength=REGION_STRENGTH,
            )  # fmt: skip
        if score is not None and not more and not level:
            return score
        truth, x = examples.label[of] >= worse, inputs[np.ix_(of, _columns(more))]
        if score is None:
            return linear.fit_score(more, x, truth, np.ones(len(of)), strength=REGION_STRENGTH)
        return linear.extended(score, more, inputs[np.ix_(of, _columns(base))], x, truth, strength=REGION_STRENGTH)

    return RegionScore(fitted(1), fitted(MALIGNANT))


def _taught(examples: Examples, rows: NDArray[np.intp], worse: int) -> NDArray[np.intp]:
    """The rows that teach what is at least as bad as a class: for malignant, lesions of sets that have both."""
    if worse < MALIGNANT:
        return rows
    lesions = rows[examples.label[rows] > 0]
    return np.asarray(lesions[two_sided(examples, lesions)])


def _loss(
    base: tuple[str, ...], more: tuple[str, ...], inputs: NDArray[np.float64], examples: Examples,
    rows: NDArray[np.intp], held: NDArray[np.intp], seed: int,
) -> float:  # fmt: skip
    """Log loss of a region's class on ``held``, which nothing of its score has seen.

    What is fitted on ``held`` itself is fitted in three parts by patient; every variant is fitted to its level,
    else those that use conv5 would win by that alone.
    """
    patients, index = np.unique(examples.group()[held], return_inverse=True)
    part = (np.random.default_rng(seed).permutation(len(patients)) % 3)[index]
    label = examples.label[held]
    p = np.tile(np.bincount(label, minlength=len(CLASSES)) / len(label), (len(label), 1))
    for number in range(3):
        rest = part != number
        if set(label[rest].tolist()) == set(range(len(CLASSES))):
            score = _region_score(base, more, inputs, examples, rows, held[rest], level=True)
            p[~rest] = softmax(score.logits(inputs[np.ix_(held[~rest], _columns(score.inputs))]))
    return float(-np.mean(np.log(np.clip(p[np.arange(len(label)), label], 1e-7, 1))))


def _linear_inputs(
    frozen: Frozen, rows: NDArray[np.intp], *, records: NDArray[np.intp] | None = None,
    clinical: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    pooled = frozen.pooled[frozen.cases.record[rows] if records is None else records].astype(np.float32)
    return np.hstack([pooled, frozen.cases.clinical[rows] if clinical is None else clinical])


def _linear(
    heads: dict[str, Linear], frozen: Frozen, rows: NDArray[np.intp], **instead: NDArray[Any]
) -> NDArray[np.float64]:
    x = _linear_inputs(frozen, rows, **instead)
    return outputs.class_logits(*(outputs.head_odds(heads[name].logits(x)) for name in ("lesion", "pathology")))


def two_sided(examples: Examples, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which rows are of a set that has benign and malignant lesions among them: what else tells the two
    apart would be the look of a set. All rows where no set has both.
    """
    source, label = examples.set_of()[rows], examples.label[rows]
    both = [s for s in np.unique(source) if {1, 2} <= set(label[source == s].tolist())]
    return np.isin(source, both) if both else np.ones(len(rows), bool)


def _region_heads(examples: Examples, frozen: Frozen, rows: NDArray[np.intp]) -> dict[str, Linear]:
    """Normal or lesion, from all rows; benign or malignant, from the lesions of sets that have both."""
    lesions = rows[examples.label[rows] > 0]
    lesions = lesions[two_sided(examples, lesions)]
    out = {}
    for name, chosen, least in (("lesion", rows, 1), ("pathology", lesions, MALIGNANT)):
        altered = np.isin(examples.version_of, chosen)
        both = np.concatenate([chosen, examples.version_of[altered]])
        versions = frozen.pooled[frozen.versions[altered]].astype(np.float32)
        facts = examples.clinical[examples.version_of[altered]]
        x = np.concatenate([_linear_inputs(frozen, chosen), np.hstack([versions, facts])])
        label = (examples.label[both] >= least).astype(np.int64)
        weight = class_weights(label, examples.set_of()[both])
        out[name] = linear.fit_linear(x, label, weight, classes=2, strength=STRENGTH[name])
    return out


def _film_inputs(frozen: Frozen, films: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.hstack([frozen.tiles[films], np.zeros((len(films), len(CLINICAL)), np.float32)])


def _film_heads(examples: Examples, frozen: Frozen, films: NDArray[np.bool_]) -> dict[str, Linear]:
    """Heads on the whole breast: a to d; F, G, D, of which there are fewer, led by the former."""
    out: dict[str, Linear] = {}
    for name, terms in (("grade", GRADES), ("tissue", TISSUES)):
        known = np.array([terms.index(d) if d in terms else -1 for d in examples.density.tolist()], np.int64)
        rows = np.flatnonzero(films & (known >= 0))
        if len(np.unique(known[rows])) < 2:
            continue
        out[name] = linear.fit_linear(
            _film_inputs(frozen, rows), known[rows], np.ones(len(rows)), classes=len(terms), strength=STRENGTH[name],
            lead=out.get("grade"),
        )  # fmt: skip
    return out


def _of_films(
    heads: dict[str, Linear], name: str, frozen: Frozen, films: NDArray[np.bool_], size: int
) -> NDArray[np.float64]:
    """Logits (films, size) of a head; nan for other films, and where there is no such head."""
    out = np.full((len(films), size), np.nan)
    rows = np.flatnonzero(films)
    if name in heads:
        out[rows] = heads[name].logits(_film_inputs(frozen, rows))
    return out


def _image_score(examples: Examples, odds: NDArray[np.float64], films: NDArray[np.bool_]) -> Score | None:
    known = films & np.isin(examples.source, screening_sets(examples)) & (examples.film_label != "")
    of_film, x = image_rows(examples, odds, known)
    truth = examples.film_label[of_film] == "malignant"
    if truth.all() or not truth.any():
        return None
    weight = linear.even(examples.source[of_film])
    return linear.fit_score(outputs.IMAGE_INPUTS, x, truth, weight, strength=SCORE_STRENGTH)


def _breast_score(examples: Examples, image: NDArray[np.float64], films: NDArray[np.bool_]) -> Score | None:
    known = films & np.isin(examples.source, screening_sets(examples)) & (examples.film_label != "")
    found = breast_rows(examples, image, known)
    truth = np.array([bool((examples.film_label[members] == "malignant").any()) for members, _ in found])
    if not len(truth) or truth.all() or not truth.any():
        return None
    weight = linear.even(np.array([str(examples.source[members[0]]) for members, _ in found]))
    return linear.fit_score(
        outputs.BREAST_INPUTS, np.stack([x for _, x in found]), truth, weight, strength=SCORE_STRENGTH
    )


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
    heads = {
        name.removesuffix("/kernel"): Linear(value, arrays[name.removesuffix("kernel") + "bias"])
        for name, value in arrays.items()
        if name.endswith("/kernel") and not name.startswith("tail/")
    }
    return Fold(
        {name.removeprefix("tail/"): value for name, value in arrays.items() if name.startswith("tail/")},
        heads, {name: RegionScore.of(score) for name, score in facts["regions"].items()}, facts["variant"],
        Score.of(facts["image"]) if facts["image"] else None,
        Score.of(facts["breast"]) if facts["breast"] else None, facts["epoch"], facts["curve"],
    )  # fmt: skip
