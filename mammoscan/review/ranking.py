"""The studies of a work list in the order of their scores, in tables of a data base: a temporary one, or the state file.

The list is cut into parts before every study whose UID says so, one in ``CHUNK``. So the same studies are cut alike,
whatever came before, and one that comes, changes or goes concerns its own part alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, NamedTuple

from mammoscan.core import store
from mammoscan.core.domain import SuspiciousStudy
from mammoscan.review import scripts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

CHUNK = 1000  # studies in a part, on average
LONGEST = 2000  # studies in a script; a longer part is several scripts
# shown: the row as a literal, without its first value where that is the UID, as a rule.
_TABLES = """
CREATE TABLE IF NOT EXISTS listed (
    place REAL NOT NULL, uid TEXT NOT NULL, breast_left REAL, breast_right REAL, shown TEXT NOT NULL,
    said INTEGER NOT NULL, PRIMARY KEY (place, uid)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS listed_uid ON listed (uid);
CREATE TABLE IF NOT EXISTS listed_said (id INTEGER PRIMARY KEY, said TEXT NOT NULL UNIQUE, studies INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
    place REAL NOT NULL, uid TEXT NOT NULL, scripts TEXT NOT NULL, PRIMARY KEY (place, uid)
) WITHOUT ROWID
"""
_TOP, _LAST, _END = -2.0, 2.0, 3.0  # places before all scores, of studies without one, and after those


class Row(NamedTuple):
    """What the list shows of a study, in this order; the page reads it by these names.

    date: YYYY-MM-DD or ''. above: whether it reaches the operating point. density: 'b', 'b/c', with ~ before one that is
    estimated. outside: whether it holds images of kinds that the model was not trained on. prior: of the earlier study.
    """

    folder: str
    patient: str
    accession: str
    date: str
    age: float | None
    right: float | None
    left: float | None
    score: float | None
    above: bool
    density: str
    images: int
    failed: int
    skipped: int
    flags: str
    findings: int
    outside: bool
    prior_date: str
    prior_folder: str
    prior_score: float | None
    prior_right: float | None
    prior_left: float | None
    prior_density: str
    change: float | None
    new: int | None
    prior_reason: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A study of the list.

    malignancy: its place is by this; with that of each breast, None where there is none. said: what it was scored with:
    operating point, threshold, hash of the model.
    """

    uid: str
    malignancy: float | None
    left: float | None
    right: float | None
    shown: Row
    said: tuple[str, str, str]

    @property
    def place(self) -> float:
        """Ascending in the list: the highest score first, studies without one last."""
        return _LAST if self.malignancy is None else -self.malignancy


@dataclass(frozen=True, slots=True)
class Script:
    """A script of the list as it was written. digest: the first characters of its SHA-256."""

    name: str
    studies: int
    digest: str


@dataclass(frozen=True, slots=True)
class Part:
    """Studies from one place up to the next part. scripts: as they were written last, None where it changed since."""

    place: float
    uid: str
    scripts: tuple[Script, ...] | None

    def name(self, number: int) -> str:
        """Of the ``number``-th script, from 1: the same for the same first study of the part."""
        name = _hash(self.uid)[:16]
        return name if number == 1 else f"{name}-{number}"


class Ranking:
    """The tables of a list in a data base."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        for statement in _TABLES.split(";"):
            db.execute(statement)
        self._begin()

    def _begin(self) -> None:
        # What stands before the first study that begins a part. Where it is there, opening writes nothing.
        if not self._db.execute("SELECT 1 FROM parts WHERE place = ?", (_TOP,)).fetchone():
            self._db.execute("INSERT INTO parts VALUES (?, '', '')", (_TOP,))

    def clear(self) -> None:
        """Begin anew."""
        for table in ("listed", "listed_said", "parts"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 (names of this module)
        self._begin()

    # ------------------------------------------------------------------ changes

    def put(self, study: Listed) -> None:
        """List a study, in the place of what was listed of it."""
        said, kept = json.dumps(study.said), scripts.literal(study.shown).removeprefix(_first(study.uid))
        row = (study.place, study.uid, study.left, study.right, kept)
        before = self._db.execute(
            "SELECT place, uid, breast_left, breast_right, shown, listed_said.said FROM listed "
            "JOIN listed_said ON listed_said.id = listed.said WHERE uid = ?",
            (study.uid,),
        ).fetchone()
        if before == (*row, said):
            return
        self.drop(study.uid)
        self._db.execute(
            "INSERT INTO listed_said (said, studies) VALUES (?, 1) ON CONFLICT (said) DO UPDATE SET studies = studies + 1",
            (said,),
        )
        self._db.execute(
            "INSERT INTO listed VALUES (?, ?, ?, ?, ?, (SELECT id FROM listed_said WHERE said = ?))", (*row, said)
        )
        self._changed(study.place, study.uid)
        if _begins(study.uid):
            self._db.execute("INSERT INTO parts VALUES (?, ?, '')", (study.place, study.uid))

    def drop(self, uid: str) -> None:
        """List a study no more."""
        found = self._db.execute("SELECT place, said FROM listed WHERE uid = ?", (uid,)).fetchone()
        if found is None:
            return
        place, said = found
        self._db.execute("DELETE FROM listed WHERE (place, uid) = (?, ?)", (place, uid))
        self._db.execute("UPDATE listed_said SET studies = studies - 1 WHERE id = ?", (said,))
        self._db.execute("DELETE FROM listed_said WHERE id = ? AND studies = 0", (said,))
        self._db.execute("DELETE FROM parts WHERE (place, uid) = (?, ?)", (place, uid))
        self._changed(place, uid)

    def _changed(self, place: float, uid: str) -> None:
        """The part that holds this place is to be written again."""
        self._db.execute(
            "UPDATE parts SET scripts = '' WHERE (place, uid) = "
            "(SELECT place, uid FROM parts WHERE (place, uid) <= (?, ?) ORDER BY place DESC, uid DESC LIMIT 1)",
            (place, uid),
        )

    # ------------------------------------------------------------------ what is listed

    def first(self, count: int) -> list[SuspiciousStudy]:
        """The most suspicious studies; as their report its folder alone."""
        found = self._db.execute(
            "SELECT uid, -place, breast_left, breast_right, shown FROM listed WHERE place < ? ORDER BY place, uid LIMIT ?",
            (_LAST, count),
        )
        out = []
        for uid, score, left, right, kept in found:
            row = Row(*json.loads(_shown(uid, kept)))
            out.append(SuspiciousStudy(uid, score, left, right, row.above, f"{store.STUDIES}/{row.folder}"))
        return out

    def said(self) -> tuple[list[list[str]], list[str]]:
        """The operating points of breasts (name, score) and the models that the studies were scored with."""
        found = [json.loads(said) for (said,) in self._db.execute("SELECT said FROM listed_said")]
        points = sorted({(name, threshold) for name, threshold, _ in found})
        return [list(point) for point in points], sorted({model for *_, model in found})

    def parts(self) -> list[Part]:
        """All of them, in their order."""
        found = self._db.execute("SELECT place, uid, scripts FROM parts ORDER BY place, uid")
        return [
            Part(place, uid, tuple(Script(*script) for script in json.loads(scripts)) if scripts else None)
            for place, uid, scripts in found
        ]

    def pending(self) -> bool:
        """Whether a part is to be written again."""
        return self._db.execute("SELECT 1 FROM parts WHERE scripts = '' LIMIT 1").fetchone() is not None

    def rows(self, part: Part) -> Iterator[list[str]]:
        """The studies of each script of a part, as literals."""
        following = self._db.execute(
            "SELECT place, uid FROM parts WHERE (place, uid) > (?, ?) ORDER BY place, uid LIMIT 1",
            (part.place, part.uid),
        ).fetchone()
        found = self._db.execute(
            "SELECT uid, shown FROM listed WHERE (place, uid) >= (?, ?) AND (place, uid) < (?, ?) ORDER BY place, uid",
            (part.place, part.uid, *(following or (_END, ""))),
        )
        while page := found.fetchmany(LONGEST):
            yield [_shown(uid, kept) for uid, kept in page]

    def written(self, part: Part, scripts: Sequence[Script]) -> None:
        """Note how a part was written."""
        noted = json.dumps([astuple(script) for script in scripts])
        self._db.execute("UPDATE parts SET scripts = ? WHERE (place, uid) = (?, ?)", (noted, part.place, part.uid))


def _hash(uid: str) -> str:
    return hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()


def _begins(uid: str) -> bool:
    """Whether a part begins with this study, wherever it stands."""
    return int(_hash(uid)[-12:], 16) % CHUNK == 0


def _first(uid: str) -> str:
    return f"[{scripts.literal(uid)},"


def _shown(uid: str, kept: str) -> str:
    """The row of a study, from what is kept of it."""
    return kept if kept.startswith("[") else _first(uid) + kept


def iso(date: str) -> str:
    """YYYYMMDD as YYYY-MM-DD; '' for what is no date."""
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else ""
