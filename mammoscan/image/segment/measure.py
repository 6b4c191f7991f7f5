"""What a proposal looks like: the measures that the ranking goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mammoscan.image.segment.field import Field
    from mammoscan.image.segment.proposal import Proposal

MEASURES = (
    "log_radius_mm", "breast_share", "mean", "spread", "around_mean", "contrast", "contrast_over_spread",
    "around_spread", "brighter_around", "edge_gradient", "edge_convergence", "weakest_sector", "weak_sectors",
    "circularity", "solidity", "eccentricity", "extent", "log_skin_mm", "log_nearest_skin_mm", "across", "down",
    "open_edge", "grey_rank", "convergence", "response", "log_scale_ratio", "grain_over_spread", "grain_ratio",
    "bright_end", "dark_end", "origin", "roughness", "like_it", "nearly_same",
)  # fmt: skip

STANDS_OUT = 0.03  # grey levels (0 to 1) by which a lesion is brighter than what surrounds it
WINDOW = 7.0  # pixels of radius down to which a proposal is shrunk before it is measured
COARSE = 6  # search pixels in a cell of the grid on which overlaps are counted
SECTORS = 12
_CROSS = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class _Layer:
    """The field at one of its sizes, each half the one before."""

    pixels: NDArray[np.float32]
    breast: NDArray[np.bool_]
    gradient_x: NDArray[np.float32]
    gradient_y: NDArray[np.float32]
    skin_mm: NDArray[np.float32]  # distance to the breast's edge
    grain: NDArray[np.float32]  # what smoothing by one pixel takes away


def distinct(field: Field, proposals: Sequence[Proposal]) -> list[Proposal]:
    """The proposals that stand out of their surroundings, one of those with nearly the same place and size."""
    seen = set()
    out = []
    for proposal in proposals:
        area = float(np.count_nonzero(proposal.mask))
        radius = np.sqrt(area / np.pi)
        x, y = centre(proposal)
        place = (round(np.log(area) / 0.15), round(y / (0.3 * radius)), round(x / (0.3 * radius)))
        if place in seen:
            continue
        seen.add(place)
        if _contrast(field, proposal, max(1, int(0.5 * radius))) > STANDS_OUT:
            out.append(proposal)
    return out


def centre(proposal: Proposal) -> tuple[float, float]:
    """Mean (x, y) of a proposal's pixels in search pixels, centres at whole numbers."""
    ys, xs = np.nonzero(proposal.mask)
    return float(xs.mean()) + proposal.x, float(ys.mean()) + proposal.y


def overlaps(field: Field, proposals: Sequence[Proposal]) -> NDArray[np.float32]:
    """Intersection over union of every two proposals, float32 (n, n), counted on a coarse grid.

    A cell counts by the share of it that a proposal covers, so that small ones are not lost. Among squares of
    20 pixels or more the result is within 0.3 of the exact one, and exact for the same and for far places.
    """
    height, width = (-(-side // COARSE) for side in field.pixels.shape)
    cells = np.zeros((len(proposals), height, width), np.float32)
    for cell, p in zip(cells, proposals, strict=True):
        (h, w), top, left = p.mask.shape, p.y // COARSE, p.x // COARSE
        bottom, right = -(-(p.y + h) // COARSE), -(-(p.x + w) // COARSE)
        whole = np.zeros(((bottom - top) * COARSE, (right - left) * COARSE), np.float32)
        dy, dx = p.y - top * COARSE, p.x - left * COARSE
        whole[dy : dy + h, dx : dx + w] = p.mask
        cell[top:bottom, left:right] = whole.reshape(bottom - top, COARSE, right - left, COARSE).mean(axis=(1, 3))
    flat = cells.reshape(len(proposals), height * width)
    both = flat @ flat.T
    area = flat.sum(axis=1)
    ratio = both / np.maximum(area[:, None] + area[None, :] - both, 1e-6)
    # Cells that are covered in part make even a proposal's overlap with itself less than 1.
    own = np.maximum(np.diag(ratio), 1e-6)
    return np.asarray(np.minimum(ratio / np.sqrt(own[:, None] * own[None, :]), 1.0), dtype=np.float32)


def measures(field: Field, proposals: Sequence[Proposal], shared: NDArray[np.float32]) -> NDArray[np.float32]:
    """The measures of all proposals, float32 (n, len(MEASURES)), finite. shared: their ``overlaps``."""
    out = np.zeros((len(proposals), len(MEASURES)), np.float32)
    if not proposals:
        return out
    layers = _layers(field)
    greys = np.sort(field.pixels[field.breast][::7])
    ys, xs = np.nonzero(field.breast)
    frame = (float(xs.min()), float(ys.min()), float(np.ptp(xs)) + 1.0, float(np.ptp(ys)) + 1.0)
    for row, proposal in zip(out, proposals, strict=True):
        row[:-2] = _measured(field, layers, greys, frame, proposal)
    out[:, -2] = (shared > 0.5).sum(axis=1)
    out[:, -1] = (shared > 0.75).sum(axis=1)
    return out


def _contrast(field: Field, proposal: Proposal, reach: int) -> float:
    """Mean grey level inside less that of the box around, in the breast."""
    h, w = proposal.mask.shape
    top, left = max(0, proposal.y - reach), max(0, proposal.x - reach)
    window = (slice(top, proposal.y + h + reach), slice(left, proposal.x + w + reach))
    around = field.breast[window].copy()
    around[proposal.y - top : proposal.y - top + h, proposal.x - left : proposal.x - left + w] &= ~proposal.mask
    if not around.any():
        return 0.0
    inside = field.pixels[proposal.y : proposal.y + h, proposal.x : proposal.x + w][proposal.mask]
    return float(inside.mean() - field.pixels[window][around].mean())


def _layers(field: Field) -> list[_Layer]:
    out = []
    pixels, breast, mm = field.pixels, field.breast, field.mm
    for number in range(5):
        if number:
            size = (max(4, pixels.shape[1] // 2), max(4, pixels.shape[0] // 2))
            breast = cv2.resize(breast.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
            mm *= 2
        soft = cv2.GaussianBlur(pixels, (0, 0), 1.0)
        skin = cv2.distanceTransform(np.pad(breast, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1] * mm
        out.append(
            _Layer(
                pixels=pixels,
                breast=breast,
                gradient_x=np.asarray(cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=0.125)),
                gradient_y=np.asarray(cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=0.125)),
                skin_mm=np.asarray(skin, dtype=np.float32),
                grain=np.abs(pixels - soft),
            )
        )
    return out


def _shrunk(proposal: Proposal, factor: int, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], int, int]:
    """The mask in pixels ``factor`` times as wide, with its top left corner."""
    h, w = proposal.mask.shape
    if factor == 1:
        return proposal.mask.astype(np.uint8), proposal.x, proposal.y
    top, left = proposal.y // factor, proposal.x // factor
    bottom = min(shape[0], -(-(proposal.y + h) // factor))
    right = min(shape[1], -(-(proposal.x + w) // factor))
    whole = np.zeros(((bottom - top) * factor, (right - left) * factor), np.float32)
    dy, dx = proposal.y - top * factor, proposal.x - left * factor
    part = proposal.mask[: whole.shape[0] - dy, : whole.shape[1] - dx]
    whole[dy : dy + part.shape[0], dx : dx + part.shape[1]] = part
    small = cv2.resize(whole, (right - left, bottom - top), interpolation=cv2.INTER_AREA) >= 0.5
    return small.astype(np.uint8), left, top


def _measured(
    field: Field,
    layers: list[_Layer],
    greys: NDArray[np.float32],
    frame: tuple[float, float, float, float],
    proposal: Proposal,
) -> tuple[float, ...]:
    whole_area = float(np.count_nonzero(proposal.mask))
    whole_radius = np.sqrt(whole_area / np.pi)
    number = int(np.clip(np.floor(np.log2(max(whole_radius, 1.0) / WINDOW)), 0, len(layers) - 1))
    layer, factor = layers[number], 2**number
    height, width = layer.pixels.shape
    small, left, top = _shrunk(proposal, factor, layer.pixels.shape)
    radius = max(1.0, whole_radius / factor)
    margin = int(np.ceil(0.6 * radius)) + 2
    y0, x0 = max(0, top - margin), max(0, left - margin)
    y1, x1 = min(height, top + small.shape[0] + margin), min(width, left + small.shape[1] + margin)
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    mask[top - y0 : top - y0 + small.shape[0], left - x0 : left - x0 + small.shape[1]] = small
    if np.count_nonzero(mask) < 2:  # shrunk to nothing: the pixel in its middle
        mask[min(mask.shape[0] - 1, top - y0 + small.shape[0] // 2), left - x0 + small.shape[1] // 2] = 1
    window = (slice(y0, y1), slice(x0, x1))
    pixels, breast = layer.pixels[window], layer.breast[window]
    gx, gy, skin, grain = (a[window] for a in (layer.gradient_x, layer.gradient_y, layer.skin_mm, layer.grain))
    inside = mask.astype(bool)
    side = 2 * max(1, round(0.5 * radius)) + 1
    wide = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    ring = (wide > 0) & ~inside & breast

    # Grey levels inside and around.
    values = np.sort(pixels[inside])
    around = pixels[ring] if ring.any() else pixels.ravel()
    mean, spread = float(values.mean()), float(values.std())
    around_mean, around_spread = float(around.mean()), float(around.std())
    grain_inside = float(grain[inside].mean())
    grain_around = float(grain[ring].mean()) if ring.any() else grain_inside

    # The gradient on the edge, against the outward normal (from the smoothed mask).
    ys, xs = np.nonzero(inside & (cv2.erode(mask, _CROSS, borderValue=0) == 0))
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
    nx, ny = cv2.Sobel(soft, cv2.CV_32F, 1, 0)[ys, xs], cv2.Sobel(soft, cv2.CV_32F, 0, 1)[ys, xs]
    ex, ey = gx[ys, xs], gy[ys, xs]
    inward = (ex * nx + ey * ny) / (np.hypot(nx, ny) + 1e-6)
    my, mx = np.nonzero(inside)
    cy, cx = float(my.mean()), float(mx.mean())
    sector = ((np.arctan2(ys - cy, xs - cx) + np.pi) / (2 * np.pi) * SECTORS).astype(int) % SECTORS
    hits = np.bincount(sector, minlength=SECTORS)
    sums = np.bincount(sector, weights=inward, minlength=SECTORS)
    sectors = np.sort(sums[hits > 0] / hits[hits > 0])

    # Shape.
    area = float(len(my))
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)
    perimeter = cv2.arcLength(outline, closed=True) + 2.0
    hull = cv2.contourArea(cv2.convexHull(outline)) + perimeter / 2.0
    vx, vy, vxy = float(mx.var()) + 0.1, float(my.var()) + 0.1, float(((my - cy) * (mx - cx)).mean())
    half = np.hypot((vx - vy) / 2, vxy)
    long, short = (vx + vy) / 2 + half, max(1e-3, (vx + vy) / 2 - half)
    box = float((np.ptp(my) + 1) * (np.ptp(mx) + 1))
    outside = (cv2.dilate(mask, _CROSS) > 0) & ~inside

    # Gradients that point to the centre (te Brake and Karssemeijer, IEEE TMI 18 (1999) 628).
    wy, wx = np.nonzero(wide)
    dx, dy = cx - wx, cy - wy
    wgx, wgy = gx[wy, wx], gy[wy, wx]
    pointing = (wgx * dx + wgy * dy) / ((np.hypot(dx, dy) + 1e-3) * (np.hypot(wgx, wgy) + 1e-4))

    # Place, and the difference of Gaussians there.
    at_y = min(field.pixels.shape[0] - 1, int((cy + y0 + 0.5) * factor))
    at_x = min(field.pixels.shape[1] - 1, int((cx + x0 + 0.5) * factor))
    responses = field.response[:, at_y, at_x]
    own_scale = int(np.argmin([abs(np.log(r / whole_radius)) for r in field.radii]))
    best_scale = field.radii[int(responses.argmax())]
    row, column = min(int(cy), mask.shape[0] - 1), min(int(cx), mask.shape[1] - 1)
    return (
        np.log(whole_radius * field.mm),
        whole_area / max(1.0, float(np.count_nonzero(field.breast))),
        mean,
        spread,
        around_mean,
        mean - around_mean,
        (mean - around_mean) / (around_spread + 0.01),
        around_spread,
        float((around > mean).mean()),
        float(inward.mean()) * 10.0,
        float(inward.sum() / (np.hypot(ex, ey).sum() + 1e-6)),
        float(sectors[0]) * 10.0,
        float(sectors[len(sectors) // 4]) * 10.0,
        4.0 * np.pi * area / perimeter**2,
        area / hull,
        np.sqrt(short / long),
        area / box,
        np.log1p(float(skin[row, column])),
        np.log1p(float(skin[inside].min())),
        (at_x - frame[0]) / frame[2],
        (at_y - frame[1]) / frame[3],
        float((~breast)[outside].mean()) if outside.any() else 0.0,
        float(np.searchsorted(greys, mean)) / len(greys),
        float(pointing.mean()),
        float(responses[own_scale]),
        np.log(best_scale / whole_radius),
        grain_inside / (spread + 0.01),
        grain_inside / (grain_around + 1e-3),
        float(values[int(0.9 * (len(values) - 1))]) - around_mean,
        float(values[int(0.1 * (len(values) - 1))]) - around_mean,
        float(proposal.origin),
        perimeter / np.sqrt(area),
    )
