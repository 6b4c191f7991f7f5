"""The order in which a study's images hang: right and left back to back, CC over MLO. Pure, as on the review page."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, TypeVar

from mammoscan.core.domain import Laterality, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mammoscan.core.domain import Header, Prediction

# Views that share a row, the first of each foremost; all others follow in a row of their own.
ROWS = (
    (View.CC, View.XCC, View.XCCL, View.XCCM, View.FB),
    (View.MLO, View.ML, View.LM, View.LMO, View.SIO, View.ISO, View.AT),
)
T = TypeVar("T")


def rows(images: Iterable[T], header: Callable[[T], Header]) -> list[tuple[T | None, T | None]]:
    """Pairs of what hangs on the page's left (the right breast) and on its right, None where there is nothing.

    Images of neither or both sides stand last, two a row. Otherwise the order of the images is kept.
    """
    right: list[list[T]] = [[] for _ in range(len(ROWS) + 1)]
    left: list[list[T]] = [[] for _ in range(len(ROWS) + 1)]
    others: list[T] = []
    for image in images:
        h = header(image)
        row = next((n for n, views in enumerate(ROWS) if h.view in views), len(ROWS))
        if h.laterality is Laterality.RIGHT:
            right[row].append(image)
        elif h.laterality is Laterality.LEFT:
            left[row].append(image)
        else:
            others.append(image)
    first = {views[0] for views in ROWS}
    out: list[tuple[T | None, T | None]] = []
    for pair in zip(right, left, strict=True):
        a, b = (sorted(side, key=lambda image: header(image).view not in first) for side in pair)
        out += zip_longest(a, b)
    return out + list(zip_longest(others[::2], others[1::2]))


def mirrored(prediction: Prediction) -> bool:
    """Whether an image is turned over for hanging: the chest wall of the right breast lies on the right, of the left left."""
    side = prediction.header.laterality
    wall_on_the_right = prediction.geometry.flipped
    return (side is Laterality.RIGHT and not wall_on_the_right) or (side is Laterality.LEFT and wall_on_the_right)
