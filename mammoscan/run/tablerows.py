"""A study's rows of the CSV tables as the state file keeps them: the lines that they are, contours as numbers."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zlib
from typing import TYPE_CHECKING

import msgspec

from mammoscan.report.tables import COLUMNS, lines
from mammoscan.run import codec

if TYPE_CHECKING:
    from collections.abc import Mapping

OF_A_STUDY = ("images", "findings", "studies")
# What rows were made for: a study whose rows have other columns is reported again.
VERSION = hashlib.sha256(json.dumps({n: [c.name for c in COLUMNS[n]] for n in OF_A_STUDY}).encode()).hexdigest()[:16]
_INSTANCE = [column.name for column in COLUMNS["images"]].index("sop_instance_uid")
_CONTOUR = [column.name for column in COLUMNS["findings"]].index("contour")
_HOLE = "\ufffe"  # stands for a contour; no character (Unicode 23.7), so that no cell holds it
_Packed = tuple[bytes, bytes, list[bytes], bytes]


def packed(rows: Mapping[str, list[list[str]]]) -> bytes:
    """A study's rows of all tables as they are kept.

    Contours, the greater part of them, are kept as numbers.

    Raises
    ------
    ValueError
        When a row does not have the cells of its table.
    """
    contours, findings = [], []
    for row in rows.get("findings", []):
        cells, contour = list(row), codec.contour_bytes(row[_CONTOUR]) if len(row) == len(COLUMNS["findings"]) else None
        if contour is not None:
            cells[_CONTOUR] = _HOLE
            contours.append(contour)
        findings.append(cells)
    found = lines(findings, COLUMNS["findings"])
    parts = lines(rows.get("images", []), COLUMNS["images"]), lines(rows.get("studies", []), COLUMNS["studies"])
    return zlib.compress(msgspec.msgpack.encode((parts[0], found, contours, parts[1])), 9)


def unpacked(content: bytes) -> tuple[bytes, bytes, bytes]:
    """A study's lines of images, findings and studies.

    Raises
    ------
    ValueError
        When they cannot be read back.
    """
    try:
        images, findings, contours, studies = msgspec.msgpack.decode(zlib.decompress(content), type=_Packed)
    except (zlib.error, msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"rows that cannot be read back: {error}") from error
    parts = findings.split(_HOLE.encode())
    if len(parts) != len(contours) + 1:
        raise ValueError("rows without their contours")
    texts = [codec.contour_text(contour) for contour in contours]
    return images, b"".join(p for pair in zip(parts, (*texts, b""), strict=True) for p in pair), studies


def instances(content: bytes) -> set[str]:
    """SOPInstanceUIDs of the images in a study's rows.

    Raises
    ------
    ValueError
        When they cannot be read back.
    """
    text = unpacked(content)[0].decode("utf-8")
    return {row[_INSTANCE] for row in csv.reader(io.StringIO(text, newline=""))}
