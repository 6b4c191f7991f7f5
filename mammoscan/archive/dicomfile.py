"""The header of a DICOM file as a data set: bounded in time and memory, nothing after it touched."""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

import pydicom
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mammoscan.archive import archives
from mammoscan.core.errors import InputError, Reason
from mammoscan.core.values import TAGS, valid_uid

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence

    Raw = RawDataElement | DataElement

    from mammoscan.core.domain import SourceFile

MOST_INFLATED = 64 * 1024 * 1024  # bytes that a deflated header may become
DEFERRED = 32 * 1024 * 1024  # bytes; no attribute that is looked at is longer, vendors' private blocks may be
_HEAD = 16 * 1024  # bytes; preamble and file meta information fit
# The last group that is looked at holds the functional groups; vendors' private volumes and the pixels follow.
_LAST = 0x52FFFFFF
_UNDEFINED = 0xFFFFFFFF
_USUAL = 132  # where what follows preamble and mark begins
_MARK = re.compile(rb"DICM(?=\x02\x00[\x00-\x02\x10]\x00[A-Z]{2})")  # and an element of the file meta information
_CHARACTER_SET = 0x00080005
_SCANNED = 64 * 1024  # bytes; most headers fit
_MOST_STEPS = 64  # elements that pydicom reads one by one between others; a header has a few of them at most
_ELEMENT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<I")
_SHORT = {vr.encode(): vr for vr in re.findall("..", "AEASATCSDADSDTFLFDISLOLTPNSHSLSSSTTMUIULUS")}
# VRs with lengths of 32 and of 16 bits (PS3.5 tables 7.1-1 and 7.1-2)
_LONG = {vr.encode(): vr for vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")}
# Encodings that pydicom may guess when the transfer syntax is not one of these: (implicit VR, little endian).
_ENCODINGS = {
    ImplicitVRLittleEndian: (True, True),
    ExplicitVRLittleEndian: (False, True),
    ExplicitVRBigEndian: (False, False),
}
# Deflated Explicit VR, JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate
_DEFLATED = {DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
_ENCAPSULATED = "1.2.840.10008.1.2.4."  # and RLE: explicit VR, little endian (PS3.5 A.4)
_RLE = "1.2.840.10008.1.2.5"
# What is kept of the file meta information
_META = {BaseTag(0x00020002): "MediaStorageSOPClassUID", BaseTag(0x00020010): "TransferSyntaxUID"}


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose header was read. stream: stands at the first element that was not; it is what a deflated file
    inflated to.
    """

    ds: Dataset
    stream: BinaryIO


def read_header_dataset(file: SourceFile) -> Dataset:
    """Everything before the pixels; a structured report, which has none, whole.

    Raises
    ------
    InputError
        ``NOT_DICOM``, ``ARCHIVE``, or ``BROKEN_HEADER`` when an element reaches beyond the end of the file or a
        deflated header grows beyond ``MOST_INFLATED``.
    OSError
        When the file cannot be read.
    """
    with file.path.open("rb") as stream:
        return open_dataset(stream, file.size).ds


def open_dataset(stream: BinaryIO, size: int, *, most_inflated: int | None = None) -> Opened:
    """The header of an open file of ``size`` bytes, for those who read on.

    most_inflated: bytes that all of a deflated file may become; None where only its header is wanted.

    Raises
    ------
    InputError, OSError
        As ``read_header_dataset``, and ``TOO_LARGE`` beyond ``most_inflated``.
    """
    head = stream.read(_HEAD)
    start = _start(head, stream)
    has_magic = start > 0
    meta, end = _file_meta(head, start)
    syntax = meta.get("TransferSyntaxUID", "")
    rest = stream
    if syntax in _DEFLATED:
        stream.seek(end)
        ds, rest = _deflated(stream, most_inflated)
    elif (encoding := _encoding(syntax)) is not None:
        ds = _elements(stream, end, encoding, size, "ends within the header")
    elif start in {0, _USUAL}:
        ds = _guessed(stream, head, size, force=not has_magic)
        meta = {**{e.keyword: str(e.value) for e in getattr(ds, "file_meta", ())}, **meta}
    else:
        raise InputError(Reason.BROKEN_HEADER, "no transfer syntax, and no preamble where it belongs")
    if len(ds) == 0:
        raise InputError(Reason.BROKEN_HEADER if has_magic else Reason.NOT_DICOM, "no attributes")
    # Without the mark, bytes that merely begin like a data set must at least say what they are.
    if not has_magic and not valid_uid(str(ds.get("SOPClassUID", ""))):
        raise InputError(Reason.NOT_DICOM)
    ds.file_meta = FileMetaDataset({tag: _uid(tag, meta[name]) for tag, name in _META.items() if meta.get(name)})
    return Opened(ds, rest)


def _uid(tag: BaseTag, uid: str) -> RawDataElement:
    content = uid.encode("ascii", "replace")
    return RawDataElement(tag, "UI", len(content), content, 0, is_implicit_VR=False, is_little_endian=True)


def _start(head: bytes, stream: BinaryIO) -> int:
    """Where the file meta information begins, behind the mark DICM; 0 for a data set without preamble and mark.

    The mark belongs behind 128 bytes of preamble (PS3.10 7.1). Some writers leave those out, others put something
    before them.

    Raises
    ------
    InputError
        ``ARCHIVE`` or ``NOT_DICOM``.
    """
    if head[_USUAL - 4 : _USUAL] == b"DICM":
        return _USUAL
    if found := archives.kind(head, stream):
        raise InputError(Reason.ARCHIVE, found)
    elsewhere = _MARK.search(head)
    if elsewhere is not None:
        return elsewhere.start() + 4
    if not _plausible_start(head):
        raise InputError(Reason.NOT_DICOM)
    return 0


def _plausible_start(head: bytes) -> bool:
    """Whether bytes without the DICM mark begin like a data set: group 0002 or 0008, low element."""
    little = head[:2] in {b"\x02\x00", b"\x08\x00"} and head[3:4] == b"\x00"
    return len(head) >= 8 and (little or (head[:2] == b"\x00\x08" and head[2:3] == b"\x00"))


def _file_meta(head: bytes, start: int) -> tuple[dict[str, str], int]:
    """The UIDs of the file meta information (PS3.10 7.1: explicit VR, little endian), and where it ends.

    What does not look so is left to pydicom: the UIDs found so far and no transfer syntax.
    """
    found: dict[str, str] = {}
    at = start
    while at + 12 <= len(head):
        group, element = struct.unpack_from("<HH", head, at)
        if group != 0x0002:
            return found, at
        vr = head[at + 4 : at + 6]
        if not vr.isalpha():
            break
        if vr in _LONG:
            (length,), at = struct.unpack_from("<I", head, at + 8), at + 12
        else:
            (length,), at = struct.unpack_from("<H", head, at + 6), at + 8
        if (tag := group << 16 | element) in _META:
            found[_META[tag]] = head[at : at + length].decode("ascii", "replace").strip(" \x00")
        at += length
    found.pop("TransferSyntaxUID", None)
    return found, start


def _encoding(syntax: str) -> tuple[bool, bool] | None:
    if syntax.startswith(_ENCAPSULATED) or syntax == _RLE:
        return False, True
    return _ENCODINGS.get(pydicom.uid.UID(syntax)) if syntax else None


def _elements(stream: BinaryIO, at: int, encoding: tuple[bool, bool], size: int, beyond: str) -> Dataset:
    """The elements from ``at`` on; the stream is left behind them.

    Those that cannot be scanned are read by pydicom, one by one while they are few.
    """
    implicit, little = encoding
    stop = _stop(stream, size, beyond)
    if implicit or not little:
        stream.seek(at)
        return read_dataset(stream, implicit, little, stop_when=stop, defer_size=DEFERRED)
    found: dict[BaseTag, Raw] = {}
    charset: str | MutableSequence[str] = default_encoding
    for step in range(_MOST_STEPS):
        charset, at, finished = _scan(stream, at, size, found, charset)
        stream.seek(at)
        if finished:
            break
        # Where nothing could be scanned the data set is in another encoding than it says: all of it is pydicom's.
        last = not found or step == _MOST_STEPS - 1
        more = read_dataset(stream, implicit, little, stop_when=stop if last else _once(stop),
                            defer_size=DEFERRED, parent_encoding=charset)  # fmt: skip
        if not found:
            return more
        found.update({tag: more.get_item(tag, keep_deferred=True) for tag in list(more.keys())})
        at = stream.tell()
        if len(more) == 0:
            break
    ds = Dataset(found, parent_encoding=charset)
    ds.set_original_encoding(implicit, little, charset)
    return ds


def _scan(
    stream: BinaryIO, first: int, size: int, found: dict[BaseTag, Raw], charset: str | MutableSequence[str]
) -> tuple[str | MutableSequence[str], int, bool]:
    """Elements in explicit VR, little endian (PS3.5 7.1.2) that lie within ``_SCANNED`` bytes from ``first``.

    pydicom reads every encoding, at several times the cost; here is only the plain case. Elements go to ``found``.

    Returns
    -------
    tuple
        The character set; where the first element begins that was not read; whether it lies beyond the header, else
        it is left to pydicom.
    """
    stream.seek(first)
    block = stream.read(_SCANNED)
    end = len(block)
    at = 0
    while at + 8 <= end:
        group, element, vr, length = _ELEMENT.unpack_from(block, at)
        number, value = (group << 16) | element, at + 8
        if number > _LAST:
            return charset, first + at, True
        name = _SHORT.get(vr)
        if name is None:
            name = _LONG.get(vr)
            if name is not None and value + 4 <= end:
                (length,) = _LENGTH.unpack_from(block, value)
                value += 4
            elif name is not None or (odd := _unknown(block, at, number, whole=first + end >= size)) is None:
                break
            else:
                value, length = odd
        tag = TAGS.get(number) or BaseTag(number)
        if length == _UNDEFINED:
            if name != "SQ":
                break
            stream.seek(first + value)
            sequence = read_sequence(stream, is_implicit_VR=False, is_little_endian=True, bytelength=length,
                                     encoding=charset)  # fmt: skip
            found[tag] = DataElement(tag, name, sequence, first + value, is_undefined_length=True)
            at = stream.tell() - first
            continue
        if value + length > end:
            break
        content = block[value : value + length] if length else cast("bytes | None", empty_value_for_VR(name, raw=True))
        found[tag] = RawDataElement(tag, name, length, content, first + value, is_implicit_VR=name is None,
                                    is_little_endian=True)  # fmt: skip
        if number == _CHARACTER_SET and content:
            charset = convert_encodings([c.strip() for c in content.decode("ascii", "replace").split("\\")])
        at = value + length
    return charset, first + at, first + at >= size


def _unknown(block: bytes, at: int, number: int, *, whole: bool) -> tuple[int, int] | None:
    """Where the value of an element with an unknown VR begins and how long it is. whole: the block ends the file.

    Nothing says how its length is written: in 16 bits, in 32 behind two zero bytes, or in 32 without any VR. The way
    counts that leads to an element of a known VR, or to the end. None where none does.
    """
    (short,) = struct.unpack_from("<H", block, at + 6)
    ways = [(at + 8, short)]
    if short == 0 and at + 12 <= len(block):
        ways.append((at + 12, _LENGTH.unpack_from(block, at + 8)[0]))
    ways.append((at + 8, _LENGTH.unpack_from(block, at + 4)[0]))
    for value, length in ways:
        after = value + length
        if (whole and after == len(block)) or _begins_element(block, after, number):
            return value, length
    return None


def _begins_element(block: bytes, at: int, above: int) -> bool:
    """Whether an element of a known VR and a tag above another begins here."""
    if at + 8 > len(block):
        return False
    group, element, vr, _ = _ELEMENT.unpack_from(block, at)
    return (group << 16 | element) > above and (vr in _SHORT or vr in _LONG)


def _once(stop: Callable[[int, str | None, int], bool]) -> Callable[[int, str | None, int], bool]:
    """A check that also stops before the second element."""
    first: list[int] = []

    def stop_after_one(tag: int, vr: str | None, length: int) -> bool:
        first.append(tag)
        return stop(tag, vr, length) or tag != first[0]

    return stop_after_one


def _stop(stream: BinaryIO, size: int, beyond: str) -> Callable[[int, str | None, int], bool]:
    """Where to stop, with a check of every element on the way: pydicom takes short values for whole ones."""

    def stop(tag: int, _vr: str | None, length: int) -> bool:
        if tag > _LAST:
            return True
        if length != _UNDEFINED and stream.tell() + length > size:
            raise InputError(Reason.BROKEN_HEADER, beyond)
        return False

    return stop


def inflate(content: bytes, most: int) -> tuple[bytes, bool]:
    """Deflated bytes (PS3.5 A.5, RFC 1951), inflated to at most ``most`` bytes, and whether there is more.

    Some writers put the header of zlib (RFC 1950) or gzip (RFC 1952) before them.

    Raises
    ------
    zlib.error
        When they are damaged.
    """
    try:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        found = inflater.decompress(content, most)
    except zlib.error:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        found = inflater.decompress(content, most)
    return found, bool(inflater.unconsumed_tail)


def _deflated(stream: BinaryIO, most_of_all: int | None) -> tuple[Dataset, BinaryIO]:
    """A deflated header, inflated to a bound, so that a small file cannot fill the memory."""
    most = MOST_INFLATED if most_of_all is None else most_of_all
    try:
        content, more = inflate(stream.read(), most)
    except zlib.error as error:
        raise InputError(Reason.BROKEN_HEADER, "the deflated part is damaged") from error
    if more and most_of_all is not None:
        raise InputError(Reason.TOO_LARGE, f"inflates to more than {most} bytes")
    beyond = f"inflates to more than {most} bytes before the pixels" if more else "ends within the header"
    inflated = io.BytesIO(content)
    return _elements(inflated, 0, (False, True), len(content), beyond), inflated


def _guessed(stream: BinaryIO, head: bytes, size: int, *, force: bool) -> Dataset:
    """A data set whose transfer syntax is missing or unknown: pydicom looks at its first elements."""
    if any(uid.encode() in head for uid in _DEFLATED):
        raise InputError(Reason.BROKEN_HEADER, "deflated, with damaged file meta information")
    stream.seek(0)
    stop = _stop(stream, size, "ends within the header")
    return pydicom.filereader.read_partial(stream, stop, DEFERRED, force)
