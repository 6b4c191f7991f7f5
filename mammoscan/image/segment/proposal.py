"""A piece of tissue that may be a lesion, at the search scale."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mammoscan.image.segment.field import Field


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


@dataclass(frozen=True, slots=True)
class Sketch:
    """What decides whether there is a proposal, known before its mask is cut out.

    area: pixels. x, y: their mean, search pixels, centres at whole numbers. total: sum of their grey levels.
    tissue, tissue_total: those of its pixels that lie in the breast, and their sum. window: left, top, width and
    height of the mask, search pixels. proposal: cuts the mask out.
    """

    area: int
    x: float
    y: float
    total: float
    tissue: int
    tissue_total: float
    window: tuple[int, int, int, int]
    proposal: Callable[[], Proposal]

    @classmethod
    def of(cls, field: Field, proposal: Proposal) -> Sketch:
        """Of a mask that there is already."""
        (h, w), x, y = proposal.mask.shape, proposal.x, proposal.y
        window = (slice(y, y + h), slice(x, x + w))
        mask = proposal.mask.view(np.uint8)
        inside = mask & field.breast[window].view(np.uint8)
        sums = cv2.moments(mask, binaryImage=True)
        area, tissue = int(sums["m00"]), int(np.count_nonzero(inside))
        pixels = field.pixels[window]
        return cls(
            area=area,
            x=sums["m10"] / area + x,
            y=sums["m01"] / area + y,
            total=cv2.mean(pixels, mask)[0] * area,
            tissue=tissue,
            tissue_total=cv2.mean(pixels, inside)[0] * tissue,
            window=(x, y, w, h),
            proposal=lambda: proposal,
        )
