"""The work list of a results folder: ``index.html`` and what it loads, made from rows of the tables.

Studies stand in the order of their scores, the most suspicious first, in scripts of some thousand studies each (``ranking``),
so that a page opens a list of any length by its first ones. A run lists the studies whose rows changed and writes the scripts
that hold them; from the tables alone the same bytes are made anew. Only files that differ are written, each whole.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import json
import re
import sqlite3
from dataclasses import astuple, dataclass
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from mammoscan import NOTICE, __version__
from mammoscan.core import store
from mammoscan.core.domain import Flag
from mammoscan.core.errors import MachineError, UsageError
from mammoscan.core.tablefile import clean
from mammoscan.report.tables import COLUMNS as TABLES
from mammoscan.report.tables import rows_of
from mammoscan.review import scripts
from mammoscan.review.ranking import CHUNK, LONGEST, Listed, Ranking, Row, Script, iso

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INDEX = "index.html"
FOLDER = "review"  # below the results folder
LIST = "studies.js"  # in it: how many studies there are, and in which scripts
FORMAT = 2
COLUMNS = Row._fields  # of a study's row; the page reads it by these names
# Images of kinds that the model was not trained on: its scores of them are the least to be relied on.
OUTSIDE = frozenset({
    Flag.IMPLANT, Flag.PARTIAL_VIEW, Flag.CONTRAST, Flag.STEREOTACTIC, Flag.MAGNIFICATION, Flag.SPOT, Flag.FOR_PROCESSING,
})  # fmt: skip
_OUTSIDE = frozenset(flag.value for flag in OUTSIDE)
# Of what a study's place and row in the list are made, beside its rows of the tables.
ROWS = hashlib.sha256(f"{COLUMNS} {sorted(_OUTSIDE)} {CHUNK} {LONGEST} {__version__}".encode()).hexdigest()[:12]
_ESTIMATE = "pixel-estimate"
_EARLIER = (
    "study_date", "folder", "malignancy", "malignancy_right", "malignancy_left", "density_right", "density_left", "same_model",
    "reason",
)  # fmt: skip
_TABLES = ("studies.csv", "images.csv")
_UNKNOWN = {"", "unknown"}
_SCRIPT = re.compile(r"studies-[0-9a-f]+(-\d+)?\.js")


def write(out: Path) -> int:
    """Make the work list of the tables anew; how many studies it holds.

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
    try:
        with contextlib.closing(sqlite3.connect("")) as db:  # a file without a name, that goes with the connection
            db.execute("PRAGMA cache_size = -16384")
            db.execute("PRAGMA journal_mode = OFF")
            ranking = Ranking(db)
            for study in _studies(out):
                ranking.put(study)
            return update(out, ranking, whole=True)
    except sqlite3.Error as error:
        raise MachineError(
            f"the studies of the work list cannot be sorted: {error}",
            path=out,
            remedy="make room for temporary files, or set TMPDIR to a folder that has some",
        ) from error


def update(out: Path, ranking: Ranking, *, whole: bool) -> int:
    """Write the parts of the list that changed, or hold all of them against what lies there; how many studies it holds.

    Raises
    ------
    OSError
        When a file cannot be written.
    """
    folder = out / FOLDER
    for part in ranking.parts():
        if whole or part.scripts is None:
            ranking.written(part, [_script(folder, part.name(n), rows) for n, rows in enumerate(ranking.rows(part), 1)])
    for name, asset in _assets().items():
        if name != INDEX:
            store.write_if_changed(folder / name, asset)
    made = [script for part in ranking.parts() for script in part.scripts or ()]
    points, models = ranking.said()
    count = sum(script.studies for script in made)
    listed = {
        "format": FORMAT,
        "notice": NOTICE,
        "software": __version__,
        "columns": COLUMNS,
        "studies": count,
        "scripts": [astuple(script) for script in made],
        "points": points,
        "models": models,
    }
    content = scripts.call("list", listed)
    store.write_if_changed(folder / LIST, content)
    store.write_if_changed(out / INDEX, _index(content))
    _remove_scripts(folder, {script_name(script.name) for script in made})
    return count


def _script(folder: Path, name: str, rows: list[str]) -> Script:
    content = scripts.called("chunk", scripts.literal(name), f"[{','.join(rows)}]")
    store.write_if_changed(folder / script_name(name), content)
    return Script(name, len(rows), hashlib.sha256(content).hexdigest()[:12])


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
    _remove_scripts(folder, set())
    for path in (out / INDEX, *(folder / name for name in _assets()), folder / LIST):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else lies there
        folder.rmdir()


def state(out: Path) -> str:
    """What tells whether the work list was written by this version and not touched since; '' where it is missing."""
    try:
        found = [(out / name).stat() for name in (INDEX, f"{FOLDER}/{LIST}")]
    except OSError:
        return ""
    return json.dumps([_version(), *((s.st_size, s.st_mtime_ns) for s in found)])


def script_name(name: str) -> str:
    """The file of a script with a part of the studies."""
    return f"studies-{name}.js"


# --------------------------------------------------------------------------- files that are always the same


@functools.cache
def _assets() -> dict[str, bytes]:
    """What the package holds of the page, by name."""
    static = files("mammoscan.review") / "static"
    return {item.name: item.read_bytes() for item in sorted(static.iterdir(), key=lambda i: i.name) if item.is_file()}


@functools.cache
def _version() -> str:
    digest = hashlib.sha256(f"{FORMAT} {ROWS}".encode())
    for name, content in _assets().items():
        digest.update(name.encode() + content)
    return digest.hexdigest()[:12]


def _index(listed: bytes) -> bytes:
    """The page. What it loads is named with its content, so that no browser takes an older one from its store."""
    version = hashlib.sha256(listed).hexdigest()[:12]
    page = _assets()[INDEX].replace(b"@assets@", _version().encode())
    return page.replace(b"@list@", version.encode())


def _remove_scripts(folder: Path, kept: set[str]) -> None:
    for path in folder.glob("studies-*.js"):
        if _SCRIPT.fullmatch(path.name) and path.name not in kept:
            path.unlink()


# --------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class _OfImages:
    """What the images of a study say together. density: 'b', 'b/c', with ~ before one that is estimated."""

    density: str = ""
    flags: str = ""
    outside: bool = False


def listed(images: bytes, studies: bytes) -> Listed | None:
    """A study of the list, given its lines of the tables in their plain form; None where it has none."""
    rows = list(_cells("studies", studies))
    return _study(rows[-1], _together(list(_cells("images", images)))) if rows else None


def _cells(table: str, lines: bytes) -> Iterator[dict[str, str]]:
    names = [column.name for column in TABLES[table]]
    for row in csv.reader(io.StringIO(lines.decode(), newline="")):
        yield dict(zip(names, map(clean, row), strict=True))


def _studies(out: Path) -> Iterator[Listed]:
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


def _study(row: dict[str, str], said: _OfImages) -> Listed:
    malignancy, left, right, age = (
        _number(row[name]) for name in ("malignancy", "malignancy_left", "malignancy_right", "age")
    )
    shown = Row(
        folder=row["folder"].rpartition("/")[2],
        patient=row["patient_id"],
        accession=row["accession_number"],
        date=iso(row["study_date"]),
        age=None if age is None else round(age, 1),
        right=_short(right),
        left=_short(left),
        score=_short(malignancy),
        above=row["above_threshold"] == "yes",
        density=said.density,
        images=int(row["images_analysed"] or 0),
        failed=int(row["images_failed"] or 0),
        skipped=int(row["files_skipped"] or 0),
        flags=said.flags,
        findings=int(row["findings_above"] or 0),
        outside=said.outside,
        **_earlier(row, malignancy),
    )
    return Listed(
        uid=row["study_instance_uid"], malignancy=malignancy, left=left, right=right, shown=shown,
        said=(row["operating_point"], row["threshold"], row["model_sha256"]),
    )  # fmt: skip


def _earlier(row: dict[str, str], score: float | None) -> dict[str, Any]:
    """What a study's row says of the earlier one; scores of two models make no change."""
    # Tables of before there were such columns have none of them.
    then = {name: row.get(f"earlier_{name}", "") for name in _EARLIER}
    before = _number(then["malignancy"])
    comparable = then["same_model"] == "yes"
    densities = dict.fromkeys((then["density_right"], then["density_left"]))
    return {
        "prior_date": iso(then["study_date"]),
        "prior_folder": then["folder"].rpartition("/")[2],
        "prior_score": _short(before),
        "prior_right": _short(_number(then["malignancy_right"])),
        "prior_left": _short(_number(then["malignancy_left"])),
        "prior_density": ", ".join(filter(None, densities)),
        "change": round(score - before, 4) if score is not None and before is not None and comparable else None,
        "new": int(row["findings_new"]) if row.get("findings_new") else None,
        "prior_reason": then["reason"],
    }


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
