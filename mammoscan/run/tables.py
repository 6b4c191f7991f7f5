"""The CSV tables of a results folder, streamed out of the state.

A study's rows are kept as the lines that they are in the tables, so that writing a table is copying. The tables are
in the order of StudyInstanceUID, ``files.csv`` in that of path; they are written beside the old ones and replace them
in one move, and only if they differ.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mammoscan.core import store
from mammoscan.core.errors import Reason
from mammoscan.report.tables import COLUMNS, header_line, lines
from mammoscan.run import tablerows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mammoscan.run.inventory import Inventory, Line
    from mammoscan.run.ledger import Ledger

_WRITTEN = "tables"  # the ledger's note on the files that were written
_READABLE = {reason.code: reason for reason in Reason}


def write(ledger: Ledger, inventory: Inventory, out: Path) -> tuple[bool, list[str]]:
    """Bring the tables up to date; whether one changed, and the studies whose rows cannot be read back."""
    bad: list[str] = []

    def studies(*streams: Callable[[bytes], object]) -> None:
        for uid, content in ledger.rows():
            try:
                for put, part in zip(streams, tablerows.unpacked(content), strict=True):
                    put(part)
            except ValueError:
                bad.append(uid)

    changed = _stream(out, tablerows.OF_A_STUDY, studies)
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
