"""Whether files that carry one SOPInstanceUID hold one data set, however it is encoded.

An archive and the modality behind it often write the same instance in other ways: another preamble and file meta
information, implicit or explicit VR, sequences with or without lengths, another character set, pixels compressed
without loss. None of that makes it another instance (PS3.5 9, PS3.10 7).
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian
from pydicom.values import convert_SQ

from mammoscan.archive.dicomfile import open_dataset
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.errors import InputError, Reason
from mammoscan.core.values import decoded, integer, texts
from mammoscan.image import pixels

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pydicom import Dataset

    from mammoscan.core.domain import Header

log = logging.getLogger(__name__)

_BLOCK = 1 << 20  # bytes read at once
_PIXEL_DATA = 0x7FE00010
# How a data set is written, not what it says: length to end, character set, trailing padding. Group lengths too.
_OF_THE_ENCODING = {0x00080001, 0x00080005, 0xFFFCFFFC}
_TEXT = {"SH", "LO", "ST", "LT", "UC", "UT", "PN"}  # in the declared character set
_NUMBERS: dict[str, np.dtype[Any]] = {"US": np.dtype("u2"), "SS": np.dtype("i2"), "UL": np.dtype("u4"), "SL": np.dtype("i4"),
            "FL": np.dtype("f4"), "FD": np.dtype("f8")}  # fmt: skip
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}  # bytes
_ITEM = b"\xfe\xff\x00\xe0"
_MOST_PIXELS = AnalysisConfig().max_pixels


def same(headers: list[Header]) -> bool:
    """Whether files hold one data set. What cannot be compared by what it says is compared by its bytes.

    Pixels that are compressed in different ways are decoded, and a damaged codestream can kill the process that does
    that: a worker's work. Files that killed it are not of the same bytes.

    Raises
    ------
    OSError
        When a file cannot be read.
    """
    files = {(header.file.size, _file_digest(header.file.path)): header for header in headers}
    if len(files) == 1:
        return True
    syntaxes = {header.transfer_syntax_uid for header in files.values()}
    decode = len(syntaxes) > 1 and not syntaxes <= set(pixels.NATIVE)
    return len({data_set_digest(h.file.path, h.file.size, decode=decode) for h in files.values()}) == 1


def data_set_digest(path: Path, size: int, *, decode: bool) -> bytes:
    """A digest of what a file's data set says, of the file's bytes where it cannot be read.

    decode: pixels are compared as they are decoded, else as they are stored. Only a process that may die decodes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what is looked at here
            ds = _whole(path, size)
            digest = hashlib.sha256()
            _add(digest, ds, texts(ds, "SpecificCharacterSet"))
            digest.update(_pixels(ds, decode=decode))
            return digest.digest()
    except OSError:
        raise
    except Exception as error:
        log.warning("compared by its bytes, its data set cannot be: %s", type(error).__name__)
        return _file_digest(path)


def _whole(path: Path, size: int) -> Dataset:
    with path.open("rb") as stream:
        opened = open_dataset(stream, size, most_inflated=4 * _MOST_PIXELS)
        implicit, little = opened.ds.original_encoding
        rest = read_dataset(opened.stream, bool(implicit), little is not False)
    opened.ds.update({tag: rest.get_item(tag) for tag in list(rest.keys())})
    return opened.ds


def _add(digest: hashlib._Hash, ds: Dataset, charset: list[str]) -> None:
    """Add the elements but for the pixels, in the order of their tags."""
    for tag in sorted(ds.keys()):
        if tag.element == 0 or tag in _OF_THE_ENCODING or tag == _PIXEL_DATA:
            continue
        found = _items(ds, tag)
        digest.update(tag.to_bytes(4, "big"))
        if found is None:
            content = _content(ds, tag, charset)
            digest.update(len(content).to_bytes(8, "big") + content)
        else:
            digest.update(b"items" + len(found).to_bytes(8, "big"))
            for item in found:
                _add(digest, item, texts(item, "SpecificCharacterSet") or charset)


def _items(ds: Dataset, tag: int) -> Sequence | None:
    """The items of a sequence, also of one that is written as unknown (PS3.5 6.2.2); None for any other element."""
    element: Any = ds.get_item(tag)  # annotated without raw elements
    if isinstance(element, RawDataElement):
        unknown = element.VR in {None, "UN"}
        if (
            unknown
            and isinstance(element.value, bytes)
            and element.value.startswith(_ITEM)
            and _vr(tag) in {"SQ", "UN"}
        ):
            return convert_SQ(element.value, True, True)
        if element.VR != "SQ" and not (unknown and _vr(tag) == "SQ"):
            return None
    value = ds[tag].value
    return value if isinstance(value, Sequence) else None


def _content(ds: Dataset, tag: int, charset: list[str]) -> bytes:
    """The value of an element as bytes that do not depend on the encoding."""
    element: Any = ds.get_item(tag)
    value, vr = element.value, _vr(tag)
    vr = element.VR if vr == "UN" and element.VR else vr
    if value is None and isinstance(element, RawDataElement) and element.length:
        raise InputError(Reason.BROKEN_HEADER, "an element too long to be compared")
    if not isinstance(value, bytes):  # pydicom has looked at it already, or it is empty
        several = value if isinstance(value, (list, MultiValue)) else [value]
        return _joined(several, vr) if value is not None else b""
    if vr in _TEXT:
        return _joined([decoded(value, charset, vr)], vr)
    little = element.is_little_endian if isinstance(element, RawDataElement) else True
    if vr in _NUMBERS and not tag >> 16 & 1 and len(value) % _NUMBERS[vr].itemsize == 0:
        return _joined(np.frombuffer(value, _NUMBERS[vr].newbyteorder("<" if little else ">")).tolist(), vr)
    if vr in _WORDS and not little:
        return bytes(np.frombuffer(value, f">u{_WORDS[vr]}").byteswap().tobytes())
    # Values are padded to even lengths. What a private element holds is known where its VR is written only.
    return bytes(value).rstrip(b" \0")


def _joined(several: Iterable[Any], vr: str) -> bytes:
    # Of 'US or SS' PixelRepresentation decides, which is compared on its own.
    modulus = 1 << 8 * _NUMBERS[vr].itemsize if vr in {"US", "SS", "UL", "SL"} else 0
    words = (str(int(v) % modulus) if modulus else str(v) for v in several)
    return "\\".join(words).rstrip(" \0").encode("utf-8", "surrogatepass")


def _vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"


def _pixels(ds: Dataset, *, decode: bool) -> bytes:
    if _PIXEL_DATA not in ds:
        # pydicom drops pixels that the file's end cuts off: a whole copy and a cut one would look alike.
        raise InputError(Reason.NO_PIXELS)
    rows, columns, allocated, stored = (integer(ds, k) or 0 for k in ("Rows", "Columns", "BitsAllocated", "BitsStored"))
    if not decode or not 0 < rows * columns <= _MOST_PIXELS:
        content = ds.PixelData
        if ds.file_meta.get("TransferSyntaxUID") == ExplicitVRBigEndian and allocated == 16 and len(content) % 2 == 0:
            content = np.frombuffer(content, ">u2").byteswap().tobytes()
        return b"stored" + hashlib.sha256(content.rstrip(b"\0")).digest()
    values = pixels.decode(ds, rows, columns)
    used = values.astype(np.int64) & ((1 << stored) - 1)  # above BitsStored only some encodings keep anything
    return b"decoded" + hashlib.sha256(used.astype("<u4").tobytes()).digest()


def _file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.digest()
