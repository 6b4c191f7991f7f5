"""The queue of a results folder: a table of the state file, so that a crash forgets and repeats nothing.

Everything is compared, counted and handed out in the order of an index and in pages, so that a million objects take
no more memory than a thousand.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from mammoscan.send.transport import Item

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mammoscan.send.objects import ResultObject

_TABLE = """
CREATE TABLE IF NOT EXISTS sends (
    destination TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, sha256 TEXT NOT NULL, path TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, detail TEXT NOT NULL DEFAULT '',
    committed INTEGER NOT NULL DEFAULT 0,
    sop_class_uid TEXT NOT NULL DEFAULT '', series_instance_uid TEXT NOT NULL DEFAULT '',
    study_instance_uid TEXT NOT NULL DEFAULT '', refused INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (destination, sop_instance_uid, sha256)
) WITHOUT ROWID
"""
# What tables of older versions lack. Their rows have no UIDs but the instance's: '' says so.
_ADDED = {
    "sop_class_uid": "TEXT NOT NULL DEFAULT ''",
    "series_instance_uid": "TEXT NOT NULL DEFAULT ''",
    "study_instance_uid": "TEXT NOT NULL DEFAULT ''",
    "refused": "INTEGER NOT NULL DEFAULT 0",
}
# Each index of a table without row ids ends with its primary key: the first alone tells what is queued or sent.
# The second holds what is open in the order in which it is sent; most of a grown queue is sent and not in it.
# Queries name them (INDEXED BY): without statistics SQLite prefers the primary key, which is all of a destination.
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS sends_by_path ON sends (path)",
    "CREATE INDEX IF NOT EXISTS sends_open ON sends (destination, state, path) WHERE state <> 'sent'",
)
# Of one delivery. departed: rows of the destination at hand that are no results any more. lost: results that cannot
# be used, by path. They can be as many as the results, and SQLite moves what is large to a file.
_SCRATCH = (
    "DROP TABLE IF EXISTS temp.departed",
    "DROP TABLE IF EXISTS temp.lost",
    "CREATE TEMP TABLE departed (sop_instance_uid TEXT, sha256 TEXT, PRIMARY KEY (sop_instance_uid, sha256)) "
    "WITHOUT ROWID",
    "CREATE TEMP TABLE lost (path TEXT PRIMARY KEY) WITHOUT ROWID",
)
# What is put into statements as text is from this module alone, never a value of somebody else's.
_OPEN = "FROM sends INDEXED BY sends_open WHERE destination = ? AND state <> 'sent'"
_ITEM = "path, sha256, sop_class_uid, sop_instance_uid, series_instance_uid, study_instance_uid"
# The call after a refusal that offers the object again: with one a night after a week. Peers are changed, and some say
# "cannot understand" when their disk is full.
PATIENCE = 7
PAGE = 1000  # rows that are in memory at once

_Row = tuple[str, str, str]  # path, SOP instance UID, SHA-256
_ItemRow = tuple[str, str, str, str, str, str]  # as ResultObject


class State(str, Enum):
    """Where an object stands with a destination."""

    QUEUED = "queued"
    SENDING = "sending"  # handed to the peer, which has not answered: in doubt after a crash
    SENT = "sent"
    REFUSED = "refused"  # the peer won't take it


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table where it is missing, and give that of an older version what it lacks. Commits nothing."""
    connection.execute(_TABLE)
    present = {row[1] for row in connection.execute("PRAGMA table_info(sends)")}
    for name, kind in _ADDED.items():
        if name not in present:
            connection.execute(f"ALTER TABLE sends ADD COLUMN {name} {kind}")
    for index in _INDEXES:
        connection.execute(index)


def start(connection: sqlite3.Connection) -> None:
    """As ``prepare``, for a delivery: no object is lost yet."""
    prepare(connection)
    for statement in _SCRATCH:
        connection.execute(statement)


def forget(connection: sqlite3.Connection, paths: Iterable[str]) -> None:
    """Nothing of these paths below the results folder is left to be sent; what was sent stays known. Commits nothing."""
    if _stands(connection):
        connection.executemany("DELETE FROM sends WHERE path = ? AND state <> 'sent'", ((path,) for path in paths))


def sent_counts(connection: sqlite3.Connection, paths: Iterable[str]) -> dict[str, int]:
    """How many objects of these paths below the results folder each destination has."""
    counts: Counter[str] = Counter()
    if _stands(connection):
        for path in paths:
            found = connection.execute(
                "SELECT DISTINCT destination FROM sends WHERE path = ? AND state = 'sent'", (path,)
            )
            counts.update(destination for (destination,) in found)
    return dict(counts)


def _stands(connection: sqlite3.Connection) -> bool:
    """Whether there is a table, which then has its indexes: a folder from which nothing was ever sent has none."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'sends'").fetchone()
    if found is not None:
        prepare(connection)
    return found is not None


@dataclass(frozen=True, slots=True)
class Filled:
    """What a destination's queue was filled with. held: how many of the results it has, sent or not."""

    results: int
    held: int


class Queue:
    """The objects of one destination, on a connection that was given to ``start``. folder: that of the results.

    ``refused`` counts the calls since the last refusal, from 1; 0: never.
    """

    def __init__(self, db: sqlite3.Connection, destination: str, folder: Path) -> None:
        self._db = db
        self._destination = destination
        self._folder = folder

    def fill(self, results: Iterable[ResultObject], read: Callable[[str, str], Item | None]) -> Filled:
        """Queue what this destination does not have; what is no longer a result is no longer sent.

        results: in the order of their paths. read: an object from its path and SHA-256, None where it cannot be used;
        asked only for what has no UIDs in the state file.

        Raises
        ------
        ValueError
            When the results are not in their order.
        """
        total = held = 0
        with self._db:
            self._db.execute("DELETE FROM temp.departed")
        for page in _compared(results, self._rows()):
            items = [item for item in (self._with_uids(result, read) for result in page.new) if item is not None]
            total += page.results
            held += page.results - len(page.new) + len(items)
            with self._db:
                self._put(items)
                self._drop(page.departed)
        for state in (State.QUEUED, State.SENDING, State.REFUSED):
            self._complete(state, read)
        return Filled(total, held)

    def begin(self, *, retry_refused: bool) -> None:
        """Queue again what was refused: all of it as if it never had been, or what was passed over often enough."""
        update = "UPDATE sends INDEXED BY sends_open"
        where = "WHERE destination = ? AND state = 'refused' AND state <> 'sent'"
        with self._db:
            if retry_refused:
                self._db.execute(f"{update} SET refused = 0, state = 'queued' {where}", (self._destination,))
                return
            self._db.execute(f"{update} SET refused = refused + 1 {where}", (self._destination,))
            self._db.execute(f"{update} SET state = 'queued' {where} AND refused > ?", (self._destination, PATIENCE))

    def unsent(self) -> Counter[State]:
        """How many results are in each state other than sent."""
        found = self._db.execute(f"SELECT state, COUNT(*) {_OPEN} GROUP BY state", (self._destination,))
        return Counter({State(state): count for state, count in found})

    def left(self) -> int:
        """How many objects wait, or are in doubt, and can be used."""
        (count,) = self._db.execute(
            f"SELECT COUNT(*) {_OPEN} AND state IN ('queued', 'sending') "  # noqa: S608 (see above)
            "AND path NOT IN (SELECT path FROM temp.lost)",
            (self._destination,),
        ).fetchone()
        return int(count)

    def waiting(self, state: State) -> Iterator[Item]:
        """The objects in a state other than sent that can be used, each once, whatever is marked while this goes on."""
        for page in self._pages(state, "AND path NOT IN (SELECT path FROM temp.lost)"):
            yield from map(self._item, page)

    def uncommitted(self) -> Iterator[list[Item]]:
        """Results that were sent and have no storage commitment, in pages. Of those of older versions nothing is asked."""
        after = ("", "")
        while page := self._db.execute(
            f"SELECT {_ITEM} FROM sends WHERE destination = ? AND state = 'sent' AND committed = 0 "  # noqa: S608 (see above)
            "AND sop_class_uid <> '' AND (sop_instance_uid, sha256) > (?, ?) AND NOT EXISTS (SELECT 1 FROM "
            "temp.departed d WHERE d.sop_instance_uid = sends.sop_instance_uid AND d.sha256 = sends.sha256) "
            "ORDER BY sop_instance_uid, sha256 LIMIT ?",
            (self._destination, *after, PAGE),
        ).fetchall():
            yield [self._item(row) for row in page]
            _, sha256, _, uid, *_ = page[-1]
            after = (uid, sha256)

    def classes(self) -> set[str]:
        """The SOP classes of all objects, sent or not."""
        found = self._db.execute(
            "SELECT DISTINCT sop_class_uid FROM sends WHERE destination = ? AND sop_class_uid <> ''",
            (self._destination,),
        )
        return {sop_class for (sop_class,) in found}

    def lose(self, path: str) -> bool:
        """Leave a result out of this delivery, to all destinations; say whether it was not yet."""
        with self._db:
            return self._db.execute("INSERT OR IGNORE INTO temp.lost VALUES (?)", (path,)).rowcount > 0

    def is_lost(self, path: str) -> bool:
        """Whether a result was left out."""
        return self._db.execute("SELECT 1 FROM temp.lost WHERE path = ?", (path,)).fetchone() is not None

    def was_sent_before(self, item: Item) -> bool:
        """Whether an earlier version of this instance was sent: then asking by UID says nothing about this one."""
        row = self._db.execute(
            "SELECT 1 FROM sends WHERE destination = ? AND sop_instance_uid = ? AND sha256 <> ? AND state = 'sent'",
            (self._destination, item.sop_instance_uid, item.sha256),
        ).fetchone()
        return row is not None

    def was_refused_before(self, item: Item) -> bool:
        """Whether this object was refused in an earlier call, and the user was told."""
        row = self._db.execute(
            "SELECT refused FROM sends WHERE destination = ? AND sop_instance_uid = ? AND sha256 = ?",
            (self._destination, item.sop_instance_uid, item.sha256),
        ).fetchone()
        return bool(row and row[0])

    def refused_classes(self) -> set[tuple[str, str]]:
        """SOP class and detail of all that is refused."""
        return set(
            self._db.execute(
                f"SELECT DISTINCT sop_class_uid, detail {_OPEN} AND state = 'refused'", (self._destination,)
            )
        )

    def requeue_refused(self, held: int) -> bool:
        """Forget refusals by a peer that refuses everything and has never taken anything; say whether it is one.

        held: as ``fill`` said.
        """
        if not held or self.unsent() != Counter({State.REFUSED: held}):
            return False
        # Of what once was a result too; nearly all rows are refused here, so that few are looked at in vain.
        if self._db.execute(
            "SELECT 1 FROM sends WHERE destination = ? AND state = 'sent' LIMIT 1", (self._destination,)
        ).fetchone():
            return False
        self.begin(retry_refused=True)
        return True

    def mark(self, items: Iterable[Item], state: State, detail: str = "") -> None:
        """Note a change, on disk before this returns."""
        attempt = int(state is State.SENDING)
        refused = int(state is State.REFUSED)
        with self._db:
            self._db.executemany(
                "UPDATE sends SET state = ?, detail = ?, attempts = attempts + ?, "
                "refused = CASE WHEN ? THEN 1 ELSE refused END "
                "WHERE destination = ? AND sop_instance_uid = ? AND sha256 = ?",
                [
                    (state.value, detail, attempt, refused, self._destination, i.sop_instance_uid, i.sha256)
                    for i in items
                ],
            )

    def committed(self, items: Iterable[Item]) -> None:
        """Note that the peer has committed to keep objects."""
        with self._db:
            self._db.executemany(
                "UPDATE sends SET committed = 1 WHERE destination = ? AND sop_instance_uid = ? AND sha256 = ?",
                [(self._destination, i.sop_instance_uid, i.sha256) for i in items],
            )

    # ------------------------------------------------------------------ pages and rows

    def _pages(self, state: State, condition: str) -> Iterator[list[_ItemRow]]:
        """The objects in a state other than sent, in the order of their paths."""
        after = ("", "", "")
        while page := self._db.execute(
            f"SELECT {_ITEM} {_OPEN} AND state = ? AND (path, sop_instance_uid, sha256) > (?, ?, ?) {condition} "
            "ORDER BY path, sop_instance_uid, sha256 LIMIT ?",
            (self._destination, state.value, *after, PAGE),
        ).fetchall():
            yield page
            path, sha256, _, uid, *_ = page[-1]
            after = (path, uid, sha256)

    def _rows(self) -> Iterator[_Row]:
        """All that is queued or was sent, in the order of the paths."""
        after = ("", "", "")
        # With the plus SQLite reads the rows in the order of the index; without it, it would sort them.
        while page := self._db.execute(
            "SELECT path, sop_instance_uid, sha256 FROM sends INDEXED BY sends_by_path WHERE +destination = ? "
            "AND (path, destination, sop_instance_uid, sha256) > (?, ?, ?, ?) "
            "ORDER BY path, destination, sop_instance_uid, sha256 LIMIT ?",
            (self._destination, after[0], self._destination, *after[1:], PAGE),
        ).fetchall():
            yield from page
            after = page[-1]

    def _item(self, row: _ItemRow) -> Item:
        return Item(self._folder / row[0], *row)

    def _with_uids(self, result: ResultObject, read: Callable[[str, str], Item | None]) -> Item | None:
        """A result with the UIDs that the state file knows, or else the object itself; None where it cannot be used."""
        if all(result):
            return self._item(result)
        known = self._db.execute(
            f"SELECT {_ITEM} FROM sends WHERE path = ? AND sha256 = ? AND sop_class_uid <> '' LIMIT 1",  # noqa: S608 (see above)
            result[:2],
        ).fetchone()
        if known is not None:
            return self._item(known)
        return None if self.is_lost(result.path) else read(result.path, result.sha256)

    def _complete(self, state: State, read: Callable[[str, str], Item | None]) -> None:
        """Give UIDs to what an older version has queued. What it has sent is sent: nothing more is asked about it."""
        for page in self._pages(state, "AND sop_class_uid = ''"):
            found = [read(path, sha256) for path, sha256, *_ in page if not self.is_lost(path)]
            with self._db:
                self._put([item for item in found if item is not None])

    def _put(self, items: Iterable[Item]) -> None:
        """Queue objects; what stands there already keeps its state."""
        self._db.executemany(
            "INSERT INTO sends (destination, sop_instance_uid, sha256, path, state, sop_class_uid, series_instance_uid, "
            "study_instance_uid) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (destination, sop_instance_uid, sha256) "
            "DO UPDATE SET path = excluded.path, sop_class_uid = excluded.sop_class_uid, "
            "series_instance_uid = excluded.series_instance_uid, study_instance_uid = excluded.study_instance_uid",
            [
                (self._destination, i.sop_instance_uid, i.sha256, i.relative, State.QUEUED.value, i.sop_class_uid,
                 i.series_instance_uid, i.study_instance_uid)
                for i in items
            ],
        )  # fmt: skip

    def _drop(self, departed: Iterable[_Row]) -> None:
        """Forget what is no result any more, unless it was sent."""
        # With the path: what has moved to another may be queued there by now.
        where = "WHERE path = ? AND sop_instance_uid = ? AND sha256 = ? AND destination = ?"
        keys = [(*row, self._destination) for row in departed]
        self._db.executemany(f"DELETE FROM sends {where} AND state <> 'sent'", keys)  # noqa: S608 (see above)
        self._db.executemany(
            f"INSERT OR IGNORE INTO temp.departed SELECT sop_instance_uid, sha256 FROM sends {where}",  # noqa: S608
            keys,
        )


@dataclass(slots=True)
class _Page:
    """What a stretch of two listings differs in. results: how many of them were seen."""

    results: int = 0
    new: list[ResultObject] = field(default_factory=list)
    departed: list[_Row] = field(default_factory=list)


def _compared(results: Iterable[ResultObject], rows: Iterator[_Row]) -> Iterator[_Page]:
    """What the results hold and the queue does not, and the other way round; both are in the order of their paths."""
    page, last = _Page(), ""
    row = next(rows, None)
    for result in results:
        path, sha256 = result[:2]
        if path <= last:  # rows would be taken for departed
            raise ValueError(f"results out of order: {path} after {last}")
        last = path
        known = False
        while row is not None and row[0] <= path:
            if row[0] == path and row[2] == sha256:
                known = True
            else:
                page.departed.append(row)
            row = next(rows, None)
        page.results += 1
        if not known:
            page.new.append(result)
        if len(page.new) + len(page.departed) >= PAGE:
            yield page
            page = _Page()
    while row is not None:
        page.departed.append(row)
        if len(page.departed) >= PAGE:
            yield page
            page = _Page()
        row = next(rows, None)
    yield page
