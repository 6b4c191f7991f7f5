"""Square crops of regions with their surroundings: what the network sees, in training and in use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import Geometry, Prepared, Segmented

Box = tuple[float, float, float, float]

# A crop never shows less than this much breast, so that a tiny region keeps its surroundings.
SMALLEST_MM = 20.0


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """How crops are cut, the same in training and in use: it belongs to the model, in ``model.json``.

    side: of the crop, pixels. context: side of the square that is shown over the region's longer side, at
    least 1.

    Raises
    ------
    ValueError
        For a crop without pixels or one that does not show its region.
    """

    side: int
    context: float

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"crops of {self.side} pixels")
        if not (math.isfinite(self.context) and self.context >= 1):
            raise ValueError(f"crops that show {self.context:g} of their region")

    @property
    def surround(self) -> float:
        """Share of the side, at each edge, that shows what is around the region: 0 to 0.5."""
        return (1 - 1 / self.context) / 2

    @property
    def finest_mm(self) -> float:
        """The smallest size of a pixel of any crop."""
        return SMALLEST_MM / self.side

    def facts(self) -> dict[str, Any]:
        """For ``model.json``."""
        return {"side": self.side, "context": self.context}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> CropGeometry:
        """Read back.

        Raises
        ------
        KeyError, TypeError, ValueError
            When something is missing, of another kind, impossible, or not known to this version.
        """
        if more := sorted(set(facts) - {"side", "context"}):
            raise ValueError(f"crops with {', '.join(more)}, which this version does not know")
        side, context = facts["side"], facts["context"]
        if type(side) is not int or type(context) not in {int, float}:
            raise TypeError(f"crops of side {side!r} and context {context!r}")
        return cls(side, float(context))


def crop_box(geometry: Geometry, box: Box, context: float) -> Box:
    """The square in source pixels that a crop of a region shows.

    box: (x0, y0, x1, y1) of the region in source pixels. context: as in ``CropGeometry``.
    The square is one in millimetres: with non-square pixels its two sides differ in pixels.
    """
    ratio = geometry.scale_y / geometry.scale_x  # square in working pixels
    width = max((box[2] - box[0]), (box[3] - box[1]) * ratio) * context
    width = max(width, SMALLEST_MM / geometry.mm / geometry.scale_x)
    height = width / ratio
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)


def crop(prepared: Prepared, box: Box, cut: CropGeometry) -> NDArray[np.uint8]:
    """A grey crop (side, side) around a box in source pixels, chest wall on the left.

    Grey levels are those of the breast: its 0.5th and 99.8th percentiles become 0 and 255, by a
    monotone map that is the same for every crop of an image. What lies outside the picture is 0.
    """
    low, high = grey_range(prepared)
    return _cut(prepared, crop_box(prepared.geometry, box, cut.context), cut.side, low, high)


def region_crops(
    segmented: Segmented, cut: CropGeometry, *, greys: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Crops of all regions, (n, side, side), in the order of ``segmented.regions``. greys: the ``grey_range``, if known."""
    prepared = segmented.prepared
    low, high = greys or grey_range(prepared)
    out = np.zeros((len(segmented.regions), cut.side, cut.side), np.uint8)
    for index, region in enumerate(segmented.regions):
        out[index] = _cut(prepared, crop_box(prepared.geometry, region.box, cut.context), cut.side, low, high)
    return out


def whole_tiles(prepared: Prepared, *, side: int, greys: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """The whole breast as two squares, upper and lower half, (2, side, side): for its density.

    Muscle, labels and what lies outside the breast are 0; grey levels as in ``crop``. greys: as in ``region_crops``.
    """
    low, high = greys or grey_range(prepared)
    plain, breast = prepared.plain, prepared.breast
    x, y, w, h = cv2.boundingRect(breast.view(np.uint8))
    if w:
        plain, breast = plain[y : y + h, x : x + w], breast[y : y + h, x : x + w]
    grey = _levels(plain, low, high)
    grey *= breast
    tall = cv2.resize(grey, (side, 2 * side), interpolation=cv2.INTER_AREA)
    return np.asarray(np.round(tall * 255.0), np.uint8).reshape(2, side, side)


def grey_range(prepared: Prepared) -> tuple[float, float]:
    """The grey levels of the breast that crops show as black and white, 0 to 1."""
    values = prepared.plain[prepared.breast] if prepared.breast.any() else prepared.plain.ravel()
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.8)))
    return low, max(high, low + 1e-3)


def _levels(pixels: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Grey levels from low to high as 0 to 1."""
    grey = pixels - np.float32(low)
    grey /= np.float32(high - low)
    return np.asarray(np.clip(grey, 0.0, 1.0, out=grey))


def _cut(prepared: Prepared, box: Box, side: int, low: float, high: float) -> NDArray[np.uint8]:
    corners = prepared.fine_geometry.to_working(np.array([[box[0], box[1]], [box[2], box[3]]]))
    x0, x1 = sorted(corners[:, 0])
    y0, y1 = sorted(corners[:, 1])
    source = prepared.fine
    ix0, iy0 = int(np.floor(x0)), int(np.floor(y0))
    ix1, iy1 = max(ix0 + 1, int(np.ceil(x1))), max(iy0 + 1, int(np.ceil(y1)))
    h, w = source.shape
    part = source[max(0, iy0) : max(0, min(h, iy1)), max(0, ix0) : max(0, min(w, ix1))]
    whole = np.zeros((iy1 - iy0, ix1 - ix0), np.uint8)
    if part.size:
        grey = _levels(part, low, high)
        grey *= np.float32(255)
        top, left = max(0, -iy0), max(0, -ix0)
        whole[top : top + part.shape[0], left : left + part.shape[1]] = np.rint(grey, out=grey)
    shrinking = whole.shape[0] > side
    interpolation = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(whole, (side, side), interpolation=interpolation), dtype=np.uint8)
