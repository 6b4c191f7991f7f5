"""Training of the region network: conv5 and the heads on stored conv4 maps, then all layers briefly.

Parts by patient: fold 0 is the test part, fold 1 validation (early stopping, calibration, operating
points), the rest training. Every step leaves a file in the output folder and is not done again.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mammoscan.config import AnalysisConfig
from mammoscan.errors import LabelError
from mammoscan.model import examples as made
from mammoscan.model import network, split
from mammoscan.model.classify import CLASSES, CLINICAL, CPU_BATCH, softmax

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.model.datasets.film import Film
    from mammoscan.model.examples import Examples

log = logging.getLogger(__name__)

MALIGNANT = CLASSES.index("malignant")
TEST_FOLD, VALIDATION_FOLD = 0, 1
FOLDS = 6


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train. steps: batches an epoch."""

    seed: int = 20261124
    epochs: int = 6
    steps: int = 110
    batch: int = 32
    rate: float = 5e-4
    fine_epochs: int = 1
    fine_steps: int = 60
    fine_batch: int = 16
    fine_rate: float = 1e-5
    jobs: int = 2


def prepare_examples(films: list[Film], out: Path, config: TrainConfig) -> Examples:
    """Crops of all films, stored in ``out/examples.npz``."""
    store = out / "examples.npz"
    if not store.exists():
        analysis = AnalysisConfig()
        found = made.make(films, side=analysis.crop_side, context=analysis.crop_context, jobs=config.jobs)
        temporary = out / "examples.partial.npz"
        np.savez(temporary, **{name: getattr(found, name) for name in made.Examples.__slots__})
        temporary.rename(store)
    with np.load(store, allow_pickle=False) as arrays:
        return made.Examples(*(arrays[name] for name in made.Examples.__slots__))


def augmented(examples: Examples, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """A second version of benign and malignant crops: flipped up-down, grey levels jittered (only those at a finding's own box)."""
    rows = np.flatnonzero((examples.label > 0) & (examples.kind == "truth"))
    gain = rng.uniform(0.8, 1.2, (len(rows), 1, 1))
    shift = rng.uniform(-15, 15, (len(rows), 1, 1))
    flipped = examples.crops[rows][:, ::-1].astype(np.float32) * gain + shift
    return np.clip(flipped, 0, 255).astype(np.uint8), rows


def conv4_maps(crops: NDArray[np.uint8], weights: dict[str, NDArray[Any]], path: Path) -> NDArray[np.float16]:
    """conv4 output of every crop with the ImageNet weights, kept in a file; goes on where it stopped."""
    import tensorflow as tf

    side = crops.shape[1]
    model = network.resnet50(side, len(CLINICAL), len(CLASSES))
    network.set_weights(model, weights, partly=True)
    call = tf.function(network.stem(model))
    progress = path.with_suffix(".json")
    done = json.loads(progress.read_text()) if progress.exists() else 0
    shape = (len(crops), side // 16, side // 16, 1024)
    maps = np.lib.format.open_memmap(path, mode="r+" if done else "w+", dtype=np.float16, shape=shape)
    batch, began, first = 32, time.monotonic(), done
    for begin in range(done, len(crops), batch):
        part = crops[begin : begin + batch]
        filled = np.zeros((batch, side, side, 1), np.float32)
        filled[: len(part)] = part[..., None]
        maps[begin : begin + len(part)] = np.asarray(call(filled))[: len(part)]
        if begin // batch % 20 == 19:
            maps.flush()
            progress.write_text(str(begin + len(part)))
            rate = (begin + len(part) - first) / (time.monotonic() - began)
            log.info("conv4 maps: %d of %d, %.1f/s", begin + len(part), len(crops), rate)
    maps.flush()
    progress.write_text(str(len(crops)))
    stored: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return stored


def check_classes(examples: Examples, parts: Mapping[str, NDArray[np.intp]]) -> None:
    """Make sure that every part has crops of every class, and a film without a lesion.

    Raises
    ------
    LabelError
        Naming the part and what it lacks.
    """
    for name, rows in parts.items():
        part = examples.rows(rows)
        lacking = [CLASSES[label] for label in range(len(CLASSES)) if not (part.label == label).any()]
        if not set(part.film) - set(part.film[part.label > 0]):
            lacking.append("a normal film")
        if lacking:
            raise LabelError(
                f"the {name} part has no {', no '.join(lacking)}",
                remedy="add patients: each of the parts needs normal, benign and malignant cases",
            )


def balanced(examples: Examples, rows: NDArray[np.intp], rng: np.random.Generator, count: int) -> NDArray[np.intp]:
    """``count`` of the rows, each class a third, and within a class each source alike (by root of its size)."""
    chosen = []
    for label in range(len(CLASSES)):
        of_class = rows[examples.label[rows] == label]
        sources, index, sizes = np.unique(examples.source[of_class], return_inverse=True, return_counts=True)
        del sources
        weight = 1.0 / np.sqrt(sizes[index])
        chosen.append(rng.choice(of_class, count // len(CLASSES) + 1, p=weight / weight.sum()))
    mixed = np.concatenate(chosen)
    rng.shuffle(mixed)
    return mixed[:count]


def train(films: list[Film], start: dict[str, NDArray[Any]], out: Path, config: TrainConfig) -> dict[str, Any]:
    """Train, choose, calibrate, evaluate; returns the metrics and leaves ``weights.npz`` in ``out``."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    examples = prepare_examples(films, out, config)
    part = split.folds(examples.group, examples.label, examples.source, count=FOLDS, seed=config.seed)
    split.check_no_leak(examples.group, part)
    extra, extra_of = augmented(examples, rng)
    maps = conv4_maps(np.concatenate([examples.crops, extra]), start, out / "conv4.npy")
    twin = np.full(len(examples.label), -1, np.intp)  # row of the augmented version
    twin[extra_of] = len(examples.label) + np.arange(len(extra_of))
    training = np.flatnonzero((part != TEST_FOLD) & (part != VALIDATION_FOLD))
    validation = np.flatnonzero(part == VALIDATION_FOLD)
    check_classes(examples, {"training": training, "validation": validation})
    log.info("examples %d, training %d, validation %d", len(examples.label), len(training), len(validation))

    side = examples.crops.shape[1]
    model = network.tail(side, len(CLINICAL), len(CLASSES))
    schedule = keras.optimizers.schedules.CosineDecay(config.rate, config.epochs * config.steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, facts: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(y, model([x, facts], training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    forward = tf.function(lambda x, f: model([x, f], training=False), reduce_retracing=True)

    def evaluate(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        logits = []
        for begin in range(0, len(rows), 64):
            chosen = rows[begin : begin + 64]
            logits.append(np.asarray(forward(maps[chosen].astype(np.float32), examples.clinical[chosen])))
        return softmax(np.concatenate(logits))

    curve: list[dict[str, float]] = []
    best, best_weights = -1.0, model.get_weights()
    for epoch in range(config.epochs):
        losses = []
        chosen = balanced(examples, training, rng, config.steps * config.batch)
        for begin in range(0, len(chosen), config.batch):
            rows = np.sort(chosen[begin : begin + config.batch])
            use = np.where((twin[rows] >= 0) & (rng.random(len(rows)) < 0.5), twin[rows], rows)
            facts = examples.clinical[rows].copy()
            facts[rng.random(len(rows)) < 0.3, :4] = 0.0  # age and density may be missing in use
            losses.append(float(step(maps[use].astype(np.float32), facts, examples.label[rows])))
        p = evaluate(validation)
        score = selection_score(examples.rows(validation), p)
        curve.append({"epoch": epoch, "loss": float(np.mean(losses)), "validation": score})
        log.info("epoch %d loss %.4f validation %.4f", epoch, np.mean(losses), score)
        if score > best:
            best, best_weights = score, model.get_weights()
    model.set_weights(best_weights)

    full = network.resnet50(side, len(CLINICAL), len(CLASSES))
    network.set_weights(full, start, partly=True)
    network.set_weights(full, network.weights_of(model), partly=True)
    before = network.weights_of(full)
    if config.fine_epochs:
        _fine_tune(full, examples, training, rng, config)
    p = predict(full, examples, validation)
    score = selection_score(examples.rows(validation), p)
    log.info("all layers: validation %.4f (conv5 only %.4f)", score, best)
    if score < best:
        network.set_weights(full, before)
        p = predict(full, examples, validation)
    curve.append({"epoch": config.epochs, "loss": float("nan"), "validation": score})
    held = np.flatnonzero(part == TEST_FOLD)
    p_test = predict(full, examples, held)
    np.savez(out / "weights.npz", allow_pickle=False, **network.compact(network.weights_of(full)))
    np.savez(out / "predictions.npz", validation=validation, p_validation=p, test=held, p_test=p_test, part=part)
    result = {"curve": curve, "kept": "all layers" if score >= best else "conv5 and heads"}
    result.update(evaluation(examples.rows(validation), p, examples.rows(held), p_test))
    (out / "metrics.json").write_text(json.dumps(result, indent=1))
    return result


def _fine_tune(
    full: Any, examples: Examples, training: NDArray[np.intp], rng: np.random.Generator, config: TrainConfig
) -> None:
    """All layers at a low rate; batch normalisation keeps its statistics."""
    import keras
    import tensorflow as tf

    logits_only = keras.Model(full.inputs, full.outputs[0])
    optimizer = keras.optimizers.Adam(config.fine_rate)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, facts: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(y, logits_only([x, facts], training=False))
        grads = tape.gradient(loss, logits_only.trainable_variables)
        optimizer.apply_gradients(zip(grads, logits_only.trainable_variables, strict=True))
        return loss

    for epoch in range(config.fine_epochs):
        chosen = balanced(examples, training, rng, config.fine_steps * config.fine_batch)
        losses = []
        for begin in range(0, len(chosen), config.fine_batch):
            rows = chosen[begin : begin + config.fine_batch]
            crops = examples.crops[rows].astype(np.float32)
            flip = rng.random(len(rows)) < 0.5
            crops[flip] = crops[flip][:, ::-1]
            gain, shift = rng.uniform(0.85, 1.15, (len(rows), 1, 1)), rng.uniform(-10, 10, (len(rows), 1, 1))
            facts = examples.clinical[rows].copy()
            facts[rng.random(len(rows)) < 0.3, :4] = 0.0
            x = np.clip(crops * gain + shift, 0, 255)[..., None].astype(np.float32)
            losses.append(float(step(x, facts, examples.label[rows])))
            if begin // config.fine_batch % 20 == 0:
                log.info("all layers, epoch %d: %d of %d, loss %.4f", epoch, begin, len(chosen), np.mean(losses))


def predict(full: Any, examples: Examples, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Class probabilities (n, 3) of rows, through the whole network."""
    import tensorflow as tf

    call = tf.function(lambda x, f: full([x, f], training=False)[0], reduce_retracing=True)
    out = []
    for begin in range(0, len(rows), CPU_BATCH):
        chosen = rows[begin : begin + CPU_BATCH]
        out.append(np.asarray(call(examples.crops[chosen].astype(np.float32)[..., None], examples.clinical[chosen])))
    return softmax(np.concatenate(out))


def selection_score(examples: Examples, p: NDArray[np.float64]) -> float:
    """What the best epoch is chosen by: mean AUC of malignant against benign (where a source has both)
    and of malignant against the candidate regions of normal tissue.
    """
    scores = []
    for source in np.unique(examples.source):
        rows = (examples.source == source) & (examples.label > 0)
        if len(np.unique(examples.label[rows])) == 2:
            scores.append(roc_auc_score(examples.label[rows] == MALIGNANT, p[rows, MALIGNANT]))
    rows = examples.label != 1
    scores.append(roc_auc_score(examples.label[rows] == MALIGNANT, p[rows, MALIGNANT]))
    return float(np.mean(scores))


def evaluation(
    validation: Examples, p_validation: NDArray[np.float64], test: Examples, p_test: NDArray[np.float64]
) -> dict[str, Any]:
    """Calibration and operating points from the validation part; figures from the test part."""
    truth = validation.label == MALIGNANT
    clipped = np.clip(p_validation[:, MALIGNANT], 1e-7, 1 - 1e-7)
    odds = np.log(clipped / (1 - clipped))
    platt = LogisticRegression(C=1e6).fit(odds[:, None], truth)
    slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    calibrated = 1 / (1 + np.exp(-(slope * odds + intercept)))
    found = calibrated[truth & (validation.kind == "truth")]
    worst = [
        calibrated[validation.film == film].max()
        for film in np.unique(validation.film)
        if not (validation.label[validation.film == film] > 0).any()
    ]
    return {
        "calibration": {"slope": slope, "intercept": intercept},
        "operating_points": {
            "sensitivity-0.90": {"threshold": float(np.quantile(found, 0.10))},
            "specificity-0.90": {"threshold": float(np.quantile(worst, 0.90))},
        },
        "validation": figures(validation, p_validation),
        "test": figures(test, p_test),
    }


def figures(examples: Examples, p: NDArray[np.float64], *, replicates: int = 2000, seed: int = 1) -> dict[str, Any]:
    """AUC with 95 % bootstrap intervals over patients, by task."""
    out: dict[str, Any] = {}
    m = p[:, MALIGNANT]
    truth_box = examples.kind == "truth"
    tasks = {}
    for source in np.unique(examples.source):
        of_set = examples.source == source
        tasks[f"{source} malignant vs benign, true boxes"] = of_set & truth_box & (examples.label > 0)
        tasks[f"{source} malignant vs candidate regions without finding"] = of_set & (examples.label != 1)
    tasks["malignant vs everything else, all sources"] = np.ones(len(m), bool)
    for name, rows in tasks.items():
        y, s, g = examples.label[rows] == MALIGNANT, m[rows], examples.group[rows]
        if len(np.unique(y)) < 2:
            out[name] = {"auc": None, "n": int(rows.sum()), "positive": int(y.sum())}
            continue
        patients, index = np.unique(g, return_inverse=True)
        rng = np.random.default_rng(seed)
        values = []
        for _ in range(replicates):
            weight = np.bincount(rng.integers(0, len(patients), len(patients)), minlength=len(patients))[index]
            if weight[y].sum() and weight[~y].sum():
                values.append(roc_auc_score(y, s, sample_weight=weight))
        low, high = np.percentile(values, (2.5, 97.5))
        out[name] = {
            "auc": float(roc_auc_score(y, s)), "low": float(low), "high": float(high),
            "n": int(rows.sum()), "positive": int(y.sum()), "patients": len(patients),
        }  # fmt: skip
    return out
