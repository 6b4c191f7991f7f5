"""Fitting the ranking of proposals: how much does each overlap a lesion of its film?

Candidate regions are chosen by this ranking, so it is a part of the model: in a cross-validation
every film's candidates are ranked by trees that never saw its patient.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import joblib
import numpy as np
from skimage.draw import polygon
from sklearn.ensemble import HistGradientBoostingRegressor

from mammoscan.core.errors import InputError
from mammoscan.image import preprocess, segment
from mammoscan.image.segment import measure, outline
from mammoscan.image.segment.field import search_field
from mammoscan.image.segment.ranking import FILE, Trees, load
from mammoscan.training import kept

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared, Region
    from mammoscan.image.segment.field import Field
    from mammoscan.image.segment.proposal import Proposal
    from mammoscan.training.datasets.film import Film, Lesion

log = logging.getLogger(__name__)

TREES, LEAVES, RATE = 300, 15, 0.05
# The code that decides what a ranking is fitted on.
_CODE = ("image/preprocess.py", "image/pectoral.py", "image/segment/**/*.py", "training/rank.py")


@dataclass(frozen=True, slots=True)
class Case:
    """A film's proposals. measures: float32 (n, m). overlap: float32 (n,), the highest Dice with a finding.

    weight: what the film counts for.
    """

    measures: NDArray[np.float32]
    overlap: NDArray[np.float32]
    weight: float = 1.0


def chosen(films: Sequence[Film], *, most: int, seed: int) -> list[int]:
    """Indices of the films to fit on: those with a lesion, at most ``most`` a set, patients drawn by seed."""
    found: dict[str, list[int]] = {}
    for index, film in enumerate(films):
        if film.lesions():
            found.setdefault(film.source, []).append(index)
    out: list[int] = []
    for source, members in sorted(found.items()):
        patients = sorted({films[i].patient for i in members})
        order = {p: k for k, p in enumerate(np.random.default_rng([seed, *source.encode()]).permutation(patients))}
        out += sorted(members, key=lambda i: (order[films[i].patient], i))[:most]
    return sorted(out)


def cases(films: Sequence[Film], *, jobs: int) -> list[Case]:
    """The proposals of films with lesions. Sets weigh by the root of their number of films, not by it."""
    work = joblib.Parallel(n_jobs=jobs, batch_size=4, return_as="generator")(joblib.delayed(case)(f) for f in films)
    sizes = {source: sum(f.source == source for f in films) for source in {f.source for f in films}}
    out = []
    for done, (film, (measures, overlap)) in enumerate(zip(films, work, strict=True), 1):
        if not len(measures):
            log.warning("nothing to rank in %s/%s", film.source, film.name)
        out.append(Case(measures, overlap, float(np.sqrt(max(sizes.values()) / sizes[film.source]))))
        if done % 100 == 0:
            log.info("measuring proposals: %d of %d films", done, len(films))
    return out


def case(film: Film) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measures (n, m) of a film's proposals, and of each the highest Dice with one of its lesions (n,)."""
    cv2.setNumThreads(1)
    found = proposed(film)
    if found is None:
        return np.zeros((0, len(measure.MEASURES)), np.float32), np.zeros(0, np.float32)
    prepared, field, proposals = found
    shape = film.header.rows, film.header.columns
    masks = [drawn(lesion, shape) for lesion in film.lesions()]
    overlap = np.zeros(len(proposals), np.float32)
    for index, proposal in enumerate(proposals):
        region = outline.region(prepared, field.scale, proposal, 0.0)
        overlap[index] = max((dice(region, mask) for mask in masks), default=0.0)
    return measure.measures(field, proposals, measure.overlaps(field, proposals)), overlap


def proposed(film: Film) -> tuple[Prepared, Field, list[Proposal]] | None:
    """A film's proposals before any ranking; None where it cannot be prepared or has none."""
    try:
        prepared = preprocess.prepare(film.image())
    except InputError:
        return None
    field = search_field(prepared)
    proposals = segment.propose(field) if field.breast.any() else []
    return (prepared, field, proposals) if proposals else None


def drawn(lesion: Lesion, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A lesion as a bool mask of the source image: its outline, or the ellipse in its box."""
    if lesion.contour:
        mask = np.zeros(shape, bool)
        columns, rows = np.asarray(lesion.contour).T - 0.5
        mask[polygon(rows, columns, shape)] = True
        return mask
    x0, y0, x1, y1 = lesion.box
    canvas = np.zeros(shape, np.uint8)
    axes = (max(1, round((x1 - x0) / 2)), max(1, round((y1 - y0) / 2)))
    cv2.ellipse(canvas, (round((x0 + x1) / 2), round((y0 + y1) / 2)), axes, 0, 0, 360, 1, -1)
    return canvas.astype(bool)


def dice(region: Region, mask: NDArray[np.bool_]) -> float:
    """Dice of a region's outline with a mask of the source image."""
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(canvas, [np.round(region.contour - 0.5).astype(np.int32)], 1)
    return 2 * float((canvas.astype(bool) & mask).sum()) / float(canvas.sum() + mask.sum())


def cross_fitted(
    films: Sequence[Film], fold: Sequence[int], folder: Path, *, seed: int, most: int, jobs: int
) -> tuple[list[Trees], Trees]:
    """Rankings by fold, each fitted on the patients of the other folds; and one fitted on all.

    fold: of every film. They are kept in ``folder`` and read back when the same films come again.
    """
    rows = chosen(films, most=most, seed=seed)
    made = kept.digest([films[i] for i in rows], [seed, [int(fold[i]) for i in rows]], _CODE)
    place = folder / f"ranking-{made}"
    paths = [*(place / f"fold-{k}.npz" for k in range(max(fold) + 1)), place / FILE]
    if not all(path.exists() for path in paths):
        place.mkdir(parents=True, exist_ok=True)
        found = cases([films[i] for i in rows], jobs=jobs)
        for number, path in enumerate(paths):
            # The last fold number is no film's: that ranking is fitted on all.
            log.info("fitting ranking %d of %d", number + 1, len(paths))
            save(fit([c for c, i in zip(found, rows, strict=True) if fold[i] != number], seed=seed), path)
    trees = []
    for path in paths:
        with path.open("rb") as stream:
            trees.append(load(stream))
    return trees[:-1], trees[-1]


def fit(cases: Sequence[Case], *, seed: int) -> Trees:
    """Boosted trees (Friedman, Ann Stat 29 (2001) 1189) for the overlap, however many proposals a film has."""
    filled = [case for case in cases if len(case.measures)]
    x = np.concatenate([case.measures for case in filled])
    y = np.concatenate([case.overlap for case in filled])
    weight = np.concatenate([np.full(len(case.overlap), case.weight / len(case.overlap)) for case in filled])
    model = HistGradientBoostingRegressor(
        max_iter=TREES,
        learning_rate=RATE,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=60,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    model.fit(x, y, sample_weight=weight / weight.mean())
    return _arrays(model)


def save(trees: Trees, path: Path) -> None:
    """Write the arrays that ``segment.ranking`` reads."""
    names = ("feature", "threshold", "left", "right", "value")
    arrays = {name: getattr(trees, name) for name in names}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays, depth=np.int16(trees.depth), base=np.float64(trees.base))
    partial.rename(path)


def _arrays(model: HistGradientBoostingRegressor) -> Trees:
    # scikit-learn has no public access to these trees; ``fit``'s test holds the arrays to ``predict``.
    nodes = [stage[0].nodes for stage in model._predictors]  # noqa: SLF001
    shape = (len(nodes), max(map(len, nodes)))
    own = np.broadcast_to(np.arange(shape[1], dtype=np.int16), shape)
    feature, value = np.zeros(shape, np.int16), np.zeros(shape, np.float32)
    threshold = np.zeros(shape, np.float32)
    left, right = own.copy(), own.copy()
    depth = 0
    for row, tree in enumerate(nodes):
        inner = np.flatnonzero(tree["is_leaf"] == 0)
        feature[row, inner] = tree["feature_idx"][inner]
        # Measures are float32: rounding a threshold down keeps every one of them on its side.
        limit = tree["num_threshold"][inner]
        rounded = limit.astype(np.float32)
        threshold[row, inner] = np.where(rounded > limit, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        left[row, inner], right[row, inner] = tree["left"][inner], tree["right"][inner]
        value[row, : len(tree)] = np.where(tree["is_leaf"] == 1, tree["value"], 0.0)
        depth = max(depth, int(tree["depth"].max()))
    return Trees(feature, threshold, left, right, value, depth, float(np.ravel(model._baseline_prediction)[0]))  # noqa: SLF001
