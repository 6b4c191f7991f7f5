"""The prepared image at the scale at which regions are sought, with what is computed once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared

SEARCH_MM = 0.4  # pixel at which regions are sought
RADII_MM = tuple(1.8 * 1.32**k for k in range(11))  # 1.8 to 29 mm: masses of 3 to 60 mm
SMALLEST_MM, LARGEST_MM = 3.0, 64.0  # equivalent diameters of the regions that are proposed


@dataclass(frozen=True, slots=True)
class Field:
    """The image at the search scale. scale: search pixels per working pixel.

    pixels: float32 (h, w), 0 to 1. breast: bool (h, w). response: float32 (radii, h, w), difference
    of Gaussians at ``radii`` (search pixels). gradient_x, gradient_y: float32 (h, w), of the image
    smoothed by 1 mm. mm: size of a pixel.
    """

    pixels: NDArray[np.float32]
    breast: NDArray[np.bool_]
    response: NDArray[np.float32]
    radii: tuple[float, ...]
    gradient_x: NDArray[np.float32]
    gradient_y: NDArray[np.float32]
    mm: float
    scale: float

    def allowed(self, areas: NDArray[np.number]) -> NDArray[np.intp]:
        """Which of areas (n,) in search pixels have the size of a lesion and are not the breast itself: their indices."""
        return np.flatnonzero((areas >= disc(SMALLEST_MM / self.mm)) & (areas <= self.largest))

    @property
    def largest(self) -> float:
        """Search pixels of the largest region."""
        return float(min(disc(LARGEST_MM / self.mm), 0.6 * np.count_nonzero(self.breast)))


def disc(diameter: float) -> float:
    """Area of a disc."""
    return float(np.pi * diameter**2 / 4)


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
    return Field(
        pixels=pixels,
        breast=breast,
        response=np.stack(responses),
        radii=radii,
        gradient_x=np.asarray(cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=0.125)),
        gradient_y=np.asarray(cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=0.125)),
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
