"""Which of many proposals are measured: those that stand out, one of each place and size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mammoscan.image.segment.field import Field
    from mammoscan.image.segment.proposal import Proposal, Sketch

STANDS_OUT = 0.03  # grey levels (0 to 1) by which a lesion is brighter than what surrounds it


def distinct(field: Field, sketches: Iterable[Sketch]) -> list[Proposal]:
    """The proposals that stand out of their surroundings, one of those with nearly the same place and size."""
    grey, tissue = tables(field)
    seen = set()
    out = []
    for sketch in sketches:
        radius = math.sqrt(sketch.area / math.pi)
        step = 0.3 * radius
        place = (round(math.log(sketch.area) / 0.15), round(sketch.y / step), round(sketch.x / step))
        if place in seen:
            continue
        seen.add(place)
        if contrast(sketch, grey, tissue, max(1, int(0.5 * radius))) > STANDS_OUT:
            out.append(sketch.proposal())
    return out


class Sums:
    """Sums of a picture over any box at four look-ups (Crow, SIGGRAPH 1984, 207).

    plane: float32 (h, w).
    """

    __slots__ = ("_table", "shape")

    def __init__(self, plane: NDArray[np.float32]) -> None:
        self.shape = plane.shape
        self._table = cv2.integral(plane, sdepth=cv2.CV_64F)

    def __call__(self, left: int, top: int, right: int, bottom: int) -> float:
        """Over the columns from ``left`` to before ``right`` and the rows from ``top`` to before ``bottom``."""
        left, top = max(0, left), max(0, top)
        right, bottom = min(self.shape[1], right), min(self.shape[0], bottom)
        at = self._table.item
        return float(at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left))


def tables(field: Field) -> tuple[Sums, Sums]:
    """The grey levels of the breast, and its pixels."""
    return Sums(np.where(field.breast, field.pixels, np.float32(0))), Sums(field.breast.astype(np.float32))


def contrast(sketch: Sketch, grey: Sums, tissue: Sums, reach: int) -> float:
    """Mean grey level inside less that of the box around, in the breast. grey, tissue: of the breast."""
    x, y, w, h = sketch.window
    box = (x - reach, y - reach, x + w + reach, y + h + reach)
    around = tissue(*box) - sketch.tissue
    if around < 1:
        return 0.0
    return sketch.total / sketch.area - (grey(*box) - sketch.tissue_total) / around
