"""Every file that was seen, what its header said, and how it is listed: tables of the state file.

A pass over an archive compares the walk with what is known and opens only what is new or changed. A file's row holds
its place, size and time (as the identity policy writes them), the UIDs of its study and instance, what the header said
(sealed by the policy), the digest of its content where that was needed, and its line of ``files.csv``. ``todo`` holds
the studies that are to be planned: it is filled in the same transaction in which a file's row changes, and a study
leaves it when its results stand, so that a run that is cut off at any moment goes on where it stopped.
"""

from __future__ import annotations

import array
import contextlib
import logging
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from mammoscan.core.domain import Failed, Header, Skipped, SourceFile
from mammoscan.core.errors import Reason, Stage
from mammoscan.run import codec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mammoscan.run.codec import Read
    from mammoscan.run.policy import Policy

    Found = SourceFile | Skipped | Failed

log = logging.getLogger(__name__)

# Whose study it is and of which day, as its headers say: known before it is analysed, so that a patient's studies are worked
# on in the order of their dates.
VISITS = """
CREATE TABLE IF NOT EXISTS visits (study TEXT PRIMARY KEY, person TEXT NOT NULL, date TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS visits_person ON visits (person, date)
"""
TABLES = f"""{VISITS};
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, stamp INTEGER NOT NULL,
    study TEXT NOT NULL, instance TEXT NOT NULL, status INTEGER NOT NULL, stage TEXT NOT NULL, code TEXT NOT NULL,
    detail TEXT NOT NULL, passing INTEGER NOT NULL, content BLOB NOT NULL, facts BLOB NOT NULL
);
CREATE INDEX files_study ON files (study, status);
CREATE INDEX files_status ON files (status, code);
CREATE INDEX files_instance ON files (instance);
CREATE TABLE todo (study TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE twins (instance TEXT PRIMARY KEY, files TEXT NOT NULL, verdict TEXT NOT NULL) WITHOUT ROWID
"""
# lines: what ``files.csv`` holds, bytes of every line; fresh_lines: paths whose lines changed since, whoever changed them.
# Not OR IGNORE: what the statement says that fires a trigger counts in it.
KEPT_TABLES = (
    "CREATE TABLE IF NOT EXISTS lines (path TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS fresh_lines (path TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TRIGGER IF NOT EXISTS line_made AFTER INSERT ON files BEGIN INSERT INTO fresh_lines "
    "SELECT new.path WHERE NOT EXISTS (SELECT 1 FROM fresh_lines WHERE path = new.path); END",
    "CREATE TRIGGER IF NOT EXISTS line_changed "
    "AFTER UPDATE OF size, status, stage, code, detail, study, instance ON files BEGIN INSERT INTO fresh_lines "
    "SELECT new.path WHERE NOT EXISTS (SELECT 1 FROM fresh_lines WHERE path = new.path); END",
    "CREATE TRIGGER IF NOT EXISTS line_gone AFTER DELETE ON files BEGIN INSERT INTO fresh_lines "
    "SELECT old.path WHERE NOT EXISTS (SELECT 1 FROM fresh_lines WHERE path = old.path); END",
)
_PAGE = 500  # rows read at once
_MOST = 100  # studies of an identifier that are brought into order
_INSERT = """
INSERT INTO files (path, size, stamp, study, instance, status, stage, code, detail, passing, content, facts)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, x'', ?)
ON CONFLICT (path) DO UPDATE SET size = excluded.size, stamp = excluded.stamp, study = excluded.study,
instance = excluded.instance, status = excluded.status, stage = excluded.stage, code = excluded.code,
detail = excluded.detail, passing = excluded.passing, content = excluded.content, facts = excluded.facts
"""


class Status(IntEnum):
    """How a file is listed."""

    PENDING = 0  # a mammogram that is not analysed yet
    ANALYSED = 1
    SKIPPED = 2
    FAILED = 3
    GONE = 4  # not seen any more; results of it stand

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of a file, as it travels from a worker: the columns of its row, and the facts as bytes.

    UIDs and the rest are as the file has them; the identity policy decides how they are kept. patient: identifier and
    issuer, of a mammogram.
    """

    relative: str
    size: int
    mtime_ns: int
    study_instance_uid: str
    sop_instance_uid: str
    status: Status
    stage: str
    code: str
    detail: str
    passing: bool
    content: bytes
    patient: tuple[str, str] = ("", "")
    study_date: str = ""

    @classmethod
    def of(cls, result: Read, root: Path) -> Facts:
        """The facts of a file below the archive ``root``."""
        file, content = result.file, codec.encode_facts(result, root)
        place = file.relative, file.size, file.mtime_ns
        if isinstance(result, Header):
            uids = result.study.study_instance_uid, result.sop_instance_uid
            whose = (result.patient.patient_id, result.patient.issuer), result.study.study_date
            return cls(*place, *uids, Status.PENDING, "", "", "", False, content, *whose)
        uids = result.study_instance_uid, result.sop_instance_uid
        reason = result.reason
        status = Status.SKIPPED if isinstance(result, Skipped) else Status.FAILED
        detail = codec.plain(result.detail)
        return cls(*place, *uids, status, result.stage.value, reason.code, detail, reason.passing, content)


@dataclass(frozen=True, slots=True)
class Row:
    """A file of a study as it was read: what its header said, and whether it is still there.

    content: digest of the file as it is now, b'' where that is not known.
    """

    id: int
    result: Read
    gone: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """A file's line of ``files.csv``."""

    path: str
    size: int
    status: Status
    stage: str
    code: str
    detail: str
    study: str
    instance: str


@dataclass(frozen=True, slots=True)
class LineEdit:
    """A file whose line in ``files.csv`` is to be changed. line: None where the file is no longer listed.

    before: bytes of unchanged lines between the edit before and this one; old: those of its own.
    """

    path: str
    line: Line | None
    before: int
    old: int


class Inventory:
    """The files of one archive as one results folder knows them.

    root: the archive. changed: called after every change, to bring it to the disk in time.
    """

    def __init__(self, db: sqlite3.Connection, root: Path, policy: Policy, changed: Callable[[], None]) -> None:
        self._db = db
        self._root = root
        self._policy = policy
        self._changed = changed
        (highest,) = db.execute("SELECT coalesce(max(id), 0) FROM files").fetchone()
        self._seen = bytearray(highest // 8 + 1)  # a bit a row
        self._count = 0

    # ------------------------------------------------------------------ the pass over the archive

    def known(self, relative: str, size: int, mtime_ns: int) -> bool:
        """Whether a file is as it was when its header was read, so that nobody has to open it. It counts as seen."""
        policy = self._policy
        row = self._db.execute(
            "SELECT id, size, stamp, passing, status FROM files WHERE path = ?", (policy.path(relative),)
        ).fetchone()
        if row is None or row[1:4] != (size, policy.stamp(mtime_ns), 0):
            return False
        self._see(row[0])
        if row[4] == Status.GONE:
            self._back(row[0])
        return True

    def unread(self, found: Iterable[Found]) -> Iterator[SourceFile]:
        """The files whose headers are to be read, of what the walk over the archive found; the rest is listed on the way."""
        for item in found:
            if isinstance(item, SourceFile):
                yield item
            else:
                self._list(item)

    def _list(self, item: Skipped | Failed) -> None:
        """A place of the walk that is not read: listed as it is."""
        facts = Facts.of(item, self._root)
        known = self._db.execute(
            "SELECT id FROM files WHERE path = ? AND (status, stage, code, detail) = (?, ?, ?, ?)",
            (
                self._policy.path(facts.relative),
                facts.status,
                facts.stage,
                facts.code,
                self._policy.detail(facts.detail),
            ),
        ).fetchone()
        if known:
            self._see(known[0])
        else:
            self.record(facts)

    def record(self, read: Facts) -> None:
        """Keep what a file's header said."""
        policy = self._policy
        before = self._db.execute("SELECT id, study, instance FROM files WHERE path = ?", (policy.path(read.relative),))
        known = before.fetchone()
        uids = policy.uid(read.study_instance_uid), policy.uid(read.sop_instance_uid)
        line = (read.status, read.stage, read.code, policy.detail(read.detail), read.passing)
        path = policy.path(read.relative)
        stamp, sealed = policy.stamp(read.mtime_ns), policy.seal(read.content)
        cursor = self._db.execute(_INSERT, (path, read.size, stamp, *uids, *line, sealed))
        number = known[0] if known else int(cursor.lastrowid or 0)
        self._see(number)
        # It was gone from one place and has come up at another.
        self._db.execute(
            "DELETE FROM files WHERE instance = ? AND instance <> '' AND status = ? AND id <> ?",
            (uids[1], Status.GONE, number),
        )
        for study, instance in {uids, known[1:] if known else uids}:
            self._dirty(study, instance)
        if uids[0] and read.patient[0] and read.study_date:
            person = policy.person(*read.patient)
            self._db.execute(
                "INSERT OR REPLACE INTO visits VALUES (?, ?, ?)",
                (uids[0], person, policy.day(read.study_date, *read.patient)),
            )
        self._changed()

    def lost(self) -> int:
        """What was not seen in this pass: files without results are forgotten, the others listed as gone. How many.

        To be called when the whole archive was walked. A file that lies elsewhere now was moved: its old place is
        forgotten too.
        """
        gone, total = self._db.execute(
            "SELECT (SELECT count(*) FROM files WHERE status = ?), (SELECT count(*) FROM files)", (Status.GONE,)
        ).fetchone()
        if self._count + gone == total:
            return 0
        # Ids alone, from an index: the table itself is large.
        found = self._db.execute("SELECT id FROM files INDEXED BY files_status")
        lost = array.array("q", (row for (row,) in found if not self._is_seen(row)))
        for row in lost:
            study, instance, status = self._db.execute(
                "SELECT study, instance, status FROM files WHERE id = ?", (row,)
            ).fetchone()
            if status == Status.GONE and not self._elsewhere(instance, row):
                continue
            if status == Status.ANALYSED and not self._elsewhere(instance, row):
                self.relist(row, Status.GONE, Stage.DISCOVER, Reason.GONE)
                continue
            self._db.execute("DELETE FROM files WHERE id = ?", (row,))
            self._dirty(study, instance)
            if not self._elsewhere(instance, row):
                self._db.execute("DELETE FROM images WHERE sop_instance_uid = ?", (instance,))
            self._changed()
        return len(lost)

    def _elsewhere(self, instance: str, row: int) -> bool:
        found = self._db.execute(
            "SELECT id FROM files WHERE instance = ? AND instance <> '' AND id <> ? AND status <> ?",
            (instance, row, Status.GONE),
        )
        return any(self._is_seen(other) for (other,) in found)

    def _back(self, row: int) -> None:
        """A file that was gone lies there again, as it was."""
        (study, instance) = self._db.execute("SELECT study, instance FROM files WHERE id = ?", (row,)).fetchone()
        self.relist(row, Status.PENDING)
        self._dirty(study, instance)
        self._changed()

    def _see(self, row: int) -> None:
        self._count += not self._is_seen(row)
        if row >> 3 >= len(self._seen):
            self._seen.extend(bytes((row >> 3) + 1 - len(self._seen) + len(self._seen) // 8))
        self._seen[row >> 3] |= 1 << (row & 7)

    def _is_seen(self, row: int) -> bool:
        return row >> 3 < len(self._seen) and bool(self._seen[row >> 3] & 1 << (row & 7))

    def _dirty(self, study: str, instance: str) -> None:
        """A study is to be planned again, and every other one that has a file of this instance."""
        if study:
            self._db.execute("INSERT OR IGNORE INTO todo VALUES (?)", (study,))
        if instance:
            self._db.execute(
                "INSERT OR IGNORE INTO todo SELECT study FROM files WHERE instance = ? AND study <> '' AND instance <> ''",
                (instance,),
            )

    # ------------------------------------------------------------------ studies to be done

    def all_to_do(self) -> None:
        """Every study is to be planned again: what decides results was changed."""
        cursor = self._db.execute("INSERT OR IGNORE INTO todo SELECT DISTINCT study FROM files WHERE study <> ''")
        if cursor.rowcount:
            self._changed()

    def retry(self, *, failed: bool) -> None:
        """Studies with an image whose failure tells of a moment, or with any that failed, are to be planned again."""
        cursor = self._db.executemany(
            "INSERT OR IGNORE INTO todo SELECT study_instance_uid FROM images WHERE code <> '' AND code = ?",
            [(reason.code,) for reason in Reason if failed or reason.passing],
        )
        if cursor.rowcount:
            self._changed()

    def to_do(self, study: str) -> None:
        """A study is to be planned."""
        cursor = self._db.execute("INSERT OR IGNORE INTO todo VALUES (?)", (study,))
        if cursor.rowcount:
            self._changed()

    def pending(self, study: str) -> int:
        """How many mammograms of a study are neither analysed nor listed as anything else."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM files WHERE study = ? AND status = ?", (study, Status.PENDING)
        ).fetchone()
        return int(count)

    def done(self, study: str) -> None:
        """A study's results stand."""
        cursor = self._db.execute("DELETE FROM todo WHERE study = ?", (study,))
        if cursor.rowcount:
            self._changed()

    def earlier_to_do(self, study: str) -> list[str]:
        """Studies to be planned that are of the same identifier and of an earlier day, the earliest first; ``_MOST`` at most."""
        rows = self._db.execute(
            "SELECT b.study FROM visits AS a JOIN visits AS b ON b.person = a.person AND b.date < a.date "
            "JOIN todo ON todo.study = b.study WHERE a.study = ? ORDER BY b.date, b.study LIMIT ?",
            (study, _MOST),
        ).fetchall()
        return [found for (found,) in rows]

    def crowded(self, person: str) -> bool:
        """Whether an identifier has so many studies that it is nobody's, and their order does not matter."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM visits WHERE person = ? LIMIT ?)", (person, _MOST + 1)
        ).fetchone()
        return bool(count > _MOST)

    def studies_to_do(self) -> Iterator[str]:
        """The studies to be planned, in the order of their UIDs; those that are done on the way may leave."""
        after = ""
        while page := self._db.execute(
            "SELECT study FROM todo WHERE study > ? ORDER BY study LIMIT ?", (after, _PAGE)
        ).fetchall():
            yield from (study for (study,) in page)
            after = page[-1][0]

    def rows(self, study: str) -> list[Row]:
        """The files of a study, and those of other studies or of none that share an instance with them, by path."""
        found = self._db.execute(
            "SELECT id, status, content, facts, path FROM files WHERE study = ?1 UNION "
            "SELECT id, status, content, facts, path FROM files WHERE instance <> '' AND instance IN "
            "(SELECT instance FROM files WHERE study = ?1) ORDER BY path",
            (study,),
        ).fetchall()
        rows = []
        for number, status, content, facts, _ in found:
            try:
                result = codec.decode_facts(self._policy.unseal(facts), self._root)
            except ValueError:
                log.warning("what is kept of file %d cannot be read back: it is read again by the next run", number)
                self.relist(number, Status.FAILED, Stage.HEADER, Reason.INTERNAL)
                self._read_again(number)
                continue
            rows.append(Row(number, result, status == Status.GONE, content))
        return rows

    def check(self) -> None:
        """Have every file read again of which what is kept cannot be read back."""
        after = 0
        while page := self._db.execute(
            "SELECT id, facts FROM files WHERE id > ? ORDER BY id LIMIT ?", (after, _PAGE)
        ).fetchall():
            after = page[-1][0]
            for number, facts in page:
                try:
                    codec.decode_facts(self._policy.unseal(facts), self._root)
                except ValueError:
                    log.warning("what is kept of file %d cannot be read back: it is read again", number)
                    self._read_again(number)

    def _read_again(self, number: int) -> None:
        """The header of a file is read by the next pass, whatever its size and time."""
        self._db.execute("UPDATE files SET passing = 1 WHERE id = ?", (number,))
        self._changed()

    def headers(self) -> Iterator[Header]:
        """The headers of all mammograms in the archive."""
        after = 0
        while page := self._db.execute(
            "SELECT id, facts FROM files WHERE id > ? AND study <> '' AND status <> ? ORDER BY id LIMIT ?",
            (after, Status.GONE, _PAGE),
        ).fetchall():
            after = page[-1][0]
            for _, facts in page:
                with contextlib.suppress(ValueError):  # said when its study is planned
                    result = codec.decode_facts(self._policy.unseal(facts), self._root)
                    if isinstance(result, Header):
                        yield result

    # ------------------------------------------------------------------ contents and twins

    def know_content(self, number: int, content: bytes) -> None:
        """Note the digest of a file as it is now."""
        self._db.execute("UPDATE files SET content = ? WHERE id = ?", (content, number))
        self._changed()

    def content(self, number: int) -> bytes:
        """The digest of a file as it is, b'' where it is not known."""
        row = self._db.execute("SELECT content FROM files WHERE id = ?", (number,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def verdict(self, instance: str, files: str) -> str | None:
        """What was found of files that carry one instance; None where these files were not compared.

        files: a digest of their places, sizes and times.
        """
        row = self._db.execute(
            "SELECT verdict FROM twins WHERE instance = ? AND files = ?", (instance, files)
        ).fetchone()
        return None if row is None else str(row[0])

    def judge(self, instance: str, files: str, verdict: str) -> None:
        """Note what was found of files that carry one instance."""
        self._db.execute("INSERT OR REPLACE INTO twins VALUES (?, ?, ?)", (instance, files, verdict))
        self._changed()

    def twins_to_do(self) -> Iterator[str]:
        """Studies to be planned with an instance that lies in several files."""
        return (
            study
            for study in self.studies_to_do()
            if self._db.execute(
                "SELECT 1 FROM files AS a JOIN files AS b ON b.instance = a.instance AND b.id <> a.id "
                "WHERE a.study = ? AND a.instance <> '' AND a.status <> ?2 AND b.status <> ?2 LIMIT 1",
                (study, Status.GONE),
            ).fetchone()
        )

    def forget_contents(self) -> None:
        """Every file's content is to be looked at again, and those that carry one instance are to be compared again."""
        self._db.execute("UPDATE files SET content = x'' WHERE content <> x''")
        self._db.execute("DELETE FROM twins")
        self._changed()

    # ------------------------------------------------------------------ how files are listed

    def relist(self, number: int, status: Status, stage: Stage | None = None, reason: Reason | None = None,
               detail: str = "") -> None:  # fmt: skip
        """Change how a file is listed, if that is a change."""
        line = (status, stage.value if stage else "", reason.code if reason else "", codec.plain(detail))
        passing = reason is not None and reason.passing
        cursor = self._db.execute(
            "UPDATE files SET status = ?1, stage = ?2, code = ?3, detail = ?4, passing = ?6 "
            "WHERE id = ?5 AND (status, stage, code, detail, passing) <> (?1, ?2, ?3, ?4, ?6)",
            (*line, number, passing),
        )
        if cursor.rowcount:
            self._changed()

    def lines(self) -> Iterator[Line]:
        """Every file's line, by path."""
        after = ""
        while page := self._db.execute(
            "SELECT path, size, status, stage, code, detail, study, instance FROM files "
            "WHERE path > ? ORDER BY path LIMIT ?",
            (after, _PAGE),
        ).fetchall():
            for path, size, status, *rest in page:
                yield Line(path, size, Status(status), *rest)
            after = page[-1][0]

    def line_edits(self, *, whole: bool) -> Iterator[LineEdit]:
        """What is to be changed in ``files.csv``, by path. Each is to be answered by ``written``.

        whole: there is no table that could be changed: every line is an edit.
        """
        if whole:
            self._db.execute("DELETE FROM lines")
            for line in self.lines():
                yield LineEdit(line.path, line, 0, 0)
            self._db.execute("DELETE FROM fresh_lines")
            return
        last = ""
        while page := self._db.execute(
            "SELECT fresh_lines.path, lines.bytes, size, status, stage, code, detail, study, instance FROM fresh_lines "
            "LEFT JOIN files USING (path) LEFT JOIN lines USING (path) "
            "WHERE fresh_lines.path > ? ORDER BY fresh_lines.path LIMIT ?",
            (last, _PAGE),
        ).fetchall():
            for path, old, size, status, *rest in page:
                (before,) = self._db.execute(
                    "SELECT coalesce(sum(bytes), 0) FROM lines WHERE path > ? AND path < ?", (last, path)
                ).fetchone()
                last = path
                listed = None if status is None else Line(path, size, Status(status), *rest)
                yield LineEdit(path, listed, before, old or 0)

    def written(self, path: str, size: int) -> None:
        """Note that the table that is being made holds a file's line of so many bytes; 0 for none."""
        if size:
            self._db.execute("INSERT OR REPLACE INTO lines VALUES (?, ?)", (path, size))
        else:
            self._db.execute("DELETE FROM lines WHERE path = ?", (path,))
        self._db.execute("DELETE FROM fresh_lines WHERE path = ?", (path,))

    def counts(self) -> dict[tuple[Status, str], int]:
        """How many files are listed with a status and a code."""
        rows = self._db.execute("SELECT status, code, count(*) FROM files GROUP BY status, code")
        return {(Status(status), code): count for status, code, count in rows}

    def failures(self) -> Iterator[tuple[int, str, str]]:
        """Number, path and code of every file that failed."""
        after = ("", 0)
        while page := self._db.execute(
            "SELECT id, path, code FROM files WHERE status = ? AND (code, id) > (?, ?) ORDER BY code, id LIMIT ?",
            (Status.FAILED, *after, _PAGE),
        ).fetchall():
            yield from page
            after = page[-1][2], page[-1][0]

    def read_failed_again(self) -> None:
        """The headers of all files that failed are read again by the next pass."""
        if self._db.execute("UPDATE files SET passing = 1 WHERE status = ?", (Status.FAILED,)).rowcount:
            self._changed()

    def has_study(self, study: str) -> bool:
        """Whether a file of the study lies in the archive."""
        return (
            self._db.execute(
                "SELECT 1 FROM files WHERE study = ? AND status <> ? LIMIT 1", (study, Status.GONE)
            ).fetchone()
            is not None
        )

    def unreported(self) -> int:
        """How many studies of the archive could not be reported and have no earlier report."""
        (count,) = self._db.execute(
            "SELECT count(DISTINCT study) FROM files WHERE status = ? AND code = ? "
            "AND NOT EXISTS (SELECT 1 FROM studies WHERE study_instance_uid = study)",
            (Status.FAILED, Reason.REPORT_FAILED.code),
        ).fetchone()
        return int(count)
