"""Clusters of microcalcifications: bright spots of 0.1 to 1 mm, several close together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.image.morphology import eroded, opened
from mammoscan.image.segment.proposal import Origin, Proposal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared
    from mammoscan.image.segment.field import Field

LARGEST_MM = 1.0  # a spot's diameter
COARSEST_MM = 0.2  # pixels larger than this cannot show spots
SPREAD_MM = 1.5  # standard deviation of the Gaussian that gathers the spots of a cluster
SURROUND_MM = 12.0  # and of the one that says how many there are in the tissue around
REACH_MM = 3.0  # spots within this distance of a cluster's middle belong to it
FEWEST = 2  # spots in a cluster
MOST_CLUSTERS = 12  # an image
NOISES = 7.0  # a spot stands this many noise levels above its surroundings
_WHOLE = 65535.0  # of grey level 1
STRONGEST = 12.0  # noise levels above which a spot counts no more for being brighter


def clusters(prepared: Prepared, field: Field) -> list[Proposal]:
    """Places with more and brighter spots than the tissue around has, those that stand out most first.

    Sought at the fine scale; none where its pixels are too coarse for spots.
    """
    geometry = prepared.fine_geometry
    if geometry.mm > COARSEST_MM + 1e-9:
        return []
    breast = cv2.resize(
        prepared.breast.astype(np.uint8), (geometry.width, geometry.height), interpolation=cv2.INTER_NEAREST
    )
    # The skin line is thin and bright too: stay away from the breast's edge.
    inner = eroded(breast.astype(bool), max(1, round(3.0 / geometry.mm)))
    points = spots(prepared.fine, inner, mm=geometry.mm)
    found: list[Proposal] = []
    for middle in crowded(points, inner, mm=geometry.mm):
        if len(found) == MOST_CLUSTERS:
            break
        members = points[np.hypot(*(points[:, :2] - middle).T) <= REACH_MM / geometry.mm]
        if len(members) >= FEWEST:
            found.append(_enclosed(members[:, :2], prepared, field))
    return found


def crowded(points: NDArray[np.float64], inside: NDArray[np.bool_], *, mm: float) -> NDArray[np.float64]:
    """Middles (n, 2) of crowds of spots, those that stand out most first.

    Each spot counts with the square of its strength. The sum over ``SPREAD_MM`` is compared with what
    the surroundings would give, in standard deviations of a count. points: (x, y, strength) of spots.
    """
    if len(points) == 0:
        return np.empty((0, 2))
    step = max(1, round(0.4 / mm))  # crowds are millimetres wide: a coarser grid does
    shape = (-(-inside.shape[0] // step), -(-inside.shape[1] // step))
    tissue = cv2.resize(inside.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    weights = np.zeros(shape, np.float32)
    np.add.at(
        weights,
        ((points[:, 1] / step).astype(int), (points[:, 0] / step).astype(int)),
        np.minimum(points[:, 2], STRONGEST) ** 2,
    )
    sigma, wide = SPREAD_MM / (mm * step), SURROUND_MM / (mm * step)
    pixels = 2 * np.pi * sigma**2
    here = cv2.GaussianBlur(weights, (0, 0), sigma) * pixels
    # What is centimetres wide is as well seen with a quarter of the pixels each way.
    coarse = (max(1, shape[1] // 4), max(1, shape[0] // 4))
    spread, area = (
        cv2.GaussianBlur(cv2.resize(plane, coarse, interpolation=cv2.INTER_AREA), (0, 0), wide / 4)
        for plane in (weights, tissue)
    )
    usual = cv2.resize(spread / np.maximum(area, 1e-3), shape[::-1], interpolation=cv2.INTER_LINEAR) * pixels
    excess = (here - usual) / np.sqrt(usual + float(usual[tissue > 0.5].mean()) + 0.1)
    side = 2 * max(1, round(1.5 * sigma)) + 1
    highest = cv2.dilate(excess, np.ones((side, side), np.uint8))
    ys, xs = np.nonzero((excess == highest) & (excess > 0) & (tissue > 0))
    order = np.argsort(-excess[ys, xs], kind="stable")
    return np.column_stack([xs[order] + 0.5, ys[order] + 0.5]) * step


def _enclosed(points: NDArray[np.float64], prepared: Prepared, field: Field) -> Proposal:
    """The hull of spots (n, 2), in fine pixels, with a margin of 1 mm, at the search scale."""
    height, width = field.pixels.shape
    # The same crop at two sizes.
    ratio = np.array([width / prepared.fine_geometry.width, height / prepared.fine_geometry.height])
    hull = np.round(cv2.convexHull(points.astype(np.float32))[:, 0, :] * ratio - 0.5).astype(np.int32)
    margin = max(1, round(1.0 / field.mm))
    x0, y0 = np.maximum(hull.min(axis=0) - margin, 0)
    x1, y1 = np.minimum(hull.max(axis=0) + margin + 1, (width, height))
    canvas = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillConvexPoly(canvas, hull - np.array([x0, y0], np.int32), 1)
    canvas = cv2.dilate(canvas, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1)))
    x, y, w, h = cv2.boundingRect(canvas)
    mask = canvas[y : y + h, x : x + w].astype(bool)
    return Proposal(mask, int(x0) + x, int(y0) + y, Origin.CLUSTER, spots=len(points))


def spots(pixels: NDArray[np.float32], inside: NDArray[np.bool_], *, mm: float) -> NDArray[np.float64]:
    """(x, y, strength) of bright spots of at most 1 mm: white top-hat over the local noise.

    pixels: float32 (h, w), 0 to 1. inside: bool (h, w). mm: pixel size. strength: noise levels.
    """
    # In whole numbers: half the memory, and a fraction of the work, of what is far finer than any noise level.
    soft = cv2.GaussianBlur(cv2.multiply(pixels, _WHOLE, dtype=cv2.CV_16U), (0, 0), max(0.5, 0.06 / mm))
    hat = cv2.subtract(soft, opened(soft, max(1, round(0.6 * LARGEST_MM / mm)))) * np.float32(1 / _WHOLE)
    step = 8
    small = cv2.resize(hat, (max(1, hat.shape[1] // step), max(1, hat.shape[0] // step)), interpolation=cv2.INTER_AREA)
    level = cv2.resize(
        cv2.GaussianBlur(small, (0, 0), max(1.0, 8.0 / mm / step)), hat.shape[::-1], interpolation=cv2.INTER_LINEAR
    )
    strength = np.divide(hat, np.maximum(level, 2e-3, out=level), out=hat)
    bright = (strength > NOISES) & inside
    # Few pixels are bright: they are measured, not the picture.
    count, labels = cv2.connectedComponents(bright.view(np.uint8), connectivity=8)
    if count < 2:
        return np.empty((0, 3))
    at = np.flatnonzero(bright)
    ys, xs = np.divmod(at, bright.shape[1])
    of = labels.ravel()[at] - 1
    area = np.bincount(of)
    largest = LARGEST_MM / mm
    good = area >= (2 if mm < 0.15 else 1)
    for place in (xs, ys):
        low, high = np.full(count - 1, place.max()), np.zeros(count - 1, np.intp)
        np.minimum.at(low, of, place)
        np.maximum.at(high, of, place)
        good &= high - low <= largest
    where = np.column_stack([np.bincount(of, place) for place in (xs, ys)])[good] / area[good, None]
    columns = np.clip(np.round(where[:, 0]).astype(int), 0, pixels.shape[1] - 1)
    rows = np.clip(np.round(where[:, 1]).astype(int), 0, pixels.shape[0] - 1)
    return np.column_stack([where + 0.5, strength[rows, columns]])
