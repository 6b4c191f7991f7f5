"""Lookup tables of the modality and VOI LUT modules, as they are stored by writers who read the standard differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from mammoscan.core.values import text

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

_DESCRIPTOR, _DATA = Tag(0x0028, 0x3002), Tag(0x0028, 0x3006)
_MOST = 65536  # entries
_FEWEST_BITS, _MOST_BITS = 8, 16  # of an entry (PS3.3 C.11.1.1.1)
# A table that uses at most a quarter of the depth it states was described by what was allocated.
_UNUSED_BITS = 2


@dataclass(frozen=True, slots=True)
class Lut:
    """A lookup table (PS3.3 C.11.1.1, C.11.2.1.1). kind: ModalityLUTType, '' for a VOI LUT.

    first: the value that the first entry is for. bits: depth of an entry. as_stated: whether its descriptor says so.
    """

    first: int
    bits: int
    entries: tuple[int, ...]
    explanation: str = ""
    kind: str = ""
    as_stated: bool = True


def read_lut(item: Dataset, *, lowest: float) -> Lut | None:
    """The table of a sequence's item; None where it is missing or shorter than its descriptor.

    lowest: the lowest value that can go into the table; the first value's sign follows from it, since its VR
    (US or SS) is written wrongly as often as not.
    """
    descriptor, data = words(item, _DESCRIPTOR), words(item, _DATA)
    if descriptor is None or len(descriptor) != 3 or data is None:
        return None
    first, stated = int(descriptor[1]), int(descriptor[2])
    entries = _entries(data, int(descriptor[0]) or _MOST, stated)
    if entries is None:
        return None
    if lowest < 0 and first >= _MOST // 2:
        first -= _MOST
    bits = _depth(entries, stated)
    return Lut(
        first,
        bits,
        tuple(entries.tolist()),
        text(item, "LUTExplanation"),
        text(item, "ModalityLUTType"),
        as_stated=bits == stated,
    )


def _entries(words: NDArray[np.uint16], count: int, stated: int) -> NDArray[np.uint16] | None:
    """The entries of a table: one a word, or two of 8 bits (PS3.3 C.11.1.1.1), the first in the low byte."""
    if len(words) >= count:
        return words[:count]
    if len(words) != (count + 1) // 2:
        return None
    octets = words.astype("<u2").view(np.uint8)[:count].astype(np.uint16)
    steps = np.diff(octets.astype(np.int32))
    # Half as many words as entries: of 8 bits, or a table of which half was lost; bytes of words do not rise evenly.
    return octets if stated <= _FEWEST_BITS or (steps >= 0).all() or (steps <= 0).all() else None


def _depth(entries: NDArray[np.uint16], stated: int) -> int:
    """Bits of an entry: as stated, unless the entries exceed it or leave most of it unused."""
    needed = max(_FEWEST_BITS, int(entries.max()).bit_length())
    fits = _FEWEST_BITS <= stated <= _MOST_BITS and stated - _UNUSED_BITS < needed <= stated
    return stated if fits else needed


def words(item: Dataset, tag: BaseTag) -> NDArray[np.uint16] | None:
    """The value of an attribute as words of 16 bits, whatever its VR; None where it is missing or no number."""
    element = item.get_item(tag)
    if element is None or element.value is None:
        return None
    value = element.value
    if isinstance(value, bytes):
        # Other Byte is never swapped (PS3.5 7.3).
        little = _is_little(item, element) or element.VR == "OB"
        padded = value + b"\0" * (len(value) % 2)
        return np.frombuffer(padded, "<u2" if little else ">u2").astype(np.uint16)
    try:
        return (np.atleast_1d(np.asarray(value)).astype(np.int64) % _MOST).astype(np.uint16)
    except (TypeError, ValueError):
        return None


def _is_little(item: Dataset, element: object) -> bool:
    if isinstance(element, RawDataElement):
        return element.is_little_endian
    return item.original_encoding[1] is not False
