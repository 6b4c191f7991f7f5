"""Suspicious regions: seeds by threshold, growing, merging by similarity; and clusters of spots.

The two source papers threshold the filtered breast and then grow and merge regions by similarity
with their neighbourhood until nothing merges. Here seeds are where a difference of Gaussians over
the scales of masses (3 to 60 mm) exceeds its threshold and is a maximum in place and scale
(Lindeberg, IJCV 30 (1998) 79); each seed is grown at falling grey levels, the level with the
highest radial gradient index being kept (Kupinski and Giger, IEEE TMI 17 (1998) 510); grown regions
that overlap or touch and are alike are merged, again and again. Lengths are in millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage

from mammoscan import saliency
from mammoscan.domain import Prepared, Region, RegionKind, Segmented
from mammoscan.spots import clusters

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEARCH_MM = 0.4  # pixel at which masses are sought
RADII_MM = tuple(1.8 * 1.32**k for k in range(11))  # 1.8 to 29 mm: masses of 3 to 60 mm
# A seed is where the difference of Gaussians exceeds this share of the breast's contrast.
SEED_THRESHOLD = 0.012
PROPOSALS = 150  # seeds that are grown, an image
LEVELS = 14  # grey levels tried in growing
ALIKE = 0.06  # difference of mean grey levels (0 to 1) under which touching regions merge
TOUCHING = 0.35  # share of two alike regions' union that must overlap
SHARED = 0.2  # share of the union above which the less salient of two regions is dropped
APART = 0.5  # centres lie at least this many radii of the larger region apart


@dataclass(frozen=True, slots=True)
class Proposal:
    """A grown region at the search scale: bool mask in a window, and what ranks it."""

    mask: NDArray[np.bool_]
    x: int  # window's left column at the search scale
    y: int
    measures: NDArray[np.float64]
    mean: float
    saliency: float


def segment(prepared: Prepared, *, max_regions: int) -> Segmented:
    """Candidate regions of a prepared image, most salient first, at most ``max_regions``.

    Contours, boxes and centres are in source image pixels; areas in mm² where the header has the
    pixel spacing.
    """
    field = search_field(prepared)
    found = ranked(merge(propose(field)))
    kept: list[Proposal] = []
    for proposal in found:
        if len(kept) == max_regions:
            break
        if all(not _same_place(proposal, other) for other in kept):
            kept.append(proposal)
    regions = [_region(prepared, field.scale, p) for p in kept]
    regions.extend(clusters(prepared))
    regions.sort(key=lambda r: -r.saliency)
    seeds = cv2.resize(
        (field.response.max(axis=0) > SEED_THRESHOLD).astype(np.uint8),
        (prepared.geometry.width, prepared.geometry.height),
        interpolation=cv2.INTER_NEAREST,
    ).astype(bool)
    return Segmented(prepared, tuple(regions[:max_regions]), seeds & prepared.breast)


# --------------------------------------------------------------------------- seeds


@dataclass(frozen=True, slots=True)
class Field:
    """The image at the search scale. scale: search pixels per working pixel."""

    pixels: NDArray[np.float32]
    breast: NDArray[np.bool_]
    response: NDArray[np.float32]  # (radii, h, w)
    radii: tuple[float, ...]  # search pixels
    gradient_x: NDArray[np.float32]
    gradient_y: NDArray[np.float32]
    skin_distance: NDArray[np.float32]  # millimetres to the breast's edge
    mm: float
    scale: float


def search_field(prepared: Prepared) -> Field:
    """Difference of Gaussians at every radius, inside the breast only."""
    geometry = prepared.geometry
    scale = min(1.0, geometry.mm / SEARCH_MM)
    mm = geometry.mm / scale
    size = (max(8, round(geometry.width * scale)), max(8, round(geometry.height * scale)))
    pixels = np.asarray(cv2.resize(prepared.pixels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    breast = cv2.resize(prepared.breast.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    weight = breast.astype(np.float32)
    inside = pixels * weight
    radii = tuple(r / mm for r in RADII_MM)
    responses = []
    for radius in radii:
        sigma = max(0.7, radius / np.sqrt(2.0))
        responses.append((_smooth(inside, weight, sigma) - _smooth(inside, weight, 1.6 * sigma)) * weight)
    soft = cv2.GaussianBlur(pixels, (0, 0), 1.0 / mm)
    padded = np.pad(breast, 1).astype(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1] * mm
    return Field(
        pixels=pixels,
        breast=breast,
        response=np.stack(responses),
        radii=radii,
        gradient_x=np.asarray(cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=0.125)),
        gradient_y=np.asarray(cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=0.125)),
        skin_distance=distance.astype(np.float32),
        mm=mm,
        scale=scale,
    )


def _smooth(inside: NDArray[np.float32], weight: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian mean over the breast only; wide ones on a smaller grid."""
    h, w = weight.shape
    step = max(1, int(sigma // 4))
    if step > 1:
        size = (max(4, w // step), max(4, h // step))
        inside = cv2.resize(inside, size, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    s = sigma / step
    out = cv2.GaussianBlur(inside, (0, 0), s) / np.maximum(cv2.GaussianBlur(weight, (0, 0), s), 1e-3)
    return np.asarray(cv2.resize(out, (w, h), interpolation=cv2.INTER_LINEAR) if step > 1 else out)


def seeds(field: Field) -> list[tuple[float, int, int, int]]:
    """(response, radius index, x, y) of maxima in place and scale above the threshold, highest first."""
    peaks: list[tuple[float, int, int, int]] = []
    for index, radius in enumerate(field.radii):
        reach = max(1, round(radius * 0.4))
        level = field.response[index]
        highest = ndimage.maximum_filter(level, size=2 * reach + 1)
        ys, xs = np.nonzero((level == highest) & (level > SEED_THRESHOLD))
        for y, x in zip(ys, xs, strict=True):
            value = float(level[y, x])
            around = field.response[max(0, index - 1) : index + 2, y, x]
            if value >= float(around.max()) - 0.25 * abs(value):
                peaks.append((value, index, int(x), int(y)))
    # Small seeds are many and noisy: their response counts for less than a wide one's.
    peaks.sort(key=lambda p: -p[0] * field.radii[p[1]] ** 0.35)
    kept: list[tuple[float, int, int, int]] = []
    for peak in peaks:
        if len(kept) == PROPOSALS:
            break
        r = field.radii[peak[1]]
        if all(
            np.hypot(peak[2] - o[2], peak[3] - o[3]) > 0.5 * min(r, field.radii[o[1]])
            or not 0.6 < r / field.radii[o[1]] < 1.7
            for o in kept
        ):
            kept.append(peak)
    return kept


# --------------------------------------------------------------------------- growing and merging


def propose(field: Field) -> list[Proposal]:
    """Grow every seed."""
    out = []
    for value, index, x, y in seeds(field):
        grown = grow(field, x, y, field.radii[index], value)
        if grown is not None:
            out.append(grown)
    return out


def grow(field: Field, x: int, y: int, radius: float, response: float) -> Proposal | None:
    """Grow a seed at falling grey levels; keep the level with the highest radial gradient index.

    Grey levels are weighed down with the distance from the seed (a Gaussian of the seed's radius),
    so that a region does not leak along the tissue.
    """
    reach = max(4, round(2.2 * radius))
    x0, y0 = max(0, x - reach), max(0, y - reach)
    window = (slice(y0, y + reach + 1), slice(x0, x + reach + 1))
    pixels, breast = field.pixels[window], field.breast[window]
    h, w = pixels.shape
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    dx, dy = xx - (x - x0), yy - (y - y0)
    far = np.hypot(dx, dy)
    ring = breast & (far > 1.3 * radius) & (far < 2.2 * radius)
    inner = breast & (far <= max(1.5, 0.6 * radius))
    if not inner.any() or ring.sum() < 8:
        return None
    base, peak = float(np.median(pixels[ring])), float(np.median(pixels[inner]))
    if peak - base < 0.01:
        return None
    weighed = (pixels - base) * np.exp(-0.5 * (far / (1.15 * radius)) ** 2)
    gx, gy = field.gradient_x[window], field.gradient_y[window]
    inward = -(gx * dx + gy * dy) / np.maximum(far, 1.0)
    strength = np.hypot(gx, gy) + np.float32(1e-6)
    best: tuple[float, NDArray[np.bool_]] | None = None
    kernel = np.ones((3, 3), np.uint8)
    for share in np.linspace(0.75, 0.15, LEVELS):
        above = ((weighed > share * (peak - base)) & breast).astype(np.uint8)
        _, labels = cv2.connectedComponents(above, connectivity=4)
        label = labels[y - y0, x - x0]
        if label == 0:
            continue
        mask = labels == label
        area = float(mask.sum())
        if area < 4 or area > 6.5 * radius**2:
            continue
        edge = mask & ~cv2.erode(mask.astype(np.uint8), kernel, borderValue=0).astype(bool)
        index = float(inward[edge].sum() / strength[edge].sum())
        # The gradient's size counts as well: a level inside a flat top has no edge.
        index *= float(np.sqrt(inward[edge].clip(0).mean() + 1e-6))
        if best is None or index > best[0]:
            best = (index, mask)
    if best is None:
        return None
    mask = _filled(best[1])
    measures = saliency.measures(
        saliency.Surroundings(
            pixels=pixels, breast=breast, mask=mask, inward=inward, strength=strength, far=far,
            radius=radius, response=response, mm=field.mm,
            skin_mm=float(field.skin_distance[y, x]),
            across=x / field.pixels.shape[1], down=y / field.pixels.shape[0],
        )
    )  # fmt: skip
    return Proposal(mask, x0, y0, measures, float(pixels[mask].mean()), saliency.score(measures))


def merge(proposals: list[Proposal]) -> list[Proposal]:
    """Merge regions that share a place and are alike, until nothing merges.

    Of two regions that nearly coincide the more salient stays; two that overlap less but have the
    same grey level become one, which takes the place of both if it is at least as salient.
    """
    current = ranked(proposals)
    merged = True
    while merged:
        merged = False
        kept: list[Proposal] = []
        for proposal in current:
            partner = next((k for k in kept if _coincide(proposal, k)), None)
            if partner is None:
                kept.append(proposal)
                continue
            merged = True  # the more salient of the two stands for both
        current = kept
        if not merged:
            break
    return current


def ranked(proposals: list[Proposal]) -> list[Proposal]:
    """Most salient first; ties in reading order, so that the result is the same every time."""
    return sorted(proposals, key=lambda p: (-p.saliency, p.y, p.x))


def _overlap(first: Proposal, second: Proposal) -> tuple[int, int, int]:
    y0, x0 = max(first.y, second.y), max(first.x, second.x)
    y1 = min(first.y + first.mask.shape[0], second.y + second.mask.shape[0])
    x1 = min(first.x + first.mask.shape[1], second.x + second.mask.shape[1])
    areas = int(first.mask.sum()), int(second.mask.sum())
    if y1 <= y0 or x1 <= x0:
        return 0, *areas
    a = first.mask[y0 - first.y : y1 - first.y, x0 - first.x : x1 - first.x]
    b = second.mask[y0 - second.y : y1 - second.y, x0 - second.x : x1 - second.x]
    return int((a & b).sum()), *areas


def _coincide(first: Proposal, second: Proposal) -> bool:
    both, a, b = _overlap(first, second)
    union = a + b - both
    alike = abs(first.mean - second.mean) < ALIKE
    return both > 0.5 * union or (alike and both > TOUCHING * union)


def _same_place(first: Proposal, second: Proposal) -> bool:
    both, a, b = _overlap(first, second)
    if both > SHARED * (a + b - both) or (both > 0.7 * min(a, b) and both > 0.25 * max(a, b)):
        return True
    (x, y), (u, v) = _centre(first), _centre(second)
    return bool(np.hypot(x - u, y - v) < APART * np.sqrt(max(a, b) / np.pi))


def _centre(proposal: Proposal) -> tuple[float, float]:
    ys, xs = np.nonzero(proposal.mask)
    return float(xs.mean()) + proposal.x, float(ys.mean()) + proposal.y


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_fill_holes(mask))


# --------------------------------------------------------------------------- to source pixels


def _region(prepared: Prepared, scale: float, proposal: Proposal) -> Region:
    contours, _ = cv2.findContours(np.pad(proposal.mask, 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)[:, 0, :].astype(np.float64) - 1.0
    if len(outline) < 3:  # one or two pixels: their corners
        x, y = outline.mean(axis=0)
        outline = np.array([[x - 0.5, y - 0.5], [x + 0.5, y - 0.5], [x + 0.5, y + 0.5], [x - 0.5, y + 0.5]])
    # OpenCV's points are pixel centres; ours count from the corner of the top left pixel.
    points = prepared.geometry.to_source((outline + (proposal.x + 0.5, proposal.y + 0.5)) / scale)
    per_pixel = 1.0 / (scale * prepared.geometry.scale_x * scale * prepared.geometry.scale_y)
    return region_from(prepared, RegionKind.MASS, points, float(proposal.mask.sum()) * per_pixel, proposal.saliency)


def region_from(
    prepared: Prepared,
    kind: RegionKind,
    points: NDArray[np.float64],
    area_px: float,
    rank: float,
    spots: int = 0,
) -> Region:
    """A region from its outline in source pixels."""
    spacing = prepared.header.spacing
    points = np.clip(points, 0, (prepared.geometry.source_width, prepared.geometry.source_height))
    x0, y0 = points.min(axis=0)
    x1, y1 = points.max(axis=0)
    moments = cv2.moments(points.astype(np.float32).reshape(-1, 1, 2))
    if moments["m00"] > 1e-6:
        centre = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    else:
        centre = ((x0 + x1) / 2, (y0 + y1) / 2)
    return Region(
        kind=kind,
        contour=points,
        box=(float(x0), float(y0), float(x1), float(y1)),
        centre=(float(centre[0]), float(centre[1])),
        area_px=area_px,
        area_mm2=None if spacing is None else area_px * spacing.row_mm * spacing.column_mm,
        saliency=rank,
        spots=spots,
    )
