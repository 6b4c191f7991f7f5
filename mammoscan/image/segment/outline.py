"""From the search scale to regions in source image pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.core.domain import Region, RegionKind
from mammoscan.image.morphology import fill_holes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared
    from mammoscan.image.segment.proposal import Proposal


def region(prepared: Prepared, scale: float, proposal: Proposal, saliency: float) -> Region:
    """A proposal at ``scale`` search pixels per working pixel, in source pixels."""
    mask = fill_holes(proposal.mask)
    points = prepared.geometry.to_source((border(mask) + (proposal.x, proposal.y)) / scale)
    per_pixel = 1.0 / (scale * prepared.geometry.scale_x * scale * prepared.geometry.scale_y)
    kind = RegionKind.CALCIFICATION if proposal.spots else RegionKind.MASS
    area = float(np.count_nonzero(mask)) * per_pixel
    return region_from(prepared, kind, points, area, saliency, proposal.spots)


def border(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The outer border of a mask of one piece: (n >= 3, 2) points (x, y) from the corner of its top left pixel."""
    contours, _ = cv2.findContours(np.pad(mask, 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)[:, 0, :].astype(np.float64) - 1.0
    if len(outline) < 3:  # one or two pixels: their corners
        x, y = outline.mean(axis=0)
        outline = np.array([[x - 0.5, y - 0.5], [x + 0.5, y - 0.5], [x + 0.5, y + 0.5], [x - 0.5, y + 0.5]])
    return np.asarray(outline + 0.5)  # OpenCV's points are pixel centres


def region_from(
    prepared: Prepared,
    kind: RegionKind,
    points: NDArray[np.float64],
    area_px: float,
    saliency: float,
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
        saliency=saliency,
        spots=spots,
    )
