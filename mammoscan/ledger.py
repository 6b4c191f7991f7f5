"""What is done, and with what: SQLite in the output folder, written by one process only.

``images`` holds one row an analysed or failed image under a key of everything that decides its
result (file identity, configuration, model, density, software); ``studies`` one row a reported
study under a key of its images' keys. A row is committed only after the files it speaks of are
whole on disk.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan import codec
from mammoscan.domain import Failed, Prediction
from mammoscan.errors import UsageError
from mammoscan.send.queue import TABLE as SENDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

NAME = "ledger.sqlite"
SCHEMA = 1
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE images (
    sop_instance_uid TEXT PRIMARY KEY, key TEXT NOT NULL, failed INTEGER NOT NULL, result BLOB NOT NULL
);
CREATE TABLE studies (
    study_instance_uid TEXT PRIMARY KEY, key TEXT NOT NULL, created TEXT NOT NULL,
    outputs TEXT NOT NULL, rows TEXT NOT NULL
);
"""

Rows = dict[str, list[list[str]]]


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A reported study: key, creation (YYYYMMDD, HHMMSS), output files (path below the output
    folder to SHA-256) and its table rows.
    """

    key: str
    created: tuple[str, str]
    outputs: Mapping[str, str]
    rows: Rows


class Ledger:
    """The state of one output folder. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        new = not self._path.exists()
        self._db = sqlite3.connect(self._path, isolation_level="DEFERRED")
        self._db.execute("PRAGMA synchronous = FULL")
        if new or not self._has_tables():
            with self._db:
                self._db.executescript("BEGIN;" + _TABLES)
                self._db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sends'").fetchone():
            with self._db:
                self._db.executescript(SENDS)
        found = self._meta("schema")
        if found != str(SCHEMA):
            raise UsageError(
                f"the state file has schema {found}, this version needs {SCHEMA}",
                path=self._path,
                remedy="choose a new --out folder, or use the version of mammoscan that wrote it",
            )

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The database, for the queues of ``send``, which live in a table of their own."""
        return self._db

    def _has_tables(self) -> bool:
        try:
            return bool(self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'studies'").fetchone())
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"the state file is damaged: {error}", path=self._path, remedy="remove it to start afresh"
            ) from error

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def claim(self, names: str) -> None:
        """Bind the folder to one kind of names: '' for identities, else the fingerprint of a pseudonyms' key.

        Raises
        ------
        UsageError
            When it holds results under other names: side by side they would tell who is who.
        """
        bound = self._meta("names")
        if bound is None and names:
            used = self._db.execute("SELECT 1 FROM images UNION SELECT 1 FROM studies").fetchone()
            if used is None and not (self._path.parent / "studies").exists():
                with self._db:
                    self._db.execute("INSERT INTO meta VALUES ('names', ?)", (names,))
                return
        if (bound or "") != names:
            raise UsageError(
                "this folder holds results under other names: with identities, or with pseudonyms of another key",
                path=self._path.parent,
                remedy="choose a new --out, or the options and the key that the folder was made with",
            )

    def image(self, sop_instance_uid: str, key: str) -> Prediction | Failed | None:
        """The result of an image if it was made with the same key, else None."""
        row = self._db.execute(
            "SELECT failed, result FROM images WHERE sop_instance_uid = ? AND key = ?", (sop_instance_uid, key)
        ).fetchone()
        if row is None:
            return None
        try:
            return codec.decode(Failed if row[0] else Prediction, row[1])  # type: ignore[return-value]
        except ValueError:
            return None  # written by another version: redo

    def image_status(self, sop_instance_uid: str, key: str) -> bool | None:
        """None where the image must be done; else whether it failed."""
        row = self._db.execute(
            "SELECT failed FROM images WHERE sop_instance_uid = ? AND key = ?", (sop_instance_uid, key)
        ).fetchone()
        return None if row is None else bool(row[0])

    def record_images(self, results: Iterable[tuple[str, str, Prediction | Failed]]) -> None:
        """Keep (SOPInstanceUID, key, result) rows, in one transaction."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)",
                [(uid, key, isinstance(result, Failed), codec.encode(result)) for uid, key, result in results],
            )

    def study(self, study_instance_uid: str) -> StudyRecord | None:
        """The record of a reported study."""
        row = self._db.execute(
            "SELECT key, created, outputs, rows FROM studies WHERE study_instance_uid = ?", (study_instance_uid,)
        ).fetchone()
        return None if row is None else _record(row)

    def record_study(self, study_instance_uid: str, record: StudyRecord) -> None:
        """Keep a reported study. Its files must be on disk."""
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO studies VALUES (?, ?, ?, ?, ?)",
                (
                    study_instance_uid,
                    record.key,
                    json.dumps(record.created),
                    json.dumps(dict(record.outputs), sort_keys=True),
                    json.dumps(record.rows, ensure_ascii=False),
                ),
            )

    def studies(self) -> Iterator[tuple[str, StudyRecord]]:
        """All reported studies, by StudyInstanceUID."""
        for uid, *row in self._db.execute(
            "SELECT study_instance_uid, key, created, outputs, rows FROM studies ORDER BY study_instance_uid"
        ):
            yield uid, _record(row)


def _record(row: tuple[str, str, str, str] | list[str]) -> StudyRecord:
    key, created, outputs, rows = row
    date, time = json.loads(created)
    return StudyRecord(key, (date, time), json.loads(outputs), json.loads(rows))
