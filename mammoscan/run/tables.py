"""The CSV tables of a results folder, streamed out of the state.

A study's rows are kept as the lines that they are in the tables, so that writing a table is copying. The tables are
in the order of StudyInstanceUID, ``files.csv`` in that of path; they are written beside the old ones and replace them
in one move, and only if they differ. A table in another form than the last one is written whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import TYPE_CHECKING

from mammoscan.core import store
from mammoscan.core.errors import Reason
from mammoscan.core.tableforms import PLAIN
from mammoscan.report.tables import COLUMNS, header_line, lines
from mammoscan.review import worklist
from mammoscan.run import publish, tablerows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mammoscan.core.domain import SuspiciousStudy
    from mammoscan.core.tableforms import Form
    from mammoscan.report.tables import Column
    from mammoscan.run.inventory import Inventory, Line
    from mammoscan.run.ledger import Ledger

MOST_SUSPICIOUS = 3  # studies that are named when a run is over
# Notes of the ledger: the files as they were written last, and whether something was changed since.
_WRITTEN, _STALE = "tables", "stale"
_READABLE = {reason.code: reason for reason in Reason}


def write(ledger: Ledger, inventory: Inventory, out: Path, form: Form = PLAIN) -> tuple[bool, list[str]]:
    """Bring the tables up to date; whether one changed, and the studies whose rows cannot be read back.

    Of tables that are as they were written last, the lines of what did not change since are copied as they lie, by the
    system. The work list of the state file follows the tables.
    """
    bad: list[str] = []
    whole = ledger.fact(_WRITTEN) != _state(out, form) or not ledger.fact(_WRITTEN)

    def studies(*tables: _Spliced) -> None:
        for edit in ledger.edits(whole=whole):
            try:
                parts = tablerows.unpacked(edit.rows) if edit.rows is not None else (b"", b"", b"")
            except ValueError:
                bad.append(edit.study_instance_uid)
                parts = (b"", b"", b"")
            images, findings, lines_ = (
                table.edit(before, old, part)
                for table, part, before, old in zip(tables, parts, edit.before, edit.old, strict=True)
            )
            ledger.written(edit.study_instance_uid, (images, findings, lines_))
            study = worklist.listed(parts[0], parts[2])
            if study is None:
                ledger.ranking.drop(edit.study_instance_uid)
            else:
                ledger.ranking.put(dataclasses.replace(study, uid=edit.study_instance_uid))
        for table in tables:
            table.copy_rest()

    def files(table: _Spliced) -> None:
        for edit in inventory.line_edits(whole=whole):
            part = lines([_row(edit.line)], COLUMNS["files"]) if edit.line else b""
            inventory.written(edit.path, table.edit(edit.before, edit.old, part))
        table.copy_rest()

    if whole:
        ledger.ranking.clear()
    changed = _stream(out, tablerows.OF_A_STUDY, studies, form, whole=whole)
    changed |= _stream(out, ("files",), files, form, whole=whole)
    ledger.note(_WRITTEN, _state(out, form))
    ledger.note(_STALE, "")
    return changed, bad


def current(ledger: Ledger, out: Path, form: Form = PLAIN) -> bool:
    """Whether the tables are those that were last written, in this form, and nothing was changed since."""
    noted = ledger.fact(_WRITTEN)
    return bool(noted) and not ledger.fact(_STALE) and noted == _state(out, form)


def most_suspicious(ledger: Ledger) -> tuple[SuspiciousStudy, ...]:
    """The studies with the highest scores as the tables were written last."""
    first = ledger.ranking.first(MOST_SUSPICIOUS)
    return tuple(dataclasses.replace(study, report=f"{study.report}/{publish.REPORT}") for study in first)


def outdated(ledger: Ledger) -> None:
    """Note that the tables no longer say what the state file holds."""
    ledger.note(_STALE, "yes")


def _state(out: Path, form: Form) -> str:
    """What was noted of them: form, size and time of every table, '' where one is missing."""
    try:
        found = [(out / f"{name}.csv").stat() for name in COLUMNS]
    except OSError:
        return ""
    return json.dumps([worklist.ROWS, form.name, *((status.st_size, status.st_mtime_ns) for status in found)])


class _Spliced:
    """A table in the making: lines of the old one and new ones. whole: nothing of the old one is copied."""

    def __init__(self, path: Path, columns: Sequence[Column], form: Form, *, whole: bool) -> None:
        self._fresh = store.Fresh(path)
        self._old = None if whole else path.open("rb", buffering=0)
        self._units, self._form = [column.unit for column in columns], form
        heading = form.heading(header_line(columns))
        self._at = len(heading)
        self._differs: bool | None = None if whole else False
        self._fresh.write(heading)

    def edit(self, before: int, old: int, plain: bytes) -> int:
        """Copy bytes of the old table; then lines, given in the plain form, in the place of its next ones.

        How many bytes these are.
        """
        part = self._form.lines(plain, self._units)
        self.copy(before)
        self.change(old, part)
        return len(part)

    def copy(self, count: int) -> None:
        """The next bytes of the old table."""
        if count and self._old is not None:
            self._fresh.copy(self._old.fileno(), self._at, count)
            self._at += count

    def copy_rest(self) -> None:
        """All that is left of the old table."""
        if self._old is not None:
            self.copy(os.fstat(self._old.fileno()).st_size - self._at)

    def change(self, old: int, part: bytes) -> None:
        """Lines in the place of the old table's next bytes."""
        if self._old is not None:
            before = os.pread(self._old.fileno(), old, self._at)
            self._differs = self._differs or before != part
            self._at += old
        self._fresh.write(part)

    def settle(self) -> bool:
        """Take the old table's place if it differs; say whether it does."""
        return self._differs is not False and self._fresh.settle(compare=self._differs is None)

    def close(self) -> None:
        """Leave nothing open, and nothing half-written."""
        self._fresh.abandon()
        if self._old is not None:
            self._old.close()


def _row(line: Line) -> list[str]:
    reason = _READABLE.get(line.code)
    meaning, remedy = (reason.meaning, reason.remedy) if reason else ("", "")
    return [
        line.path, str(line.size), line.status.word, line.stage, line.code, meaning, line.detail, remedy,
        line.study, line.instance,
    ]  # fmt: skip


def _stream(out: Path, names: tuple[str, ...], fill: Callable[..., None], form: Form, *, whole: bool) -> bool:
    """Write tables side by side; each replaces the old one if it differs. Whether one did."""
    with contextlib.ExitStack() as stack:
        tables = []
        for name in names:
            table = _Spliced(out / f"{name}.csv", COLUMNS[name], form, whole=whole)
            stack.callback(table.close)
            tables.append(table)
        fill(*tables)
        changed = [table.settle() for table in tables]
        return any(changed)
