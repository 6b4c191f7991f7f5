"""Training from labelled films to a bundle: rankings, outlines, examples, frozen layers, folds, the shipped model.

Every step leaves a file in the output folder and is not done again by the same command: rankings, outlines, crops by
block, frozen maps by batch, conv5 by epoch, folds whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.errors import LabelError
from mammoscan.image.crops import CropGeometry
from mammoscan.model import network
from mammoscan.model.terms import CLASSES
from mammoscan.training import clinical, crossval, heads, linear, rank, split, stacking, tracing
from mammoscan.training import examples as made
from mammoscan.training.maps import MapStore
from mammoscan.training.region import TailConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.image.segment.ranking import Trees
    from mammoscan.image.trace import Tracer
    from mammoscan.model.scores import Linear
    from mammoscan.training.crossval import Fold, Said
    from mammoscan.training.datasets.film import Film
    from mammoscan.training.datasets.traits import Traits
    from mammoscan.training.examples import Examples
    from mammoscan.training.heads import Frozen

log = logging.getLogger(__name__)

CROP = CropGeometry(side=160, context=1.6)  # of the models made here; it goes into their descriptions


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train. searched: films a set in which candidate regions are sought; ranked: films a set on
    which their ranking and their outlines are fitted; versions: altered crops of a true box; all_steps: batches with all layers
    in training, for comparison (0: none).
    """

    seed: int = 1
    folds: int = 5
    epochs: int = 4
    steps: int = 70
    batch: int = 32
    rate: float = 5e-4
    versions: int = 4
    searched: int = 400
    ranked: int = 420
    all_steps: int = 0
    jobs: int = 2
    replicates: int = 2000

    def tail(self) -> TailConfig:
        """What the training of conv5 needs of it."""
        return TailConfig(self.epochs, self.steps, self.batch, self.rate, self.seed)

    def whole(self) -> TailConfig:
        """What the training of all layers needs of it: one epoch at a low rate."""
        return TailConfig(1, self.all_steps, self.batch, self.rate / 50, self.seed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cross-validation and a final training left.

    fold: of every film. said: of every film and row by the model that saw nothing of its patient.
    own: what the shipped model says of its validation fold (fold 0). sets: what their readers declare of the sets.
    """

    examples: Examples
    fold: NDArray[np.int64]
    models: list[Fold]
    said: Said
    final: Fold
    own: Said
    sets: Mapping[str, Traits]


def cut(films: Sequence[Film], out: Path, config: TrainConfig) -> tuple[Examples, Trees, Tracer]:
    """Crops of all films; the ranking and the outlines fitted on all patients.

    Each film's candidates are ranked by trees and drawn by a network that never saw its patient.
    """
    of_patient = folds_of(films, out, config)
    fold = [of_patient[film.patient] for film in films]
    by_fold, ranking = rank.cross_fitted(films, fold, out, seed=config.seed, most=config.ranked, jobs=config.jobs)
    drawn, outlines = tracing.cross_fitted(films, fold, out, seed=config.seed, most=config.ranked, jobs=config.jobs)
    examples = made.make(
        films, out, cut=CROP, regions=AnalysisConfig().max_regions, versions=config.versions, searched=config.searched, seed=config.seed, jobs=config.jobs, rankings=by_fold,
        tracers=drawn, fold=fold,
    )  # fmt: skip
    log.info("films %d, rows %d, classified %d, altered %d", len(examples.source), len(examples.label),
             int(examples.classified.sum()), len(examples.versions))  # fmt: skip
    return clinical.with_columns(examples, films), ranking, outlines


def freeze(examples: Examples, start: dict[str, NDArray[Any]], out: Path) -> Frozen:
    """What the frozen layers say of all crops, kept in ``out``."""
    return heads.freeze(examples, MapStore(out, start, CROP))


def folds_of(films: Sequence[Film], out: Path, config: TrainConfig) -> dict[str, int]:
    """Fold of every patient, written to ``splits.csv``."""
    patient, source, label, density = (
        np.array([getattr(film, name) for film in films], str) for name in ("patient", "source", "label", "density")
    )
    strata = split.strata(patient, source, label, density)
    of_patient = split.folds(strata, count=config.folds, seed=config.seed)
    split.write(out / "splits.csv", strata, of_patient)
    return of_patient


def fold_of_films(examples: Examples, of_patient: Mapping[str, int]) -> NDArray[np.int64]:
    """Fold of every film of the examples."""
    fold = np.array([of_patient[p] for p in examples.patient.tolist()], np.int64)
    split.check_no_leak(examples.patient, fold)
    return fold


def cross_validate(
    examples: Examples, frozen: Frozen, fold: NDArray[np.int64], sets: Mapping[str, Traits],
    start: Mapping[str, NDArray[Any]], out: Path, config: TrainConfig, note: Callable[[str], None] = log.info,
) -> Outcome:  # fmt: skip
    """Fit every fold and the shipped model; folds that are done are read back."""
    check_classes(examples, fold)
    models, said = [], []
    place = out / f"folds-{_digest(examples, config)}"
    for test in range(config.folds):
        validation = (test + 1) % config.folds
        training = [f for f in range(config.folds) if f not in {test, validation}]
        note(f"fold {test + 1} of {config.folds}")
        model = _fitted(examples, frozen, fold, training, validation, config, place / f"fold-{test}")
        models.append(model)
        said.append(crossval.say(examples, frozen, model, fold == test))
        if config.all_steps and model.tail:
            note(f"fold {test + 1} of {config.folds}: all layers")
            said[-1].logits[crossval.ALL_LAYERS] = crossval.all_layers(
                examples, frozen, fold, model, start, (training, validation, test), config.whole(),
                place / f"fold-{test}",
            )  # fmt: skip
    note(
        "the model to ship: linear heads of all patients, conv5 of all but those of the first fold, which choose its epoch"
    )
    final = _fitted(examples, frozen, fold, list(range(1, config.folds)), 0, config, place / "final")
    own = crossval.say(examples, frozen, final, fold == 0)
    return Outcome(examples, fold, models, merged(said), final, own, sets)


def check_classes(examples: Examples, fold: NDArray[np.int64]) -> None:
    """Make sure that every fold has classified crops of every class, and a film without a lesion.

    Raises
    ------
    LabelError
        Naming the fold and what it lacks.
    """
    for number in np.unique(fold).tolist():
        rows = (fold[examples.film] == number) & examples.classified
        lacking = [name for label, name in enumerate(CLASSES) if not (examples.label[rows] == label).any()]
        if not (examples.clear & (fold == number)).any():
            lacking.append("a normal film")
        if lacking:
            raise LabelError(
                f"fold {number} has no {', no '.join(lacking)}",
                remedy="add patients, or use fewer folds: each needs normal, benign and malignant cases",
            )


def merged(parts: Sequence[Said]) -> Said:
    """One statement from those of the folds, each of which is nan outside its own test part."""

    def first(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = values[0].copy()
        for value in values[1:]:
            fill = np.isnan(out) & ~np.isnan(value)
            out[fill] = value[fill]
        return out

    names = [f.name for f in dataclasses.fields(parts[0]) if f.name != "logits"]
    columns = {name: first([getattr(p, name) for p in parts]) for name in names}
    logits = {name: first([p.logits[name] for p in parts]) for name in parts[0].logits}
    return crossval.Said(**columns, logits=logits)


def head_layers(final: Fold) -> dict[str, Linear]:
    """The linear heads by layer name."""
    return {f"{name}_logits": head for name, head in final.heads.items()}


def shipped_arrays(start: dict[str, NDArray[Any]], final: Fold) -> dict[str, NDArray[Any]]:
    """Weights of the whole network: frozen layers, conv5 and every head, as ``weights.npz`` holds them."""
    arrays = {**start, **final.tail}
    for name, head in head_layers(final).items():
        arrays |= {f"{name}/0": head.kernel, f"{name}/1": head.bias}
    return network.compact(arrays)


def _fitted(
    examples: Examples, frozen: Frozen, fold: NDArray[np.int64], training: list[int], validation: int,
    config: TrainConfig, folder: Path,
) -> Fold:  # fmt: skip
    done = crossval.load(folder)
    if done is None:
        done = crossval.fit(examples, frozen, fold, training, validation, config.tail(), folder)
        crossval.save(folder, done)
    return done


def _digest(examples: Examples, config: TrainConfig) -> str:
    """What decides the folds' models: rows, labels, features and crops, the training's settings and penalties."""
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in {"jobs", "replicates", "all_steps"}}
    settings["constants"] = [heads.STRENGTH, stacking.REGION_STRENGTH, stacking.SCORE_STRENGTH, linear.LEAD]
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in ("label", "box", "film", "patient", "film_label", "density", "clinical", "features", "crops",
                 "versions"):  # fmt: skip
        total.update(np.ascontiguousarray(getattr(examples, name)).tobytes())
    asked = clinical.of(examples)  # without columns the digest is what it was
    total.update("".join(asked.inputs).encode() + asked.values.tobytes())
    return total.hexdigest()[:12]
