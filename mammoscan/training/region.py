"""Training of conv5 and its heads on stored conv4 maps, then of all layers on crops, one fold at a time.

An epoch draws every class alike, its altered versions among them, and blanks age and density now and
then; weights are averaged over the last steps (Polyak and Juditsky, SIAM J Control Optim 30 (1992)
838), since a fold has few cases. The best epoch on the validation part is kept. Every epoch leaves a
checkpoint from which a stopped training goes on to the same result.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_auc_score

from mammoscan.model import network
from mammoscan.model.terms import CLASSES, CLINICAL, KINDS, MALIGNANT, MAY_BE_MISSING, softmax

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from mammoscan.image.crops import CropGeometry

log = logging.getLogger(__name__)

KIND_WEIGHT = 0.2  # of the lesion kind's loss beside the class's
SMOOTHING = 0.1  # of class labels
AVERAGED = 0.98  # share of the running mean of the weights that a step keeps
BLANKED = 0.3  # share of cases whose age and density are withheld
PREDICTED = 64  # crops at once
CPUINFO = Path("/proc/cpuinfo")
_COMPUTES_BFLOAT16 = re.compile(r"\b(avx512_bf16|amx_bf16|bf16)\b")  # Intel, AMD; Arm


@dataclass(frozen=True, slots=True)
class TailConfig:
    """How conv5 and its heads are trained. steps: batches an epoch. rate: highest learning rate."""

    epochs: int = 5
    steps: int = 90
    batch: int = 32
    rate: float = 5e-4
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Cases:
    """What the tail is trained on, by row (n).

    maps: all records, float16 (records, h, w, 1024), or for all layers the crops themselves, uint8 (records,
    side, side, 1). record: intp (n,), the row's own crop. versions:
    by row, the records of its altered crops. label: index in CLASSES. lesion_kind: index in KINDS or -1.
    clinical: float32 (n, len(CLINICAL)). source: set of the row. graded: whether a lesion of it teaches
    benign against malignant; else only that it is one, since its set has no benign cases. crop: how crops are cut.
    """

    maps: NDArray[np.float16] | NDArray[np.uint8]
    record: NDArray[np.intp]
    versions: dict[int, NDArray[np.intp]]
    label: NDArray[np.int64]
    lesion_kind: NDArray[np.int64]
    clinical: NDArray[np.float32]
    source: NDArray[np.str_]
    true_box: NDArray[np.bool_]
    graded: NDArray[np.bool_]
    crop: CropGeometry


@dataclass(frozen=True, slots=True)
class Trained:
    """Weights by ``layer/index``, the epoch they are from (0 the first), and the curve by epoch."""

    weights: dict[str, NDArray[Any]]
    epoch: int
    curve: list[dict[str, float]]


def balanced(cases: Cases, rows: NDArray[np.intp], rng: np.random.Generator, count: int) -> NDArray[np.intp]:
    """``count`` of the rows, each class a third, and within a class each source alike (by root of its size)."""
    chosen = []
    for label in range(len(CLASSES)):
        of_class = rows[cases.label[rows] == label]
        _, index, sizes = np.unique(cases.source[of_class], return_inverse=True, return_counts=True)
        weight = 1.0 / np.sqrt(sizes[index])
        chosen.append(rng.choice(of_class, count // len(CLASSES) + 1, p=weight / weight.sum()))
    mixed = np.concatenate(chosen)
    rng.shuffle(mixed)
    return mixed[:count]


def train(
    cases: Cases,
    training: NDArray[np.intp],
    validation: NDArray[np.intp],
    config: TailConfig,
    folder: Path,
    *,
    whole: Mapping[str, NDArray[Any]] | None = None,
) -> Trained:
    """Train on some rows, choose the epoch on others. Goes on from the checkpoint in ``folder``.

    whole: weights of a whole network (``network.resnet50`` with conv5) to go on from, all layers, on crops.
    """
    import keras

    folder.mkdir(parents=True, exist_ok=True)
    # Seeded anew for every fold, so that a fold's result does not hang on the folds before it.
    keras.utils.set_random_seed(config.seed)
    policy = precision()
    with _under(policy):
        run = _Run(_model(cases, whole), config, policy)
    checkpoint = folder / "checkpoint.npz"
    curve, best = run.restore(checkpoint) if checkpoint.exists() else ([], -1)
    for epoch in range(len(curve), config.epochs):
        began = time.monotonic()
        loss, error = run.epoch(cases, training, np.random.default_rng([config.seed, epoch]))
        with run.averaged():
            logits, _ = run.predict(cases, validation)
            p = softmax(logits)
            truth = cases.label[validation]
            row = {
                "epoch": epoch, "loss": loss, "error": error,
                "validation_loss": float(-np.log(np.clip(p[np.arange(len(p)), truth], 1e-7, 1)).mean()),
                "validation_error": float((p.argmax(axis=1) != truth).mean()),
                "validation_score": selection_score(cases, validation, p),
            }  # fmt: skip
            curve.append(row)
            if best < 0 or row["validation_score"] > curve[best]["validation_score"]:
                best = epoch
                _write(folder / "best.npz", network.weights_of(run.model))
        run.save(checkpoint, curve, best)
        left = (time.monotonic() - began) * (config.epochs - epoch - 1)
        log.info("%s: epoch %d loss %.3f, validation loss %.3f, score %.4f; %.0f s left", folder.name, epoch, loss,
                 row["validation_loss"], row["validation_score"], left)  # fmt: skip
    with np.load(folder / "best.npz", allow_pickle=False) as stored:
        return Trained({name: stored[name] for name in stored.files}, best, curve)


def predict(
    cases: Cases,
    rows: NDArray[np.intp],
    weights: dict[str, NDArray[Any]],
    *,
    records: NDArray[np.intp] | None = None,
    clinical: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Class logits (n, 3) and kind logits (n, len(KINDS)) of rows.

    records, clinical: other crops of them, other facts about them.
    """
    whole = cases.maps.dtype == np.uint8
    model = _model(cases, weights if whole else None)
    if not whole:
        network.set_weights(model, weights)
    return _Run(model, TailConfig()).predict(cases, rows, records=records, clinical=clinical)


def precision() -> str:
    """Keras's policy for training: half precision on a GPU, bfloat16 on a CPU that computes in it, else single.

    Weights, their running mean, the optimizer's state and the logits are in single precision under each of
    them, and half precision scales its loss (Micikevicius et al. 2018, arXiv:1710.03740). What is trained is
    used in single precision.
    """
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return "mixed_float16"
    flags = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""
    return "mixed_bfloat16" if _COMPUTES_BFLOAT16.search(flags) else "float32"


@contextmanager
def _under(policy: str) -> Iterator[None]:
    """Layers made within compute under the policy."""
    import keras

    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(kept)


def _model(cases: Cases, whole: Mapping[str, NDArray[Any]] | None) -> Any:
    """conv5 and its heads for stored maps; for crops the whole network with the given weights."""
    sizes = len(CLINICAL), len(CLASSES)
    if whole is None:
        return network.tail(cases.crop, *sizes, len(KINDS))
    model = network.resnet50(cases.crop, *sizes, heads={"kind_logits": len(KINDS)})
    network.set_weights(model, whole)
    for layer in model.layers:
        # Batches are small and few: the statistics of ImageNet stay.
        if layer.name.endswith("_bn") and not layer.name.startswith("conv5"):
            layer.trainable = False
    return model


def selection_score(cases: Cases, rows: NDArray[np.intp], p: NDArray[np.float64]) -> float:
    """What the epoch is chosen by: mean AUC of malignant against benign (by set, at true boxes), and of
    malignant against normal tissue.
    """
    scores = []
    for source in np.unique(cases.source[rows]):
        chosen = (cases.source[rows] == source) & (cases.label[rows] > 0) & cases.true_box[rows]
        if len(np.unique(cases.label[rows][chosen])) == 2:
            scores.append(roc_auc_score(cases.label[rows][chosen] == MALIGNANT, p[chosen, MALIGNANT]))
    chosen = cases.label[rows] != 1
    scores.append(roc_auc_score(cases.label[rows][chosen] == MALIGNANT, p[chosen, MALIGNANT]))
    return float(np.mean(scores))


class _Run:
    """The model in training, with its optimizer and the running mean of its weights."""

    def __init__(self, model: Any, config: TailConfig, policy: str = "float32") -> None:
        import keras
        import tensorflow as tf

        self.model = model
        self._config = config
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, config.epochs * config.steps, warmup_target=config.rate, warmup_steps=config.steps // 2
        )
        self._optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-3)
        if policy == "mixed_float16":
            self._optimizer = keras.optimizers.LossScaleOptimizer(self._optimizer)
        self._optimizer.build(model.trainable_variables)
        self._weights = list(model.weights)
        self._mean = [tf.Variable(w.numpy(), trainable=False) for w in self._weights]
        smooth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING, reduction="none")
        each = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def step(x: Any, facts: Any, y: Any, kinds: Any, graded: Any) -> tuple[Any, Any]:
            known = tf.cast(kinds >= 0, tf.float32)
            with tf.GradientTape() as tape:
                out = model([tf.cast(x, tf.float32), facts], training=True)
                logits = out["logits"]
                lesion = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_logsumexp(logits[:, 1:], axis=1)
                loss = tf.reduce_mean(tf.where(graded, smooth(tf.one_hot(y, len(CLASSES)), logits), lesion))
                of_kind = each(tf.maximum(kinds, 0), out["kind_logits"]) * known
                loss += KIND_WEIGHT * tf.reduce_sum(of_kind) / (tf.reduce_sum(known) + 1.0)
                scaled = self._optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, model.trainable_variables)
            self._optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            for mean, weight in zip(self._mean, self._weights, strict=True):
                mean.assign(AVERAGED * mean + (1 - AVERAGED) * weight)
            wrong = tf.cast(tf.argmax(out["logits"], axis=1) != y, tf.float32)
            return loss, tf.reduce_mean(wrong)

        self._step = step
        self._forward = tf.function(
            lambda x, f: model([tf.cast(x, tf.float32), f], training=False), reduce_retracing=True
        )

    def epoch(self, cases: Cases, training: NDArray[np.intp], rng: np.random.Generator) -> tuple[float, float]:
        """One pass; mean loss and error of its batches."""
        size = self._config.batch
        chosen = balanced(cases, training, rng, self._config.steps * size)
        results = []
        for begin in range(0, len(chosen), size):
            rows = chosen[begin : begin + size]
            records = cases.record[rows].copy()
            for at, row in enumerate(rows.tolist()):
                versions = cases.versions.get(row)
                if versions is not None and rng.random() < 0.7:
                    records[at] = rng.choice(versions)
            facts = cases.clinical[rows].copy()
            facts[np.ix_(rng.random(len(rows)) < BLANKED, np.array(MAY_BE_MISSING))] = 0.0
            results.append(self._step(cases.maps[records], facts, cases.label[rows], cases.lesion_kind[rows],
                                      cases.graded[rows]))  # fmt: skip
        loss, error = np.mean(np.array([[float(a), float(b)] for a, b in results]), axis=0)
        return float(loss), float(error)

    def predict(
        self,
        cases: Cases,
        rows: NDArray[np.intp],
        *,
        records: NDArray[np.intp] | None = None,
        clinical: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Class and kind logits of rows, in batches of one shape."""
        found = cases.record[rows] if records is None else records
        said = cases.clinical[rows] if clinical is None else clinical
        logits, kinds = [], []
        for begin in range(0, len(rows), PREDICTED):
            part, facts = found[begin : begin + PREDICTED], said[begin : begin + PREDICTED]
            count = len(part)
            part = np.concatenate([part, np.repeat(part[-1:], PREDICTED - count)])
            facts = np.concatenate([facts, np.repeat(facts[-1:], PREDICTED - count, axis=0)])
            out = self._forward(cases.maps[part], facts)
            logits.append(np.asarray(out["logits"], np.float64)[:count])
            kinds.append(np.asarray(out["kind_logits"], np.float64)[:count])
        if not logits:
            return np.zeros((0, len(CLASSES))), np.zeros((0, len(KINDS)))
        return np.concatenate(logits), np.concatenate(kinds)

    def averaged(self) -> _Averaged:
        """Context in which the model has the running mean of its weights."""
        return _Averaged(self._weights, self._mean)

    def save(self, path: Path, curve: list[dict[str, float]], best: int) -> None:
        """Everything that the next epoch depends on."""
        state = {f"{group}{i}": v.numpy() for group, values in self._state() for i, v in enumerate(values)}
        _write(path, state | {"curve": np.array(json.dumps([curve, best]))})

    def restore(self, path: Path) -> tuple[list[dict[str, float]], int]:
        """Set that state again; the curve so far and the best epoch."""
        with np.load(path, allow_pickle=False) as stored:
            for group, values in self._state():
                for i, variable in enumerate(values):
                    variable.assign(stored[f"{group}{i}"])
            curve, best = json.loads(str(stored["curve"]))
        return curve, best

    def _state(self) -> tuple[tuple[str, list[Any]], ...]:
        # The model's variables hold the state of its dropout, too, which its weights do not.
        return (("v", self.model.variables), ("o", self._optimizer.variables), ("m", self._mean))


class _Averaged:
    def __init__(self, weights: list[Any], mean: list[Any]) -> None:
        self._weights, self._mean = weights, mean

    def __enter__(self) -> None:
        self._kept = [w.numpy() for w in self._weights]
        for weight, mean in zip(self._weights, self._mean, strict=True):
            weight.assign(mean)

    def __exit__(self, *_: object) -> None:
        for weight, kept in zip(self._weights, self._kept, strict=True):
            weight.assign(kept)


def _write(path: Path, arrays: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **arrays)
    partial.rename(path)
