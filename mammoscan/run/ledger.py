"""What is done, and with what: SQLite in the output folder, written by one process only.

``images`` holds one row an analysed or failed image under a key of everything that decides its
result (file identity, configuration, model, density, software); ``studies`` one row a reported
study under a key of its images' keys. A row is committed only after the files it speaks of are
whole on disk. A row that cannot be read back (damaged, or of another version) counts as missing, so
that its image or study is done again; it is said in the log.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mammoscan.core import faults, store
from mammoscan.core.domain import Failed, Prediction
from mammoscan.core.errors import UsageError
from mammoscan.report.tables import COLUMNS
from mammoscan.run import codec
from mammoscan.send import queue
from mammoscan.send.objects import ResultObject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

NAME = "ledger.sqlite"
SCHEMA = 1
PATIENCE = 5.0  # seconds to wait for another program that holds the state file
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
# Made where they are missing: state files of earlier versions lack them.
# removals: files (path below the output folder) that are no results any more and may still lie there.
# withdrawn: studies whose results were withdrawn, with the code of the reason.
_LATER_TABLES = """
CREATE TABLE IF NOT EXISTS removals (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS withdrawn (study_instance_uid TEXT PRIMARY KEY, code TEXT NOT NULL) WITHOUT ROWID;
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
        if not self._has_tables():
            with self._db:
                self._db.executescript("BEGIN;" + _TABLES)
                self._db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'withdrawn'").fetchone():
            with self._db:
                self._db.executescript(_LATER_TABLES)
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

    def dicom_objects(self) -> Iterator[ResultObject]:
        """The DICOM objects among the results in the order of their paths; nothing is known of their UIDs."""
        outputs = (item for _, record in self.studies() for item in record.outputs.items())
        yield from (ResultObject(path, sha256) for path, sha256 in sorted(outputs) if path.endswith(".dcm"))

    def _has_tables(self) -> bool:
        return bool(self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'studies'").fetchone())

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
        """The result of an image if it was made with the same key and can be read back, else None."""
        row = self._db.execute(
            "SELECT failed, result FROM images WHERE sop_instance_uid = ? AND key = ?", (sop_instance_uid, key)
        ).fetchone()
        if row is None:
            return None
        try:
            return codec.decode(Failed if row[0] else Prediction, row[1])  # type: ignore[return-value]
        except ValueError:
            log.warning("the kept result of image %s cannot be read back: it is done again", sop_instance_uid)
            return None

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

    def has_study(self, study_instance_uid: str) -> bool:
        """Whether the study was reported, also where its record cannot be read back."""
        found = self._db.execute("SELECT 1 FROM studies WHERE study_instance_uid = ?", (study_instance_uid,))
        return found.fetchone() is not None

    def study(self, study_instance_uid: str) -> StudyRecord | None:
        """The record of a reported study; None where there is none that can be read back."""
        row = self._db.execute(
            "SELECT key, created, outputs, rows FROM studies WHERE study_instance_uid = ?", (study_instance_uid,)
        ).fetchone()
        try:
            return None if row is None else _record(row)
        except ValueError:
            log.warning("the record of study %s cannot be read back: it is reported again", study_instance_uid)
            return None

    def record_study(self, study_instance_uid: str, record: StudyRecord) -> None:
        """Keep a reported study. Its files must be on disk; those of its last report alone are to be removed."""
        with self._db:
            stale = set(self._outputs(study_instance_uid)) - set(record.outputs)
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
            self._db.execute("DELETE FROM withdrawn WHERE study_instance_uid = ?", (study_instance_uid,))
            self._doom(stale)

    def studies(self) -> Iterator[tuple[str, StudyRecord]]:
        """All reported studies whose records can be read back, by StudyInstanceUID."""
        return ((uid, record) for uid, record in self.every_study() if record is not None)

    def every_study(self) -> Iterator[tuple[str, StudyRecord | None]]:
        """All reported studies by StudyInstanceUID; None for a record that cannot be read back."""
        for uid, *row in self._db.execute(
            "SELECT study_instance_uid, key, created, outputs, rows FROM studies ORDER BY study_instance_uid"
        ):
            try:
                yield uid, _record(row)
            except ValueError:
                yield uid, None

    # ------------------------------------------------------------------ results that are no more

    def withdraw(self, study_instance_uid: str, code: str) -> None:
        """Forget a reported study: no rows, nothing left to be sent; its files are to be removed."""
        with self._db:
            doomed = self._outputs(study_instance_uid)
            queue.forget(self._db, doomed)
            self._db.execute("DELETE FROM studies WHERE study_instance_uid = ?", (study_instance_uid,))
            self._db.execute("INSERT OR REPLACE INTO withdrawn VALUES (?, ?)", (study_instance_uid, code))
            self._doom(doomed)

    def withdrawn(self) -> dict[str, str]:
        """Studies whose results were withdrawn and that were not reported since: UID to the reason's code."""
        return dict(self._db.execute("SELECT study_instance_uid, code FROM withdrawn").fetchall())

    def sent(self, study_instance_uid: str) -> dict[str, int]:
        """How many objects of a study each destination has."""
        return queue.sent_counts(self._db, self._outputs(study_instance_uid))

    def removals(self) -> list[str]:
        """Files that are no results any more and may still lie there."""
        return [path for (path,) in self._db.execute("SELECT path FROM removals ORDER BY path")]

    def removed(self, paths: Iterable[str]) -> None:
        """Note that files are gone."""
        with self._db:
            self._db.executemany("DELETE FROM removals WHERE path = ?", [(path,) for path in paths])

    def _doom(self, paths: Iterable[str]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO removals VALUES (?)", [(path,) for path in paths])

    def _outputs(self, study_instance_uid: str) -> list[str]:
        """The files of a study; where its record cannot be read back, those that lie in its folder."""
        row = self._db.execute(
            "SELECT outputs FROM studies WHERE study_instance_uid = ?", (study_instance_uid,)
        ).fetchone()
        if row is None:
            return []
        try:
            return sorted(_texts(json.loads(row[0])).keys())
        except (ValueError, TypeError, AttributeError):
            below = store.study_folder(study_instance_uid)
            return sorted(f"{below}/{path.name}" for path in (self._path.parent / below).glob("*.*"))


def _record(row: tuple[str, str, str, str] | list[str]) -> StudyRecord:
    """A study's record from its row.

    Raises
    ------
    ValueError
        When the row is damaged, or holds table rows of a version with other columns.
    """
    try:
        key, created, outputs, rows = row
        date, time = json.loads(created)
        tables = {name: [list(_texts(cells)) for cells in lines] for name, lines in json.loads(rows).items()}
        for name, lines in tables.items():
            if name not in COLUMNS or any(len(cells) != len(COLUMNS[name]) for cells in lines):
                raise ValueError(f"rows of {name} with other columns")
        return StudyRecord(key, (date, time), dict(_texts(json.loads(outputs)).items()), tables)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a damaged record: {error}") from error


def _texts(value: Any) -> Any:
    """A list or a mapping of texts as it is; anything else is a ``ValueError``."""
    held = [*value, *value.values()] if isinstance(value, dict) else value
    if not isinstance(held, list) or not all(isinstance(item, str) for item in held):
        raise ValueError("not texts")
    return value
