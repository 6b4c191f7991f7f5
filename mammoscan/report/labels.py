"""Places for labels beside outlines: on no outline, on no other label, inside the picture. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Box = tuple[int, int, int, int]
    Point = tuple[float, float]

GAP = 5  # pixels between an outline and the label beside it
EDGE = 1  # pixels between a label and the picture's edge
STEP = 3  # pixels between the places that are tried all over the picture
_LINE, _WITHIN, _LABEL = 100, 1, 10_000  # what covering a pixel of each costs where there is no free place


@dataclass(frozen=True, slots=True)
class Placed:
    """box: x0, y0, x1, y1 in pixels, x1 and y1 beyond it. leader: a line from the label to its outline, None beside it."""

    box: Box
    leader: tuple[Point, Point] | None


def place(
    shape: tuple[int, int], outlines: Sequence[NDArray[np.float64]], sizes: Sequence[tuple[int, int]]
) -> tuple[Placed, ...]:
    """A place for the label of each outline, the first first.

    Beside the outline where that is free; else at the nearest free place, with a line to the outline; else, with such a
    line, where it covers least: rather the inside of an outline than its line, and another label last.

    Parameters
    ----------
    shape
        Height and width of the picture in pixels.
    outlines
        Closed polygons (n, 2) as x, y in pixels, corner convention: all that are drawn.
    sizes
        Width and height of each outline's label in pixels.
    """
    cost = np.zeros(shape, np.float64)
    drawn = [np.floor(outline).astype(np.int32).reshape(-1, 1, 2) for outline in outlines]
    for points in drawn:
        filled = np.zeros(shape, np.uint8)
        cv2.fillPoly(filled, [points], 1)
        cost[filled > 0] += _WITHIN
    for points in drawn:
        line = np.zeros(shape, np.uint8)
        cv2.polylines(line, [points], True, 1, 2 * GAP - 3)
        cost[line > 0] += _LINE
    placed = []
    for outline, size in zip(outlines, sizes, strict=True):
        found = _placed(cost, outline, size)
        x0, y0, x1, y1 = found.box
        cost[max(y0, 0) : y1, max(x0, 0) : x1] += _LABEL
        placed.append(found)
    return tuple(placed)


def _placed(cost: NDArray[np.float64], outline: NDArray[np.float64], size: tuple[int, int]) -> Placed:
    (height, width), (w, h) = cost.shape, size
    (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
    last = (max(EDGE, width - EDGE - w), max(EDGE, height - EDGE - h))  # of a label's top left corner
    over = cv2.integral(cost)

    def covered(x: NDArray[np.intp], y: NDArray[np.intp]) -> NDArray[np.float64]:
        x1, y1 = np.minimum(x + w, width), np.minimum(y + h, height)
        return np.asarray(over[y1, x1] - over[y, x1] - over[y1, x] + over[y, x])

    beside = [
        (right + GAP, top), (left - GAP - w, top), (left, top - GAP - h), (left, bottom + GAP),
        (right + GAP, bottom - h), (left - GAP - w, bottom - h), (right - w, top - GAP - h), (right - w, bottom + GAP),
    ]  # fmt: skip
    for x, y in ((round(x), round(y)) for x, y in beside):
        if EDGE <= x <= last[0] and EDGE <= y <= last[1] and covered(np.array(x), np.array(y)) == 0:
            return Placed((x, y, x + w, y + h), None)
    ys, xs = np.mgrid[EDGE : last[1] + 1 : STEP, EDGE : last[0] + 1 : STEP]
    away = np.hypot(
        np.maximum(np.maximum(left - xs - w, xs - right), 0), np.maximum(np.maximum(top - ys - h, ys - bottom), 0)
    )
    lost = covered(xs, ys)
    best = np.lexsort((away.ravel(), lost.ravel()))[0]
    x, y = int(xs.ravel()[best]), int(ys.ravel()[best])
    box = (x, y, x + w, y + h)
    return Placed(box, _leader(outline, box))


def _leader(outline: NDArray[np.float64], box: Box) -> tuple[Point, Point]:
    """The shortest line from a label to a corner of its outline."""
    held = np.clip(outline, box[:2], box[2:])
    nearest = int(np.argmin(np.hypot(*(outline - held).T)))
    (x0, y0), (x1, y1) = held[nearest], outline[nearest]
    return (float(x0), float(y0)), (float(x1), float(y1))
