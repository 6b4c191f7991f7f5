"""The state file: older ones are taken over, others refused, and what is in it is committed whole."""

import csv
import json
import shutil
import sqlite3
from contextlib import closing
from itertools import product

import pytest

from mammoscan.core.domain import Laterality, View
from mammoscan.core.errors import MachineError, UsageError
from mammoscan.run.ledger import NAME, Ledger
from tests import small

ANNA, BERTA = str(small.ANNA.study_uid), str(small.BERTA.study_uid)
# The tables of schema 1, and that of the queue before it had UIDs.
SCHEMA_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE images (
    sop_instance_uid TEXT PRIMARY KEY, key TEXT NOT NULL, failed INTEGER NOT NULL, result BLOB NOT NULL
);
CREATE TABLE studies (
    study_instance_uid TEXT PRIMARY KEY, key TEXT NOT NULL, created TEXT NOT NULL,
    outputs TEXT NOT NULL, rows TEXT NOT NULL
);
CREATE TABLE sends (
    destination TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, sha256 TEXT NOT NULL, path TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, detail TEXT NOT NULL DEFAULT '',
    committed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (destination, sop_instance_uid, sha256)
) WITHOUT ROWID;
CREATE TABLE removals (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE withdrawn (study_instance_uid TEXT PRIMARY KEY, code TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '1');
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An archive and the results of a run over it. Read only."""
    root = tmp_path_factory.mktemp("made")
    small.archive(root / "archive")
    small.run(root / "archive", root / "out")
    return root


@pytest.fixture
def case(made, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "case")
    return tmp_path / "case"


def _as_version_1(out, damaged=()):
    """The state file of a results folder as the version before wrote it, with an object that was sent."""
    with closing(sqlite3.connect(out / NAME)) as db:
        created = dict(db.execute("SELECT study_instance_uid, created FROM studies"))
        outputs = {}
        for path, uid, sha in db.execute("SELECT path, study_instance_uid, sha256 FROM outputs"):
            outputs.setdefault(uid, {})[path] = sha
    rows = {uid: {"images": [], "findings": [], "studies": []} for uid in outputs}
    for name in ("images", "findings", "studies"):
        with (out / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            header, *lines = list(csv.reader(stream))
        for line in lines:
            rows[line[header.index("study_instance_uid")]][name].append(line)
    (out / NAME).unlink()
    with closing(sqlite3.connect(out / NAME)) as db, db:
        db.executescript(SCHEMA_1)
        db.execute("INSERT INTO images VALUES ('1.2.3', 'key', 0, x'504b')")
        for uid, files in outputs.items():
            said = json.dumps(rows[uid]) if uid not in damaged else "{"
            db.execute("INSERT INTO studies VALUES (?, 'key', ?, ?, ?)", (uid, created[uid], json.dumps(files), said))
        path, sha = next((p, s) for p, s in sorted(outputs[BERTA].items()) if p.endswith(".dcm"))
        db.execute(
            "INSERT INTO sends (destination, sop_instance_uid, sha256, path, state) VALUES ('A@b:104', '1.2.9', ?, ?, 'sent')",
            (sha, path),
        )
    return sha


def test_a_results_folder_of_the_version_before_is_taken_over(case, capsys):
    before = {name: small.table(case / "out", name) for name in ("images", "findings", "studies")}
    report = (case / "out" / "studies" / BERTA / "report.pdf").read_bytes()
    sent = _as_version_1(case / "out")
    (case / "archive" / "berta-cc.dcm").rename(case / "berta-cc.dcm")
    from mammoscan.core.console import Console

    summary = small.run(case / "archive", case / "out", console=Console())
    assert "of an earlier version and was taken over" in " ".join(capsys.readouterr().err.split())
    # What is in the archive is analysed again, what is not stands as it was, and what was sent stays known.
    assert (summary.analysed, summary.failed) == (2, 0)
    for name, rows in before.items():
        kept = [row for row in small.table(case / "out", name) if row["study_instance_uid"] == BERTA]
        assert kept == [row for row in rows if row["study_instance_uid"] == BERTA]
        assert len(small.table(case / "out", name)) == len(rows)
    assert (case / "out" / "studies" / BERTA / "report.pdf").read_bytes() == report
    with closing(sqlite3.connect(case / "out" / NAME)) as db:
        assert db.execute("SELECT sha256, state FROM sends").fetchall() == [(sent, "sent")]
    assert small.run(case / "archive", case / "out").analysed == 0


def test_a_study_of_the_version_before_that_cannot_be_read_back_is_made_again(case):
    before = small.table(case / "out", "images")
    _as_version_1(case / "out", damaged={ANNA, BERTA})
    assert small.run(case / "archive", case / "out").analysed == 3
    assert small.table(case / "out", "images") == before


def test_a_takeover_that_is_cut_off_begins_anew(case, monkeypatch):
    from mammoscan.run import ledger

    _as_version_1(case / "out")
    content = (case / "out" / NAME).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(ledger.Ledger, "_take_over", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Ledger(case / "out")
    assert (case / "out" / NAME).read_bytes() == content
    assert small.run(case / "archive", case / "out").analysed == 3


@pytest.mark.parametrize("schema", ["3", "0", "x"])
def test_a_state_file_of_a_version_to_come_is_refused_and_left_as_it_is(case, schema):
    with closing(sqlite3.connect(case / "out" / NAME)) as db, db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (schema,))
    content = (case / "out" / NAME).read_bytes()
    with pytest.raises(UsageError, match=f"schema {schema}, this version needs 2"):
        Ledger(case / "out")
    assert (case / "out" / NAME).read_bytes() == content


def test_a_state_file_that_does_not_say_its_version_is_damaged(case):
    with closing(sqlite3.connect(case / "out" / NAME)) as db, db:
        db.execute("DELETE FROM meta")
    with pytest.raises(MachineError, match="does not say its version"):
        Ledger(case / "out")


def test_what_another_program_changed_is_noticed_and_what_we_changed_is_not(case):
    def foreign():
        with Ledger(case / "out") as ledger:
            return ledger.foreign

    assert not foreign()
    with Ledger(case / "out") as ledger:
        ledger.note("something", "else")
    assert not foreign()
    with closing(sqlite3.connect(case / "out" / NAME)) as db, db:
        db.execute("UPDATE studies SET key = 'other'")
    assert foreign()
    assert foreign(), "nobody looked at it yet"
    small.run(case / "archive", case / "out")
    assert not foreign()


def test_a_run_that_is_cut_off_leaves_a_note_and_no_half_of_a_change(case):
    def cut_off():
        with Ledger(case / "out") as ledger:
            ledger.note("kept", "yes")
            ledger.commit()
            ledger.note("lost", "yes")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    with Ledger(case / "out") as ledger:
        assert (ledger.fact("kept"), ledger.fact("lost")) == ("yes", "")
        assert ledger.cut_off
    small.run(case / "archive", case / "out")
    with Ledger(case / "out") as ledger:
        assert not ledger.cut_off


def test_the_state_keeps_less_than_6_kilobytes_an_image(tmp_path):
    """Of real results of four views, as the benchmark's studies have: what its stubs keep is no less."""
    for number, (side, view) in enumerate(product((Laterality.LEFT, Laterality.RIGHT), (View.CC, View.MLO))):
        small.write(tmp_path / "archive" / f"{number}.dcm", small.image(small.ANNA, side, view, seed=number + 1))
    small.run(tmp_path / "archive", tmp_path / "out")
    with closing(sqlite3.connect(tmp_path / "out" / NAME)) as db:
        (images,) = db.execute("SELECT count(*) FROM images WHERE code = ''").fetchone()
        used = sum(
            size for (size,) in db.execute("SELECT sum(pgsize - unused) FROM dbstat WHERE name NOT LIKE 'sqlite_%'")
        )
    assert images == 4
    assert used / images < 6000
