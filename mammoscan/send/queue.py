"""The queue of a results folder: tables of the state file, so that a crash forgets and repeats nothing."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from mammoscan.send.transport import Item

TABLE = """
CREATE TABLE IF NOT EXISTS sends (
    destination TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, sha256 TEXT NOT NULL, path TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, detail TEXT NOT NULL DEFAULT '',
    committed INTEGER NOT NULL DEFAULT 0,
    sop_class_uid TEXT NOT NULL DEFAULT '', series_instance_uid TEXT NOT NULL DEFAULT '',
    study_instance_uid TEXT NOT NULL DEFAULT '', refused INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (destination, sop_instance_uid, sha256)
) WITHOUT ROWID;
"""
# What tables of older versions lack. Their rows have no UIDs but the instance's: '' says so.
_ADDED = {
    "sop_class_uid": "TEXT NOT NULL DEFAULT ''",
    "series_instance_uid": "TEXT NOT NULL DEFAULT ''",
    "study_instance_uid": "TEXT NOT NULL DEFAULT ''",
    "refused": "INTEGER NOT NULL DEFAULT 0",
}
# The call after a refusal that offers the object again: with one a night after a week. Peers are changed, and some say
# "cannot understand" when their disk is full.
PATIENCE = 7

# SOP class, SOP instance, series and study, in the order of ``Item``.
Uids = tuple[str, str, str, str]


class State(str, Enum):
    """Where an object stands with a destination."""

    QUEUED = "queued"
    SENDING = "sending"  # handed to the peer, which has not answered: in doubt after a crash
    SENT = "sent"
    REFUSED = "refused"  # the peer won't take it


class Queue:
    """The objects of one destination. ``refused`` counts the calls since the last refusal, from 1; 0: never."""

    def __init__(self, db: sqlite3.Connection, destination: str) -> None:
        self._db = db
        self._destination = destination
        present = {row[1] for row in db.execute("PRAGMA table_info(sends)")}
        with db:
            for name, kind in _ADDED.items():
                if name not in present:
                    db.execute(f"ALTER TABLE sends ADD COLUMN {name} {kind}")

    def known(self) -> dict[str, Uids]:
        """The UIDs of contents by SHA-256, of all destinations: they need not be read again."""
        return {
            sha: (sop_class, instance, series, study)
            for sha, sop_class, instance, series, study in self._db.execute(
                "SELECT sha256, sop_class_uid, sop_instance_uid, series_instance_uid, study_instance_uid "
                "FROM sends WHERE sop_class_uid <> ''"
            )
        }

    def fill(self, items: Iterable[Item]) -> None:
        """Queue what this destination does not have; what is no longer a result is no longer sent."""
        current = {(i.sop_instance_uid, i.sha256): i for i in items}
        known = {
            (uid, sha): (state, bool(sop_class))
            for uid, sha, state, sop_class in self._db.execute(
                "SELECT sop_instance_uid, sha256, state, sop_class_uid FROM sends WHERE destination = ?",
                (self._destination,),
            )
        }
        new = [
            (self._destination, i.sop_instance_uid, i.sha256, i.relative, State.QUEUED.value, i.sop_class_uid,
             i.series_instance_uid, i.study_instance_uid)
            for key, i in current.items() if not known.get(key, ("", False))[1]
        ]  # fmt: skip
        stale = [
            (self._destination, *key)
            for key, (state, _) in known.items()
            if key not in current and state != State.SENT.value
        ]
        if new or stale:
            with self._db:
                self._db.executemany(
                    "INSERT INTO sends (destination, sop_instance_uid, sha256, path, state, sop_class_uid, "
                    "series_instance_uid, study_instance_uid) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (destination, sop_instance_uid, sha256) DO UPDATE SET sop_class_uid = excluded.sop_class_uid, "
                    "series_instance_uid = excluded.series_instance_uid, "
                    "study_instance_uid = excluded.study_instance_uid",
                    new,
                )
                self._db.executemany(
                    "DELETE FROM sends WHERE destination = ? AND sop_instance_uid = ? AND sha256 = ?", stale
                )

    def begin(self, *, retry_refused: bool) -> None:
        """Queue again what was refused: all of it as if it never had been, or what was passed over often enough."""
        where = "WHERE destination = ? AND state = 'refused'"
        with self._db:
            if retry_refused:
                self._db.execute(f"UPDATE sends SET refused = 0, state = 'queued' {where}", (self._destination,))  # noqa: S608
                return
            self._db.execute(f"UPDATE sends SET refused = refused + 1 {where}", (self._destination,))  # noqa: S608
            self._db.execute(
                f"UPDATE sends SET state = 'queued' {where} AND refused > ?",  # noqa: S608 (no values of others)
                (self._destination, PATIENCE),
            )

    def states(self) -> dict[str, State]:
        """State by SHA-256."""
        return {
            sha: State(state)
            for sha, state in self._db.execute(
                "SELECT sha256, state FROM sends WHERE destination = ?", (self._destination,)
            )
        }

    def uncommitted(self, items: Iterable[Item]) -> list[Item]:
        """What was sent and has no storage commitment."""
        waiting = {
            row[0]
            for row in self._db.execute(
                "SELECT sha256 FROM sends WHERE destination = ? AND state = 'sent' AND committed = 0",
                (self._destination,),
            )
        }
        return [i for i in items if i.sha256 in waiting]

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
                "SELECT DISTINCT sop_class_uid, detail FROM sends WHERE destination = ? AND state = 'refused'",
                (self._destination,),
            )
        )

    def requeue_refused(self, items: Sequence[Item]) -> bool:
        """Forget refusals by a peer that refuses everything and has never taken anything; say whether it is one."""
        states = self.states()
        if State.SENT in states.values() or not items or {states[i.sha256] for i in items} != {State.REFUSED}:
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
