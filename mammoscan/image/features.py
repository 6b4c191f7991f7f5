"""Numbers of a region (shape, texture, density) and of a whole image. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from mammoscan.core.domain import Density, ImageFeatures
from mammoscan.image import ragged
from mammoscan.image.morphology import dilated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared, Region, Segmented

GREY_LEVELS = 32
DISTANCE_MM = 0.6  # between the pixels of a pair in the co-occurrence matrices
SURROUND_MM = 5.0  # width of the ring that a region is compared with
# Percent density at which the estimated class changes from a to b, b to c, c to d. Chosen for the
# highest quadratic kappa on CBIS-DDSM and RSNA images of patients with an odd number; on the others kappa
# with the readings was 0.63 and 0.67: an estimate of a coarse kind, not a reading.
DENSITY_CUTS = (10.0, 40.0, 60.0)
STRUCTURE_SCALES_MM = (1.0, 8.0)  # standard deviations of the two Gaussians
STRUCTURE_CONTRAST = 0.02  # of the full grey scale

_HARALICK = "Haralick et al., IEEE Trans SMC 3 (1973) 610"
_TEXTURE = f"grey-level co-occurrence, {GREY_LEVELS} levels, {DISTANCE_MM} mm, mean of 4 directions"
# By name: unit, formula, source.
FEATURE_DOCS: dict[str, tuple[str, str, str]] = {
    "feature_area_mm2": ("mm²", "area of the region; empty where the spacing is unknown", "polygon area"),
    "feature_perimeter_mm": ("mm", "length of the outline; empty where the spacing is unknown", "polygon length"),
    "feature_equivalent_diameter_mm": ("mm", "2 √(area / π); empty where the spacing is unknown", "geometry"),
    "feature_circularity": ("1", "4π area / perimeter², 1 for a disc", "Cox, J Paleontol 1 (1927) 179"),
    "feature_eccentricity": ("1", "√(1 − λ₂/λ₁) of the second moments, 0 for a disc", "second central moments"),
    "feature_solidity": ("1", "area / area of the convex hull", "convex hull"),
    "feature_radial_deviation": ("1", "standard deviation / mean of the outline's distance from the centre",
                                 "Kilday et al., IEEE TMI 12 (1993) 664"),
    "feature_spiculation_index": ("1", "mean |component of the gradient along the outline| / mean |gradient| in a 2 mm band",
                                  "after Huo et al., Acad Radiol 2 (1995) 77"),
    "feature_edge_sharpness": ("1/mm", "mean inward gradient of grey level (0 to 1) on the outline", "Sobel gradient"),
    "feature_mean": ("0 to 1", "mean normalised grey level in the region", "first order"),
    "feature_deviation": ("0 to 1", "standard deviation of the grey level in the region", "first order"),
    "feature_contrast": ("0 to 1", f"mean in the region − mean in a ring of {SURROUND_MM} mm around it", "first order"),
    "feature_glcm_contrast": ("1", f"Σ p (i−j)²; {_TEXTURE}", _HARALICK),
    "feature_glcm_homogeneity": ("1", f"Σ p / (1 + (i−j)²); {_TEXTURE}", _HARALICK),
    "feature_glcm_energy": ("1", f"√Σ p²; {_TEXTURE}", _HARALICK),
    "feature_glcm_correlation": ("1", f"Σ p (i−μ)(j−μ) / σ²; {_TEXTURE}", _HARALICK),
    "feature_glcm_entropy": ("bit", f"−Σ p log₂ p; {_TEXTURE}", _HARALICK),
    "feature_local_density": ("%", "share of structured tissue within the region's box enlarged twice", "difference of Gaussians of 1 and 8 mm"),
    "feature_spots": ("count", "separate bright spots in a calcification cluster, 0 for masses", "segmentation"),
    "feature_saliency": ("1", "the segmentation's own ranking: expected overlap (Dice) with a lesion", "segmentation"),
}  # fmt: skip
REGION_FEATURES: tuple[str, ...] = tuple(FEATURE_DOCS)
_TEXTURES = [column for column, name in enumerate(REGION_FEATURES) if name.startswith("feature_glcm_")]


def region_features(segmented: Segmented) -> NDArray[np.float64]:
    """Features of all regions, float64 (n, len(REGION_FEATURES)); nan where undefined."""
    prepared = segmented.prepared
    structured = structured_tissue(prepared.plain, prepared.breast, mm=prepared.geometry.mm)
    gx = cv2.Sobel(prepared.pixels, cv2.CV_32F, 1, 0, scale=0.125 / prepared.geometry.mm)
    gy = cv2.Sobel(prepared.pixels, cv2.CV_32F, 0, 1, scale=0.125 / prepared.geometry.mm)
    out = np.full((len(segmented.regions), len(REGION_FEATURES)), np.nan)
    pairs = []
    for row, region in enumerate(segmented.regions):
        out[row], found = _measure(prepared, region, structured, gx, gy)
        pairs.append(found)
    out[:, _TEXTURES] = _texture(pairs)
    return out


def _measure(
    prepared: Prepared, region: Region, structured: NDArray[np.bool_], gx: NDArray[np.float32], gy: NDArray[np.float32]
) -> tuple[list[float], NDArray[np.float64]]:
    """All features but those of the texture, and what these are made of (``_pairs``)."""
    geometry = prepared.geometry
    outline = geometry.to_working(region.contour)
    mm = geometry.mm
    # The box of the region enlarged twice.
    margin = int(np.ceil(max(SURROUND_MM / mm, 0.5 * np.ptp(outline, axis=0).max()))) + 2
    x0, y0 = (max(0, int(np.floor(v)) - margin) for v in outline.min(axis=0))
    x1, y1 = (int(np.ceil(v)) + margin for v in outline.max(axis=0))
    window = (slice(y0, y1), slice(x0, x1))
    # Contours are in corner coordinates; OpenCV fills between pixel centres.
    corners = np.round(outline - (x0 + 0.5, y0 + 0.5)).astype(np.int32)
    reach = max(1, round(SURROUND_MM / mm))
    left, top = np.maximum(corners.min(axis=0) - reach, 0)
    right, bottom = corners.max(axis=0) + reach + 1
    near = (slice(y0 + top, min(y1, y0 + bottom)), slice(x0 + left, min(x1, x0 + right)))
    pixels = prepared.pixels[near]
    mask = np.zeros(pixels.shape, np.uint8)
    cv2.fillPoly(mask, [corners - np.array([left, top], np.int32)], 1)
    inside = mask.astype(bool)
    ring = dilated(inside, reach) & ~inside & prepared.breast[near]
    known = geometry.mm_known
    area, perimeter = polygon_area(outline) * mm * mm, polygon_length(outline) * mm
    shape = shape_measures(outline)
    edge, spiculation = _edge(outline - (x0, y0), gx[window], gy[window], mm)
    values = pixels[inside] if inside.any() else np.array([np.nan])
    around = pixels[ring] if ring.any() else np.array([np.nan])
    tissue = int(np.count_nonzero(prepared.breast[window]))
    measured = [
        area if known else np.nan,
        perimeter if known else np.nan,
        2 * np.sqrt(area / np.pi) if known else np.nan,
        *shape,
        spiculation,
        edge,
        float(values.mean()),
        float(values.std()),
        float(values.mean() - around.mean()),
        *(np.nan,) * len(_TEXTURES),
        100.0 * (np.count_nonzero(structured[window]) / tissue) if tissue else np.nan,
        float(region.spots),
        region.saliency,
    ]
    return measured, _pairs(pixels, inside, max(1, round(DISTANCE_MM / mm)))


def polygon_area(points: NDArray[np.float64]) -> float:
    """Area inside a polygon (n, 2), in squared units of its points (shoelace)."""
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def polygon_length(points: NDArray[np.float64]) -> float:
    """Length of a closed polygon's outline."""
    return float(np.hypot(*(points - np.roll(points, 1, axis=0)).T).sum())


def shape_measures(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Circularity, eccentricity, solidity, radial deviation of a polygon (n, 2)."""
    area, length = polygon_area(points), polygon_length(points)
    if area <= 0 or length <= 0:
        return (np.nan,) * 4
    try:
        hull = float(ConvexHull(points).volume)
    except QhullError:
        hull = np.nan
    moments = cv2.moments((points - points.mean(axis=0)).astype(np.float32).reshape(-1, 1, 2))
    a, b, c = (moments[k] / moments["m00"] for k in ("mu20", "mu11", "mu02")) if moments["m00"] else (np.nan,) * 3
    root = np.sqrt(max(0.0, ((a - c) / 2) ** 2 + b**2)) if np.isfinite(a) else np.nan
    low, high = (a + c) / 2 - root, (a + c) / 2 + root
    radii = np.hypot(*(points - points.mean(axis=0)).T)
    return (
        float(min(1.0, 4 * np.pi * area / length**2)),
        float(np.sqrt(max(0.0, 1 - low / high))) if high > 0 else np.nan,
        float(min(1.0, area / hull)) if hull > 0 else np.nan,
        float(radii.std() / radii.mean()),
    )


def _edge(
    outline: NDArray[np.float64], gx: NDArray[np.float32], gy: NDArray[np.float32], mm: float
) -> tuple[float, float]:
    """Mean inward gradient on the outline (1/mm), and the tangential share of the gradient near it."""
    centre = outline.mean(axis=0)
    tangent = np.roll(outline, -1, axis=0) - np.roll(outline, 1, axis=0)
    length = np.hypot(*tangent.T)
    good = length > 0
    if not good.any():
        return np.nan, np.nan
    points, tangent = outline[good], tangent[good] / length[good, None]
    normal = np.column_stack([tangent[:, 1], -tangent[:, 0]])
    normal *= np.where(((points - centre) * normal).sum(axis=1) > 0, 1.0, -1.0)[:, None]
    # Without, on and within the outline.
    beside = np.concatenate([points + normal * offset / mm - 0.5 for offset in (-1.0, 0.0, 1.0)]).astype(np.float32)
    sx, sy = (cv2.remap(g, beside[None, :, 0], beside[None, :, 1], cv2.INTER_LINEAR).reshape(3, -1) for g in (gx, gy))
    inward = float(-(sx[1] * normal[:, 0] + sy[1] * normal[:, 1]).mean())
    along = sum(np.abs(sx * tangent[:, 0] + sy * tangent[:, 1]).sum(axis=1).tolist())
    total = sum(np.hypot(sx, sy).sum(axis=1).tolist())
    return inward, along / total if total > 0 else np.nan


def glcm_features(pixels: NDArray[np.float32], mask: NDArray[np.bool_], distance: int) -> tuple[float, ...]:
    """Contrast, homogeneity, energy, correlation, entropy of the co-occurrence of grey levels in a mask.

    pixels: (h, w), 0 to 1. Pairs count where both pixels lie in the mask; matrices are symmetric and
    averaged over 0, 45, 90 and 135 degrees (Haralick et al. 1973).
    """
    return tuple(_texture([_pairs(pixels, mask, distance)])[0].tolist())


def _texture(pairs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """What ``glcm_features`` says of regions, by the matrices of each, (n, 5); nan where it has none."""
    counts = np.array([len(matrices) for matrices in pairs], np.intp)
    out = np.full((len(pairs), 5), np.nan)
    if counts.any():
        each = np.split(_haralick(np.concatenate(pairs)), np.cumsum(counts)[:-1])
        for row, values in zip(out, each, strict=True):
            if len(values):
                row[:] = values.mean(axis=0)
    return out


def _pairs(pixels: NDArray[np.float32], mask: NDArray[np.bool_], distance: int) -> NDArray[np.float64]:
    """How often grey levels meet, (directions, levels, levels), of the directions that have pairs in the mask."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = (slice(top, top + height), slice(left, left + width))
    mask = mask[window]
    levels = np.minimum((np.clip(pixels[window], 0, 1) * GREY_LEVELS).astype(np.uint16), GREY_LEVELS - 1)
    found = []
    for dy, dx in ((0, distance), (-distance, distance), (-distance, 0), (-distance, -distance)):
        a = (slice(max(0, -dy), max(0, min(height, height - dy))), slice(max(0, -dx), max(0, min(width, width - dx))))
        b = (slice(max(0, dy), max(0, min(height, height + dy))), slice(max(0, dx), max(0, min(width, width + dx))))
        pairs = (levels[a] * GREY_LEVELS + levels[b])[mask[a] & mask[b]]
        if not len(pairs):
            continue
        counts = np.bincount(pairs, minlength=GREY_LEVELS**2).reshape(GREY_LEVELS, GREY_LEVELS).astype(np.float64)
        found.append(counts + counts.T)
    return np.array(found).reshape(-1, GREY_LEVELS, GREY_LEVELS)


def _haralick(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Contrast, homogeneity, energy, correlation, entropy of matrices (n, levels, levels), (n, 5)."""
    p = counts / counts.sum(axis=(1, 2), keepdims=True)
    i, j = np.arange(GREY_LEVELS, dtype=np.float64)[:, None], np.arange(GREY_LEVELS, dtype=np.float64)
    mean = (p * i).sum(axis=(1, 2))[:, None, None]
    apart = (i - j) ** 2
    variance = (p * (i - mean) ** 2).sum(axis=(1, 2))
    together = (p * (i - mean) * (j - mean)).sum(axis=(1, 2))
    positive = p > 0
    logs = p[positive] * np.log2(p[positive])
    return np.stack(
        [
            (p * apart).sum(axis=(1, 2)),
            (p / (1.0 + apart)).sum(axis=(1, 2)),
            np.sqrt((p**2).sum(axis=(1, 2))),
            np.where(variance > 1e-15, together / np.maximum(variance, 1e-15), 1.0),
            -ragged.sums(logs, np.count_nonzero(positive, axis=(1, 2))),
        ],
        axis=1,
    )


def structured_tissue(plain: NDArray[np.float32], breast: NDArray[np.bool_], *, mm: float) -> NDArray[np.bool_]:
    """Where the picture has structure at 1 to 8 mm: |difference of two Gaussians| > 0.02 of the grey scale.

    The model's inputs count it around a region. It is no area of dense tissue (strands in fat have structure
    too): percent density is counted by ``dense``.
    """
    narrow, wide = STRUCTURE_SCALES_MM
    band = _blur(plain, narrow / mm) - _blur(plain, wide / mm)
    return np.asarray((np.abs(band) > STRUCTURE_CONTRAST) & breast)


def _blur(pixels: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur; a wide one on a smaller grid."""
    step = max(1, int(sigma // 6))
    if step == 1:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma))
    h, w = pixels.shape
    small = cv2.resize(pixels, (max(1, w // step), max(1, h // step)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / step), (w, h), interpolation=cv2.INTER_LINEAR))


def image_features(prepared: Prepared, counted: NDArray[np.bool_]) -> ImageFeatures:
    """Breast area (mm², None where the spacing is unknown), percent density by area, estimated class.

    counted: the dense pixels at the working scale (``dense.dense_pixels``).
    """
    breast = prepared.breast
    percent = 100.0 * float((counted & breast).sum()) / max(1, int(breast.sum()))
    area = None
    if prepared.header.spacing is not None:
        area = float(breast.sum()) * prepared.geometry.mm**2
    classes = (Density.A, Density.B, Density.C, Density.D)
    return ImageFeatures(area, percent, classes[int(np.searchsorted(DENSITY_CUTS, percent, side="right"))])
