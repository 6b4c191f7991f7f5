"""What a proposal looks like: the measures that the ranking goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from itertools import combinations_with_replacement, groupby
from typing import TYPE_CHECKING, Any

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
SIMILAR = 64  # pixels by which the widths of windows that are measured together differ at most
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class _Layer:
    """The field at one of its sizes, each half the one before."""

    pixels: NDArray[np.float32]
    breast: NDArray[np.bool_]
    gradient_x: NDArray[np.float32]
    gradient_y: NDArray[np.float32]
    gradient: NDArray[np.float32]  # its length
    skin_mm: NDArray[np.float32]  # distance to the breast's edge
    grain: NDArray[np.float32]  # what smoothing by one pixel takes away


@dataclass(frozen=True, slots=True)
class _Planes:
    """The layers one after the other, each plane flat. starts: of the layers; widths: of their rows.

    tissue: pixels of the breast, search pixels; box: left, top, width and height of it; greys: every seventh of its grey
    levels, sorted.
    """

    pixels: NDArray[np.float32]
    breast: NDArray[np.bool_]
    gradient_x: NDArray[np.float32]
    gradient_y: NDArray[np.float32]
    gradient: NDArray[np.float32]
    skin_mm: NDArray[np.float32]
    grain: NDArray[np.float32]
    starts: NDArray[np.intp]
    widths: NDArray[np.intp]
    tissue: int
    box: tuple[int, int, int, int]
    greys: NDArray[np.float32]

    @classmethod
    def of(cls, layers: Sequence[_Layer]) -> _Planes:
        sizes = np.array([layer.pixels.size for layer in layers])
        planes = {f.name: np.concatenate([getattr(a, f.name).ravel() for a in layers]) for f in fields(_Layer)}
        finest = layers[0]
        left, top, width, height = cv2.boundingRect(finest.breast.view(np.uint8))
        return cls(
            **planes,
            starts=np.cumsum(sizes) - sizes,
            widths=np.array([a.pixels.shape[1] for a in layers]),
            tissue=int(np.count_nonzero(finest.breast)),
            box=(left, top, width, height),
            greys=np.sort(finest.pixels[finest.breast][::7]),
        )


@dataclass(frozen=True, slots=True)
class _Tile:
    """A proposal at the size at which it is measured.

    area, radius: of the whole, search pixels. layer: of the field. window: left, top, width and height in it.
    mask: uint8, in the window from column ``left`` and row ``top`` on. reach: width of the ring around it.
    """

    area: float
    radius: float
    layer: int
    window: tuple[int, int, int, int]
    mask: NDArray[np.uint8]
    left: int
    top: int
    reach: int


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Pixels of all shapes, shape by shape, row by row. lengths: of each. y, x: in its window. at: in the planes."""

    lengths: NDArray[np.intp]
    y: NDArray[np.int32]
    x: NDArray[np.int32]
    at: NDArray[np.intp]

    @property
    def heads(self) -> NDArray[np.intp]:
        """Where each shape's begin."""
        return np.asarray(np.cumsum(self.lengths) - self.lengths)

    @property
    def of(self) -> NDArray[np.intp]:
        """The shape's number."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def each(self, values: NDArray[Any]) -> NDArray[Any]:
        """What belongs to a shape, for every pixel of it."""
        return np.repeat(values, self.lengths)

    def totals(self, values: NDArray[Any]) -> NDArray[Any]:
        """The sum of each shape's, of which none is empty: whole numbers, or float64 in any order."""
        return np.asarray(np.add.reduceat(values, self.heads))

    def where(self, chosen: NDArray[np.bool_]) -> _Pixels:
        """Some of them."""
        lengths = self.totals(chosen.astype(np.intp))
        return _Pixels(lengths, self.y[chosen], self.x[chosen], self.at[chosen])


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Shapes in the order in which they are measured. tiles: of each.

    inside; wide, with the ring around it; around, the ring's breast, or the window where it has none (not
    ``is_ringed``); outside, its neighbours; edge. normal: of the smoothed mask, outwards, at the edge. perimeter, hull
    (its area): of the outline.
    """

    tiles: Sequence[_Tile]
    inside: _Pixels
    wide: _Pixels
    around: _Pixels
    is_ringed: NDArray[np.bool_]
    outside: _Pixels
    edge: _Pixels
    normal_x: NDArray[np.float32]
    normal_y: NDArray[np.float32]
    perimeter: NDArray[np.float64]
    hull: NDArray[np.float64]


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
    planes = _Planes.of(layers)
    tiles = [_tile(layers, proposal) for proposal in proposals]
    # Shapes with rings of one width and windows about as wide are drawn below each other and measured together.
    kinds = [(tile.reach, tile.window[2] // SIMILAR) for tile in tiles]
    order = sorted(range(len(tiles)), key=lambda k: kinds[k])
    for _, found in groupby(order, key=lambda k: kinds[k]):
        group = list(found)
        columns = _columns(field, planes, _stacked(planes, [tiles[k] for k in group]))
        out[np.array(group)[:, None], [MEASURES.index(name) for name in columns]] = np.stack(
            list(columns.values()), axis=1
        )
    out[:, MEASURES.index("origin")] = [float(proposal.origin) for proposal in proposals]
    for name, least in (("like_it", 0.5), ("nearly_same", 0.75)):
        out[:, MEASURES.index(name)] = np.count_nonzero(shared > least, axis=1)
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
        gx, gy = (np.asarray(cv2.Sobel(soft, cv2.CV_32F, dx, 1 - dx, scale=0.125)) for dx in (1, 0))
        skin = cv2.distanceTransform(np.pad(breast, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1] * mm
        out.append(
            _Layer(
                pixels=pixels,
                breast=breast,
                gradient_x=gx,
                gradient_y=gy,
                gradient=np.hypot(gx, gy),
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


def _tile(layers: Sequence[_Layer], proposal: Proposal) -> _Tile:
    whole_area = float(np.count_nonzero(proposal.mask))
    whole_radius = math.sqrt(whole_area / math.pi)
    number = min(max(math.floor(math.log2(max(whole_radius, 1.0) / WINDOW)), 0), len(layers) - 1)
    shape, factor = layers[number].pixels.shape, 2**number
    small, left, top = _shrunk(proposal, factor, shape)
    radius = max(1.0, whole_radius / factor)
    margin = math.ceil(0.6 * radius) + 2
    y0, x0 = max(0, top - margin), max(0, left - margin)
    y1, x1 = min(shape[0], top + small.shape[0] + margin), min(shape[1], left + small.shape[1] + margin)
    if np.count_nonzero(small) < 2:  # shrunk to nothing: the pixel in its middle
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        mask[top - y0 : top - y0 + small.shape[0], left - x0 : left - x0 + small.shape[1]] = small
        mask[min(mask.shape[0] - 1, top - y0 + small.shape[0] // 2), left - x0 + small.shape[1] // 2] = 1
        small, left, top = mask, x0, y0
    window, reach = (x0, y0, x1 - x0, y1 - y0), max(1, round(0.5 * radius))
    return _Tile(whole_area, whole_radius, number, window, small, left - x0, top - y0, reach)


def _stacked(planes: _Planes, tiles: Sequence[_Tile]) -> _Shapes:
    """The pixels of tiles whose rings are equally wide: the masks lie below each other in one picture, far enough apart."""
    reach = tiles[0].reach
    x0, y0, width, height = np.array([tile.window for tile in tiles]).T
    layer = np.array([tile.layer for tile in tiles])
    rows = height + 2 * reach
    tops = np.cumsum(rows) - rows
    shape = (int(rows.sum()), int(width.max()) + 2 * reach)
    masks, windows = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    slopes_x, slopes_y = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for tile, top in zip(tiles, (tops + reach).tolist(), strict=True):
        (h, w), (across, down) = tile.mask.shape, tile.window[2:]
        y, x = top + tile.top, reach + tile.left
        masks[y : y + h, x : x + w] = tile.mask
        window = (slice(top, top + down), slice(reach, reach + across))
        windows[window] = 1
        # The outward normal is that of the smoothed mask.
        soft = cv2.GaussianBlur(masks[window].astype(np.float32), (0, 0), 1.5)
        slopes_x[window] = cv2.Sobel(soft, cv2.CV_32F, 1, 0)
        slopes_y[window] = cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    of = np.repeat(np.arange(len(tiles)), rows)
    y = (np.arange(shape[0]) - tops[of] - reach).astype(np.int32)
    stride = planes.widths[layer]
    first = (planes.starts[layer] + y0 * stride + x0)[of] + y * stride[of]
    before = np.arange(shape[0]) * shape[1] + reach  # pixels of the picture before the first of a row's window

    def pixels(mask: NDArray[np.uint8]) -> tuple[NDArray[np.intp], _Pixels]:
        index = np.flatnonzero(mask.view(bool))
        found = cv2.reduce(mask, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
        x = index - np.repeat(before, found)
        lengths = np.add.reduceat(found, tops).astype(np.intp)
        return index, _Pixels(lengths, np.repeat(y, found), x.astype(np.int32), x + np.repeat(first, found))

    wide_mask = cv2.dilate(masks, _ellipse(2 * reach + 1)) & windows
    _, inside = pixels(masks)
    at, wide = pixels(wide_mask)
    ring = (masks.ravel()[at] == 0) & planes.breast[wide.at]
    around = wide.where(ring)
    is_ringed = around.lengths > 0
    if not is_ringed.all():
        windowed = np.zeros_like(masks)
        windowed.ravel()[at[ring]] = 1
        windowed[~is_ringed[of]] = windows[~is_ringed[of]]
        _, around = pixels(windowed)
    edge_at, edge = pixels(masks - cv2.erode(masks, _SQUARE, borderValue=0))
    outlines: list[NDArray[np.int32]] = [np.zeros((0, 1, 2), np.int32)] * len(tiles)
    for outline in cv2.findContours(masks, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
        number = int(of[outline[0, 0, 1]])
        if len(outline) > len(outlines[number]):
            outlines[number] = np.asarray(outline)
    return _Shapes(
        tiles=tiles,
        inside=inside,
        wide=wide,
        around=around,
        is_ringed=is_ringed,
        outside=pixels((cv2.dilate(masks, _SQUARE) - masks) & windows)[1],
        edge=edge,
        normal_x=slopes_x.ravel()[edge_at],
        normal_y=slopes_y.ravel()[edge_at],
        perimeter=np.array([cv2.arcLength(outline, closed=True) + 2.0 for outline in outlines]),
        hull=np.array([cv2.contourArea(cv2.convexHull(outline)) for outline in outlines]),
    )


def _columns(field: Field, planes: _Planes, shapes: _Shapes) -> dict[str, NDArray[np.floating]]:
    """By name, float (n,): all measures that a shape has by itself."""
    whole_area, whole_radius = (np.array([getattr(tile, name) for tile in shapes.tiles]) for name in ("area", "radius"))
    x0, y0, width, height = np.array([tile.window for tile in shapes.tiles]).T
    layer = np.array([tile.layer for tile in shapes.tiles])
    inside, around, edge, outside, wide = shapes.inside, shapes.around, shapes.edge, shapes.outside, shapes.wide

    # Grey levels inside and around.
    values = planes.pixels[inside.at]
    heads = inside.heads
    for head, length in zip(heads.tolist(), inside.lengths.tolist(), strict=True):
        values[head : head + length].sort()
    outer = planes.pixels[around.at]
    level, spread = ragged.means(values, inside.lengths), ragged.deviations(values, inside.lengths).astype(np.float64)
    mean = level.astype(np.float64)
    around_mean, around_spread = (
        f(outer, around.lengths).astype(np.float64) for f in (ragged.means, ragged.deviations)
    )
    brighter = around.totals((outer > around.each(level)).astype(np.intp)) / around.lengths
    grain_inside, grain_around = (
        ragged.means(planes.grain[part.at], part.lengths).astype(np.float64) for part in (inside, around)
    )
    grain_around = np.where(shapes.is_ringed, grain_around, grain_inside)
    bright_end, dark_end = (values[heads + (share * (inside.lengths - 1)).astype(np.intp)] for share in (0.9, 0.1))

    # The gradient on the edge, against the outward normal.
    normal_x, normal_y = shapes.normal_x, shapes.normal_y
    inward = (planes.gradient_x[edge.at] * normal_x + planes.gradient_y[edge.at] * normal_y) / (
        np.hypot(normal_x, normal_y) + np.float32(1e-6)
    )
    area = inside.lengths.astype(np.float64)
    sum_y, sum_x = inside.totals(inside.y), inside.totals(inside.x)
    cy, cx = sum_y / area, sum_x / area
    angle = np.arctan2(edge.y - edge.each(cy), edge.x - edge.each(cx))
    sector = ((angle + np.pi) / (2 * np.pi) * SECTORS).astype(np.intp) % SECTORS + edge.of * SECTORS
    hits, sums = (np.bincount(sector, weights, len(area) * SECTORS).reshape(-1, SECTORS) for weights in (None, inward))
    sectors = np.sort(np.where(hits > 0, sums / np.maximum(hits, 1), np.inf), axis=1)
    weak = np.take_along_axis(sectors, np.count_nonzero(hits, axis=1)[:, None] // 4, axis=1)[:, 0]

    # Shape. Second moments in whole numbers: exact.
    perimeter, hull = shapes.perimeter, shapes.hull
    vx, vxy, vy = (
        (inside.lengths * inside.totals(first * second) - sum_first * sum_second) / area**2
        for (first, sum_first), (second, sum_second) in combinations_with_replacement(
            ((inside.x, sum_x), (inside.y, sum_y)), 2
        )
    )
    vx, vy = vx + 0.1, vy + 0.1
    half = np.hypot((vx - vy) / 2, vxy)
    long, short = (vx + vy) / 2 + half, np.maximum(1e-3, (vx + vy) / 2 - half)
    rows, columns = (
        np.maximum.reduceat(place, heads) - np.minimum.reduceat(place, heads) + 1 for place in (inside.y, inside.x)
    )
    off = np.bincount(outside.of, ~planes.breast[outside.at], len(area)) / np.maximum(outside.lengths, 1)

    # Gradients that point to the centre (te Brake and Karssemeijer, IEEE TMI 18 (1999) 628).
    dx, dy = wide.each(cx) - wide.x, wide.each(cy) - wide.y
    pointing = planes.gradient_x[wide.at] * dx + planes.gradient_y[wide.at] * dy
    pointing /= (np.sqrt(dx * dx + dy * dy) + 1e-3) * (planes.gradient[wide.at] + np.float32(1e-4))

    # Place, and the difference of Gaussians there.
    factor = 2**layer
    at_y, at_x = (
        np.minimum(size - 1, ((middle + low + 0.5) * factor).astype(np.intp))
        for size, middle, low in zip(field.pixels.shape, (cy, cx), (y0, x0), strict=True)
    )
    responses, radii = field.response[:, at_y, at_x], np.array(field.radii)
    own_scale = np.abs(np.log(radii / whole_radius[:, None])).argmin(axis=1)
    row, column = y0 + np.minimum(cy.astype(np.intp), height - 1), x0 + np.minimum(cx.astype(np.intp), width - 1)
    middle = planes.starts[layer] + row * planes.widths[layer] + column
    left, top, across, down = planes.box
    return {
        "log_radius_mm": np.log(whole_radius * field.mm),
        "breast_share": whole_area / max(1, planes.tissue),
        "mean": mean,
        "spread": spread,
        "around_mean": around_mean,
        "contrast": mean - around_mean,
        "contrast_over_spread": (mean - around_mean) / (around_spread + 0.01),
        "around_spread": around_spread,
        "brighter_around": brighter,
        "edge_gradient": ragged.means(inward, edge.lengths).astype(np.float64) * 10.0,
        "edge_convergence": ragged.sums(inward, edge.lengths)
        / (ragged.sums(planes.gradient[edge.at], edge.lengths) + np.float32(1e-6)),
        "weakest_sector": sectors[:, 0] * 10.0,
        "weak_sectors": weak * 10.0,
        "circularity": 4.0 * np.pi * area / perimeter**2,
        "solidity": area / (hull + perimeter / 2.0),
        "eccentricity": np.sqrt(short / long),
        "extent": area / (rows * columns),
        "log_skin_mm": np.log1p(planes.skin_mm[middle].astype(np.float64)),
        "log_nearest_skin_mm": np.log1p(np.minimum.reduceat(planes.skin_mm[inside.at], heads).astype(np.float64)),
        "across": (at_x - left) / across,
        "down": (at_y - top) / down,
        "open_edge": off,
        "grey_rank": np.searchsorted(planes.greys, mean) / len(planes.greys),
        "convergence": wide.totals(pointing) / wide.lengths,
        "response": responses[own_scale, np.arange(len(area))],
        "log_scale_ratio": np.log(radii[responses.argmax(axis=0)] / whole_radius),
        "grain_over_spread": grain_inside / (spread + 0.01),
        "grain_ratio": grain_inside / (grain_around + 1e-3),
        "bright_end": bright_end - around_mean,
        "dark_end": dark_end - around_mean,
        "roughness": perimeter / np.sqrt(area),
    }
