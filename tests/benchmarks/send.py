"""What a nightly ``send`` costs that has nothing to send: ``python -m tests.benchmarks.send [--objects N ...]``.

For each size a state file with that many objects, all queued and sent, is generated, and delivered to a destination
where nobody listens: whoever opens an object or turns to the peer fails, as there is neither. Printed for each size:
seconds and peak memory of filling it (nothing is known to the queue), and of the nightly call (nothing is new), the
state file's bytes an object, and the growth from size to size as exponents. Each call is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mammoscan.core.console import Console
from mammoscan.send import queue
from mammoscan.send.deliver import deliver
from mammoscan.send.destination import SendConfig, parse
from mammoscan.send.objects import ResultObject

NOBODY = "PACS@127.0.0.1:1"
KINDS = ("cad-sr.dcm", "report-pdf.dcm", "report-sr.dcm", "overlay-01.dcm")
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
STATE = "state.sqlite"


@dataclass(frozen=True, slots=True)
class Made:
    """A state file of this benchmark."""

    connection: sqlite3.Connection

    def dicom_objects(self) -> Iterator[ResultObject]:
        found = self.connection.execute(
            "SELECT path, sha256, sop_class_uid, sop_instance_uid, series_instance_uid, study_instance_uid "
            "FROM outputs ORDER BY path"
        )
        return map(ResultObject._make, found)


def write(folder: Path, count: int) -> None:
    """A state file that knows ``count`` objects, of which no queue knows."""
    with contextlib.closing(sqlite3.connect(folder / STATE)) as db, db:
        db.execute(
            "CREATE TABLE outputs (path TEXT PRIMARY KEY, study_instance_uid TEXT, sha256 TEXT, sop_class_uid TEXT, "
            "sop_instance_uid TEXT, series_instance_uid TEXT)"
        )
        db.executemany("INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?)", map(_row, range(count)))


def _row(number: int) -> tuple[str, ...]:
    of_study, kind = divmod(number, len(KINDS))
    # UIDs as long as ours, in no order (an odd multiplier permutes the numbers below a power of two).
    spread = (of_study * 2654435761) % 2**32
    study = f"2.25.{10**37 + spread}"
    series = f"2.25.{2 * 10**37 + len(KINDS) * spread + kind}"
    instance = f"2.25.{3 * 10**37 + len(KINDS) * spread + kind}"
    return f"studies/{study}/{KINDS[kind]}", study, f"{number:064x}", PDF, instance, series


def call(folder: Path, *, fill: bool) -> None:
    """One call in this process; prints seconds and peak memory in MB."""
    with contextlib.closing(sqlite3.connect(folder / STATE)) as db:
        db.execute("PRAGMA synchronous = FULL")
        results = Made(db)
        began = time.perf_counter()
        if fill:
            queue.start(db)
            queue.Queue(db, NOBODY, folder).fill(results.dicom_objects(), _must_not_read)
        else:
            done = deliver(results, folder, SendConfig((parse(NOBODY),), attempts=1), Console(quiet=True))
            if done.sent or done.unsent or not done.already:
                raise SystemExit(f"not a call with nothing to send: {done}")
        seconds = time.perf_counter() - began
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def _must_not_read(path: str, sha256: str) -> None:
    raise SystemExit(f"an object was opened whose UIDs are known: {path} {sha256}")


def _apart(folder: Path, call_name: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.benchmarks.send", f"--{call_name}", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes


def _size(folder: Path, count: int) -> tuple[float, float, float, float, float]:
    write(folder, count)
    before = (folder / STATE).stat().st_size
    filling = _apart(folder, "fill")
    with contextlib.closing(sqlite3.connect(folder / STATE)) as db, db:
        db.execute("UPDATE sends SET state = 'sent', attempts = 1")
    nightly = _apart(folder, "nightly")
    return (*filling, *nightly, ((folder / STATE).stat().st_size - before) / count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--nightly", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill or arguments.nightly:
        call(arguments.fill or arguments.nightly, fill=arguments.fill is not None)
        return
    print(f"{'objects':>10} {'fill s':>8} {'fill MB':>8} {'night s':>8} {'night MB':>8} {'bytes an object':>16}")
    made = []
    for count in arguments.objects:
        with tempfile.TemporaryDirectory() as temporary:
            found = _size(Path(temporary), count)
        print(
            f"{count:>10} {found[0]:>8.2f} {found[1]:>8.1f} {found[2]:>8.2f} {found[3]:>8.1f} {found[4]:>16.0f}",
            flush=True,
        )
        made.append((count, found))
    for (few, before), (many, after) in itertools.pairwise(made):
        growth = [math.log(b / a) / math.log(many / few) for a, b in zip(before[:4], after[:4], strict=True)]
        print(f"exponents {few} to {many}: filling {growth[0]:.2f}, its memory {growth[1]:.2f}, "
              f"the nightly call {growth[2]:.2f}, its memory {growth[3]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
