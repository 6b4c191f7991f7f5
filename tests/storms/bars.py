"""What must hold of a results folder whatever was done to the run, asked of what everybody can see.

The command's status and words, the tables, the files below ``studies/`` and the state file.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mammoscan.core.errors import ExitCode
from mammoscan.core.store import TEMPORARY_PREFIX
from mammoscan.report import tables
from mammoscan.run import previews

TABLES = tuple(tables.COLUMNS)
# The one column of a table that holds a time of writing.
WRITTEN_AT = "created"
DOCUMENTED = {int(code) for code in ExitCode}


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended by itself."""

    status: int
    out: str
    err: str


def command(archive: Path, out: Path, *options: str) -> list[str]:
    """``mammoscan run``, without the wait for files that are still being written."""
    return [
        sys.executable, "-m", "mammoscan", "run", str(archive), "--out", str(out), "--settle-seconds", "0", *options,
    ]  # fmt: skip


def run(arguments: list[str], *, environment: dict[str, str] | None = None, timeout: float = 7200) -> Done:
    """Run a command in a process group of its own, of which nothing is left afterwards."""
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
        env={**os.environ, **(environment or {})},
    ) as process:  # fmt: skip
        try:
            said, complained = process.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return Done(process.returncode, said, complained)


# How a whole file begins and ends, of those that are no DICOM.
ENDS = {
    ".pdf": (b"%PDF", b"%%EOF"), ".js": (b"mammoscan.study(", b");"), ".jpg": (b"\xff\xd8", b"\xff\xd9"),
}  # fmt: skip


def deaths(done: Done) -> list[str]:
    """Why this was no end that the manual describes; empty when it was one."""
    found = []
    if done.status not in DOCUMENTED:
        found.append(f"ended with status {done.status}")
    if "Traceback (most recent call last)" in done.err + done.out:
        found.append("ended in a traceback")
    return [f"{what}: {done.err[-2000:]}" for what in found]


def table(out: Path, name: str) -> list[dict[str, str]]:
    """The rows of a table, every one with a cell for every column of the manual."""
    with (out / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = list(csv.reader(stream, strict=True))
    assert header == [c.name for c in tables.COLUMNS[name]], name
    assert all(len(row) == len(header) for row in rows), name
    return [dict(zip(header, row, strict=True)) for row in rows]


def lost_or_twice(archive: Path, out: Path) -> list[str]:
    """Files of the archive that ``files.csv`` lists not once; rows of it that are no file."""
    listed = Counter(row["path"] for row in table(out, "files"))
    there = {p.relative_to(archive).as_posix() for p in archive.rglob("*") if p.is_file() and out not in p.parents}
    found = [f"{name}: listed {listed[name]} times" for name in sorted(there) if listed[name] != 1]
    return found + [f"{name}: no such file" for name in sorted(set(listed) - there)]


def recorded(out: Path) -> dict[str, str]:
    """SHA-256 of every result by its path, as the state file holds it.

    A copy is asked: what a killed run left in the middle of a change is undone by who opens it next, and that is
    to be the next run.
    """
    with tempfile.TemporaryDirectory() as folder:
        for path in out.glob("ledger.sqlite*"):
            shutil.copy2(path, folder)
        with contextlib.closing(sqlite3.connect(Path(folder) / "ledger.sqlite")) as state:
            assert state.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if not state.execute("SELECT 1 FROM sqlite_master WHERE name = 'outputs'").fetchone():
                return {}  # killed before it had tables
            return dict(state.execute("SELECT path, sha256 FROM outputs"))


def half_written(out: Path) -> list[str]:
    """Results that are missing, or are not byte for byte what the state file says; files it does not know; leftovers.

    To be asked after a run that came to its end: what one that is killed leaves below ``.previews`` goes then.
    """
    known = recorded(out)
    found = []
    for name, sha in sorted(known.items()):
        path = out / name
        if not path.is_file():
            found.append(f"{name}: missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha:
            found.append(f"{name}: other bytes than were recorded")
    unknown = {p.relative_to(out).as_posix() for p in (out / "studies").rglob("*") if p.is_file()} - set(known)
    found += [f"{name}: not in the state file" for name in sorted(unknown)]
    if (out / previews.FOLDER).exists():
        found.append(f"{previews.FOLDER}: left over")
    return found + [f"{p.name}: left over" for p in sorted(out.rglob(f"{TEMPORARY_PREFIX}*"))]


def broken_after_a_kill(out: Path) -> list[str]:
    """Results under a final name that are not whole: at no moment may there be one.

    What the state file holds is compared with it. What it does not hold yet was written a moment before the
    end: it must end as a whole PDF, picture or script does, or be readable as a whole DICOM file.
    """
    import pydicom

    known = recorded(out) if (out / "ledger.sqlite").exists() else {}
    found = []
    for path in sorted(p for p in (out / "studies").rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if path.name.startswith(TEMPORARY_PREFIX):
            continue
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == known.get(name):
            continue
        if path.suffix in ENDS:
            first, last = ENDS[path.suffix]
            whole = content.startswith(first) and content.rstrip().endswith(last)
        else:
            try:
                whole = bool(pydicom.dcmread(path).to_json())
            except Exception:
                whole = False
        if not whole:
            found.append(f"{name}: not whole")
    for name in TABLES:
        if (out / f"{name}.csv").exists():
            table(out, name)
    return found


def differences(out: Path, undisturbed: Path, *, leaving_out: frozenset[str] = frozenset()) -> list[str]:
    """Where the tables of two folders differ, column by column. leaving_out: columns that are not compared."""
    found = []
    for name in TABLES:
        one, other = table(out, name), table(undisturbed, name)
        if len(one) != len(other):
            found.append(f"{name}: {len(one)} rows for {len(other)}")
        for number, (row, expected) in enumerate(zip(one, other, strict=False), 1):
            found += [
                f"{name} row {number}, {column}: {row[column]!r} for {expected[column]!r}"
                for column in row
                if column not in leaving_out and row[column] != expected[column]
            ]
    return found
