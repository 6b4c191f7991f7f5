"""The work list of a results folder: ``index.html`` and what it loads, made from the tables.

Studies stand in the order of their scores, the most suspicious first, in scripts of ``CHUNK`` studies each, so that a
page opens a list of any length by its first ones. The tables are read once, side by side; what must be sorted is kept in
a temporary file, so that memory does not grow with the archive. Only files that differ are written, each whole.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sqlite3
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from mammoscan import NOTICE, __version__
from mammoscan.core import store
from mammoscan.core.domain import Flag
from mammoscan.core.errors import MachineError, UsageError
from mammoscan.core.tablefile import clean
from mammoscan.report.tables import rows_of
from mammoscan.review import scripts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INDEX = "index.html"
FOLDER = "review"  # below the results folder
LIST = "studies.js"  # in it: how many studies there are, and in which scripts
FORMAT = 1
CHUNK = 1000  # studies in a script
# What a study's row holds, in this order. The page reads it by these names.
COLUMNS = (
    "folder", "patient", "accession", "date", "age", "right", "left", "score", "above", "density", "images", "failed",
    "skipped", "flags", "findings", "outside", "prior_date", "prior_folder", "prior_score", "prior_right", "prior_left",
    "prior_density", "change", "new", "prior_reason",
)  # fmt: skip
# Images of kinds that the model was not trained on: its scores of them are the least to be relied on.
OUTSIDE = frozenset({
    Flag.IMPLANT, Flag.PARTIAL_VIEW, Flag.CONTRAST, Flag.STEREOTACTIC, Flag.MAGNIFICATION, Flag.SPOT, Flag.FOR_PROCESSING,
})  # fmt: skip
_OUTSIDE = frozenset(flag.value for flag in OUTSIDE)
_ESTIMATE = "pixel-estimate"
_EARLIER = (
    "study_date", "folder", "malignancy", "malignancy_right", "malignancy_left", "density_right", "density_left", "same_model",
    "reason",
)  # fmt: skip
_TABLES = ("studies.csv", "images.csv")
_UNKNOWN = {"", "unknown"}


def write(out: Path) -> int:
    """Bring the work list up to date with the tables; how many studies it holds.

    Raises
    ------
    UsageError
        Where there are no tables, or none that can be read.
    MachineError
        Where there is no room to sort.
    OSError
        When a file cannot be written.
    """
    check(out)
    folder = out / FOLDER
    digests: list[str] = []
    try:
        with contextlib.closing(_sorted(out)) as rows:
            points, models, count = _said(rows)
            for number, part in enumerate(_chunks(rows), 1):
                content = scripts.call("chunk", number, part)
                store.write_if_changed(folder / chunk_name(number), content)
                digests.append(hashlib.sha256(content).hexdigest()[:12])
    except sqlite3.Error as error:
        raise MachineError(
            f"the studies of the work list cannot be sorted: {error}",
            path=out,
            remedy="make room for temporary files, or set TMPDIR to a folder that has some",
        ) from error
    for name, asset in _assets().items():
        if name != INDEX:
            store.write_if_changed(folder / name, asset)
    listed = {
        "format": FORMAT,
        "notice": NOTICE,
        "software": __version__,
        "columns": COLUMNS,
        "studies": count,
        "chunk": CHUNK,
        "digests": digests,
        "points": points,
        "models": models,
    }
    content = scripts.call("list", listed)
    store.write_if_changed(folder / LIST, content)
    store.write_if_changed(out / INDEX, _index(content))
    _remove_chunks(folder, len(digests))
    return count


def check(out: Path) -> None:
    """Raise ``UsageError`` where a folder holds no tables."""
    for name in _TABLES:
        if not (out / name).is_file():
            raise UsageError(f"no {name} in this folder", path=out, remedy="give the --out folder of `mammoscan run`")


def remove(out: Path) -> None:
    """Take the work list away; the pages of studies go with their reports."""
    folder = out / FOLDER
    if not (folder / LIST).exists():
        return
    _remove_chunks(folder, 0)
    for path in (out / INDEX, *(folder / name for name in _assets()), folder / LIST):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else lies there
        folder.rmdir()


def state(out: Path) -> str:
    """What tells whether the work list is that of the tables: their sizes and times, and its own; '' where it is missing."""
    try:
        found = [(out / name).stat() for name in (*_TABLES, INDEX, f"{FOLDER}/{LIST}")]
    except OSError:
        return ""
    return json.dumps([_version(), *((s.st_size, s.st_mtime_ns) for s in found)])


def chunk_name(number: int) -> str:
    """The script with the ``number``-th thousand of studies."""
    return f"studies-{number:04d}.js"


# --------------------------------------------------------------------------- files that are always the same


@functools.cache
def _assets() -> dict[str, bytes]:
    """What the package holds of the page, by name."""
    static = files("mammoscan.review") / "static"
    return {item.name: item.read_bytes() for item in sorted(static.iterdir(), key=lambda i: i.name) if item.is_file()}


@functools.cache
def _version() -> str:
    digest = hashlib.sha256(f"{FORMAT} {COLUMNS} {sorted(_OUTSIDE)} {CHUNK} {__version__}".encode())
    for name, content in _assets().items():
        digest.update(name.encode() + content)
    return digest.hexdigest()[:12]


def _index(listed: bytes) -> bytes:
    """The page. What it loads is named with its content, so that no browser takes an older one from its store."""
    version = hashlib.sha256(listed).hexdigest()[:12]
    page = _assets()[INDEX].replace(b"@assets@", _version().encode())
    return page.replace(b"@list@", version.encode())


def _remove_chunks(folder: Path, kept: int) -> None:
    number = kept + 1
    while (path := folder / chunk_name(number)).exists():
        path.unlink()
        number += 1


# --------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class _OfImages:
    """What the images of a study say together. density: 'b', 'b/c', with ~ before one that is estimated."""

    density: str = ""
    flags: str = ""
    outside: bool = False


def _sorted(out: Path) -> sqlite3.Connection:
    """The studies of the tables in a temporary data base."""
    db = sqlite3.connect("")  # a file without a name, that goes with the connection
    db.execute("PRAGMA cache_size = -16384")
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("CREATE TABLE study (uid TEXT PRIMARY KEY, score REAL, row TEXT, point TEXT, model TEXT) WITHOUT ROWID")
    try:
        with db:
            db.executemany("INSERT OR REPLACE INTO study VALUES (?, ?, ?, ?, ?)", _studies(out))
    except BaseException:
        db.close()
        raise
    return db


def _said(db: sqlite3.Connection) -> tuple[list[list[str]], list[str], int]:
    """The operating points of breasts (name, score) and the models that the studies were scored with, and their number."""
    points = [json.loads(p) for (p,) in db.execute("SELECT DISTINCT point FROM study ORDER BY 1")]
    models = [m for (m,) in db.execute("SELECT DISTINCT model FROM study ORDER BY 1")]
    (count,) = db.execute("SELECT count(*) FROM study").fetchone()
    return points, models, int(count)


def _chunks(db: sqlite3.Connection) -> Iterator[list[list[Any]]]:
    """The rows, the most suspicious study first and those without a score last, a thousand at a time."""
    cursor = db.execute("SELECT row FROM study ORDER BY score IS NULL, score DESC, uid")
    while part := cursor.fetchmany(CHUNK):
        yield [json.loads(row) for (row,) in part]


def _studies(out: Path) -> Iterator[tuple[Any, ...]]:
    """Rows of the studies' table with what their images say; both tables are in the order of StudyInstanceUID."""
    with contextlib.ExitStack() as stack:
        studies, images = (_rows(stack, out / name) for name in _TABLES)
        groups = groupby(images, key=itemgetter("study_instance_uid"))
        held = next(groups, None)
        for row in studies:
            uid = row["study_instance_uid"]
            said = _OfImages()
            if held is not None and held[0] == uid:
                said = _together(list(held[1]))
                held = next(groups, None)
            yield _study(row, said)


def _rows(stack: contextlib.ExitStack, path: Path) -> Iterator[dict[str, str]]:
    rows = stack.enter_context(contextlib.closing(rows_of(path)))
    return ({name: clean(cell) for name, cell in row.items()} for row in rows)


def _together(images: list[dict[str, str]]) -> _OfImages:
    densities: dict[tuple[str, bool], None] = {}
    for image in images:
        if image["density"] not in _UNKNOWN:
            densities[image["density"], image["density_source"] == _ESTIMATE] = None
    read = [d for d, estimated in densities if not estimated]
    density = (
        "/".join(sorted(read)) if read else "".join(["~" * bool(densities), "/".join(sorted(d for d, _ in densities))])
    )
    flags = sorted({flag for image in images for flag in image["flags"].split(";") if flag})
    return _OfImages(density, ";".join(flags), bool(_OUTSIDE & set(flags)))


def _study(row: dict[str, str], said: _OfImages) -> tuple[Any, ...]:
    score, age = _number(row["malignancy"]), _number(row["age"])
    folder = row["folder"].rpartition("/")[2]
    shown = [
        folder,
        row["patient_id"],
        row["accession_number"],
        _iso(row["study_date"]),
        None if age is None else round(age, 1),
        _short(_number(row["malignancy_right"])),
        _short(_number(row["malignancy_left"])),
        _short(score),
        row["above_threshold"] == "yes",
        said.density,
        int(row["images_analysed"] or 0),
        int(row["images_failed"] or 0),
        int(row["files_skipped"] or 0),
        said.flags,
        int(row["findings_above"] or 0),
        said.outside,
        *_earlier(row, score),
    ]
    point = json.dumps([row["operating_point"], row["threshold"]])
    return row["study_instance_uid"], _short(score), json.dumps(shown), point, row["model_sha256"]


def _earlier(row: dict[str, str], score: float | None) -> list[Any]:
    """What a study's row says of the earlier one; scores of two models make no change."""
    # Tables of before there were such columns have none of them.
    then = {name: row.get(f"earlier_{name}", "") for name in _EARLIER}
    before = _number(then["malignancy"])
    comparable = then["same_model"] == "yes"
    densities = dict.fromkeys((then["density_right"], then["density_left"]))
    return [
        _iso(then["study_date"]),
        then["folder"].rpartition("/")[2],
        _short(before),
        _short(_number(then["malignancy_right"])),
        _short(_number(then["malignancy_left"])),
        ", ".join(filter(None, densities)),
        round(score - before, 4) if score is not None and before is not None and comparable else None,
        int(row["findings_new"]) if row.get("findings_new") else None,
        then["reason"],
    ]


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _iso(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else ""
