"""The frozen ranking of proposals: boosted trees, fitted once on real films (see the model card).

Nothing here is set by hand: ``mammoscan train`` writes the arrays.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILE = "ranking.npz"


@dataclass(frozen=True, slots=True)
class Trees:
    """Regression trees that are added up. Arrays are (trees, nodes); a leaf is its own child.

    feature: measure that a node asks for. threshold: at most this goes left. value: of a leaf, else 0.
    depth: steps from any root to any leaf. base: what is added to the leaves' sum.
    """

    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    value: NDArray[np.float32]
    depth: int
    base: float

    def score(self, measures: NDArray[np.float32]) -> NDArray[np.float64]:
        """The trees' sum for each row of measures (n, m), float64 (n,)."""
        trees, nodes = self.feature.shape
        root = np.arange(trees) * nodes
        feature, threshold = self.feature.ravel(), self.threshold.ravel()
        # Where to from a node of all trees, smaller and larger; a leaf stays where it is.
        onward = np.stack([self.left + root[:, None], self.right + root[:, None]], axis=-1).ravel()
        node = np.tile(root, len(measures))
        row = np.repeat(np.arange(len(measures)) * measures.shape[1], trees)
        values = measures.ravel()
        moving = np.arange(len(node))
        for _ in range(self.depth):
            at = node[moving]
            smaller = values[row[moving] + feature[at]] <= threshold[at]
            to = onward[2 * at + ~smaller]
            node[moving] = to
            moving = moving[to != at]
        return np.asarray(self.base + self.value.ravel()[node].reshape(-1, trees).astype(np.float64).sum(axis=1))


@cache
def frozen() -> Trees:
    """The trees that mammoscan ships, in ``models/``."""
    with files("mammoscan.models").joinpath(FILE).open("rb") as stream:
        return load(stream)


@cache
def at(path: Path) -> Trees:
    """The trees of another model; read once in a process.

    Raises
    ------
    ValueError
        When the file does not hold such trees.
    """
    try:
        with path.open("rb") as stream:
            return load(stream)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"not a ranking: {error}") from error


def load(stream: IO[bytes]) -> Trees:
    """Trees as ``model.rank.save`` writes them."""
    with np.load(stream, allow_pickle=False) as arrays:
        return Trees(
            feature=arrays["feature"],
            threshold=arrays["threshold"],
            left=arrays["left"],
            right=arrays["right"],
            value=arrays["value"],
            depth=int(arrays["depth"]),
            base=float(arrays["base"]),
        )
