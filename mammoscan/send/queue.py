"""The queue of a results folder: tables of the state file, so that a crash forgets and repeats nothing."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from mammoscan.send.transport import Item

TABLE = """
CREATE TABLE IF NOT EXISTS sends (
    destination TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, sha256 TEXT NOT NULL, path TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, detail TEXT NOT NULL DEFAULT '',
    committed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (destination, sop_instance_uid, sha256)
) WITHOUT ROWID;
"""


class State(str, Enum):
    """Where an object stands with a destination."""

    QUEUED = "queued"
    SENDING = "sending"  # handed to the peer, which has not answered: in doubt after a crash
    SENT = "sent"


class Queue:
    """The objects of one destination."""

    def __init__(self, db: sqlite3.Connection, destination: str) -> None:
        self._db = db
        self._destination = destination

    def fill(self, items: Iterable[Item]) -> None:
        """Queue what this destination does not have; what is no longer a result is no longer sent."""
        current = {(i.sop_instance_uid, i.sha256): i for i in items}
        known = {
            (uid, sha): state
            for uid, sha, state in self._db.execute(
                "SELECT sop_instance_uid, sha256, state FROM sends WHERE destination = ?", (self._destination,)
            )
        }
        new = [
            (self._destination, *key, i.relative, State.QUEUED.value) for key, i in current.items() if key not in known
        ]
        stale = [(self._destination, *k) for k, s in known.items() if k not in current and s != State.SENT.value]
        if new or stale:
            with self._db:
                self._db.executemany(
                    "INSERT INTO sends (destination, sop_instance_uid, sha256, path, state) VALUES (?, ?, ?, ?, ?)", new
                )
                self._db.executemany(
                    "DELETE FROM sends WHERE destination = ? AND sop_instance_uid = ? AND sha256 = ?", stale
                )

    def states(self) -> dict[tuple[str, str], State]:
        """State by (SOPInstanceUID, SHA-256)."""
        return {
            (uid, sha): State(state)
            for uid, sha, state in self._db.execute(
                "SELECT sop_instance_uid, sha256, state FROM sends WHERE destination = ?", (self._destination,)
            )
        }

    def uncommitted(self) -> set[tuple[str, str]]:
        """What was sent and has no storage commitment."""
        return set(
            self._db.execute(
                "SELECT sop_instance_uid, sha256 FROM sends WHERE destination = ? AND state = 'sent' AND committed = 0",
                (self._destination,),
            )
        )

    def was_sent_before(self, item: Item) -> bool:
        """Whether an earlier version of this instance was sent: then asking by UID says nothing about this one."""
        row = self._db.execute(
            "SELECT 1 FROM sends WHERE destination = ? AND sop_instance_uid = ? AND sha256 <> ? AND state = 'sent'",
            (self._destination, item.sop_instance_uid, item.sha256),
        ).fetchone()
        return row is not None

    def mark(self, items: Iterable[Item], state: State, detail: str = "") -> None:
        """Note a change, on disk before this returns."""
        attempt = int(state is State.SENDING)
        with self._db:
            self._db.executemany(
                "UPDATE sends SET state = ?, detail = ?, attempts = attempts + ? "
                "WHERE destination = ? AND sop_instance_uid = ? AND sha256 = ?",
                [(state.value, detail, attempt, self._destination, i.sop_instance_uid, i.sha256) for i in items],
            )

    def committed(self, items: Iterable[Item]) -> None:
        """Note that the peer has committed to keep objects."""
        with self._db:
            self._db.executemany(
                "UPDATE sends SET committed = 1 WHERE destination = ? AND sop_instance_uid = ? AND sha256 = ?",
                [(self._destination, i.sop_instance_uid, i.sha256) for i in items],
            )
