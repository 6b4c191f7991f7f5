"""Steps of the segmentation in their plain definition, one mask at a time: what the package's own are held against."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from mammoscan.image.segment import measure
from mammoscan.image.segment.proposal import Origin, Proposal


def dilated(mask, reach):
    """A mask dilated by an ellipse of 2 reach + 1 pixels."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)


def eroded(mask, reach):
    """A mask eroded by such an ellipse."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.erode(mask.astype(np.uint8), kernel).astype(bool)


def scores(trees, measures):
    """The trees' sum for each row, walked node by node."""
    out = np.full(len(measures), trees.base)
    for number, row in enumerate(measures):
        leaves = []
        for tree in range(len(trees.feature)):
            node = 0
            for _ in range(trees.depth):
                smaller = row[trees.feature[tree, node]] <= trees.threshold[tree, node]
                node = trees.left[tree, node] if smaller else trees.right[tree, node]
            leaves.append(float(trees.value[tree, node]))
        out[number] += np.sum(leaves)
    return out


def grow(field, x, y, radius):
    """Grow a seed at falling grey levels; keep the level with the highest radial gradient index.

    After Kupinski and Giger, IEEE TMI 17 (1998) 510. Grey levels are weighed down with the distance
    from the seed (a Gaussian of the seed's radius), so that a region does not leak along the tissue.
    ``None`` where the seed does not stand out of its surroundings.
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
    best = None
    kernel = np.ones((3, 3), np.uint8)
    for share in np.linspace(0.75, 0.15, 14):
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
    return Proposal(np.asarray(ndimage.binary_fill_holes(best[1])), x0, y0, Origin.GROWN)


def contrast(field, proposal, reach):
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


def overlaps(field, proposals):
    """Intersection over union of every two proposals, float32 (n, n), counted on a coarse grid.

    A cell counts by the share of it that a proposal covers, so that small ones are not lost. Among squares of
    20 pixels or more the result is within 0.3 of the exact one, and exact for the same and for far places.
    """
    height, width = (-(-side // measure.COARSE) for side in field.pixels.shape)
    cells = np.zeros((len(proposals), height, width), np.float32)
    for cell, p in zip(cells, proposals, strict=True):
        (h, w), top, left = p.mask.shape, p.y // measure.COARSE, p.x // measure.COARSE
        bottom, right = -(-(p.y + h) // measure.COARSE), -(-(p.x + w) // measure.COARSE)
        whole = np.zeros(((bottom - top) * measure.COARSE, (right - left) * measure.COARSE), np.float32)
        dy, dx = p.y - top * measure.COARSE, p.x - left * measure.COARSE
        whole[dy : dy + h, dx : dx + w] = p.mask
        cell[top:bottom, left:right] = whole.reshape(bottom - top, measure.COARSE, right - left, measure.COARSE).mean(
            axis=(1, 3)
        )
    flat = cells.reshape(len(proposals), height * width)
    both = flat @ flat.T
    area = flat.sum(axis=1)
    ratio = both / np.maximum(area[:, None] + area[None, :] - both, 1e-6)
    # Cells that are covered in part make even a proposal's overlap with itself less than 1.
    own = np.maximum(np.diag(ratio), 1e-6)
    return np.asarray(np.minimum(ratio / np.sqrt(own[:, None] * own[None, :]), 1.0), dtype=np.float32)


def measures(field, proposals, shared):
    """The measures of all proposals, float32 (n, measures)."""
    layers = measure._layers(field)
    greys = np.sort(field.pixels[field.breast][::7])
    ys, xs = np.nonzero(field.breast)
    frame = (float(xs.min()), float(ys.min()), float(np.ptp(xs)) + 1.0, float(np.ptp(ys)) + 1.0)
    rows = [
        (*measured(field, layers, greys, frame, p), (s > 0.5).sum(), (s > 0.75).sum())
        for p, s in zip(proposals, shared, strict=True)
    ]
    return np.array(rows, np.float32).reshape(len(proposals), len(measure.MEASURES))


def measured(field, layers, greys, frame, proposal):
    whole_area = float(np.count_nonzero(proposal.mask))
    whole_radius = np.sqrt(whole_area / np.pi)
    number = int(np.clip(np.floor(np.log2(max(whole_radius, 1.0) / measure.WINDOW)), 0, len(layers) - 1))
    layer, factor = layers[number], 2**number
    height, width = layer.pixels.shape
    small, left, top = measure._shrunk(proposal, factor, layer.pixels.shape)
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
    ys, xs = np.nonzero(inside & (cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=0) == 0))
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
    nx, ny = cv2.Sobel(soft, cv2.CV_32F, 1, 0)[ys, xs], cv2.Sobel(soft, cv2.CV_32F, 0, 1)[ys, xs]
    ex, ey = gx[ys, xs], gy[ys, xs]
    inward = (ex * nx + ey * ny) / (np.hypot(nx, ny) + 1e-6)
    my, mx = np.nonzero(inside)
    cy, cx = float(my.mean()), float(mx.mean())
    sector = ((np.arctan2(ys - cy, xs - cx) + np.pi) / (2 * np.pi) * measure.SECTORS).astype(int) % measure.SECTORS
    hits = np.bincount(sector, minlength=measure.SECTORS)
    sums = np.bincount(sector, weights=inward, minlength=measure.SECTORS)
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
    outside = (cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0) & ~inside

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
