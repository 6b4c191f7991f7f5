"""Threshold segmentation: seeds of the difference of Gaussians, and the pieces above falling grey levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.image.segment.proposal import Origin, Proposal, Sketch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

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
        highest = cv2.dilate(level, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
        ys, xs = np.divmod(np.flatnonzero((level == highest) & (level > SEED_THRESHOLD)), level.shape[1])
        values = level[ys, xs].astype(np.float64)
        around = field.response[max(0, index - 1) : index + 2, ys, xs].max(axis=0)
        stays = values >= around - 0.25 * np.abs(values)
        peaks += [(v, index, x, y) for v, x, y in zip(*(a[stays].tolist() for a in (values, xs, ys)), strict=True)]
    # Small seeds are many and noisy: their response counts for less than a wide one's.
    peaks.sort(key=lambda p: -p[0] * field.radii[p[1]] ** 0.35)
    kept: list[tuple[float, int, int, int]] = []
    for peak in peaks:
        if len(kept) == MOST_SEEDS:
            break
        _, index, x, y = peak
        r = field.radii[index]
        rivals = ((math.hypot(x - o[2], y - o[3]), field.radii[o[1]]) for o in kept)
        if all(apart > 0.5 * min(r, other) or not 0.6 < r / other < 1.7 for apart, other in rivals):
            kept.append(peak)
    return kept


def pieces(field: Field) -> Iterator[Sketch]:
    """The connected pieces of the breast above falling grey levels that have the size of a lesion."""
    for sigma in SMOOTHINGS_MM:
        soft = cv2.GaussianBlur(field.pixels, (0, 0), sigma / field.mm)
        low, high = np.percentile(soft[field.breast], (20.0, 99.9))
        for level in np.linspace(high, low, LEVELS):
            above = (soft > level) & field.breast
            count, labels = cv2.connectedComponents(above.view(np.uint8), connectivity=4)
            runs = Runs.of(labels)
            for label in 1 + field.allowed(runs.areas(count)[1:]):
                x, y, w, h = runs.box(label)
                yield Sketch.of(field, Proposal(labels[y : y + h, x : x + w] == label, x, y, Origin.LEVEL))


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of equal labels in the rows of a picture: they are far fewer than its pixels.

    label: of each run. y: its row. first, last: its columns.
    """

    label: NDArray[np.int32]
    y: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    @classmethod
    def of(cls, labels: NDArray[np.int32]) -> Runs:
        """labels: (h, w)."""
        h, w = labels.shape
        ends = np.ones((h, w), bool)
        np.not_equal(labels[:, 1:], labels[:, :-1], out=ends[:, :-1])
        last = np.flatnonzero(ends)
        y, column = np.divmod(last, w)
        return cls(labels.ravel()[last], y, column - np.diff(last, prepend=-1) + 1, column)

    def areas(self, count: int) -> NDArray[np.number]:
        """Pixels of each of ``count`` labels."""
        return np.bincount(self.label, self.last - self.first + 1, minlength=count)

    def box(self, label: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of a label."""
        own = np.flatnonzero(self.label == label)
        left, right, top, bottom = (
            int(v) for v in (self.first[own].min(), self.last[own].max(), self.y[own[0]], self.y[own[-1]])
        )
        return left, top, right - left + 1, bottom - top + 1
