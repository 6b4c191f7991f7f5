"""The second source paper's small network, by two protocols: what a split by image does to a figure.

Malignant against benign at true boxes, with the paper's own settings: three blocks of convolution and
pooling, dense 64, dropout 0.5, sigmoid, rmsprop, binary cross-entropy, 25 epochs, pixels over 255.
``patient``: folds of whole patients, judged on unaltered crops. ``image``: the paper's protocol:
altered copies are made first and images are split at random, so that copies of one lesion, and both
views of one patient, lie on both sides. The second figure is a warning, not a result.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mammoscan.model import network
from mammoscan.model.terms import MALIGNANT
from mammoscan.training import evaluate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.training.evaluate import Figure
    from mammoscan.training.examples import Examples

log = logging.getLogger(__name__)

PROTOCOLS = ("patient", "image")


@dataclass(frozen=True, slots=True)
class CnnConfig:
    """How the small network is trained. side: of its input, pixels. folds: how many are tested."""

    side: int = 64
    epochs: int = 25
    batch: int = 32
    folds: int = 5
    copies: int = 2
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Images:
    """Originals and altered copies. row: the row of ``Examples`` that each shows."""

    pixels: NDArray[np.uint8]
    row: NDArray[np.int64]
    original: NDArray[np.bool_]


def images(examples: Examples, config: CnnConfig) -> Images:
    """True boxes of the sets that have benign and malignant ones, and their copies, shrunk."""
    truth = (examples.kind == "truth") & (examples.label > 0)
    of = examples.set_of()
    both = [s for s in np.unique(of) if len(np.unique(examples.label[truth & (of == s)])) == 2]
    rows = np.flatnonzero(truth & np.isin(of, both))
    copies: list[int] = []
    for row in rows.tolist():
        copies.extend(np.flatnonzero(examples.version_of == row)[: config.copies].tolist())
    pixels = [examples.crops[rows], examples.versions[copies]]
    small = np.stack([cv2.resize(c, (config.side,) * 2, interpolation=cv2.INTER_AREA) for p in pixels for c in p])
    return Images(small, np.concatenate([rows, examples.version_of[copies]]), np.arange(len(small)) < len(rows))


def evaluate_protocol(
    examples: Examples, fold: NDArray[np.int64], protocol: str, config: CnnConfig, out: Path, *, replicates: int
) -> Figure:
    """AUC of one protocol, folds pooled. Folds that are done are read back from ``out``."""
    found = images(examples, config)
    if protocol == "patient":
        part = fold[examples.film[found.row]]
        tested = found.original
    else:
        count = int(fold.max()) + 1
        part = np.random.default_rng(config.seed).permutation(len(found.row)) % count
        tested = np.ones(len(found.row), bool)
    label = examples.label[found.row] == MALIGNANT
    place = out / "cnn"
    place.mkdir(parents=True, exist_ok=True)
    scores = np.full(len(found.row), np.nan)
    curves: list[list[dict[str, float]]] = []
    for test in range(min(config.folds, int(part.max()) + 1)):
        store = place / f"{protocol}-{test}.npz"
        held = (part == test) & tested
        if not store.exists():
            model, curve = fit(found.pixels[part != test], label[part != test], found.pixels[held], label[held], config)
            said = np.asarray(model.predict(found.pixels[held][..., None].astype(np.float32), verbose=0))[:, 0]
            partial = store.with_suffix(".partial.npz")
            np.savez(partial, allow_pickle=False, said=said, curve=np.array(json.dumps(curve)))
            partial.rename(store)
            log.info("small network, split by %s: fold %d of %d", protocol, test + 1, config.folds)
        with np.load(store, allow_pickle=False) as stored:
            scores[held] = stored["said"]
            curves.append(json.loads(str(stored["curve"])))
    known = np.isfinite(scores)
    task = evaluate.Task(
        f"small CNN, split by {protocol}: malignant against benign, true boxes",
        label[known], scores[known], examples.group()[found.row[known]],
    )  # fmt: skip
    (place / f"curves-{protocol}.json").write_text(json.dumps(curves))
    return evaluate.auc(task, replicates=replicates)


def fit(
    pixels: NDArray[np.uint8], label: NDArray[np.bool_], held: NDArray[np.uint8], held_label: NDArray[np.bool_],
    config: CnnConfig,
) -> tuple[Any, list[dict[str, float]]]:  # fmt: skip
    """Train as the paper did, for all epochs; the curve has losses and errors of both parts."""
    import keras

    keras.utils.set_random_seed(config.seed)
    model = network.small_cnn(config.side)
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    seen = model.fit(
        pixels[..., None].astype(np.float32), label.astype(np.float32), batch_size=config.batch,
        epochs=config.epochs, verbose=0,
        validation_data=(held[..., None].astype(np.float32), held_label.astype(np.float32)),
    )  # fmt: skip
    h = seen.history
    curve = [
        {"epoch": i, "loss": h["loss"][i], "error": 1 - h["accuracy"][i], "validation_loss": h["val_loss"][i],
         "validation_error": 1 - h["val_accuracy"][i]}
        for i in range(config.epochs)
    ]  # fmt: skip
    return model, curve
