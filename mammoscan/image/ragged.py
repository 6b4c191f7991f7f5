"""Sums over the parts of a list, many at once: what measures of hundreds of small regions are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)


def sums(values: NDArray[Real], lengths: NDArray[np.intp]) -> NDArray[Real]:
    """The sum of each of the parts that ``values`` (n,) consists of, (parts,), to the bit as ``part.sum()`` gives it.

    lengths: of the parts, at least 1 each.
    """
    # numpy adds a part's values pairwise to 0; ``reduceat`` adds them to the first, so that a 0 goes before each.
    heads = np.cumsum(lengths) - lengths + np.arange(len(lengths))
    padded = np.zeros(len(values) + len(lengths), values.dtype)
    given = np.ones(len(padded), bool)
    given[heads] = False
    padded[given] = values
    return np.asarray(np.add.reduceat(padded, heads))


def means(values: NDArray[Real], lengths: NDArray[np.intp]) -> NDArray[Real]:
    """The mean of each part, as ``sums``."""
    return np.asarray(sums(values, lengths) / lengths.astype(values.dtype))


def variances(values: NDArray[Real], lengths: NDArray[np.intp]) -> NDArray[Real]:
    """The mean square distance of each part's values from their mean, as ``sums``."""
    apart = values - np.repeat(means(values, lengths), lengths)
    return means(apart * apart, lengths)


def deviations(values: NDArray[Real], lengths: NDArray[np.intp]) -> NDArray[Real]:
    """The standard deviation of each part, as ``sums``."""
    return np.sqrt(variances(values, lengths))
