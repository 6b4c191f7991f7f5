"""A piece of tissue that may be a lesion, at the search scale."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Origin(IntEnum):
    """Which step proposed it."""

    GROWN = 0
    LEVEL = 1
    MERGED = 2
    CLUSTER = 3


@dataclass(frozen=True, slots=True)
class Proposal:
    """mask: bool (h, w), one piece, in the window whose top left corner is (x, y), in search pixels.

    spots: separate bright spots of a cluster, 0 for masses.
    """

    mask: NDArray[np.bool_]
    x: int
    y: int
    origin: Origin
    spots: int = 0
