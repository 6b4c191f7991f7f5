"""Region growing from seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.image import ragged
from mammoscan.image.morphology import fill_holes
from mammoscan.image.segment.field import RADII_MM
from mammoscan.image.segment.proposal import Origin, Proposal, Sketch
from mammoscan.image.segment.threshold import seeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mammoscan.image.segment.field import Field

LEVELS = 14  # grey levels tried
SHARES = np.linspace(0.75, 0.15, LEVELS)  # of the seed's rise above its surroundings, at which they lie
_SQUARE = np.ones((3, 3), np.uint8)
# Neighbours at the four sides; every pixel is compared with the seed; the mask alone is drawn, in ones.
_PIECE = 4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (1 << 8)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What lies around any seed of a radius, (2 reach + 1) squared, the seed in the middle.

    nearness: float32, what grey levels are weighed with. ring, inner: bool, what the seed is compared with, and what
    is its middle.
    """

    reach: int
    nearness: NDArray[np.float32]
    ring: NDArray[np.bool_]
    inner: NDArray[np.bool_]


def grown(field: Field) -> Iterator[Sketch]:
    """Grow every seed."""
    rising = (rise(field, x, y, field.radii[index]) for _, index, x, y in seeds(field))
    return (Sketch.of(field, proposal) for proposal in _best(field, [r for r in rising if r is not None]))


@lru_cache(maxsize=len(RADII_MM))
def surroundings(radius: float) -> Surroundings:
    """Around a seed of ``radius`` pixels."""
    reach = max(4, round(2.2 * radius))
    along = np.arange(-reach, reach + 1, dtype=np.float32)
    far = np.hypot(along[None, :], along[:, None])
    return Surroundings(
        reach=reach,
        nearness=np.exp(-0.5 * (far / (1.15 * radius)) ** 2),
        ring=(far > 1.3 * radius) & (far < 2.2 * radius),
        inner=far <= max(1.5, 0.6 * radius),
    )


def grow(field: Field, x: int, y: int, radius: float) -> Proposal | None:
    """Grow a seed at falling grey levels; keep the level with the highest radial gradient index.

    After Kupinski and Giger, IEEE TMI 17 (1998) 510. Grey levels are weighed down with the distance
    from the seed (a Gaussian of the seed's radius), so that a region does not leak along the tissue.
    ``None`` where the seed does not stand out of its surroundings.
    """
    rising = rise(field, x, y, radius)
    return None if rising is None else _best(field, [rising])[0]


@dataclass(frozen=True, slots=True)
class Rising:
    """A seed at all levels. held: uint8 (h, w), how many of ``levels`` levels hold a pixel, in the window whose top
    left corner is (x0, y0). seed: (x, y). All in search pixels.
    """

    held: NDArray[np.uint8]
    levels: int
    x0: int
    y0: int
    seed: tuple[int, int]


def rise(field: Field, x: int, y: int, radius: float) -> Rising | None:
    """The pieces around a seed at falling grey levels; ``None`` where there are none."""
    around = surroundings(radius)
    reach = around.reach
    height, width = field.pixels.shape
    x0, y0 = max(0, x - reach), max(0, y - reach)
    window = (slice(y0, min(height, y + reach + 1)), slice(x0, min(width, x + reach + 1)))
    part = tuple(slice(s.start - at + reach, s.stop - at + reach) for s, at in zip(window, (y, x), strict=True))
    pixels, breast = field.pixels[window], field.breast[window]
    ring, inner = breast & around.ring[part], breast & around.inner[part]
    if not inner.any() or np.count_nonzero(ring) < 8:
        return None
    base, peak = _median(pixels[ring]), _median(pixels[inner])
    if peak - base < 0.01:
        return None
    weighed = (pixels - base) * around.nearness[part]
    exceeded = (weighed > _below(SHARES * (peak - base))[:, None, None]).sum(axis=0, dtype=np.uint8) * breast
    held, levels = joined(exceeded, x - x0, y - y0, most=6.5 * radius**2)
    return Rising(held, levels, x0, y0, (x, y)) if levels else None


def joined(exceeded: NDArray[np.uint8], x: int, y: int, *, most: float) -> tuple[NDArray[np.uint8], int]:
    """Of the pieces around (x, y) at falling levels, those of 4 to ``most`` pixels: how many hold a pixel, and all.

    exceeded: uint8 (h, w), how many of LEVELS levels a pixel is above. Each piece lies within the next, so that the
    first of n holds the pixels that n hold, the last those that at least one holds.
    """
    h, w = exceeded.shape
    held = np.zeros((LEVELS, h + 2, w + 2), np.uint8)
    own = int(exceeded[y, x])
    kept = 0
    for level in range(own, 0, -1):
        held[kept] = 0
        area = cv2.floodFill(exceeded, held[kept], (x, y), 0, own - level, LEVELS, _PIECE)[0]
        if area > most:
            held[kept] = 0
            break
        kept += area >= 4
    return held[:kept, 1:-1, 1:-1].sum(axis=0, dtype=np.uint8), kept


def _best(field: Field, rising: Sequence[Rising]) -> list[Proposal]:
    """Each seed at the level with the highest index, filled."""
    if not rising:
        return []
    # The edge of a level: what it holds, and not all neighbours of. A pixel is on that of so many levels.
    width = field.pixels.shape[1]
    at, aside, numbers, counts = [], [], [], []
    before = 0
    for seed in rising:
        kept = cv2.erode(seed.held, _SQUARE, borderValue=0)
        places = np.flatnonzero(seed.held > kept)
        ys, xs = np.divmod(places, seed.held.shape[1])
        ys, xs = ys + seed.y0, xs + seed.x0
        fewest = np.arange(seed.levels, 0, -1, dtype=np.uint8)[:, None]
        edges = (seed.held.ravel()[places] >= fewest) & (kept.ravel()[places] < fewest)
        of_level = np.count_nonzero(edges, axis=1)
        at.append(ys * width + xs)
        aside.append(np.array([xs - seed.seed[0], ys - seed.seed[1]], np.float32))
        starts = np.arange(0, -seed.levels, -1) * len(places) + before
        numbers.append(np.flatnonzero(edges) + np.repeat(starts, of_level))
        counts.append(of_level)
        before += len(places)
    index = radial_gradient(
        field, np.concatenate(at), np.concatenate(aside, axis=1), np.concatenate(numbers), np.concatenate(counts)
    )
    ends = np.cumsum([seed.levels for seed in rising])
    best = [
        seed.levels - int(np.argmax(index[end - seed.levels : end]))
        for seed, end in zip(rising, ends.tolist(), strict=True)
    ]
    return [
        Proposal(fill_holes(seed.held >= fewest), seed.x0, seed.y0, Origin.GROWN)
        for seed, fewest in zip(rising, best, strict=True)
    ]


def radial_gradient(
    field: Field,
    at: NDArray[np.intp],
    aside: NDArray[np.float32],
    numbers: NDArray[np.intp],
    lengths: NDArray[np.intp],
) -> NDArray[np.float64]:
    """The radial gradient index of each of many edges, float64 (edges,).

    at: (n,), pixels of the field. aside: (2, n), their column and row less the seed's. numbers: which of them the edges
    have, edge by edge. lengths: pixels of each edge.
    """
    dx, dy = aside
    gx, gy = field.gradient_x.ravel()[at], field.gradient_y.ravel()[at]
    inward = -(gx * dx + gy * dy) / np.maximum(np.hypot(dx, dy), np.float32(1))
    strength = np.hypot(gx, gy) + np.float32(1e-6)
    index = ragged.sums(inward[numbers], lengths) / ragged.sums(strength[numbers], lengths)
    # The gradient's size counts as well: a level inside a flat top has no edge.
    size = np.sqrt(ragged.means(inward.clip(0)[numbers], lengths) + np.float32(1e-6))
    return np.asarray(index.astype(np.float64) * size)


def _below(levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """The highest float32 not above each level: what is higher than it is higher than the level."""
    near = levels.astype(np.float32)
    return np.where(near > levels, np.nextafter(near, np.float32(-np.inf)), near)


def _median(values: NDArray[np.float32]) -> float:
    """``np.median`` of numbers, without what it asks for other arrays."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    part = np.partition(values, (middle - 1, middle))
    return float((part[middle - 1] + part[middle]) / np.float32(2))
