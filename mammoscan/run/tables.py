"""The CSV tables of a results folder: rows of a study as they are kept, and whole tables streamed out of the state.

A study's rows are kept as the lines that they are in the tables, so that writing a table is copying. The tables are
in the order of StudyInstanceUID, ``files.csv`` in that of path; they are written beside the old ones and replace them
in one move, and only if they differ.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zlib
from typing import TYPE_CHECKING

import msgspec

from mammoscan.core import store
from mammoscan.core.errors import Reason
from mammoscan.report.tables import COLUMNS, header_line, lines
from mammoscan.run import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from mammoscan.run.inventory import Inventory, Line
    from mammoscan.run.ledger import Ledger

OF_A_STUDY = ("images", "findings", "studies")
# What rows were made for: a study whose rows have other columns is reported again.
VERSION = hashlib.sha256(json.dumps({n: [c.name for c in COLUMNS[n]] for n in OF_A_STUDY}).encode()).hexdigest()[:16]
_INSTANCE = [column.name for column in COLUMNS["images"]].index("sop_instance_uid")
_CONTOUR = [column.name for column in COLUMNS["findings"]].index("contour")
_HOLE = "\ufffe"  # stands for a contour; no character (Unicode 23.7), so that no cell holds it
_Packed = tuple[bytes, bytes, list[bytes], bytes]
_WRITTEN = "tables"  # the ledger's note on the files that were written
_READABLE = {reason.code: reason for reason in Reason}


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


def write(ledger: Ledger, inventory: Inventory, out: Path) -> tuple[bool, list[str]]:
    """Bring the tables up to date; whether one changed, and the studies whose rows cannot be read back."""
    bad: list[str] = []

    def studies(*streams: Callable[[bytes], object]) -> None:
        for uid, content in ledger.rows():
            try:
                for put, part in zip(streams, unpacked(content), strict=True):
                    put(part)
            except ValueError:
                bad.append(uid)

    changed = _stream(out, OF_A_STUDY, studies)
    changed |= _stream(out, ("files",), lambda put: _files(put, inventory.lines()))
    ledger.note(_WRITTEN, _state(out))
    return changed, bad


def current(ledger: Ledger, out: Path) -> bool:
    """Whether the tables are those that were last written, and nothing was changed since."""
    noted = ledger.fact(_WRITTEN)
    return bool(noted) and noted == _state(out)


def outdated(ledger: Ledger) -> None:
    """Note that the tables no longer say what the state file holds."""
    ledger.note(_WRITTEN, "")


def _state(out: Path) -> str:
    """Size and time of every table, '' where one is missing."""
    try:
        found = [(out / f"{name}.csv").stat() for name in COLUMNS]
    except OSError:
        return ""
    return json.dumps([(status.st_size, status.st_mtime_ns) for status in found])


def _files(put: Callable[[bytes], object], listed: Iterable[Line]) -> None:
    for row in _rows(listed):
        put(lines([row], COLUMNS["files"]))


def _rows(listed: Iterable[Line]) -> Iterator[list[str]]:
    for line in listed:
        reason = _READABLE.get(line.code)
        meaning, remedy = (reason.meaning, reason.remedy) if reason else ("", "")
        yield [
            line.path, str(line.size), line.status.word, line.stage, line.code, meaning, line.detail, remedy,
            line.study, line.instance,
        ]  # fmt: skip


def _stream(out: Path, names: tuple[str, ...], fill: Callable[..., None]) -> bool:
    """Write tables side by side; each replaces the old one if it differs. Whether one did."""
    fresh = [store.Fresh(out / f"{name}.csv") for name in names]
    try:
        for table, name in zip(fresh, names, strict=True):
            table.write(header_line(COLUMNS[name]))
        fill(*(table.write for table in fresh))
        changed = [table.settle() for table in fresh]
        return any(changed)
    finally:
        for table in fresh:
            table.abandon()
