"""Clusters of microcalcifications: bright spots of 0.1 to 1 mm, several close together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.domain import Region, RegionKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.domain import Prepared

LARGEST_MM = 1.0  # a spot's diameter
COARSEST_MM = 0.2  # pixels larger than this cannot show spots
CLUSTER_MM = 5.0  # spots closer than this belong together
FEWEST = 4  # spots in a cluster
MOST_CLUSTERS = 3  # an image
NOISES = 6.0  # a spot stands this many noise levels above its surroundings


def clusters(prepared: Prepared) -> tuple[Region, ...]:
    """Clusters of spots as regions in source pixels, densest first; none where pixels are too coarse."""
    from mammoscan.segment import region_from

    geometry = prepared.fine_geometry
    if geometry.mm > COARSEST_MM + 1e-9:
        return ()
    breast = cv2.resize(
        prepared.breast.astype(np.uint8), (geometry.width, geometry.height), interpolation=cv2.INTER_NEAREST
    )
    # The skin line is thin and bright too: stay away from the breast's edge.
    reach = max(1, round(3.0 / geometry.mm))
    inner = cv2.erode(breast, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    points = spots(prepared.fine, inner.astype(bool), mm=geometry.mm)
    found = []
    for group in linked(points[:, :2], CLUSTER_MM / geometry.mm):
        if len(group) < FEWEST:
            continue
        members = points[group]
        hull = cv2.convexHull(members[:, :2].astype(np.float32))[:, 0, :].astype(np.float64)
        centre = members[:, :2].mean(axis=0)
        # A margin of 1 mm, so that the outline encloses the spots instead of crossing them.
        away = hull - centre
        length = np.maximum(np.hypot(*away.T)[:, None], 1e-6)
        hull = hull + away / length * (1.0 / geometry.mm)
        if len(hull) < 3:
            radius = 1.5 / geometry.mm
            hull = centre + radius * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        area = float(cv2.contourArea(hull.astype(np.float32)))
        strength = float(np.log(len(group)) + 0.5 * np.log(members[:, 2].mean()))
        found.append((strength, len(group), hull, area))
    found.sort(key=lambda item: (-item[0], item[2][0, 1], item[2][0, 0]))
    per_pixel = 1.0 / (geometry.scale_x * geometry.scale_y)
    return tuple(
        region_from(
            prepared, RegionKind.CALCIFICATION, geometry.to_source(hull), area * per_pixel, strength, spots=count
        )
        for strength, count, hull, area in found[:MOST_CLUSTERS]
    )


def spots(pixels: NDArray[np.float32], inside: NDArray[np.bool_], *, mm: float) -> NDArray[np.float64]:
    """(x, y, strength) of bright spots of at most 1 mm: white top-hat over the local noise.

    pixels: float32 (h, w), 0 to 1. inside: bool (h, w). mm: pixel size. strength: noise levels.
    """
    size = 2 * max(1, round(0.6 * LARGEST_MM / mm)) + 1
    soft = cv2.GaussianBlur(pixels, (0, 0), max(0.5, 0.06 / mm))
    hat = soft - cv2.morphologyEx(soft, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    step = 8
    small = cv2.resize(hat, (max(1, hat.shape[1] // step), max(1, hat.shape[0] // step)), interpolation=cv2.INTER_AREA)
    level = cv2.resize(
        cv2.GaussianBlur(small, (0, 0), max(1.0, 8.0 / mm / step)), hat.shape[::-1], interpolation=cv2.INTER_LINEAR
    )
    strength = hat / np.maximum(level, 2e-3)
    bright = ((strength > NOISES) & inside).astype(np.uint8)
    count, _, stats, centres = cv2.connectedComponentsWithStats(bright, connectivity=8)
    if count < 2:
        return np.empty((0, 3))
    largest = LARGEST_MM / mm
    good = (
        (stats[1:, cv2.CC_STAT_WIDTH] <= largest + 1)
        & (stats[1:, cv2.CC_STAT_HEIGHT] <= largest + 1)
        & (stats[1:, cv2.CC_STAT_AREA] >= (2 if mm < 0.15 else 1))
    )
    where = centres[1:][good]
    columns = np.clip(np.round(where[:, 0]).astype(int), 0, pixels.shape[1] - 1)
    rows = np.clip(np.round(where[:, 1]).astype(int), 0, pixels.shape[0] - 1)
    return np.column_stack([where + 0.5, strength[rows, columns]])


def linked(points: NDArray[np.float64], distance: float) -> list[NDArray[np.intp]]:
    """Groups of points of which each is closer than ``distance`` to another of its group."""
    if len(points) == 0:
        return []
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(points).query_pairs(distance, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    return [np.asarray(g, dtype=np.intp) for g in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)]
