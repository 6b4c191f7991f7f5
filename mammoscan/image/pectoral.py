"""The pectoral muscle on oblique and lateral views: a straight line, refined to a curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Scales in millimetres.
EDGE_MM = 1.0  # smoothing of the gradient
STRIP_MM = 4.0  # width of the strips compared on both sides of a line
OUTWARD_MM = 0.8  # the drop is steepest inside what readers draw
# Where the edge usually meets the top and the wall; all constants here were chosen by a random
# search on the mini-MIAS films of the patients with an odd number.
TYPICAL_TOP_MM, SPREAD_TOP_MM = 38.0, 25.0
TYPICAL_WALL_MM, SPREAD_WALL_MM = 90.0, 60.0
REFINE_MM = 16.0  # how far the curve may leave the line


def pectoral_mask(
    pixels: NDArray[np.float32], breast: NDArray[np.bool_], *, mm: float, certain: bool
) -> NDArray[np.bool_]:
    """Mask of the muscle in the upper chest-wall corner.

    pixels: float32 (h, w), 0 to 1, chest wall on the left. breast: bool (h, w). mm: pixel size.
    certain: whether the view is known to show muscle (else a clearer edge is asked for).

    Lines from the top to the chest wall are scored by the brightness drop across them, along their
    whole length; the best is refined by dynamic programming on the gradient in a band around it.

    Returns
    -------
    bool (h, w); all False where no edge is clear enough.
    """
    empty = np.zeros_like(breast)
    heights = breast.sum(axis=0)
    if not heights.any():
        return empty
    # The first column that is really chest wall, not a fringe of the film's edge.
    left = int(np.flatnonzero(heights > 0.3 * heights.max())[0])
    wall = breast[:, left : left + max(2, round(4.0 / mm))].any(axis=1)
    top = int(np.flatnonzero(wall)[0])
    height = int(np.flatnonzero(wall)[-1]) - top + 1
    sub, inside = pixels[top:, left:], breast[top:, left:]
    h, w = sub.shape
    # The widest row of the upper part bounds where the line may leave the picture.
    reach = int(inside[: max(2, round(8.0 / mm))].sum(axis=1).max())
    if height * mm < 40 or reach * mm < 8:
        return empty
    filled = _extend(sub, inside, mm)
    smooth = cv2.GaussianBlur(filled, (0, 0), EDGE_MM / mm)
    line = _best_line(smooth, inside, reach, height, mm)
    if line is None:
        return empty
    x_top, y_wall, drop = line
    spread = float(np.std(smooth[inside])) + 1e-6
    if drop < (0.12 if certain else 0.5) * spread:
        return empty
    curve = _refine(smooth, x_top, y_wall, mm)
    mask = empty
    rows = np.arange(curve.size)
    part = np.zeros((h, w), bool)
    part[rows] = np.arange(w)[None, :] < curve[:, None]
    mask[top:, left:] = part
    if top > 0:  # rows above the wall's first breast pixel belong to the muscle too
        mask[:top, left : left + round(curve[0])] = True
    return mask & breast


def _extend(pixels: NDArray[np.float32], inside: NDArray[np.bool_], mm: float) -> NDArray[np.float32]:
    """Pixels with the outside replaced by the local mean of the inside, so that the skin is no edge."""
    weight = inside.astype(np.float32)
    sigma = 10.0 / mm
    near = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)
    mean = cv2.GaussianBlur(pixels * weight, (0, 0), sigma) / near
    return np.where(inside, pixels, mean).astype(np.float32)


def _best_line(
    smooth: NDArray[np.float32], inside: NDArray[np.bool_], reach: int, height: int, mm: float
) -> tuple[float, float, float] | None:
    h, w = smooth.shape
    tops = np.linspace(8.0 / mm, min(reach * 1.15, w - 1), 36)
    walls = np.linspace(25.0 / mm, min(height * 0.95, h - 1), 44)
    x_top, y_wall = (a.ravel() for a in np.meshgrid(tops, walls, indexing="ij"))
    # The muscle's edge runs from the top, away from the wall, steeply down to the wall.
    slope = y_wall / x_top
    good = (slope > 0.55) & (slope < 6.0)
    x_top, y_wall = x_top[good], y_wall[good]
    if x_top.size == 0:
        return None
    t = np.linspace(0.03, 0.97, 48)
    x = x_top[:, None] * (1 - t)
    y = y_wall[:, None] * t
    length = np.hypot(x_top, y_wall)
    nx, ny = (y_wall / length)[:, None], (x_top / length)[:, None]  # towards the breast
    drops = []
    for offset in (STRIP_MM * 0.25, STRIP_MM * 0.5, STRIP_MM):
        step = offset / mm
        inner = _sample(smooth, x - nx * step, y - ny * step)
        outer = _sample(smooth, x + nx * step, y + ny * step)
        drops.append(inner - outer)
    drop = np.mean(drops, axis=0)
    seen = _sample(inside.astype(np.float32), x, y) > 0.5
    share = seen.mean(axis=1)
    drop = np.where(seen, drop, 0.0)
    # Robust against a bright gland that hides a part of the edge: clipped, and consistent sign asked for.
    clipped = np.clip(drop, -0.05, 0.12)
    mean = clipped.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    consistent = ((drop > 0) & seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    off_top = (x_top * mm - TYPICAL_TOP_MM) / SPREAD_TOP_MM
    off_wall = (y_wall * mm - TYPICAL_WALL_MM) / SPREAD_WALL_MM
    prior = np.exp(-0.5 * (off_top**2 + off_wall**2))
    score = mean * consistent * prior * (share > 0.6)
    best = int(np.argmax(score))
    if score[best] <= 0:
        return None
    return float(x_top[best]), float(y_wall[best]), float(mean[best])


def _refine(smooth: NDArray[np.float32], x_top: float, y_wall: float, mm: float) -> NDArray[np.float64]:
    """Column of the edge for every row of the muscle, by dynamic programming in a band around the line."""
    h, w = smooth.shape
    # Polar coordinates around the wall corner: one radius for each angle, whatever the slope.
    angles = np.linspace(0.0, np.pi / 2, 90)
    with np.errstate(divide="ignore"):
        line = 1.0 / (np.cos(angles) / x_top + np.sin(angles) / y_wall)
    offsets = np.arange(-REFINE_MM, REFINE_MM + 1e-6, 0.5) / mm
    radius = np.maximum(line[:, None] + offsets[None, :], 0.0)
    step = 1.5 / mm
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    drop = _sample(smooth, (radius - step) * cos, (radius - step) * sin) - _sample(
        smooth, (radius + step) * cos, (radius + step) * sin
    )
    cost = -np.clip(drop, -0.02, 0.1) + 0.002 * np.abs(offsets * mm / REFINE_MM)[None, :]
    total = cost.copy()
    back = np.zeros(cost.shape, np.intp)
    moves = np.arange(-3, 4)
    n = offsets.size
    for i in range(1, len(angles)):
        candidates = np.stack(
            [
                np.where(
                    (np.arange(n) + m >= 0) & (np.arange(n) + m < n),
                    total[i - 1, np.clip(np.arange(n) + m, 0, n - 1)] + 0.005 * abs(m),
                    np.inf,
                )
                for m in moves
            ]
        )
        choice = np.argmin(candidates, axis=0)
        total[i] += candidates[choice, np.arange(n)]
        back[i] = np.clip(np.arange(n) + moves[choice], 0, n - 1)
    path = np.empty(len(angles), np.intp)
    path[-1] = int(np.argmin(total[-1]))
    for i in range(len(angles) - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    r = radius[np.arange(len(angles)), path] + OUTWARD_MM / mm
    x, y = r * np.cos(angles), r * np.sin(angles)
    bottom = max(1, min(h, round(float(y.max()))))
    order = np.argsort(y, kind="stable")
    return np.clip(np.interp(np.arange(bottom) + 0.5, y[order], x[order]), 0, w)


def _sample(image: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """Bilinear values at (x, y) in pixels (pixel centres at whole numbers), edges replicated."""
    columns, rows = x.astype(np.float32), y.astype(np.float32)
    return np.asarray(cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
