"""Which way round a picture is: whether its air is black, as the display sense has it, or white."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.core.domain import Flag, Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOKED_AT = 320  # pixels of the longer side, at which polarity is judged
LEAST_OF_RING = 0.5  # share of the picture's edge that must not be padding, to be judged by


def upright(image: Image) -> Image:
    """The picture with dark air: turned over, and flagged, where it contradicts its header."""
    left_out = image.left_out
    if Flag.INVERTED in image.flags or not background_is_bright(shrunk(image.pixels), _shrunk_mask(left_out)):
        return image
    pixels = np.where(left_out, np.float32(0), np.float32(1) - image.pixels)
    return replace(image, pixels=pixels, flags=(*image.flags, Flag.INVERTED))


def shrunk(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture small enough to judge it."""
    h, w = pixels.shape
    # By a whole number first, where that leaves more than twice what is wanted: it takes half the time.
    factor = next((f for f in (8, 4, 2) if max(h, w) >= 2 * f * LOOKED_AT and not (h % f or w % f)), 1)
    if factor > 1:
        pixels = np.asarray(cv2.resize(pixels, (w // factor, h // factor), interpolation=cv2.INTER_AREA))
    scale = min(1.0, LOOKED_AT / max(pixels.shape))
    size = (max(8, round(pixels.shape[1] * scale)), max(8, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _shrunk_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return shrunk(mask.astype(np.float32)) > 0 if mask.any() else None


def background_is_bright(pixels: NDArray[np.float32], padding: NDArray[np.bool_] | None = None) -> bool:
    """Whether the air around the breast is white: an inverted picture, whatever the header says.

    pixels: float32 (h, w), 0 to 1; small, as ``shrunk`` makes it. padding: bool (h, w), of which nothing is said.

    Nearly nothing of an inverted picture is dark (a white frame round a film leaves dark air inside).
    """
    inside = np.ones(pixels.shape, bool) if padding is None else ~padding
    return border_is_air(pixels, padding) and float((pixels[inside] < 0.15).mean()) < 0.15


def border_is_air(pixels: NDArray[np.float32], padding: NDArray[np.bool_] | None = None) -> bool:
    """Whether a picture has white air at its edges: the brightest of it and even, far from the rest.

    Dense tissue up to every edge is neither: parts of it are brighter than its border, and it is structured.
    pixels, padding: as of ``background_is_bright``.
    """
    inside = np.ones(pixels.shape, bool) if padding is None else ~padding
    border = _ring(pixels.shape)
    # Where the air itself is declared as padding, the skin beside it is what tells.
    is_declared = bool((border & inside).sum() < LEAST_OF_RING * border.sum())
    border = inside & (_beside(~inside) if is_declared else border)
    if not border.any():
        return False
    ring, shown = pixels[border], pixels[inside]
    level = float(np.median(ring))
    near, even = (float((np.abs(ring - level) < reach).mean()) for reach in (0.05, 0.02))
    is_even = is_declared or (near > 0.5 and even > 0.75 * near)
    is_brightest = float((shown > level + 0.05).mean()) < 0.01 and level - float(np.percentile(shown, 2)) > 0.15
    return level > 0.7 and is_even and is_brightest


def _ring(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A picture's outermost rows and columns, 2 % of its shorter side."""
    edge = max(1, round(0.02 * min(shape)))
    ring = np.ones(shape, bool)
    ring[edge:-edge, edge:-edge] = False
    return ring


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
