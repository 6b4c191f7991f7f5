"""Threshold segmentation: seeds of the difference of Gaussians, and the pieces above falling grey levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        # Few pixels are as high as their neighbours: only of those all around is looked at.
        highest = cv2.dilate(level, np.ones((3, 3), np.uint8))
        ys, xs = np.divmod(np.flatnonzero((level == highest) & (level > SEED_THRESHOLD)), level.shape[1])
        if reach > 1:
            tops = [
                level[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].max()
                for y, x in zip(ys.tolist(), xs.tolist(), strict=True)
            ]
            stands = level[ys, xs] == np.array(tops, np.float32)
            ys, xs = ys[stands], xs[stands]
        values = level[ys, xs].astype(np.float64)
        around = field.response[max(0, index - 1) : index + 2, ys, xs].max(axis=0)
        stays = values >= around - 0.25 * np.abs(values)
        peaks += [(v, index, x, y) for v, x, y in zip(*(a[stays].tolist() for a in (values, xs, ys)), strict=True)]
    # Small seeds are many and noisy: their response counts for less than a wide one's.
    peaks.sort(key=lambda p: -p[0] * field.radii[p[1]] ** 0.35)
    # Radii that are alike, of which one is enough in a place: by pairs, and how far apart places must be.
    alike = [
        [(k, 0.5 * min(r, other)) for k, other in enumerate(field.radii) if 0.6 < r / other < 1.7] for r in field.radii
    ]
    kept: list[tuple[float, int, int, int]] = []
    places: list[list[tuple[int, int]]] = [[] for _ in field.radii]
    for peak in peaks:
        if len(kept) == MOST_SEEDS:
            break
        _, index, x, y = peak
        if all(math.hypot(x - u, y - v) > apart for k, apart in alike[index] for u, v in places[k]):
            kept.append(peak)
            places[index].append((x, y))
    return kept


def pieces(field: Field) -> Iterator[Sketch]:
    """The connected pieces of the breast above falling grey levels that have the size of a lesion."""
    for sigma in SMOOTHINGS_MM:
        soft = cv2.GaussianBlur(field.pixels, (0, 0), sigma / field.mm)
        low, high = np.percentile(soft[field.breast], (20.0, 99.9))
        for level in np.linspace(high, low, LEVELS):
            above = (soft > level) & field.breast
            count, labels = _labelled(above)
            runs = Runs.of(labels)
            for label in (1 + field.allowed(runs.areas(count)[1:])).tolist():
                x, y, w, h = runs.box(label)
                yield Sketch.of(field, Proposal(labels[y : y + h, x : x + w] == label, x, y, Origin.LEVEL))


def _labelled(mask: NDArray[np.bool_]) -> tuple[int, NDArray[np.integer[Any]]]:
    """Labels of the pieces of a mask that hang together by sides, and their number with the outside; small where they can be."""
    runs = np.count_nonzero(mask[:, 1:] > mask[:, :-1]) + len(mask)  # at least as many as pieces
    kind = cv2.CV_16U if runs < 1 << 16 else cv2.CV_32S
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=kind)
    return count, labels


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of equal labels in the rows of a picture: they are far fewer than its pixels.

    label: of each run. y: its row. first, last: its columns.
    """

    label: NDArray[np.integer[Any]]
    y: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    @classmethod
    def of(cls, labels: NDArray[np.integer[Any]]) -> Runs:
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
