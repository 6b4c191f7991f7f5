"""Region growing from seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage

from mammoscan.image.segment.proposal import Origin, Proposal
from mammoscan.image.segment.threshold import seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.image.segment.field import Field

LEVELS = 14  # grey levels tried


def grown(field: Field) -> list[Proposal]:
    """Grow every seed."""
    found = (grow(field, x, y, field.radii[index]) for _, index, x, y in seeds(field))
    return [proposal for proposal in found if proposal is not None]


def grow(field: Field, x: int, y: int, radius: float) -> Proposal | None:
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
    return Proposal(np.asarray(ndimage.binary_fill_holes(best[1])), x0, y0, Origin.GROWN)
