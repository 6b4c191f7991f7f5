"""Fitting the network that draws outlines (``mammoscan.image.trace``) on the lesions that the sets locate.

Every grown proposal that overlaps a lesion is an example: its window, and in it the lesion as a person drew
it, or the ellipse in its box or circle. In a cross-validation every film's outlines are drawn by a network
that never saw its patient.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import joblib
import numpy as np

from mammoscan.core.errors import LabelError
from mammoscan.image import trace
from mammoscan.image.segment import outline
from mammoscan.image.trace import CHANNELS, LAYERS, SIDE, SLOPE, Tracer
from mammoscan.training import kept, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.training.datasets.film import Film, Lesion

log = logging.getLogger(__name__)

OVERLAP = 0.15  # Dice with a lesion from which on a proposal is an example of it
MOST = 10  # examples of a lesion in a film
BOXED = 0.5  # what a lesion counts for that has a box only, beside 1 for one that has an outline
EPOCHS, BATCH, RATE = 10, 64, 3e-3
# The code that decides what an example is.
_CODE = ("image/preprocess.py", "image/pectoral.py", "image/segment/**/*.py", "image/trace.py", "training/rank.py",
         "training/tracing.py")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cases:
    """Examples (n). windows: float16 (n, SIDE, SIDE, CHANNELS), as ``trace.inputs``. truth: float16 (n, SIDE,
    SIDE), the share of each pixel in the lesion. weight: float32 (n,). film: (n,), index of the film.
    """

    windows: NDArray[np.float16]
    truth: NDArray[np.float16]
    weight: NDArray[np.float32]
    film: NDArray[np.int64]


def cross_fitted(
    films: Sequence[Film], fold: Sequence[int], folder: Path, *, seed: int, most: int, jobs: int
) -> tuple[list[Tracer], Tracer]:
    """Networks by fold, each fitted on the patients of the other folds; and one fitted on all.

    fold: of every film; most: films a set. They are kept in ``folder`` and read back when the same films come again.

    Raises
    ------
    LabelError
        When no proposal of the films of some folds overlaps a lesion.
    """
    rows = rank.chosen(films, most=most, seed=seed)
    made = kept.digest([films[i] for i in rows], [seed, [int(fold[i]) for i in rows]], _CODE)
    place = folder / f"outlines-{made}"
    place.mkdir(parents=True, exist_ok=True)
    found = _kept_cases([films[i] for i in rows], place / "examples.npz", seed=seed, jobs=jobs)
    of_case = np.array([fold[rows[i]] for i in found.film.tolist()], np.int64)
    out = []
    for number in range(max(fold) + 2):  # the last number is no film's: that network is fitted on all
        path = place / f"network-{number}.npz"
        if not path.exists():
            log.info("fitting outlines: network %d of %d", number + 1, max(fold) + 2)
            save(fit(found, np.flatnonzero(of_case != number), seed=seed), path)
        with path.open("rb") as stream:
            out.append(trace.load(stream))
    return out[:-1], out[-1]


def _kept_cases(films: Sequence[Film], path: Path, *, seed: int, jobs: int) -> Cases:
    if not path.exists():
        found = cases(films, seed=seed, jobs=jobs)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, **{name: getattr(found, name) for name in Cases.__slots__})
        partial.rename(path)
    with np.load(path, allow_pickle=False) as stored:
        return Cases(**{name: stored[name] for name in Cases.__slots__})


def cases(films: Sequence[Film], *, seed: int, jobs: int) -> Cases:
    """The examples of all films."""
    work = joblib.Parallel(n_jobs=jobs, batch_size=4, return_as="generator")(
        joblib.delayed(case)(film, seed) for film in films
    )
    parts: list[tuple[NDArray[Any], ...]] = []
    for number, part in enumerate(work):
        parts.append((*part, np.full(len(part[0]), number, np.int64)))
        if (number + 1) % 100 == 0:
            log.info("windows of lesions: %d of %d films", number + 1, len(films))
    return Cases(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def case(film: Film, seed: int) -> tuple[NDArray[np.float16], NDArray[np.float16], NDArray[np.float32]]:
    """Windows, truths and weights of a film's proposals that overlap a lesion."""
    cv2.setNumThreads(1)
    windows = np.zeros((0, SIDE, SIDE, CHANNELS), np.float16)
    nothing = windows, windows[..., 0], np.zeros(0, np.float32)
    found, lesions = rank.proposed(film), film.lesions()
    if found is None or not lesions:
        return nothing
    prepared, field, proposals = found
    regions = [outline.region(prepared, field.scale, proposal, 0.0) for proposal in proposals]
    masks = [rank.drawn(lesion, (film.header.rows, film.header.columns)) for lesion in lesions]
    overlap = np.array([[rank.dice(region, mask) for mask in masks] for region in regions])
    rng = np.random.default_rng([seed, *hashlib.sha256(film.name.encode()).digest()[:8]])
    chosen, of, weight = [], [], []
    for number, lesion in enumerate(lesions):
        mine = np.flatnonzero((overlap.argmax(axis=1) == number) & (overlap[:, number] > OVERLAP))
        mine = np.sort(rng.permutation(mine)[:MOST])
        chosen += mine.tolist()
        of += [number] * len(mine)
        weight += [(1.0 if lesion.contour else BOXED) / np.sqrt(max(1, len(mine)))] * len(mine)
    if not chosen:
        return nothing
    some = [regions[i] for i in chosen]
    places = [trace.window(prepared, region) for region in some]
    truth = [
        place.filled(prepared.geometry.to_working(np.array(points(lesions[number]))))
        for place, number in zip(places, of, strict=True)
    ]
    return (
        trace.inputs(prepared, some, places).astype(np.float16),
        np.array(truth, np.float16),
        np.array(weight, np.float32),
    )


def points(lesion: Lesion) -> NDArray[np.float64]:
    """A lesion's outline (n, 2), source pixels: as drawn, or the ellipse in its box."""
    if lesion.contour:
        return np.asarray(lesion.contour, np.float64)
    x0, y0, x1, y1 = lesion.box
    angle = np.linspace(0.0, 2 * np.pi, 72, endpoint=False)
    return np.stack(
        [(x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(angle), (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(angle)], axis=1
    )


def fit(found: Cases, rows: NDArray[np.intp], *, seed: int) -> Tracer:
    """Adam with a cosine schedule on cross-entropy plus 1 - Dice (Milletari et al., V-Net, 3DV 2016); turns and mirrors.

    Raises
    ------
    LabelError
        When there are no examples.
    """
    if not len(rows):
        raise LabelError("no region overlaps a lesion", remedy="add films with located lesions, or use fewer folds")
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    model = network()
    steps = max(1, EPOCHS * len(rows) // BATCH)
    optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(RATE, steps))

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(_loss(tf, y, model(x, training=True)))
        optimizer.apply_gradients(
            zip(tape.gradient(value, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return value

    rng = np.random.default_rng(seed)
    drawn = found.weight[rows].astype(np.float64)
    drawn /= drawn.sum()
    losses = []
    for number in range(steps):
        batch = rows[rng.choice(len(rows), BATCH, p=drawn)]
        x, y = found.windows[batch].astype(np.float32), found.truth[batch].astype(np.float32)
        for i in range(BATCH):
            turn = _turn(int(rng.integers(8)))
            x[i], y[i] = turn(x[i]), turn(y[i])
        losses.append(float(step(x, y)))
        if (number + 1) % 200 == 0 or number + 1 == steps:
            log.info("outlines: batch %d of %d, loss %.4f", number + 1, steps, np.mean(losses[-200:]))
    weights = model.get_weights()
    return Tracer(tuple(weights[::2]), tuple(weights[1::2]))


def save(tracer: Tracer, path: Path) -> None:
    """Write the arrays that ``mammoscan.image.trace`` reads."""
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **tracer.arrays())
    partial.rename(path)


def network() -> Any:
    """The same network in Keras; its output are logits (n, SIDE, SIDE)."""
    import tensorflow as tf

    layers = tf.keras.layers

    def layer(number: int, x: Any) -> Any:
        x = layers.Conv2D(LAYERS[number][1], 3, padding="same", name=f"trace{number}")(x)
        return layers.LeakyReLU(negative_slope=SLOPE)(x)

    def joined(wide: Any, narrow: Any) -> Any:
        return layers.Concatenate()([wide, layers.UpSampling2D(2)(narrow)])

    windows = layers.Input((SIDE, SIDE, CHANNELS))
    first = layer(0, windows)
    second = layer(1, layers.AveragePooling2D(2)(first))
    third = layer(3, layer(2, layers.AveragePooling2D(2)(second)))
    third = layer(5, joined(third, layer(4, layers.AveragePooling2D(2)(third))))
    second = layer(6, joined(second, third))
    first = layer(7, joined(first, second))
    logits = layers.Conv2D(LAYERS[8][1], 1, name="trace8")(first)
    return tf.keras.Model(windows, layers.Reshape((SIDE, SIDE))(logits))


def _loss(tf: Any, truth: Any, logits: Any) -> Any:
    entropy = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, logits), (1, 2))
    p = tf.sigmoid(logits)
    shared, both = tf.reduce_sum(p * truth, (1, 2)), tf.reduce_sum(p, (1, 2)) + tf.reduce_sum(truth, (1, 2))
    return entropy + 1.0 - (2.0 * shared + 1.0) / (both + 1.0)


def _turn(number: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """One of the eight turns and mirror images of a square."""

    def turned(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.rot90(plane, number % 4)
        return out[:, ::-1] if number >= 4 else out

    return turned
