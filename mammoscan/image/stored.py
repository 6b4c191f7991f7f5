"""Stored values: how they lie in a picture, which of them occur, which are padding, and what is shown for each.

All that is said of a value is said of every pixel that has it, so it is worked out once for all values that can be stored,
and a picture of any of it is one look-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydicom.tag import Tag

from mammoscan.core.domain import Flag
from mammoscan.image.luts import words

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

_PADDING, _PADDING_LIMIT = Tag(0x0028, 0x0120), Tag(0x0028, 0x0121)
_EXACT = 1 << 24  # as high as float32, in which OpenCV counts, has every whole number


@dataclass(frozen=True, slots=True)
class Format:
    """How a stored value lies in what is allocated for it (PS3.5 8.1.1)."""

    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def shift(self) -> int:
        """By how many bits values are shifted up."""
        return self.high + 1 - self.stored


@dataclass(frozen=True, slots=True)
class Stored:
    """A picture as it is stored, and the table of all numbers that its bits can be.

    picture: uint8 or uint16 (rows, columns). counts: int64, how many pixels have each number. level: uint16, which of the
    levels each number means. levels: float64, all ``2**stored`` values in the order of their bits.
    """

    picture: NDArray[np.unsignedinteger[Any]]
    counts: NDArray[np.int64]
    level: NDArray[np.uint16]
    levels: NDArray[np.float64]

    def shown(self, table: NDArray[Any]) -> NDArray[Any]:
        """The picture (rows, columns) of a table of what each number is shown as, uint8 or float32."""
        return np.asarray(cv2.LUT(self.picture, table))

    def by_level(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many pixels have each level. chosen: bool, which numbers count."""
        counts = np.zeros(len(self.levels), np.int64)
        np.add.at(counts, self.level[chosen], self.counts[chosen])
        return counts


def counted(picture: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.int64]:
    """How many pixels (rows, columns) of 8 or 16 bits have each number."""
    size = 1 << 8 * picture.dtype.itemsize
    counts = np.zeros(size, np.int64)
    step = max(1, _EXACT // picture.shape[1])
    for first in range(0, picture.shape[0], step):
        band = cv2.calcHist([picture[first : first + step]], [0], None, [size], [0, size])
        counts += band.ravel().astype(np.int64)
    return counts


def stored_values(picture: NDArray[np.unsignedinteger[Any]], form: Format, flags: list[Flag]) -> Stored:
    """What values a picture has.

    Bits above HighBit and below the value are no part of it (PS3.5 8.1.1) and are cut off.
    """
    counts = counted(picture)
    numbers = np.arange(len(counts))
    shift, size = form.shift, 1 << form.stored
    if shift:
        occurring = _as_numbers(numbers, form)[counts > 0]
        low, high = (-(size // 2), size // 2 - 1) if form.signed else (0, size - 1)
        if (occurring & ((1 << shift) - 1)).any() and occurring.min() >= low and occurring.max() <= high:
            # The header says that values are shifted up, and none is: they are whole as they stand.
            shift = 0
            flags.append(Flag.PIXEL_FORMAT)
    levels = np.arange(size, dtype=np.float64)
    if form.signed:
        levels = np.where(levels >= size // 2, levels - size, levels)
    return Stored(picture, counts, ((numbers >> shift) & (size - 1)).astype(np.uint16), levels)


def _as_numbers(numbers: NDArray[np.intp], form: Format) -> NDArray[np.intp]:
    """What bits are as numbers of as many bits as are allocated."""
    size = 1 << form.allocated
    return np.where(numbers >= size // 2, numbers - size, numbers) if form.signed else numbers


def padding(values: Stored, ds: Dataset, form: Format) -> tuple[NDArray[np.bool_], bool]:
    """Which numbers are padding: PixelPaddingValue to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2).

    A value that cannot be stored in the bits of a pixel is looked for among the numbers as they are allocated.

    Returns
    -------
    tuple
        bool for every number, and whether padding is a stored value.
    """
    nothing = np.zeros(len(values.counts), bool)
    written = words(ds, _PADDING)
    if written is None or not len(written):
        return nothing, False
    limit = words(ds, _PADDING_LIMIT)
    ends = [
        _number(int(w[0]), values.levels, form)
        for w in (written, written if limit is None or not len(limit) else limit)
    ]
    low, high = min(ends), max(ends)
    is_level = bool(values.levels.min() <= low and high <= values.levels.max())
    if is_level:
        found = ((values.levels >= low) & (values.levels <= high))[values.level]
    else:
        numbers = _as_numbers(np.arange(len(values.counts)), form)
        found = (numbers >= low) & (numbers <= high)
    # A padding value that swallows the picture was written wrongly: rather show everything.
    return (found, is_level) if values.counts[~found].any() else (nothing, False)


def _number(word: int, levels: NDArray[np.float64], form: Format) -> int:
    """A padding value as the number that is meant, whether it was written as signed or unsigned."""
    if not form.signed:
        return word
    number = word - (1 << 16) if word >= 1 << 15 else word
    return number - len(levels) if levels.max() < number < len(levels) else number
