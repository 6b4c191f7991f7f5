"""What a proposal looks like: the measures that the ranking goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.image import ragged

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


@dataclass(frozen=True, slots=True)
class _Planes:
    """The layers one after the other, each plane flat. starts: of the layers; widths: of their rows."""

    pixels: NDArray[np.float32]
    breast: NDArray[np.bool_]
    gradient_x: NDArray[np.float32]
    gradient_y: NDArray[np.float32]
    skin_mm: NDArray[np.float32]
    grain: NDArray[np.float32]
    starts: NDArray[np.intp]
    widths: NDArray[np.intp]

    @classmethod
    def of(cls, layers: Sequence[_Layer]) -> _Planes:
        sizes = np.array([layer.pixels.size for layer in layers])
        planes = {f.name: np.concatenate([getattr(a, f.name).ravel() for a in layers]) for f in fields(_Layer)}
        return cls(**planes, starts=np.cumsum(sizes) - sizes, widths=np.array([a.pixels.shape[1] for a in layers]))


@dataclass(frozen=True, slots=True)
class _Shape:
    """A proposal at the size at which it is measured.

    area, radius: of the whole, search pixels. layer: of the field. window: left, top, width and height in it. The
    others are indices of pixels in the window, row by row: inside; wide, with the ring around it; around, the ring's
    breast, or the window where it has none (``is_ringed``); outside, its neighbours; edge. normal: at the edge.
    perimeter, hull (its area): of the outline.
    """

    area: float
    radius: float
    layer: int
    window: tuple[int, int, int, int]
    inside: NDArray[np.intp]
    wide: NDArray[np.intp]
    around: NDArray[np.intp]
    is_ringed: bool
    outside: NDArray[np.intp]
    edge: NDArray[np.intp]
    normal_x: NDArray[np.float32]
    normal_y: NDArray[np.float32]
    perimeter: float
    hull: float


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Pixels of all shapes, shape by shape. lengths: of each. of: the shape's number. y, x: in its window. at: in the planes."""

    lengths: NDArray[np.intp]
    of: NDArray[np.intp]
    y: NDArray[np.intp]
    x: NDArray[np.intp]
    at: NDArray[np.intp]

    @classmethod
    def of_shapes(
        cls, parts: Sequence[NDArray[np.intp]], start: NDArray[np.intp], stride: NDArray[np.intp],
        width: NDArray[np.intp],
    ) -> _Pixels:  # fmt: skip
        """parts: indices in the windows, whose first pixel is at start, rows are stride apart and width long."""
        lengths = np.array([len(part) for part in parts])
        index, wide = np.concatenate(parts), np.repeat(width, lengths)
        y = ((index + 0.5) / wide).astype(np.intp)  # exact for windows, and several times as fast as a division
        at = np.repeat(start, lengths) + index + y * np.repeat(stride - width, lengths)
        return cls(lengths, np.repeat(np.arange(len(parts)), lengths), y, index - y * wide, at)


def overlaps(field: Field, proposals: Sequence[Proposal]) -> NDArray[np.float32]:
    """Intersection over union of every two proposals, float32 (n, n), counted on a coarse grid.

    A cell counts by the share of it that a proposal covers, so that small ones are not lost. Among squares of
    20 pixels or more the result is within 0.3 of the exact one, and exact for the same and for far places.
    """
    height, width = (-(-side // COARSE) for side in field.pixels.shape)
    # Which cell a row or column of pixels belongs to: a product with a mask on both sides counts its pixels by cell.
    cell_of_row, cell_of_column = (
        np.repeat(np.eye(side, dtype=np.float32), COARSE, axis=1) for side in (height, width)
    )
    cells = np.zeros((len(proposals), height, width), np.float32)
    for cell, p in zip(cells, proposals, strict=True):
        (h, w), top, left = p.mask.shape, p.y // COARSE, p.x // COARSE
        bottom, right = -(-(p.y + h) // COARSE), -(-(p.x + w) // COARSE)
        rows, columns = cell_of_row[top:bottom, p.y : p.y + h], cell_of_column[left:right, p.x : p.x + w]
        cell[top:bottom, left:right] = rows @ p.mask.astype(np.float32) @ columns.T
    flat = cells.reshape(len(proposals), height * width)
    flat /= COARSE**2
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
    shapes = [_shape(layers, proposal) for proposal in proposals]
    columns = _columns(field, _Planes.of(layers), shapes)
    columns["origin"] = np.array([float(proposal.origin) for proposal in proposals])
    columns["like_it"], columns["nearly_same"] = ((shared > least).sum(axis=1) for least in (0.5, 0.75))
    for column, name in enumerate(MEASURES):
        out[:, column] = columns[name]
    return out


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


@cache
def _ellipse(side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


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


def _shape(layers: Sequence[_Layer], proposal: Proposal) -> _Shape:
    whole_area = float(np.count_nonzero(proposal.mask))
    whole_radius = math.sqrt(whole_area / math.pi)
    number = min(max(math.floor(math.log2(max(whole_radius, 1.0) / WINDOW)), 0), len(layers) - 1)
    layer, factor = layers[number], 2**number
    height, width = layer.pixels.shape
    small, left, top = _shrunk(proposal, factor, layer.pixels.shape)
    radius = max(1.0, whole_radius / factor)
    margin = math.ceil(0.6 * radius) + 2
    y0, x0 = max(0, top - margin), max(0, left - margin)
    y1, x1 = min(height, top + small.shape[0] + margin), min(width, left + small.shape[1] + margin)
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    mask[top - y0 : top - y0 + small.shape[0], left - x0 : left - x0 + small.shape[1]] = small
    if np.count_nonzero(mask) < 2:  # shrunk to nothing: the pixel in its middle
        mask[min(mask.shape[0] - 1, top - y0 + small.shape[0] // 2), left - x0 + small.shape[1] // 2] = 1
    wide = cv2.dilate(mask, _ellipse(2 * max(1, round(0.5 * radius)) + 1))
    ring = np.flatnonzero((wide > mask) & layer.breast[y0:y1, x0:x1])
    edge = np.flatnonzero(mask > cv2.erode(mask, _CROSS, borderValue=0))
    # The outward normal is that of the smoothed mask.
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)
    return _Shape(
        area=whole_area,
        radius=whole_radius,
        layer=number,
        window=(x0, y0, x1 - x0, y1 - y0),
        inside=np.flatnonzero(mask.view(bool)),
        wide=np.flatnonzero(wide.view(bool)),
        around=ring if len(ring) else np.arange(mask.size),
        is_ringed=len(ring) > 0,
        outside=np.flatnonzero(cv2.dilate(mask, _CROSS) > mask),
        edge=edge,
        normal_x=cv2.Sobel(soft, cv2.CV_32F, 1, 0).ravel()[edge],
        normal_y=cv2.Sobel(soft, cv2.CV_32F, 0, 1).ravel()[edge],
        perimeter=cv2.arcLength(outline, closed=True) + 2.0,
        hull=cv2.contourArea(cv2.convexHull(outline)),
    )


def _columns(field: Field, planes: _Planes, shapes: Sequence[_Shape]) -> dict[str, NDArray[np.floating]]:
    """By name, float (n,): all measures that a shape has by itself."""
    whole_area, whole_radius = (np.array([getattr(s, name) for s in shapes]) for name in ("area", "radius"))
    x0, y0, width, height = np.array([s.window for s in shapes]).T
    layer = np.array([s.layer for s in shapes])
    start, stride = planes.starts[layer] + y0 * planes.widths[layer] + x0, planes.widths[layer]

    def pixels(name: str) -> _Pixels:
        return _Pixels.of_shapes([getattr(s, name) for s in shapes], start, stride, width)

    # Grey levels inside and around.
    inside, around = pixels("inside"), pixels("around")
    values = planes.pixels[inside.at]
    heads = np.cumsum(inside.lengths) - inside.lengths
    for head, length in zip(heads.tolist(), inside.lengths.tolist(), strict=True):
        values[head : head + length].sort()
    outer = planes.pixels[around.at]
    mean, spread = (f(values, inside.lengths).astype(np.float64) for f in (ragged.means, ragged.deviations))
    around_mean, around_spread = (
        f(outer, around.lengths).astype(np.float64) for f in (ragged.means, ragged.deviations)
    )
    brighter = np.bincount(around.of, outer > mean[around.of], len(shapes)) / around.lengths
    grain_inside, grain_around = (
        ragged.means(planes.grain[part.at], part.lengths).astype(np.float64) for part in (inside, around)
    )
    grain_around = np.where([s.is_ringed for s in shapes], grain_around, grain_inside)
    bright_end, dark_end = (values[heads + (share * (inside.lengths - 1)).astype(np.intp)] for share in (0.9, 0.1))

    # The gradient on the edge, against the outward normal.
    edge = pixels("edge")
    normal_x, normal_y = (np.concatenate([getattr(s, f"normal_{a}") for s in shapes]) for a in "xy")
    ex, ey = planes.gradient_x[edge.at], planes.gradient_y[edge.at]
    inward = (ex * normal_x + ey * normal_y) / (np.hypot(normal_x, normal_y) + np.float32(1e-6))
    area = inside.lengths.astype(np.float64)
    cy, cx = (np.bincount(inside.of, place, len(shapes)) / area for place in (inside.y, inside.x))
    angle = np.arctan2(edge.y - cy[edge.of], edge.x - cx[edge.of])
    sector = ((angle + np.pi) / (2 * np.pi) * SECTORS).astype(np.intp) % SECTORS + edge.of * SECTORS
    hits, sums = (
        np.bincount(sector, weights, len(shapes) * SECTORS).reshape(-1, SECTORS) for weights in (None, inward)
    )
    sectors = np.sort(np.where(hits > 0, sums / np.maximum(hits, 1), np.inf), axis=1)
    weak = np.take_along_axis(sectors, np.count_nonzero(hits, axis=1)[:, None] // 4, axis=1)[:, 0]

    # Shape.
    perimeter, hull = (np.array([getattr(s, name) for s in shapes]) for name in ("perimeter", "hull"))
    vx, vy = (ragged.variances(place.astype(np.float64), inside.lengths) + 0.1 for place in (inside.x, inside.y))
    vxy = ragged.means((inside.y - cy[inside.of]) * (inside.x - cx[inside.of]), inside.lengths)
    half = np.hypot((vx - vy) / 2, vxy)
    long, short = (vx + vy) / 2 + half, np.maximum(1e-3, (vx + vy) / 2 - half)
    rows, columns = (
        np.maximum.reduceat(place, heads) - np.minimum.reduceat(place, heads) + 1 for place in (inside.y, inside.x)
    )
    outside = pixels("outside")
    off = np.bincount(outside.of, ~planes.breast[outside.at], len(shapes)) / np.maximum(outside.lengths, 1)

    # Gradients that point to the centre (te Brake and Karssemeijer, IEEE TMI 18 (1999) 628).
    wide = pixels("wide")
    dx, dy = cx[wide.of] - wide.x, cy[wide.of] - wide.y
    wgx, wgy = planes.gradient_x[wide.at], planes.gradient_y[wide.at]
    pointing = (wgx * dx + wgy * dy) / ((np.hypot(dx, dy) + 1e-3) * (np.hypot(wgx, wgy) + np.float32(1e-4)))

    # Place, and the difference of Gaussians there.
    factor = 2**layer
    at_y, at_x = (
        np.minimum(size - 1, ((middle + low + 0.5) * factor).astype(np.intp))
        for size, middle, low in zip(field.pixels.shape, (cy, cx), (y0, x0), strict=True)
    )
    responses, radii = field.response[:, at_y, at_x], np.array(field.radii)
    own_scale = np.abs(np.log(radii / whole_radius[:, None])).argmin(axis=1)
    middle = start + np.minimum(cy.astype(np.intp), height - 1) * stride + np.minimum(cx.astype(np.intp), width - 1)
    ys, xs = np.nonzero(field.breast)
    greys = np.sort(field.pixels[field.breast][::7])
    return {
        "log_radius_mm": np.log(whole_radius * field.mm),
        "breast_share": whole_area / max(1.0, float(len(ys))),
        "mean": mean,
        "spread": spread,
        "around_mean": around_mean,
        "contrast": mean - around_mean,
        "contrast_over_spread": (mean - around_mean) / (around_spread + 0.01),
        "around_spread": around_spread,
        "brighter_around": brighter,
        "edge_gradient": ragged.means(inward, edge.lengths).astype(np.float64) * 10.0,
        "edge_convergence": ragged.sums(inward, edge.lengths)
        / (ragged.sums(np.hypot(ex, ey), edge.lengths) + np.float32(1e-6)),
        "weakest_sector": sectors[:, 0] * 10.0,
        "weak_sectors": weak * 10.0,
        "circularity": 4.0 * np.pi * area / perimeter**2,
        "solidity": area / (hull + perimeter / 2.0),
        "eccentricity": np.sqrt(short / long),
        "extent": area / (rows * columns),
        "log_skin_mm": np.log1p(planes.skin_mm[middle].astype(np.float64)),
        "log_nearest_skin_mm": np.log1p(np.minimum.reduceat(planes.skin_mm[inside.at], heads).astype(np.float64)),
        "across": (at_x - float(xs.min())) / (float(np.ptp(xs)) + 1.0),
        "down": (at_y - float(ys.min())) / (float(np.ptp(ys)) + 1.0),
        "open_edge": off,
        "grey_rank": np.searchsorted(greys, mean) / len(greys),
        "convergence": ragged.means(pointing, wide.lengths),
        "response": responses[own_scale, np.arange(len(shapes))],
        "log_scale_ratio": np.log(radii[responses.argmax(axis=0)] / whole_radius),
        "grain_over_spread": grain_inside / (spread + 0.01),
        "grain_ratio": grain_inside / (grain_around + 1e-3),
        "bright_end": bright_end - around_mean,
        "dark_end": dark_end - around_mean,
        "roughness": perimeter / np.sqrt(area),
    }
