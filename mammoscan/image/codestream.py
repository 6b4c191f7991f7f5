"""Pixel data as it lies in a file: native or in fragments, and what a compressed image says about itself."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_ITEMS = {b"\xfe\xff\x00\xe0": "<", b"\xff\xfe\xe0\x00": ">"}  # an item's tag, and the byte order it is in
_DELIMITERS = {b"\xfe\xff\xdd\xe0", b"\xff\xfe\xe0\xdd"}
_LONG_VRS = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT"}
_SHORT_VRS = {b"US", b"SS", b"AT"}
_END = b"\xff\xd9"  # EOI of JPEG and JPEG-LS, EOC of JPEG 2000: the same two bytes
_JPEG, _J2K, _BOXES = b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "
_RLE_HEADER = 64  # bytes (PS3.5 G.5)


class Coding(Enum):
    """Kinds of codestream: the transfer syntax that each is decoded under, and the others that may hold it."""

    BASELINE = (JPEGBaseline8Bit, (JPEGExtended12Bit,))
    EXTENDED = (JPEGExtended12Bit, ())
    LOSSLESS = (JPEGLossless, (JPEGLosslessSV1,))
    JPEG_LS = (JPEGLSLossless, (JPEGLSNearLossless,))
    JPEG_2000 = (JPEG2000Lossless, (JPEG2000,))
    HIGH_THROUGHPUT = (HTJ2KLossless, (HTJ2KLosslessRPCL, HTJ2K))
    RLE = (RLELossless, ())

    @property
    def syntaxes(self) -> tuple[UID, ...]:
        return (self.value[0], *self.value[1])


_FRAMES = {
    0xC0: Coding.BASELINE,
    0xC1: Coding.EXTENDED,
    0xC2: Coding.EXTENDED,  # progressive: the decoders of this syntax know it
    0xC3: Coding.LOSSLESS,
    0xF7: Coding.JPEG_LS,
}


@dataclass(frozen=True, slots=True)
class Element:
    """Pixel Data (7FE0,0010) as it stands. value: everything behind its length, as far as the file goes.

    vr: '' in implicit VR. fragmented: its length is undefined. cut: it announces more than there is.
    """

    value: bytes
    vr: str
    fragmented: bool
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Codestream:
    """One compressed image, without what lies behind its end. precision: bits a sample, 0 where it doesn't say.

    rows, columns: 0 where it doesn't say.
    """

    coding: Coding
    content: bytes
    whole: bool
    precision: int = 0
    rows: int = 0
    columns: int = 0
    components: int = 1


def read_element(stream: BinaryIO, *, little: bool) -> Element | None:
    """The element at which a stream stands; None where it is not Pixel Data."""
    order = "<" if little else ">"
    head = stream.read(8)
    if len(head) < 8:
        return None
    group, element = struct.unpack(f"{order}HH", head[:4])
    if (group << 16 | element) != _PIXEL_DATA:
        return None
    vr = head[4:6]
    if vr in _LONG_VRS:
        (length,) = struct.unpack(f"{order}I", stream.read(4).ljust(4, b"\0"))
    elif vr in _SHORT_VRS:
        (length,) = struct.unpack(f"{order}H", head[6:])
    else:
        vr = b""
        (length,) = struct.unpack(f"{order}I", head[4:])
    undefined = length == _UNDEFINED
    value = stream.read() if undefined else stream.read(length)
    return Element(value, vr.decode("ascii"), undefined, cut=not undefined and len(value) < length)


def element_of(ds: Dataset) -> Element | None:
    """The Pixel Data of a data set in memory."""
    if "PixelData" not in ds:
        return None
    element = ds["PixelData"]
    value = bytes(element.value or b"")
    return Element(value, element.VR, element.is_undefined_length or value[:4] in _ITEMS)


def image_bytes(element: Element) -> tuple[bytes, bool]:
    """The fragments of a single frame, joined, and whether all are as long as they announce.

    The basic offset table, the first item (PS3.5 A.4), is left out; a writer may have forgotten it, or the
    sequence's delimiter.
    """
    value = element.value
    if value[:4] not in _ITEMS:
        return value, not element.cut
    order = _ITEMS[value[:4]]
    fragments: list[bytes] = []
    at, whole = 0, True
    while at + 8 <= len(value) and value[at : at + 4] in _ITEMS:
        (length,) = struct.unpack_from(f"{order}I", value, at + 4)
        at += 8
        whole = at + length <= len(value)
        fragments.append(value[at : at + length])
        at += length
    # Bytes behind the last whole item: nothing, or the delimiter.
    whole &= at >= len(value) or value[at : at + 4] in _DELIMITERS or not value[at:].strip(b"\0")
    # A table has an offset a fragment at most, of four bytes each (PS3.5 A.4).
    if fragments and not _begins(fragments[0]) and len(fragments[0]) <= 4 * max(1, len(fragments) - 1):
        del fragments[0]
    return b"".join(fragments), whole


def codestream(content: bytes, *, whole: bool = True) -> Codestream | None:
    """What a compressed image says about itself; None where it is none that is known.

    whole: whether all bytes that were announced are there; it decides where a coding has no end mark.
    """
    if content.startswith(_BOXES):  # a JP2 file: its codestream is in a box
        at = content.find(_J2K)
        content = content[at:] if at > 0 else content
    if content.startswith(_J2K):
        return _jpeg_2000(content)
    if content.startswith(_JPEG):
        return _jpeg(content)
    if _is_rle(content):
        return Codestream(Coding.RLE, content, whole)
    return None


def _begins(content: bytes) -> bool:
    """Whether a fragment begins an image, so is no basic offset table."""
    return content.startswith((_JPEG, _J2K, _BOXES)) or _is_rle(content)


def _is_rle(content: bytes) -> bool:
    """Whether content begins with the header of RLE: the segments' count, the first right behind the header."""
    if len(content) <= _RLE_HEADER:
        return False
    count, *offsets = struct.unpack_from("<16I", content)
    used = offsets[:count]
    return 1 <= count <= 2 and offsets[0] == _RLE_HEADER and used == sorted(used) and not any(offsets[count:])


def _ended(content: bytes, data: int) -> tuple[bytes, bool]:
    """A codestream up to its end mark, and whether it has one behind ``data``, where its coded data begins.

    Within coded data the mark cannot occur: a byte FF is followed by one below 90 (T.81 B.1.1.5, T.87 A.1, T.800 A.1).
    """
    at = content.rfind(_END, data)
    return (content, False) if at < 0 else (content[: at + 2], True)


def _jpeg(content: bytes) -> Codestream | None:
    """JPEG and JPEG-LS: the frame header, found by walking the marker segments (T.81 B.1.1)."""
    at, found = 2, None
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", content, at + 2)
        if marker in _FRAMES and at + 10 <= len(content):
            precision, rows, columns, components = struct.unpack_from(">BHHB", content, at + 4)
            found = (_FRAMES[marker], precision, rows, columns, components)
        at += 2 + length
        if marker == 0xDA:  # start of scan
            break
    if found is None:
        return None
    coding, precision, rows, columns, components = found
    ended, whole = _ended(content, at)
    return Codestream(coding, ended, whole, precision, rows, columns, components)


def _jpeg_2000(content: bytes) -> Codestream | None:
    """JPEG 2000 and its high throughput form, which announces itself in a CAP segment (T.800 A.5, T.814 A.3)."""
    if len(content) < 45:
        return Codestream(Coding.JPEG_2000, content, whole=False)
    x1, y1, x0, y0 = struct.unpack_from(">4I", content, 8)
    (components,) = struct.unpack_from(">H", content, 40)
    precision = (content[42] & 0x7F) + 1
    (length,) = struct.unpack_from(">H", content, 4)
    coding = Coding.HIGH_THROUGHPUT if content[4 + length : 6 + length] == b"\xff\x50" else Coding.JPEG_2000
    data = max(0, content.find(b"\xff\x93"))  # start of data
    ended, whole = _ended(content, data)
    return Codestream(coding, ended, whole, precision, y1 - y0, x1 - x0, components)
