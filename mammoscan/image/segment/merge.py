"""Iterative merging by similarity with the neighbourhood, until nothing merges."""

from __future__ import annotations

import heapq
import math
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from mammoscan.image.segment.proposal import Origin, Proposal, Sketch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mammoscan.image.segment.field import Field

SMOOTHING_MM = 2.0  # standard deviation before the gradient is taken
APART_MM = 1.5  # between the minima of the gradient from which basins are flooded


def basins(field: Field) -> NDArray[np.int32]:
    """Labels (h, w) of the pieces between the ridges of the gradient, 0 outside the breast.

    Watershed of the gradient's magnitude (Meyer, Signal Processing 38 (1994) 113).
    """
    soft = cv2.GaussianBlur(field.pixels, (0, 0), SMOOTHING_MM / field.mm)
    steep = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))
    reach = max(1, round(APART_MM / field.mm))
    minima = (steep == ndimage.minimum_filter(steep, size=2 * reach + 1)) & field.breast
    markers, _ = ndimage.label(minima, structure=np.ones((3, 3)))
    return np.asarray(watershed(steep, markers, mask=field.breast), dtype=np.int32)


def merged(field: Field) -> Iterator[Sketch]:
    """Every region that merging passes through, from the basins on, if it has the size of a lesion."""
    labels = basins(field)
    count = int(labels.max(initial=0))
    if count == 0:
        return
    ys, xs = np.nonzero(labels)
    of = labels[ys, xs] - 1
    areas, across, down, totals = (
        np.bincount(of, weights, minlength=count) for weights in (None, xs, ys, field.pixels[ys, xs])
    )
    boxes = np.array([(c.start, r.start, -c.stop, -r.stop) for r, c in ndimage.find_objects(labels)])
    regions = merge(areas.astype(np.float64), totals / areas, borders(labels), largest=field.largest)
    # A region has what its basins have together.
    lengths = np.array([len(members) for members in regions])
    flat, heads = np.concatenate(regions), np.cumsum(lengths) - lengths
    area, sum_x, sum_y, total = (np.add.reduceat(value[flat], heads) for value in (areas, across, down, totals))
    box = np.minimum.reduceat(boxes[flat], heads)
    for k in field.allowed(area):
        left, top, right, bottom = (int(v) for v in box[k] * (1, 1, -1, -1))
        yield Sketch(
            area=int(area[k]),
            x=float(sum_x[k] - area[k] * left) / float(area[k]) + left,
            y=float(sum_y[k] - area[k] * top) / float(area[k]) + top,
            total=float(total[k]),
            tissue=int(area[k]),
            tissue_total=float(total[k]),
            window=(left, top, right - left, bottom - top),
            proposal=partial(_cut, labels, regions[k], (left, top, right, bottom)),
        )


def _cut(labels: NDArray[np.int32], members: list[int], box: tuple[int, int, int, int]) -> Proposal:
    left, top, right, bottom = box
    chosen = np.zeros(int(labels.max()) + 1, bool)
    chosen[np.array(members) + 1] = True
    return Proposal(chosen[labels[top:bottom, left:right]], left, top, Origin.MERGED)


def borders(labels: NDArray[np.int32]) -> dict[tuple[int, int], int]:
    """Length in pixels of the border between each two neighbours (0-based, the lower first)."""
    count = int(labels.max(initial=0)) + 1
    keys = []
    for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        between = (a != b) & (a > 0) & (b > 0)
        first, second = a[between].astype(np.int64), b[between].astype(np.int64)
        keys.append(np.minimum(first, second) * count + np.maximum(first, second))
    pairs, lengths = np.unique(np.concatenate(keys), return_counts=True)
    return {
        (int(key) // count - 1, int(key) % count - 1): int(length) for key, length in zip(pairs, lengths, strict=True)
    }


def merge(
    areas: NDArray[np.float64], means: NDArray[np.float64], lengths: dict[tuple[int, int], int], *, largest: float
) -> list[list[int]]:
    """Merge the two most alike neighbours, again and again, until no two may be merged.

    The most alike are those whose union adds least to the spread of grey levels within regions
    (Ward, J Am Stat Assoc 58 (1963) 236), less the longer their common border is. A union of more than
    ``largest`` pixels is never made.

    Parameters
    ----------
    areas, means
        Of n pieces, float64 (n,): pixels, and mean grey level (0 to 1).
    lengths
        Common border of neighbours, in pixels.

    Returns
    -------
    list
        The pieces (lists of indices) of every region that existed, the single ones first.
    """
    size: list[float] = areas.tolist()
    mean: list[float] = means.tolist()
    members = [[i] for i in range(len(size))]
    near: list[dict[int, int]] = [{} for _ in size]
    for (i, j), length in lengths.items():
        near[i][j] = near[j][i] = length

    def cost(i: int, j: int) -> float:
        return abs(mean[i] - mean[j]) * math.sqrt(size[i] * size[j] / (size[i] + size[j]) / max(1, near[i][j]))

    queue = [(cost(i, j), i, j) for i, j in lengths if size[i] + size[j] <= largest]
    heapq.heapify(queue)
    alive = set(range(len(size)))
    while queue:
        _, i, j = heapq.heappop(queue)
        if i not in alive or j not in alive:
            continue
        new = len(size)
        size.append(size[i] + size[j])
        mean.append((mean[i] * size[i] + mean[j] * size[j]) / size[new])
        members.append(members[i] + members[j])
        alive -= {i, j}
        around: dict[int, int] = {}
        for old in (i, j):
            for other, length in near[old].items():
                if other in alive:
                    around[other] = around.get(other, 0) + length
        near.append(around)
        alive.add(new)
        for other, length in around.items():
            near[other][new] = length
            if size[other] + size[new] <= largest:
                heapq.heappush(queue, (cost(other, new), other, new))
    return members
