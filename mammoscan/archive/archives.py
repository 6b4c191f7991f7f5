"""Archives of files, known by their first bytes: zip, gzip, tar and the like. Nothing is unpacked."""

from __future__ import annotations

import re
from typing import BinaryIO

# (offset, bytes, name); the formats' own specifications.
_MAGIC = (
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"PK\x07\x08", "zip"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"\x1f\x9d", "compress"),
    (0, b"\x1f\xa0", "compress"),
    (4, b"1AY&SY", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x5d\x00\x00\x80\x00", "lzma"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-zip"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"\x28\xb5\x2f\xfd", "zstandard"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"LZIP", "lzip"),
    (0, b"MSCF\0\0\0\0", "cabinet"),
    (0, b"!<arch>\n", "ar"),
    (0, b"070701", "cpio"),
    (0, b"070702", "cpio"),
    (0, b"070707", "cpio"),
    (257, b"ustar", "tar"),
)
_DISC = (32769, b"CD001", "disc image")  # ISO 9660 8.1.2: the first volume descriptor
# Documents and programs that are zip files themselves (Office, OpenDocument, EPUB, Java): their first entry.
_DOCUMENT = re.compile(rb"\[Content_Types\]\.xml|_rels/|docProps/|word/|xl/|ppt/|mimetype|META-INF/")


def kind(head: bytes, stream: BinaryIO) -> str:
    """What archive a file is, '' for none. head: its first bytes, 512 or more where it has them."""
    for offset, magic, name in _MAGIC:
        if head.startswith(magic, offset):
            return "" if name == "zip" and _is_document(head) else name
    if _has_tar_checksum(head[:512]):
        return "tar"
    offset, magic, name = _DISC
    stream.seek(offset)
    return name if stream.read(len(magic)) == magic else ""


def _is_document(head: bytes) -> bool:
    length = int.from_bytes(head[26:28], "little")
    return _DOCUMENT.match(head[30 : 30 + length]) is not None


def _has_tar_checksum(block: bytes) -> bool:
    """Whether a block is a tar header of the oldest form, which has no magic: its checksum is right."""
    stated = re.fullmatch(rb" *([0-7]{1,7})[ \0]*", block[148:156]) if len(block) == 512 else None
    return stated is not None and sum(block[:148]) + sum(block[156:]) + 8 * 32 == int(stated[1], 8)
