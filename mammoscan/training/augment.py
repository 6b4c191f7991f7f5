"""Altered versions of a crop for training: moved, scaled, turned, mirrored, other grey levels, noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.image import crops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared
    from mammoscan.training.datasets.film import Box

SCALE = (0.8, 1.25)  # of the shown square
SHIFT = 0.08  # of the box's longer side
GAIN = (0.85, 1.15)
OFFSET = 12.0  # grey levels of 255
NOISE = 4.0  # highest standard deviation, grey levels of 255
DIAGONAL = 1.45  # a square that still covers the crop when turned


def version(prepared: Prepared, box: Box, cut: crops.CropGeometry, *, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One random version of the crop of ``box`` (source pixels), uint8 (side, side)."""
    scale = float(np.exp(rng.uniform(*np.log(SCALE))))
    longest = max(box[2] - box[0], box[3] - box[1])
    dx, dy = rng.uniform(-SHIFT, SHIFT, 2) * longest
    moved = (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)
    wide = crops.CropGeometry(round(cut.side * DIAGONAL), cut.context * scale * DIAGONAL)
    return alter(crops.crop(prepared, moved, wide), cut.side, rng)


def alter(large: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn, mirror and change the grey levels of a crop that is ``DIAGONAL`` times as wide as wanted."""
    wide = large.shape[0]
    matrix = cv2.getRotationMatrix2D(((wide - 1) / 2, (wide - 1) / 2), float(rng.uniform(-180, 180)), 1.0)
    matrix[:, 2] -= (wide - side) / 2
    turned = cv2.warpAffine(large, matrix, (side, side), flags=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        turned = turned[:, ::-1]
    grey = turned * rng.uniform(*GAIN) + rng.uniform(-OFFSET, OFFSET)
    grey = grey + rng.normal(0, rng.uniform(0, NOISE), grey.shape)
    # What lies outside the picture stays black in use, so it does here.
    return np.where(turned == 0, 0, np.clip(np.round(grey), 0, 255)).astype(np.uint8)
