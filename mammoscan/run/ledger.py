"""What is done, and with what: SQLite in the output folder, written by one process only.

``images`` holds one row an analysed or failed image: the key of what decides its result (identity, density, model,
configuration, software), the digest of the file's content, and the result. ``studies`` holds one row a reported study
with its table rows, ``outputs`` its files. The files of the archive are in ``inventory``'s tables. A row is committed
only after the files it speaks of are whole on disk. A row that cannot be read back (damaged, or of another version)
counts as missing, so that its image or study is done again; it is said in the log.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mammoscan.core import faults, store
from mammoscan.core.errors import Reason, Stage, UsageError
from mammoscan.review.ranking import Ranking
from mammoscan.run import codec, inventory, patients, tablerows
from mammoscan.send import queue
from mammoscan.send.objects import ResultObject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mammoscan.core.domain import Failed, Header, Scored

log = logging.getLogger(__name__)

NAME = "ledger.sqlite"
SCHEMA = 2
PATIENCE = 5.0  # seconds to wait for another program that holds the state file
# Changes are brought to the disk together: what a crash within this time loses is done again.
COMMIT_SECONDS = 0.5
_CACHE = 16 << 10  # kibibytes that SQLite keeps of the file; the same for any size of it
_RUNNING = "running"  # noted while a run changes something
_COUNTER = 24  # where SQLite counts the changes of a file (its file format, 1.3.7)
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE images (
    sop_instance_uid TEXT PRIMARY KEY, study_instance_uid TEXT NOT NULL, key TEXT NOT NULL, content BLOB NOT NULL,
    code TEXT NOT NULL, stage TEXT NOT NULL, detail TEXT NOT NULL, result BLOB NOT NULL
);
CREATE INDEX images_failed ON images (code) WHERE code <> '';
CREATE TABLE studies (
    study_instance_uid TEXT PRIMARY KEY, key TEXT NOT NULL, results TEXT NOT NULL, created TEXT NOT NULL,
    columns TEXT NOT NULL, above INTEGER NOT NULL, rows BLOB NOT NULL
);
CREATE TABLE layout (
    study_instance_uid TEXT PRIMARY KEY, images INTEGER NOT NULL, findings INTEGER NOT NULL, studies INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE fresh (study_instance_uid TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX studies_above ON studies (study_instance_uid, above);
CREATE TABLE outputs (
    path TEXT PRIMARY KEY, study_instance_uid TEXT NOT NULL, sha256 TEXT NOT NULL, sop_class_uid TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL, series_instance_uid TEXT NOT NULL
) WITHOUT ROWID;
"""
# layout: what the tables hold, bytes of every study's lines, in the order of the tables; fresh: studies that changed since.
# removals: files (path below the output folder) that are no results any more and may still lie there.
# withdrawn: studies whose results were withdrawn, with the code of the reason.
_KEPT_TABLES = """
CREATE TABLE IF NOT EXISTS removals (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS withdrawn (study_instance_uid TEXT PRIMARY KEY, code TEXT NOT NULL) WITHOUT ROWID;
"""
_LATER_TABLES = f"{patients.TABLES};{inventory.VISITS}"


@dataclass(frozen=True, slots=True)
class Output:
    """A result file: its path below the output folder, its SHA-256 and, of a DICOM object, its UIDs ('' else)."""

    path: str
    sha256: str
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    series_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A reported study.

    key: of everything that its files and rows follow from; results: of what its findings follow from, without the
    places of the files and the kinds that are written. created: YYYYMMDD, HHMMSS. above: findings at or above the
    operating point. rows: of the tables, as ``tablerows.packed`` gives them. person: whose study it is
    (``patients.Person.code``); visit: what is kept to compare others with, b'' for nothing; claims: a digest of what it says
    of others.
    """

    key: str
    results: str
    created: tuple[str, str]
    outputs: tuple[Output, ...]
    above: int
    rows: bytes
    person: str = ""
    visit: bytes = b""
    claims: str = ""


@dataclass(frozen=True, slots=True)
class Edit:
    """A study whose lines in the tables are to be changed.

    rows: as they are kept, b'' where they cannot be read back, None where the study is no result any more. before: bytes
    of unchanged lines between the edit before and this one, in images, findings and studies; old: those of its own.
    """

    study_instance_uid: str
    rows: bytes | None
    before: tuple[int, int, int]
    old: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What is kept of an image. content: digest of the file, b'' where it is not known.

    reason: why it failed, with stage and detail; None for an analysed one, whose result is ``result``.
    """

    sop_instance_uid: str
    study_instance_uid: str
    key: str
    content: bytes
    reason: Reason | None = None
    stage: Stage = Stage.PIXELS
    detail: str = ""
    result: bytes = b""

    @classmethod
    def of(cls, result: Scored | Failed, header: Header, key: str, content: bytes) -> ImageRecord:
        """The record of a result about ``header``, as it is written."""
        uids = (header.sop_instance_uid, header.study.study_instance_uid)
        reason: Reason | None = getattr(result, "reason", None)
        if reason is None:
            return cls(*uids, key, content, result=codec.encode_scored(result))  # type: ignore[arg-type]
        return cls(*uids, key, content, reason, result.stage, result.detail)  # type: ignore[union-attr]


class Ledger:
    """The state of one output folder. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / NAME
        self.notes: list[str] = []  # what the user should be told of an older state file
        try:
            self._open()
        except sqlite3.Error as error:
            found = faults.explained(error, path=self._path)
            if found is None:
                raise
            raise found from error

    def _open(self) -> None:
        if self._path.exists() and self._path.stat().st_size == 0 and any(self._path.parent.glob("studies/*")):
            # SQLite takes it for a new one: results of studies that are gone and what was sent would be forgotten.
            raise faults.damaged(self._path, "it is empty, and there are results beside it")
        self._db = sqlite3.connect(self._path, isolation_level="DEFERRED", timeout=PATIENCE)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA cache_size = -{_CACHE}")
        self._committed = time.monotonic()
        self._changed = False
        found = self._meta("schema") if self._has("meta") else None
        if found is None and self._has("studies"):
            raise faults.damaged(self._path, "it does not say its version")
        if found not in {None, "1", str(SCHEMA)}:
            raise UsageError(
                f"the state file has schema {found}, this version needs {SCHEMA}",
                path=self._path,
                remedy="choose a new --out folder, or use the version of mammoscan that wrote it",
            )
        self.patients = patients.Patients(self._db)
        self.foreign = str(self._changes()) != self._meta("changes") if found == str(SCHEMA) else False
        if found != str(SCHEMA):
            self._make(old=found == "1")
        # A state file of this schema may have been made before there were these.
        for statement in (*_LATER_TABLES.split(";"), *inventory.KEPT_TABLES):
            self._db.execute(statement)
        self.ranking = Ranking(self._db)  # of the work list
        self._db.commit()

    def _make(self, *, old: bool) -> None:
        """The tables of this version, with what an older state file holds."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if old:
                self._db.execute("ALTER TABLE studies RENAME TO studies_1")
                # Results of images are of another form; they are made again from the archive, the studies' stand.
                self._db.execute("DROP TABLE images")
            for statement in (_TABLES + _KEPT_TABLES + inventory.TABLES).split(";"):
                self._db.execute(statement)
            if old:
                self._take_over()
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))

    def _take_over(self) -> None:
        """Studies of schema 1, whose outputs and rows were JSON. One that cannot be read back stays as one without rows."""
        count = 0
        cursor = self._db.execute("SELECT study_instance_uid, key, created, outputs, rows FROM studies_1")
        for uid, _, created, outputs, rows in cursor:
            count += 1
            try:
                packed, when = tablerows.packed(_rows(rows)), _created(created)
                files = dict(_texts(json.loads(outputs)).items())
            except (ValueError, TypeError, AttributeError):
                packed, when, files = b"", ("", ""), dict.fromkeys(self._lying(uid), "")
            self._insert_study(uid, StudyRecord("", "", when, tuple(map(Output, files, files.values())), 0, packed))
        self._db.execute("DROP TABLE studies_1")
        if count:
            self.notes.append(
                "the state file is of an earlier version and was taken over: its studies stand, what was sent is known, "
                "and the images that are still in the archive are analysed again"
            )

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self._db.rollback()
            else:
                self._db.commit()
                if not self.foreign and str(self._changes()) != self._meta("changes"):
                    # Counted one further by this very change.
                    self._set_meta("changes", str(self._changes() + 1))
                    self._db.commit()
        finally:
            self._db.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The database, for the inventory and the queues of ``send``, which live in tables of their own."""
        return self._db

    def changed(self, *, now: bool = False) -> None:
        """Something was changed: bring it to the disk, at once or with what else changes soon."""
        if not self._changed:
            self._changed = True
            self._set_meta(_RUNNING, "yes")
        if now or time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()

    @property
    def cut_off(self) -> bool:
        """Whether the last run that changed something did not come to its end, or another program changed the file."""
        return bool(self._meta(_RUNNING)) or self.foreign

    def checked(self) -> None:
        """What was cut off is completed, and every row was read back."""
        self.foreign = False
        self._set_meta(_RUNNING, "")
        self._changed = False

    def finished(self) -> None:
        """The run came to its end."""
        if self._changed:
            self._set_meta(_RUNNING, "")
            self._changed = False
            self.commit()

    def commit(self) -> None:
        """Bring all changes to the disk."""
        self._db.commit()
        self._committed = time.monotonic()

    def _has(self, table: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone())

    def _changes(self) -> int:
        """How often the state file was changed, by whomever, as SQLite counts."""
        with self._path.open("rb") as stream:
            stream.seek(_COUNTER)
            return int.from_bytes(stream.read(4), "big")

    # ------------------------------------------------------------------ facts about the folder

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def fact(self, name: str) -> str:
        """What was noted under a name, '' for nothing."""
        return self._meta(name) or ""

    def note(self, name: str, value: str) -> None:
        """Note something under a name."""
        if self.fact(name) != value:
            self._set_meta(name, value)
            self.changed()

    def claim(self, names: str) -> None:
        """Bind the folder to one kind of names: '' for identities, else the fingerprint of a pseudonyms' key.

        Raises
        ------
        UsageError
            When it holds results under other names: side by side they would tell who is who.
        """
        bound = self._meta("names")
        if bound is None and names:
            used = self._db.execute("SELECT 1 FROM images UNION SELECT 1 FROM studies UNION SELECT 1 FROM files")
            if used.fetchone() is None and not (self._folder / "studies").exists():
                self._set_meta("names", names)
                self.changed(now=True)
                return
        if (bound or "") != names:
            raise UsageError(
                "this folder holds results under other names: with identities, or with pseudonyms of another key",
                path=self._folder,
                remedy="choose a new --out, or the options and the key that the folder was made with",
            )

    # ------------------------------------------------------------------ images

    def image(self, sop_instance_uid: str) -> ImageRecord | None:
        """What is kept of an image, None where nothing is or it cannot be read."""
        row = self._db.execute("SELECT * FROM images WHERE sop_instance_uid = ?", (sop_instance_uid,)).fetchone()
        if row is None:
            return None
        uid, study, key, content, code, stage, detail, result = row
        try:
            return ImageRecord(
                uid,
                study,
                key,
                _bytes(content),
                Reason.of(code) if code else None,
                Stage(stage),
                detail,
                _bytes(result),
            )
        except ValueError:
            log.warning("the kept result of image %s cannot be read back: it is done again", sop_instance_uid)
            return None

    def scored(self, record: ImageRecord, header: Header) -> Scored | None:
        """The result of an analysed image, None where it cannot be read back."""
        try:
            return codec.decode_scored(record.result, header)
        except ValueError:
            log.warning("the kept result of image %s cannot be read back: it is done again", record.sop_instance_uid)
            return None

    def record_image(self, record: ImageRecord) -> None:
        """Keep what became of an image."""
        self._db.execute(
            "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.sop_instance_uid,
                record.study_instance_uid,
                record.key,
                record.content,
                record.reason.code if record.reason else "",
                record.stage.value,
                record.detail,
                record.result,
            ),
        )
        self.changed()

    def forget_image(self, sop_instance_uid: str) -> None:
        """Drop what cannot be read back."""
        self._db.execute("DELETE FROM images WHERE sop_instance_uid = ?", (sop_instance_uid,))
        self.changed()

    # ------------------------------------------------------------------ studies

    def has_study(self, study_instance_uid: str) -> bool:
        """Whether the study was reported, also where its record cannot be read back."""
        found = self._db.execute("SELECT 1 FROM studies WHERE study_instance_uid = ?", (study_instance_uid,))
        return found.fetchone() is not None

    def study(self, study_instance_uid: str) -> StudyRecord | None:
        """The record of a reported study; None where there is none that can be read back."""
        row = self._db.execute(
            "SELECT key, results, created, columns, above, rows FROM studies WHERE study_instance_uid = ?",
            (study_instance_uid,),
        ).fetchone()
        try:
            return None if row is None else _record(row, self.outputs(study_instance_uid))
        except ValueError:
            log.warning("the record of study %s cannot be read back: it is reported again", study_instance_uid)
            return None

    def outputs(self, study_instance_uid: str) -> tuple[Output, ...]:
        """The files of a reported study, by path."""
        rows = self._db.execute(
            "SELECT path, sha256, sop_class_uid, sop_instance_uid, series_instance_uid FROM outputs "
            "WHERE path BETWEEN ? AND ? AND study_instance_uid = ? ORDER BY path",
            (*_below(study_instance_uid), study_instance_uid),
        )
        return tuple(Output(*row) for row in rows)

    def paths(self) -> Iterator[tuple[str, str]]:
        """Every result file by path, with its study."""
        after = ""
        while page := self._db.execute(
            "SELECT path, study_instance_uid FROM outputs WHERE path > ? ORDER BY path LIMIT 2000", (after,)
        ).fetchall():
            yield from page
            after = page[-1][0]

    def record_study(self, study_instance_uid: str, record: StudyRecord) -> None:
        """Keep a reported study. Its files must be on disk; those of its last report alone are to be removed."""
        before = {output.path for output in self.outputs(study_instance_uid)}
        stale = before - {output.path for output in record.outputs}
        self._insert_study(study_instance_uid, record)
        self._db.execute("DELETE FROM withdrawn WHERE study_instance_uid = ?", (study_instance_uid,))
        if record.visit:
            self.patients.keep(study_instance_uid, record.visit, record.person, record.claims)
        self._doom(stale)
        self.changed(now=bool(stale))

    def _insert_study(self, uid: str, record: StudyRecord) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO studies VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                uid,
                record.key,
                record.results,
                json.dumps(record.created),
                tablerows.VERSION,
                record.above,
                record.rows,
            ),
        )
        self._db.execute("INSERT OR IGNORE INTO fresh VALUES (?)", (uid,))
        self._forget_outputs(uid)
        self._db.executemany(
            "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?, ?, ?)",
            [(o.path, uid, o.sha256, o.sop_class_uid, o.sop_instance_uid, o.series_instance_uid) for o in record.outputs],
        )  # fmt: skip

    def _forget_outputs(self, uid: str) -> None:
        self._db.execute(
            "DELETE FROM outputs WHERE path BETWEEN ? AND ? AND study_instance_uid = ?", (*_below(uid), uid)
        )

    def edits(self, *, whole: bool) -> Iterator[Edit]:
        """What is to be changed in the tables, by StudyInstanceUID. Each is to be answered by ``written``.

        whole: there are no tables that could be changed: every study is an edit.
        """
        if whole:
            self._db.execute("DELETE FROM layout")
            self._db.execute("INSERT OR IGNORE INTO fresh SELECT study_instance_uid FROM studies")
        last = ""
        while page := self._db.execute(
            "SELECT fresh.study_instance_uid, columns, rows, layout.images, layout.findings, layout.studies FROM fresh "
            "LEFT JOIN studies USING (study_instance_uid) LEFT JOIN layout USING (study_instance_uid) "
            "WHERE fresh.study_instance_uid > ? ORDER BY fresh.study_instance_uid LIMIT 200",
            (last,),
        ).fetchall():
            for uid, columns, rows, *old in page:
                before = self._db.execute(
                    "SELECT coalesce(sum(images), 0), coalesce(sum(findings), 0), coalesce(sum(studies), 0) FROM layout "
                    "WHERE study_instance_uid > ? AND study_instance_uid < ?",
                    (last, uid),
                ).fetchone()
                last = uid
                sizes = (old[0] or 0, old[1] or 0, old[2] or 0)
                there = rows if columns == tablerows.VERSION and isinstance(rows, bytes) else b""
                yield Edit(uid, None if columns is None else there, before, sizes)

    def written(self, study_instance_uid: str, sizes: tuple[int, int, int]) -> None:
        """Note that the tables that are being made hold a study's lines: bytes of images, findings and studies."""
        if any(sizes):
            self._db.execute("INSERT OR REPLACE INTO layout VALUES (?, ?, ?, ?)", (study_instance_uid, *sizes))
        else:
            self._db.execute("DELETE FROM layout WHERE study_instance_uid = ?", (study_instance_uid,))
        self._db.execute("DELETE FROM fresh WHERE study_instance_uid = ?", (study_instance_uid,))

    def unreadable(self) -> Iterator[str]:
        """StudyInstanceUIDs of the studies whose records, or results of images, cannot be read back.

        Every row is read: asked for where the state file was changed by another program, or a run was cut off.
        """
        for (uid,) in self._pages(
            "SELECT study_instance_uid FROM studies WHERE study_instance_uid > ? ORDER BY 1 LIMIT 500"
        ):
            if self.study(uid) is None:
                yield uid
        for (uid,) in self._pages(
            "SELECT sop_instance_uid FROM images WHERE sop_instance_uid > ? ORDER BY 1 LIMIT 500"
        ):
            found = self.image(uid)
            if found is None or not (found.reason or codec.can_be_read(found.result)):
                (study,) = self._db.execute(
                    "SELECT study_instance_uid FROM images WHERE sop_instance_uid = ?", (uid,)
                ).fetchone()
                self.forget_image(uid)
                yield study

    def _pages(self, statement: str) -> Iterator[tuple[str]]:
        """Rows in the order of their first column, so many at once that memory does not grow with the table."""
        after = ""
        while page := self._db.execute(statement, (after,)).fetchall():
            yield from page
            after = page[-1][0]

    def totals(self) -> tuple[int, int]:
        """Reported studies that have a file in the archive, and their findings at or above the operating point."""
        count, above = self._db.execute(
            "SELECT count(*), coalesce(sum(above), 0) FROM studies INDEXED BY studies_above WHERE EXISTS "
            "(SELECT 1 FROM files WHERE files.study = study_instance_uid AND files.status <> ?)",
            (inventory.Status.GONE,),
        ).fetchone()
        return int(count), int(above)

    # ------------------------------------------------------------------ results for ``send``

    def dicom_objects(self) -> Iterator[ResultObject]:
        """The DICOM objects among the results, by path."""
        after = ""
        while page := self._db.execute(
            "SELECT path, sha256, sop_class_uid, sop_instance_uid, series_instance_uid, study_instance_uid "
            "FROM outputs WHERE path > ? ORDER BY path LIMIT 500",
            (after,),
        ).fetchall():
            for row in page:
                if row[0].endswith(".dcm"):
                    yield ResultObject(*row)
            after = page[-1][0]

    # ------------------------------------------------------------------ results that are no more

    def withdraw(self, study_instance_uid: str, code: str) -> None:
        """Forget a reported study: no rows, nothing left to be sent; its files are to be removed."""
        doomed = self._files(study_instance_uid)
        queue.forget(self._db, doomed)
        self._db.execute("DELETE FROM studies WHERE study_instance_uid = ?", (study_instance_uid,))
        self._forget_outputs(study_instance_uid)
        self._db.execute("INSERT OR IGNORE INTO fresh VALUES (?)", (study_instance_uid,))
        self._db.execute("INSERT OR REPLACE INTO withdrawn VALUES (?, ?)", (study_instance_uid, code))
        self._doom(doomed)
        self.patients.forget(study_instance_uid)
        self.changed(now=True)

    def withdrawn(self, study_instance_uid: str) -> str:
        """The code of the reason why results were withdrawn and not made again since, '' where they were not."""
        row = self._db.execute(
            "SELECT code FROM withdrawn WHERE study_instance_uid = ?", (study_instance_uid,)
        ).fetchone()
        return "" if row is None else str(row[0])

    def sent(self, study_instance_uid: str) -> dict[str, int]:
        """How many objects of a study each destination has."""
        return queue.sent_counts(self._db, self._files(study_instance_uid))

    def removals(self) -> list[str]:
        """Files that are no results any more and may still lie there."""
        return [path for (path,) in self._db.execute("SELECT path FROM removals ORDER BY path")]

    def removed(self, paths: Iterable[str]) -> None:
        """Note that files are gone."""
        self._db.executemany("DELETE FROM removals WHERE path = ?", [(path,) for path in paths])
        self.changed()

    def _doom(self, paths: Iterable[str]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO removals VALUES (?)", [(path,) for path in paths])

    def _files(self, study_instance_uid: str) -> list[str]:
        """The files of a study, with those that lie in its folder unknown to the state file."""
        known = [output.path for output in self.outputs(study_instance_uid)]
        return sorted({*known, *self._lying(study_instance_uid)})

    def _lying(self, study_instance_uid: str) -> list[str]:
        below = store.study_folder(study_instance_uid)
        return sorted(f"{below}/{path.name}" for path in (self._folder / below).glob("*.*"))


def _record(row: tuple[Any, ...], outputs: tuple[Output, ...]) -> StudyRecord:
    """A study's record from its row.

    Raises
    ------
    ValueError
        When the row is damaged, or holds table rows of a version with other columns.
    """
    key, results, created, columns, above, rows = row
    if columns != tablerows.VERSION:
        raise ValueError("rows with other columns")
    for _ in tablerows.unpacked(rows):
        pass
    if not isinstance(key, str) or not isinstance(results, str) or not outputs:
        raise ValueError("a damaged record")
    return StudyRecord(key, results, _created(created), outputs, int(above), rows)


def _below(study_instance_uid: str) -> tuple[str, str]:
    """The first and the last path that a file in the folder of a study can have."""
    folder = store.study_folder(study_instance_uid)
    return f"{folder}/", f"{folder}/\U0010ffff"


def _created(text: str) -> tuple[str, str]:
    try:
        date, clock = json.loads(text)
    except TypeError as error:
        raise ValueError("no date and time") from error
    if not isinstance(date, str) or not isinstance(clock, str):
        raise ValueError("no date and time")
    return date, clock


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("no bytes")
    return value


def _rows(text: str) -> dict[str, list[list[str]]]:
    """Table rows of schema 1."""
    return {name: [list(_texts(cells)) for cells in lines] for name, lines in json.loads(text).items()}


def _texts(value: Any) -> Any:
    """A list or a mapping of texts as it is; anything else is a ``ValueError``."""
    held = [*value, *value.values()] if isinstance(value, dict) else value
    if not isinstance(held, list) or not all(isinstance(item, str) for item in held):
        raise ValueError("not texts")
    return value
