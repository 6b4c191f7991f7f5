"""Threshold segmentation: seeds of the difference of Gaussians, and the pieces above falling grey levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage

from mammoscan.image.segment.proposal import Origin, Proposal

if TYPE_CHECKING:
    from mammoscan.image.segment.field import Field

# A seed is where the difference of Gaussians exceeds this share of the breast's contrast.
SEED_THRESHOLD = 0.012
MOST_SEEDS = 90  # seeds that are grown, an image
SMOOTHINGS_MM = (0.8, 2.5)  # standard deviations before the grey levels are cut
LEVELS = 16  # grey levels, from the breast's 99.9th to its 20th percentile


def seeds(field: Field) -> list[tuple[float, int, int, int]]:
    """(response, radius index, x, y) of maxima in place and scale above the threshold, highest first.

    After Lindeberg, IJCV 30 (1998) 79.
    """
    peaks: list[tuple[float, int, int, int]] = []
    for index, radius in enumerate(field.radii):
        reach = max(1, round(radius * 0.4))
        level = field.response[index]
        highest = ndimage.maximum_filter(level, size=2 * reach + 1)
        ys, xs = np.nonzero((level == highest) & (level > SEED_THRESHOLD))
        for y, x in zip(ys, xs, strict=True):
            value = float(level[y, x])
            around = field.response[max(0, index - 1) : index + 2, y, x]
            if value >= float(around.max()) - 0.25 * abs(value):
                peaks.append((value, index, int(x), int(y)))
    # Small seeds are many and noisy: their response counts for less than a wide one's.
    peaks.sort(key=lambda p: -p[0] * field.radii[p[1]] ** 0.35)
    kept: list[tuple[float, int, int, int]] = []
    for peak in peaks:
        if len(kept) == MOST_SEEDS:
            break
        r = field.radii[peak[1]]
        if all(
            np.hypot(peak[2] - o[2], peak[3] - o[3]) > 0.5 * min(r, field.radii[o[1]])
            or not 0.6 < r / field.radii[o[1]] < 1.7
            for o in kept
        ):
            kept.append(peak)
    return kept


def pieces(field: Field) -> list[Proposal]:
    """The connected pieces of the breast above falling grey levels that have the size of a lesion."""
    out = []
    for sigma in SMOOTHINGS_MM:
        soft = cv2.GaussianBlur(field.pixels, (0, 0), sigma / field.mm)
        low, high = np.percentile(soft[field.breast], (20.0, 99.9))
        for level in np.linspace(high, low, LEVELS):
            above = ((soft > level) & field.breast).astype(np.uint8)
            count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=4)
            for label in range(1, count):
                if field.allows(stats[label, cv2.CC_STAT_AREA]):
                    x, y, w, h = (int(v) for v in stats[label, :4])
                    out.append(Proposal(labels[y : y + h, x : x + w] == label, x, y, Origin.LEVEL))
    return out
