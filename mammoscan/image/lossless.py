"""JPEG Lossless (T.81 annex H) by a fast decoder, where its values are shown to be those that were coded.

libjpeg-turbo is four times as fast as the other decoders, but imagecodecs keeps to itself what it had to make up where
coded data is damaged: a difference of zero for bits that are no code, zeros behind the end, rows of grey. So

- it gets a header of our own, in which all codes that the stream's Huffman code leaves free, but for that of sixteen
  ones, mean a category of differences that mammograms don't have: where it comes up, but for a first pixel that is black,
  the values are not taken;
- what it gives is coded again, as far as counting goes: the differences that its values lead to must take as many bits,
  and as many of them ones, as the stream has up to the filling of its last byte.

No invention passes that. A code of sixteen ones becomes a zero, which takes fewer bits, of which fewer are ones; what is
made up behind the end takes bits that the stream doesn't have, and never ones alone. To make up for the lost bits by
invented ones there would have to be as many ones among them as bits: so neither is there. (For this the code of zero must
be so short that one lost is more than the filling.)

Whatever is not plain (more than one scan, restart intervals, a point transform, a marker within the data) is left to the
other decoders.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import imagecodecs
import numpy as np

from mammoscan.image.stored import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mammoscan.image.codestream import Codestream

_SOF3, _DHT, _SOS, _COM = 0xC3, 0xC4, 0xDA, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_FOREIGN = 16  # the category of a difference of 32768 alone
_LONGEST = 16  # bits of a Huffman code
_LONGEST_ZERO = 9  # bits: a code of zero that is lost then is at least eight bits, more than the last byte's filling
_MOST_SYMBOLS = 256
_MODULUS = 1 << 16  # of values and differences (T.81 H.1.2.1)
_BAND = 1 << 18  # pixels whose differences are counted at once: as many as a core's cache holds


@dataclass(frozen=True, slots=True)
class Huffman:
    """A table as it is written: how many codes there are of each length, 1 to 16 bits, and what they mean (T.81 B.2.4.2)."""

    counts: tuple[int, ...]
    symbols: bytes

    @property
    def free(self) -> int:
        """How many of the codes of 16 bits begin with no code of the table; negative where its codes don't fit."""
        return (1 << _LONGEST) - sum(count << (_LONGEST - length) for length, count in enumerate(self.counts, 1))

    @property
    def words(self) -> dict[int, tuple[int, int]]:
        """Length and bits of each symbol's code (T.81 C.2)."""
        found, code, at = {}, 0, 0
        for length, count in enumerate(self.counts, 1):
            for symbol in self.symbols[at : at + count]:
                found[symbol] = (length, code)
                code += 1
            at += count
            code <<= 1
        return found

    def filled(self) -> Huffman:
        """All codes that are free but the last, that of sixteen ones, given to the foreign category."""
        longest = max(length for length, count in enumerate(self.counts, 1) if count)
        more = [0] * _LONGEST
        more[longest - 1] = (self.free >> (_LONGEST - longest)) - 1
        more[longest:] = [1] * (_LONGEST - longest)
        counts = tuple(a + b for a, b in zip(self.counts, more, strict=True))
        return Huffman(counts, self.symbols + bytes([_FOREIGN] * sum(more)))


@dataclass(frozen=True, slots=True)
class Scan:
    """The only scan of a plain stream. predictor: 1 to 7 (T.81 table H.1). begin: where its code begins."""

    precision: int
    rows: int
    columns: int
    predictor: int
    huffman: Huffman
    begin: int


def values(found: Codestream) -> NDArray[np.unsignedinteger[Any]] | None:
    """The values (rows, columns), 8 bits each up to a precision of 8, else 16; None where other decoders have to tell."""
    scan = plain_scan(found.content)
    if scan is None:
        return None
    code = np.frombuffer(found.content, np.uint8)[scan.begin : -2]
    stuffed = np.flatnonzero(code == 0xFF) + 1
    if not len(code) or (len(stuffed) and stuffed[-1] == len(code)) or code[stuffed].any():
        return None  # a marker within the code
    try:
        # In 16 bits, so that nothing is lost of values beyond those that the precision allows.
        decoded = imagecodecs.jpeg8_decode(b"".join((_header(scan), code.data, b"\xff\xd9")))
    except imagecodecs.Jpeg8Error:
        return None
    if decoded.shape != (scan.rows, scan.columns) or decoded.dtype != np.uint16:
        return None
    bits, ones = _coded(decoded, scan, begins_foreign=_begins(code, scan.huffman.words.get(_FOREIGN)))
    filling = 8 * (len(code) - len(stuffed)) - bits
    if not 0 <= filling < 8 or ones + _last_ones(code, filling) != _ones(code):
        return None
    decoded -= np.uint16((_MODULUS >> 1) - (1 << scan.precision >> 1))
    if int(decoded.max()) >= 1 << scan.precision:
        return None
    return decoded if scan.precision > 8 else decoded.astype(np.uint8)


def plain_scan(content: bytes) -> Scan | None:
    """The scan of a whole stream with one component; None where there is anything else in it."""
    frame: tuple[int, int, int, int] | None = None
    tables: dict[int, Huffman] = {}
    for marker, segment, end in _segments(content):
        if marker == _SOF3:
            if frame is not None or len(segment) != 9 or segment[5] != 1 or segment[7] != 0x11:
                return None
            frame = (segment[0], *struct.unpack_from(">HH", segment, 1), segment[6])
        elif marker == _DHT:
            found = _tables(segment)
            if found is None:
                return None
            tables |= found
        elif marker == _SOS:
            return None if frame is None else _scan(frame, tables, segment, end)
        elif not _says_nothing(marker, segment):
            return None
    return None


def _says_nothing(marker: int, segment: bytes) -> bool:
    """Whether a segment is a comment or an application's own; one of JFIF must be of a version that there is."""
    if marker == _APPLICATION[0] and segment.startswith(b"JFIF\0"):
        return segment[5:6] == b"\1"
    return marker == _COM or marker in _APPLICATION


def _segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The marker segments from the start of an image to its scan: marker, what follows the length, where it ends."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        (length,) = struct.unpack_from(">H", content, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(content) - 2:
            return
        yield content[at + 1], content[at + 4 : end], end
        at = end


def _tables(segment: bytes) -> dict[int, Huffman] | None:
    """The tables of a segment by their number; None where they are not whole, or not for differences."""
    tables: dict[int, Huffman] = {}
    at = 0
    while at < len(segment):
        counts = tuple(segment[at + 1 : at + 1 + _LONGEST])
        symbols = segment[at + 1 + _LONGEST : at + 1 + _LONGEST + sum(counts)]
        if len(counts) < _LONGEST or len(symbols) < sum(counts) or segment[at] > 3:
            return None
        tables[segment[at]] = Huffman(counts, symbols)
        at += 1 + _LONGEST + len(symbols)
    return tables


def _scan(frame: tuple[int, int, int, int], tables: dict[int, Huffman], segment: bytes, begin: int) -> Scan | None:
    """The scan that a segment announces (T.81 B.2.3); begin: where it ends."""
    if len(segment) != 6 or segment[0] != 1 or segment[2] & 0x0F or segment[4:] != b"\0\0":
        return None
    precision, rows, columns, component = frame
    huffman, predictor = tables.get(segment[2] >> 4), segment[3]
    if huffman is None or not _is_usable(huffman) or segment[1] != component:
        return None
    if predictor not in range(1, 8) or precision not in range(2, 17) or not rows * columns:
        return None
    return Scan(precision, rows, columns, predictor, huffman, begin)


def _is_usable(table: Huffman) -> bool:
    """Whether each category has one code, the code of ones is free (T.81 C.2), and the code of zero is short."""
    symbols = set(table.symbols)
    return (
        bool(symbols)
        and len(symbols) == len(table.symbols)
        and max(symbols) <= _FOREIGN
        and table.free > 0
        and len(table.filled().symbols) <= _MOST_SYMBOLS
        and table.words.get(0, (0, 0))[0] <= _LONGEST_ZERO
    )


def _header(scan: Scan) -> bytes:
    """A stream up to its code: 16 bits, and every code known to the decoder but that of sixteen ones."""
    table = scan.huffman.filled()
    segments = (
        (_SOF3, struct.pack(">BHHB3B", 16, scan.rows, scan.columns, 1, 1, 0x11, 0)),
        (_DHT, bytes([0, *table.counts]) + table.symbols),
        (_SOS, bytes([1, 1, 0, scan.predictor, 0, 0])),
    )
    return b"\xff\xd8" + b"".join(struct.pack(">BBH", 0xFF, m, len(body) + 2) + body for m, body in segments)


def _begins(code: NDArray[np.uint8], word: tuple[int, int] | None) -> bool:
    """Whether code begins with a word, of some length and bits."""
    if word is None:
        return False
    length, bits = word
    begin = int.from_bytes(bytes(code[:3]).replace(b"\xff\0", b"\xff").ljust(3, b"\0")[:2], "big")
    return begin >> (16 - length) == bits


def _ones(code: NDArray[np.uint8]) -> int:
    return int(cv2.norm(code, cv2.NORM_HAMMING))


def _last_ones(code: NDArray[np.uint8], filling: int) -> int:
    """Ones among the last bits of code. filling: how many, 0 to 7."""
    # A last byte FF is followed by a stuffed zero.
    last = int(code[-2 if len(code) > 1 and code[-2] == 0xFF else -1])
    return (last & ((1 << filling) - 1)).bit_count()


def _coded(decoded: NDArray[np.uint16], scan: Scan, *, begins_foreign: bool) -> tuple[int, int]:
    """How many bits values of 16 bits (rows, columns) take in a scan's code, and how many of them are ones.

    (-1, -1) where a difference has no code, or is of the foreign category. begins_foreign: whether the first is of this
    category by a code of its own, as for a black pixel of 16 bits.
    """
    counts = np.zeros(_MODULUS, np.int64)
    step = max(1, _BAND // scan.columns)
    for first in range(0, scan.rows, step):
        band = differences(decoded[max(0, first - 1) : first + step], scan.predictor, first=not first)
        counts += counted(band)
    lengths, ones = np.zeros((2, _FOREIGN + 1), np.int64)
    for category, (length, word) in scan.huffman.words.items():
        lengths[category], ones[category] = length, word.bit_count()
    categories = np.bincount(_CATEGORY, counts, _FOREIGN + 1)
    if categories[lengths == 0].any() or categories[_FOREIGN] > begins_foreign:
        return -1, -1
    return int(counts @ (lengths[_CATEGORY] + _EXTRA)), int(counts @ (ones[_CATEGORY] + _EXTRA_ONES))


def _difference_tables() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For every difference modulo 65536 its category, the bits behind its code and the ones among them (T.81 H.1.2.2)."""
    numbers = np.arange(_MODULUS)
    sizes = np.minimum(numbers, _MODULUS - numbers)
    categories = np.frexp(sizes)[1].astype(np.int64)
    extra = categories % _FOREIGN  # none where the category says all
    ones = np.unpackbits(sizes.astype(">u2").view(np.uint8)).reshape(-1, 16).sum(axis=1, dtype=np.int64)
    # A negative number's bits are those of its size, turned over.
    return categories, extra, np.where(extra == 0, 0, np.where(numbers < _MODULUS >> 1, ones, extra - ones))


_CATEGORY, _EXTRA, _EXTRA_ONES = _difference_tables()


def differences(decoded: NDArray[np.uint16], predictor: int, *, first: bool) -> NDArray[np.uint16]:
    """What is coded for rows of 16-bit values, modulo 65536: as many rows, or one less, below the first.

    first: whether they begin with the image's first row; else the first is the row above, which only predicts.
    """
    found = np.empty_like(decoded)
    # In the first row each value is predicted by the one before it, the first of all by half the range (T.81 H.1.2.1).
    np.subtract(decoded[0, 1:], decoded[0, :-1], out=found[0, 1:])
    found[0, 0] = (int(decoded[0, 0]) - (_MODULUS >> 1)) % _MODULUS
    # In the others the first is predicted by the one above it.
    np.subtract(decoded[1:, 0], decoded[:-1, 0], out=found[1:, 0])
    predicted = _predicted(decoded[1:, :-1], decoded[:-1, 1:], decoded[:-1, :-1], predictor)
    np.subtract(decoded[1:, 1:], predicted, out=found[1:, 1:])
    return found if first else found[1:]


def _predicted(
    left: NDArray[np.uint16], above: NDArray[np.uint16], corner: NDArray[np.uint16], predictor: int
) -> NDArray[np.uint16]:
    """Predictions, modulo 65536 (T.81 table H.1)."""
    if predictor <= 3:
        return (left, above, corner)[predictor - 1]
    if predictor == 4:
        return left + above - corner
    a, b, c = (part.astype(np.int32) for part in (left, above, corner))
    if predictor == 5:
        return (a + ((b - c) >> 1)).astype(np.uint16)
    if predictor == 6:
        return (b + ((a - c) >> 1)).astype(np.uint16)
    return ((a + b) >> 1).astype(np.uint16)
