"""Fitting the ranking of proposals: how much does each overlap a finding of its film?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from mammoscan.segment.ranking import Trees

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TREES, LEAVES, RATE = 300, 15, 0.05


@dataclass(frozen=True, slots=True)
class Case:
    """A film's proposals. measures: float32 (n, m). overlap: float32 (n,), the highest Dice with a finding.

    weight: what the film counts for.
    """

    measures: NDArray[np.float32]
    overlap: NDArray[np.float32]
    weight: float = 1.0


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
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays, depth=np.int16(trees.depth), base=np.float64(trees.base))


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
