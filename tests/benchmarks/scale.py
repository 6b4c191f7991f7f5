"""What a run costs as an archive grows: ``python -m tests.benchmarks.scale [--images 10000 100000 1000000]``.

A tree of links to one file (four to a study, studies in folders by day) is run over through the real driver, state and
tables; stubs stand for the reading of headers, for pixels and network, and for what is in the reports
(``stubs``). For every size a process of its own each does

- a first pass (what the driver itself costs an image),
- an unchanged pass (files a second; files of the archive that were opened: none),
- a pass with 1,000 new images.

Printed: seconds, the walk alone, files a second, what 1,000 new images cost beyond the unchanged pass beside them and how
much of that is copying of tables by the system, peak resident memory of the parent, bytes of state an image, and the
exponents with which they grow. Sizes above ``--whole`` get their state from that of a first pass over so many images,
copied under other UIDs: the same rows, in a fraction of the time.

``--keep DIR`` keeps the archives in folders named by their sizes, and uses those that lie there again, 1,000 images larger
each time. Their results are used again where the same version made them, else made anew from a first pass.
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
import zlib
from pathlib import Path

import msgspec

NEW = 1000
A_DAY = 50  # studies
HELD = "images.json"  # how many images an archive holds


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
    from mammoscan.core import store
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
    copies = {"copying": 0.0, "copied": 0.0, "settling": 0.0}

    def copy(table: store.Fresh, source: int, offset: int, count: int) -> None:
        started = time.perf_counter()
        plain_copy(table, source, offset, count)
        copies["copying"] += time.perf_counter() - started
        copies["copied"] += count

    def settle(table: store.Fresh, *, compare: bool = True) -> bool:
        started = time.perf_counter()
        changed = plain_settle(table, compare=compare)
        copies["settling"] += time.perf_counter() - started
        return changed

    plain_copy, plain_settle = store.Fresh.copy, store.Fresh.settle
    store.Fresh.copy, store.Fresh.settle = copy, settle
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
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, **copies,
    }  # fmt: skip


def step(folder: Path, name: str, *arguments: str) -> dict[str, float]:
    """``drive`` or ``multiply`` in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--step", name, "--folder", str(folder), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def multiply(folder: Path, have: int, want: int) -> dict[str, float]:
    """The state of ``have`` images as one of ``want``: rows are copied to the folders that follow, under UIDs of their own.

    An unchanged study is not planned, so that nobody looks at the keys, which are those of the studies that are copied.
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
        donors = [_names(study) for study in range(have // 4)]
        rows = [
            db.execute(
                "SELECT key, results, created, columns, above, rows FROM studies WHERE study_instance_uid = ?", (n[0],)
            ).fetchone()
            for n in donors
        ]
        images = db.execute("SELECT key, content, result FROM images").fetchall()
        size, stamp = db.execute("SELECT size, stamp FROM files LIMIT 1").fetchone()
        outputs = db.execute(
            "SELECT path, sha256, sop_class_uid FROM outputs WHERE study_instance_uid = ?", donors[0][:1]
        )
        outputs = outputs.fetchall()
        for study in range(have // 4, want // 4):
            names = _names(study)
            uid = names[0]
            for view in range(4):
                relative = f"{place(study)}/image-{view}.dcm"
                facts = Facts.of(stubs.header(SourceFile(archive / relative, relative, size, stamp)), archive)
                key, content, result = images[(4 * study + view) % len(images)]
                db.execute(
                    "INSERT INTO files (path, size, stamp, study, instance, status, stage, code, detail, passing, content, facts) "
                    "VALUES (?, ?, ?, ?, ?, 1, '', '', '', 0, ?, ?)",
                    (relative, size, stamp, uid, facts.sop_instance_uid, content, facts.content),
                )
                db.execute(
                    "INSERT INTO images VALUES (?, ?, ?, ?, '', 'pixels', '', ?)",
                    (facts.sop_instance_uid, uid, key, content, result),
                )
            *record, packed = rows[study % len(rows)]
            made = _renamed(packed, donors[study % len(rows)], names)
            db.execute("INSERT INTO studies VALUES (?, ?, ?, ?, ?, ?, ?)", (uid, *record, made))
            db.execute("INSERT INTO fresh VALUES (?)", (uid,))
            where = store.study_folder(uid)
            (out / where).mkdir(parents=True, exist_ok=True)
            for path, sha, sop_class in outputs:
                name = path.rsplit("/", 1)[1]
                group = folder / f"result-{study // 15000}"
                if not group.exists():
                    group.write_bytes(b"x")
                with contextlib.suppress(FileExistsError):  # links of an archive that is used again
                    os.link(group, out / where / name)
                last = (stubs.uid(where, name), stubs.uid(where)) if sop_class else ("", "")
                db.execute(
                    "INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?)", (f"{where}/{name}", uid, sha, sop_class, *last)
                )
            if study % 25_000 == 0:
                print(f"{4 * study:,} images", file=sys.stderr, flush=True)
        db.execute("DELETE FROM meta WHERE key = 'tables'")
        db.commit()
        db.execute("INSERT OR REPLACE INTO meta VALUES ('changes', ?)", (str(_counter(out / NAME) + 1),))
        db.commit()
    return {"seconds": time.perf_counter() - began}


def _names(study: int) -> tuple[str, ...]:
    """What the rows of a study are known by: its UID, its patient, and the paths and UIDs of its images."""
    from tests.benchmarks import stubs

    uid = stubs.uid(place(study))
    paths = [f"{place(study)}/image-{view}.dcm" for view in range(4)]
    series = [stubs.uid(place(study), f"image-{view}") for view in range(4)]
    return uid, f"P{uid[5:17]}", *paths, *map(stubs.uid, paths), *series


def _renamed(packed: bytes, donor: tuple[str, ...], names: tuple[str, ...]) -> bytes:
    """A study's rows as those of another one."""
    images, findings, contours, studies = msgspec.msgpack.decode(zlib.decompress(packed))
    parts = [images, findings, studies]
    for old, new in zip(donor, names, strict=True):
        parts = [part.replace(old.encode(), new.encode()) for part in parts]
    return zlib.compress(msgspec.msgpack.encode((parts[0], parts[1], contours, parts[2])), 9)


def _counter(path: Path) -> int:
    """How often the state file was changed, as SQLite counts: it is not taken for another program's."""
    with path.open("rb") as stream:
        stream.seek(24)
        return int.from_bytes(stream.read(4), "big")


def first_pass(parent: Path, count: int) -> tuple[Path, dict[str, float]]:
    """An archive of so many images that was run over, and what that cost."""
    say(f"a first pass over {count:,} images")
    folder = Path(tempfile.mkdtemp(prefix="first-", dir=parent))
    grow(folder, 0, count)
    return folder, step(folder, "drive")


def _decided(folder: Path) -> list[str] | None:
    """What decided results in the last run over an archive."""
    from mammoscan.run.ledger import NAME

    if not (folder / "out" / NAME).exists():
        return None
    with contextlib.closing(sqlite3.connect(folder / "out" / NAME)) as db:
        found = dict(db.execute("SELECT key, value FROM meta"))
    return [found.get(key, "") for key in ("reader", "rules")]


def prepare(folder: Path, count: int, small: Path, have: int) -> int:
    """An archive with results of this version, in ``folder``; how many images it holds.

    Links that lie there are taken as they are. Results of other versions are replaced by those of ``small``, copied.
    """
    from mammoscan.run.ledger import NAME

    if not (folder / HELD).exists():
        say(f"{count:,}: links")
        grow(folder, 0, count)
        (folder / HELD).write_text(json.dumps(count))
    held = int(json.loads((folder / HELD).read_text()))
    if _decided(folder) != _decided(small):
        say(f"{held:,}: the state of {have:,} images as one of {held:,}")
        (folder / "out" / NAME).unlink(missing_ok=True)
        shutil.copytree(small / "out", folder / "out", dirs_exist_ok=True)
        step(folder, "multiply", str(have), str(held))
    say(f"{held:,}: bringing the results up to date")
    step(folder, "drive")
    return held


def measure(folder: Path, held: int) -> dict[str, dict[str, float]]:
    """The passes over an archive whose results are up to date."""
    from mammoscan.run.ledger import NAME

    say(f"{held:,}: an unchanged pass")
    found = {"unchanged": step(folder, "drive")}
    found["state"] = {"bytes": (folder / "out" / NAME).stat().st_size / held}
    grow(folder, held, NEW)
    (folder / HELD).write_text(json.dumps(held + NEW))
    say(f"{held:,}: {NEW:,} new images")
    found["new"] = step(folder, "drive")
    assert found["unchanged"]["analysed"] == 0
    assert found["unchanged"]["unchanged"] == held
    assert found["new"]["analysed"] == NEW
    return found


def say(text: str) -> None:
    """What is done now."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


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
        "of which tables copied by the system, s": [found[n]["new"]["copying"] for n in sizes],
        "of which tables brought to the disk, s": [found[n]["new"]["settling"] for n in sizes],
        "of which all else, s": [
            found[n]["new"]["seconds"]
            - found[n]["unchanged"]["seconds"]
            - found[n]["new"]["copying"]
            - found[n]["new"]["settling"]
            for n in sizes
        ],
        "tables copied by the system, MB": [found[n]["new"]["copied"] / 1e6 for n in sizes],
        "1,000 new images less an unchanged pass, CPU s": [
            found[n]["new"]["cpu"] - found[n]["unchanged"]["cpu"] for n in sizes
        ],
        "peak memory, first pass, MB": [found[n]["first"]["peak"] / 1e6 for n in sizes],
        "peak memory, unchanged pass, MB": [found[n]["unchanged"]["peak"] / 1e6 for n in sizes],
        "peak memory, 1,000 new images, MB": [found[n]["new"]["peak"] / 1e6 for n in sizes],
        "state, bytes an image": [found[n]["state"]["bytes"] for n in sizes],
    }
    print(f"{'images':48}" + "".join(f"{n:>12,}" for n in sizes) + "   exponents")
    for name, values in rows.items():
        pairs = zip(sizes, sizes[1:], values, values[1:], strict=False)
        grows = [math.log(b / a) / math.log(m / n) if a > 0 and b > 0 else math.nan for n, m, a, b in pairs]
        print(f"{name:48}" + "".join(f"{v:12,.2f}" for v in values) + "   " + " ".join(f"{g:5.2f}" for g in grows))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--whole", type=int, default=100_000, help="largest first pass; larger sizes are copied")
    parser.add_argument("--keep", type=Path, help="folder of the archives: used again and kept")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("counts", nargs="*", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(drive(asked.folder) if asked.step == "drive" else multiply(asked.folder, *asked.counts)))
        return
    found = {}
    firsts: dict[int, tuple[Path, dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        parent = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        for count in asked.images:
            folder, have = parent / str(count), min(count, asked.whole)
            folder.mkdir(parents=True, exist_ok=True)
            if have not in firsts:
                firsts[have] = first_pass(parent, have)
                stack.callback(shutil.rmtree, firsts[have][0])
            small, first = firsts[have]
            found[count] = {"first": first, **measure(folder, prepare(folder, count, small, have))}
            print(json.dumps({count: found[count]}), file=sys.stderr, flush=True)
    show(asked.images, found, asked.whole)


if __name__ == "__main__":
    main()
