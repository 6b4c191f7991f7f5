"""What a run costs as an archive grows: ``python -m tests.benchmarks.scale [--images 10000 100000 1000000]``.

A tree of links to one file (four to a study, studies in folders by day) is run over through the real driver, state and
tables; stubs stand for the reading of headers, for pixels and network, and for what is in the reports
(``stubs``). For every size a process of its own each does

- a first pass (what the driver itself costs an image, and how much state it keeps),
- an unchanged pass (files a second; files of the archive that were opened: none),
- a pass with 1,000 new images.

Printed: seconds, the walk alone, files a second, peak resident memory of the parent, bytes of state an image, and the
exponents with which they grow. Sizes above ``--whole`` get their state from that of a first pass over so many images,
copied under other UIDs: the same rows, in a fraction of the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NEW = 1000
A_DAY = 50  # studies


def place(study: int) -> str:
    """The folder of a study below the archive."""
    day = study // A_DAY
    return f"{2000 + day // 360:04d}/{day // 30 % 12 + 1:02d}/{day % 30 + 1:02d}/{study:07d}"


def grow(folder: Path, first: int, count: int) -> None:
    """Images number ``first`` to ``first + count`` as links to a file."""
    archive = folder / "archive"
    for number in range(first, first + count):
        study, view = divmod(number, 4)
        inner = archive / place(study)
        if view == 0:
            inner.mkdir(parents=True)
        group = folder / f"one-{number // 60000}"  # a file has so many links
        if not group.exists():
            group.write_bytes(b"x" * 1000)
            os.utime(group, (1_600_000_000, 1_600_000_000))
        os.link(group, inner / f"image-{view}.dcm")


def drive(folder: Path) -> dict[str, float]:
    """One run through the real driver, with stubs; what it cost this process."""
    from mammoscan.archive import discover
    from mammoscan.core.console import Console
    from mammoscan.run import pipeline, publish, tasks
    from mammoscan.run.config import RunConfig
    from tests.benchmarks import stubs

    opened = 0
    below = os.fspath(folder / "archive")

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal opened
        if event == "open" and str(arguments[0]).startswith(below):
            opened += 1

    began = time.perf_counter()
    walked = sum(1 for _ in discover.walk(folder / "archive", out=folder / "out"))
    walk = time.perf_counter() - began
    sys.addaudithook(watch)
    tasks.read_headers, pipeline._image_task, publish.attempt = stubs.read_headers, stubs.image_task, stubs.attempt
    config = RunConfig(archive=folder / "archive", out=folder / "out", settle_seconds=0)
    began, cpu = time.perf_counter(), time.process_time()
    summary = pipeline.run(config, Console(quiet=True))
    seconds = time.perf_counter() - began
    assert "tensorflow" not in sys.modules
    return {
        "files": walked, "analysed": summary.analysed, "unchanged": summary.unchanged, "walk": walk, "seconds": seconds,
        "cpu": time.process_time() - cpu, "opened": opened, "stages": dict(summary.stage_seconds),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }  # fmt: skip


def step(folder: Path, name: str, *arguments: str) -> dict[str, float]:
    """``drive`` or ``multiply`` in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--step", name, "--folder", str(folder), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def multiply(folder: Path, have: int, want: int) -> dict[str, float]:
    """The state of ``have`` images as one of ``want``: rows are copied to the folders that follow, under new UIDs.

    An unchanged study is not planned, so that nobody looks at the keys, which are none here.
    """
    from mammoscan.core import store
    from mammoscan.core.domain import SourceFile
    from mammoscan.run.inventory import Facts
    from mammoscan.run.ledger import NAME
    from tests.benchmarks import stubs

    began = time.perf_counter()
    archive, out = folder / "archive", folder / "out"
    with contextlib.closing(sqlite3.connect(out / NAME)) as db:
        db.execute("PRAGMA synchronous = OFF")
        rows = db.execute("SELECT results, created, columns, above, rows FROM studies").fetchall()
        images = db.execute("SELECT key, content, result FROM images").fetchall()
        size, stamp = db.execute("SELECT size, stamp FROM files LIMIT 1").fetchone()
        outputs = db.execute("SELECT path, sha256, sop_class_uid FROM outputs LIMIT 4").fetchall()
        for study in range(have // 4, want // 4):
            for view in range(4):
                relative = f"{place(study)}/image-{view}.dcm"
                facts = Facts.of(stubs.header(SourceFile(archive / relative, relative, size, stamp)), archive)
                key, content, result = images[(4 * study + view) % len(images)]
                uids = facts.study_instance_uid, facts.sop_instance_uid
                db.execute(
                    "INSERT INTO files (path, size, stamp, study, instance, status, stage, code, detail, passing, content, facts) "
                    "VALUES (?, ?, ?, ?, ?, 1, '', '', '', 0, ?, ?)",
                    (relative, size, stamp, *uids, content, facts.content),
                )
                db.execute(
                    "INSERT INTO images VALUES (?, ?, ?, ?, '', 'pixels', '', ?)",
                    (*reversed(uids), key, content, result),
                )
            uid = uids[0]
            db.execute("INSERT INTO studies VALUES (?, ?, ?, ?, ?, ?, ?)", (uid, key, *rows[study % len(rows)]))
            where = store.study_folder(uid)
            (out / where).mkdir(parents=True)
            for path, sha, sop_class in outputs:
                name = path.rsplit("/", 1)[1]
                group = folder / f"result-{study // 15000}"
                if not group.exists():
                    group.write_bytes(b"x")
                os.link(group, out / where / name)
                last = (stubs.uid(where, name), stubs.uid(where)) if sop_class else ("", "")
                db.execute(
                    "INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?)", (f"{where}/{name}", uid, sha, sop_class, *last)
                )
        db.execute("DELETE FROM meta WHERE key = 'tables'")
        db.commit()
        db.execute("INSERT OR REPLACE INTO meta VALUES ('changes', ?)", (str(_counter(out / NAME) + 1),))
        db.commit()
    return {"seconds": time.perf_counter() - began}


def _counter(path: Path) -> int:
    """How often the state file was changed, as SQLite counts: it is not taken for another program's."""
    with path.open("rb") as stream:
        stream.seek(24)
        return int.from_bytes(stream.read(4), "big")


def measure(folder: Path, count: int, whole: int) -> dict[str, dict[str, float]]:
    """All steps at one size."""
    from mammoscan.run.ledger import NAME

    grow(folder, 0, min(count, whole))
    found = {"first": step(folder, "drive")}
    if count > whole:
        grow(folder, whole, count - whole)
        found["copied"] = step(folder, "multiply", str(whole), str(count))
        found["tables"] = step(folder, "drive")
    found["unchanged"] = step(folder, "drive")
    found["state"] = {"bytes": (folder / "out" / NAME).stat().st_size / count}
    grow(folder, count, NEW)
    found["new"] = step(folder, "drive")
    assert found["unchanged"]["analysed"] == 0
    assert found["unchanged"]["unchanged"] == count
    assert found["new"]["analysed"] == NEW
    return found


def show(sizes: list[int], found: dict[int, dict[str, dict[str, float]]], whole: int) -> None:
    """The table of figures, and how they grow."""
    rows: dict[str, list[float]] = {
        "first pass, ms an image (parent's CPU)": [1e3 * found[n]["first"]["cpu"] / min(n, whole) for n in sizes],
        "first pass, ms an image (wall)": [1e3 * found[n]["first"]["seconds"] / min(n, whole) for n in sizes],
        "walk alone, s": [found[n]["unchanged"]["walk"] for n in sizes],
        "unchanged pass, s": [found[n]["unchanged"]["seconds"] for n in sizes],
        "unchanged pass, files/s": [n / found[n]["unchanged"]["seconds"] for n in sizes],
        "unchanged pass, files opened": [found[n]["unchanged"]["opened"] for n in sizes],
        "1,000 new images, s": [found[n]["new"]["seconds"] for n in sizes],
        "1,000 new images less an unchanged pass, s": [
            found[n]["new"]["seconds"] - found[n]["unchanged"]["seconds"] for n in sizes
        ],
        "peak memory, first pass, MB": [found[n]["first"]["peak"] / 1e6 for n in sizes],
        "peak memory, unchanged pass, MB": [found[n]["unchanged"]["peak"] / 1e6 for n in sizes],
        "peak memory, 1,000 new images, MB": [found[n]["new"]["peak"] / 1e6 for n in sizes],
        "state, bytes an image": [found[n]["state"]["bytes"] for n in sizes],
    }
    print(f"{'images':45}" + "".join(f"{n:>12,}" for n in sizes) + "   exponents")
    for name, values in rows.items():
        pairs = zip(sizes, sizes[1:], values, values[1:], strict=False)
        grows = [math.log(b / a) / math.log(m / n) if a > 0 and b > 0 else math.nan for n, m, a, b in pairs]
        print(f"{name:45}" + "".join(f"{v:12,.2f}" for v in values) + "   " + " ".join(f"{g:5.2f}" for g in grows))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--whole", type=int, default=100_000, help="largest first pass; larger sizes are copied")
    parser.add_argument("--keep", type=Path, help="folder for the archives, kept")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("counts", nargs="*", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(drive(asked.folder) if asked.step == "drive" else multiply(asked.folder, *asked.counts)))
        return
    found = {}
    for count in asked.images:
        folder = Path(tempfile.mkdtemp(prefix=f"scale-{count}-", dir=asked.keep))
        try:
            found[count] = measure(folder, count, asked.whole)
            print(json.dumps({count: found[count]}), file=sys.stderr, flush=True)
        finally:
            if not asked.keep:
                shutil.rmtree(folder)
    show(asked.images, found, asked.whole)


if __name__ == "__main__":
    main()
