"""A small encoder of JPEG Lossless, Process 14, Selection Value 1 (ISO/IEC 10918-1 Annex H).

No Python package that mammoscan needs can write this syntax, the commonest of mammography archives.
Vectorised with NumPy; the output depends on the pixels alone.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# One fixed Huffman table: counts of codes by length (1 to 16 bits), then their difference categories.
_COUNTS = (0, 0, 7, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0)
_CATEGORIES = (3, 4, 2, 5, 1, 6, 0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)


def _huffman() -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Code and length of every category (Annex C.2)."""
    codes, lengths = np.zeros(17, np.uint64), np.zeros(17, np.int64)
    code, position = 0, 0
    for length, count in enumerate(_COUNTS, start=1):
        for _ in range(count):
            codes[_CATEGORIES[position]] = code
            lengths[_CATEGORIES[position]] = length
            code, position = code + 1, position + 1
        code <<= 1
    return codes, lengths


def encode(pixels: NDArray[Any], bits: int) -> bytes:
    """One codestream from SOI to EOI.

    Parameters
    ----------
    pixels
        Unsigned values below ``2**bits``, shape (rows, columns).
    bits
        Sample precision, 2 to 16.

    Raises
    ------
    ValueError
        Where the pixels do not fit.
    """
    if pixels.ndim != 2 or not 2 <= bits <= 16 or int(pixels.min()) < 0 or int(pixels.max()) >= 1 << bits:
        raise ValueError("expected unsigned two-dimensional pixels within the sample precision")
    values = pixels.astype(np.int32)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    # Differences are modulo 2**16, from -32767 to 32768 (H.1.2.1).
    difference = (values - predicted + 32767 & 0xFFFF) - 32767
    rows, columns = pixels.shape
    return b"".join(
        (
            b"\xff\xd8",
            struct.pack(">2sHBHHB3B", b"\xff\xc3", 11, bits, rows, columns, 1, 1, 0x11, 0),
            struct.pack(">2sHB", b"\xff\xc4", 3 + 16 + 17, 0) + bytes(_COUNTS) + bytes(_CATEGORIES),
            struct.pack(">2sHB2B3B", b"\xff\xda", 8, 1, 1, 0, 1, 0, 0),
            _entropy_coded(difference.ravel()),
            b"\xff\xd9",
        )
    )


def _entropy_coded(difference: NDArray[np.int32]) -> bytes:
    """Huffman codes with their additional bits, stuffed (H.1.2.2, F.1.2.3)."""
    codes, lengths = _huffman()
    categories = np.concatenate([[0], np.floor(np.log2(np.arange(1, 32769))).astype(np.int64) + 1])
    ssss = categories[np.abs(difference)]
    additional = np.where(ssss == 16, 0, ssss)
    tail = np.where(difference < 0, difference + (1 << ssss) - 1, difference)
    tail = np.where(ssss == 16, 0, tail).astype(np.uint64)
    length = lengths[ssss] + additional  # at most 13 + 15 bits
    value = (codes[ssss] << additional.astype(np.uint64)) | tail
    start = np.cumsum(length) - length
    total = int(start[-1] + length[-1])
    # Each code lies in one 32-bit word or across two; sums stay below 2**32, exact as float64.
    shifted = value << (64 - (start & 31) - length).astype(np.uint64)
    word, words = start >> 5, (total >> 5) + 2
    packed = np.bincount(word, (shifted >> np.uint64(32)).astype(np.float64), words)
    packed += np.bincount(word + 1, (shifted & np.uint64(0xFFFFFFFF)).astype(np.float64), words)
    stream = np.frombuffer(packed.astype(">u4").tobytes(), np.uint8)[: (total + 7) // 8].copy()
    stream[-1] |= (1 << (-total % 8)) - 1  # filled up with ones
    return np.insert(stream, np.flatnonzero(stream == 0xFF) + 1, 0).tobytes()
