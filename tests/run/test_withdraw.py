"""Results that the archive contradicts go; those whose files are merely gone stay; damaged rows are done again."""

import contextlib
import dataclasses
import shutil
import sqlite3
import zlib

import pytest

from mammoscan.core import store, verdict
from mammoscan.core.domain import View
from mammoscan.core.errors import ExitCode, Reason
from mammoscan.run import withdraw
from mammoscan.run.ledger import NAME, Ledger
from mammoscan.send import queue
from mammoscan.send.queue import State
from tests import small

ANNA, BERTA = str(small.ANNA.study_uid), str(small.BERTA.study_uid)
DESTINATION = "PACS@pacs.example:104"


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


def _sql(case, statement, *values):
    with contextlib.closing(sqlite3.connect(case / "out" / NAME)) as db, db:
        return db.execute(statement, values).fetchall()


def _queue(case, state):
    """Queue all DICOM results, in a state."""
    import hashlib

    with contextlib.closing(sqlite3.connect(case / "out" / NAME)) as db:
        queue.prepare(db)
    for path in sorted((case / "out").rglob("*.dcm")):
        content = path.read_bytes()
        _sql(
            case, "INSERT INTO sends (destination, sop_instance_uid, sha256, path, state) VALUES (?, ?, ?, ?, ?)",
            DESTINATION, path.name, hashlib.sha256(content).hexdigest(), str(path.relative_to(case / "out")), state,
        )  # fmt: skip


def _another_patient(case):
    """A file of somebody else under Berta's StudyInstanceUID."""
    ds = small.image(small.BERTA, view=View.MLO, seed=4, instance=2)
    ds.PatientID = "SOMEBODY-ELSE"
    small.write(case / "archive" / "else.dcm", ds)


def _studies(case):
    return {name: {row["study_instance_uid"] for row in small.table(case / "out", name)}
            for name in ("images", "findings", "studies")}  # fmt: skip


def _stands_alone(case, uid):
    """Nothing but this study is in the tables and among the reports."""
    held = _studies(case)
    assert held["images"] == held["studies"] == {uid}
    assert held["findings"] <= {uid}
    assert {p.name for p in (case / "out" / "studies").iterdir()} == {uid}


def test_a_study_that_turns_out_to_be_of_two_patients_is_withdrawn(case):
    _queue(case, State.QUEUED.value)
    _another_patient(case)
    summary = small.run(case / "archive", case / "out")
    assert (summary.withdrawn, summary.analysed, summary.failed) == (1, 0, 2)
    _stands_alone(case, ANNA)
    rows = {row["path"]: row for row in small.table(case / "out", "files")}
    for name in ("berta-cc.dcm", "else.dcm"):
        assert rows[name]["code"] == "mixed-patients"
        assert "withdrawn" in rows[name]["detail"]
    assert {path.split("/")[1] for (path,) in _sql(case, "SELECT path FROM sends")} == {ANNA}
    with Ledger(case / "out") as ledger:
        assert ledger.removals() == []
        assert [ledger.has_study(uid) for uid in (ANNA, BERTA)] == [True, False]
    before = {p: p.read_bytes() for p in (case / "out").rglob("*.csv")}
    assert small.run(case / "archive", case / "out").withdrawn == 0
    assert {p: p.read_bytes() for p in before} == before


def test_what_a_destination_already_has_is_said_and_stays_known(case):
    _queue(case, State.SENT.value)
    _another_patient(case)
    said = []
    console = small.Console(quiet=True)
    console.note = said.append
    small.run(case / "archive", case / "out", console=console)
    (line,) = [s for s in said if "withdrawn" in s]
    assert BERTA in line
    assert f"3 at {DESTINATION}" in line
    assert len(_sql(case, "SELECT 1 FROM sends WHERE path LIKE ?", f"studies/{BERTA}/%")) == 3


def test_a_study_is_reported_again_when_the_contradiction_is_gone(case):
    _another_patient(case)
    small.run(case / "archive", case / "out")
    (case / "archive" / "else.dcm").unlink()
    summary = small.run(case / "archive", case / "out")
    assert (summary.analysed, summary.unchanged, summary.studies) == (0, 3, 2)
    assert _studies(case)["studies"] == {ANNA, BERTA}
    with Ledger(case / "out") as ledger:
        assert [ledger.withdrawn(uid) for uid in (ANNA, BERTA)] == ["", ""]


def test_a_study_whose_only_image_conflicts_is_withdrawn_and_one_with_another_image_is_reported_without_it(case):
    for name, subject, seed in (("anna", small.ANNA, 8), ("berta", small.BERTA, 9)):
        other = small.image(subject, seed=seed)  # the UIDs of the CC image, another picture
        small.write(case / "archive" / f"{name}-again.dcm", other)
    summary = small.run(case / "archive", case / "out")
    assert (summary.withdrawn, summary.studies, summary.failed) == (1, 1, 4)
    _stands_alone(case, ANNA)
    assert [row["view"] for row in small.table(case / "out", "images")] == ["MLO"]
    assert {r["code"] for r in small.table(case / "out", "files") if r["status"] == "failed"} == {"conflicting-uid"}


def test_an_instance_that_comes_up_in_a_second_study_contradicts_both(case):
    ds = small.image(dataclasses.replace(small.ANNA, study_key="later"), seed=7)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = small.image(small.BERTA, seed=3).SOPInstanceUID
    small.write(case / "archive" / "later.dcm", ds)
    summary = small.run(case / "archive", case / "out")
    assert summary.withdrawn == 1
    _stands_alone(case, ANNA)


def test_an_image_that_a_rule_leaves_out_by_now_keeps_no_score(case):
    (case / "archive" / "berta-cc.dcm").unlink()
    ds = small.image(small.BERTA, seed=3)
    ds.BreastImplantPresent = "YES"
    small.write(case / "archive" / "berta-cc.dcm", ds)
    from mammoscan.core.config import AnalysisConfig

    summary = small.run(case / "archive", case / "out", analysis=AnalysisConfig(include=("partial",)))
    assert summary.withdrawn == 1
    assert BERTA not in _studies(case)["images"]


def test_a_study_whose_files_are_gone_or_cannot_be_read_keeps_its_results(case):
    (case / "archive" / "berta-cc.dcm").unlink()
    assert small.run(case / "archive", case / "out").withdrawn == 0
    (case / "archive" / "berta-cc.dcm").write_bytes(b"DICM" * 100)
    assert small.run(case / "archive", case / "out").withdrawn == 0
    assert _studies(case)["studies"] == {ANNA, BERTA}
    assert (case / "out" / "studies" / BERTA / "report.pdf").is_file()


@pytest.mark.parametrize("moment", ["before the state", "before the files", "amid the files", "before the note"])
def test_a_withdrawal_that_is_killed_is_completed_by_the_next_run(case, moment, monkeypatch):
    _another_patient(case)
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if moment != "amid the files" or len(calls) > 2:
            raise KeyboardInterrupt
        return remove(*arguments)

    remove = store.remove
    place = {"before the state": (Ledger, "withdraw"), "before the note": (Ledger, "removed")}.get(
        moment, (store, "remove")
    )
    with monkeypatch.context() as patched:
        patched.setattr(*place, (lambda _, paths: killed() if paths else None) if "note" in moment else killed)
        with pytest.raises(KeyboardInterrupt):
            small.run(case / "archive", case / "out")
    small.run(case / "archive", case / "out")
    _stands_alone(case, ANNA)
    with Ledger(case / "out") as ledger:
        assert ledger.removals() == []
        assert [ledger.withdrawn(uid) for uid in (ANNA, BERTA)] == ["", "mixed-patients"]


def test_objects_of_kinds_that_are_no_longer_chosen_go_also_when_the_run_is_killed_in_between(case, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            small.run(case / "archive", case / "out", write=("tid1500",), review=False)
    small.run(case / "archive", case / "out", write=("tid1500",), review=False)
    assert {p.name for p in (case / "out" / "studies").rglob("*.*") if p.is_file()} == {"report.pdf", "tid1500-sr.dcm"}
    assert not (case / "out" / "index.html").exists()
    assert not (case / "out" / "review").exists()


def test_a_state_file_cannot_have_files_elsewhere_removed(case):
    (case / "keep.txt").write_text("mine")
    _sql(case, "INSERT INTO removals VALUES ('studies/../../keep.txt'), ('../keep.txt'), ('run.json')")
    with Ledger(case / "out") as ledger:
        withdraw.complete(ledger, case / "out")
        assert ledger.removals() == []
    assert (case / "keep.txt").exists()
    assert (case / "out" / "run.json").exists()


DAMAGE = {
    "no archive": b"nothing",
    "cut": b"PK\x03\x04",
    "empty": b"",
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_an_image_whose_row_cannot_be_read_back_is_analysed_again(case, content):
    before = small.table(case / "out", "images")
    study = case / "out" / "studies" / ANNA
    report = (study / "report.pdf").read_bytes()
    uid = before[0]["sop_instance_uid"]
    _sql(case, "UPDATE images SET result = ?", content)
    (study / "report.pdf").unlink()
    summary = small.run(case / "archive", case / "out")
    assert (summary.analysed, summary.unchanged, summary.failed) == (3, 0, 0)
    assert small.table(case / "out", "images") == before
    assert (study / "report.pdf").read_bytes() == report
    assert uid in {row["sop_instance_uid"] for row in small.table(case / "out", "images")}


def test_a_failure_whose_row_cannot_be_read_back_is_never_listed_as_analysed(case):
    bad = small.image(small.BERTA, view=View.MLO, seed=5, instance=2)
    bad.PixelData = bad.PixelData[:1000]
    small.write(case / "archive" / "bad.dcm", bad)
    assert small.run(case / "archive", case / "out").failed == 1
    _sql(case, "UPDATE images SET code = 'nonsense' WHERE code <> ''")
    summary = small.run(case / "archive", case / "out")
    assert (summary.failed, summary.unchanged) == (1, 3)
    assert [r["path"] for r in small.table(case / "out", "files") if r["status"] == "failed"] == ["bad.dcm"]


STUDY_DAMAGE = {
    "rows that are text": ("UPDATE studies SET rows = ?", "{"),
    "rows that are nothing": ("UPDATE studies SET rows = ?", b"nothing"),
    "rows of another kind": ("UPDATE studies SET rows = ?", zlib.compress(b"\x91\x01")),
    "rows with other columns": ("UPDATE studies SET columns = ?", "0123456789abcdef"),
    "no files": ("DELETE FROM outputs WHERE path <> ?", ""),
    "no date": ("UPDATE studies SET created = ?", "null"),
}


@pytest.mark.parametrize(("damage", "value"), STUDY_DAMAGE.values(), ids=STUDY_DAMAGE)
def test_a_study_whose_record_cannot_be_read_back_is_reported_again(case, damage, value):
    before = {name: small.table(case / "out", name) for name in ("images", "findings")}
    _sql(case, damage, value)
    summary = small.run(case / "archive", case / "out")
    assert (summary.analysed, summary.unchanged) == (0, 3)
    assert {name: small.table(case / "out", name) for name in before} == before
    with Ledger(case / "out") as ledger:
        assert all(ledger.study(uid) is not None for uid in (ANNA, BERTA))


def test_a_damaged_record_of_a_contradicted_study_is_withdrawn_with_its_files(case):
    _another_patient(case)
    _sql(case, "UPDATE studies SET rows = '['")
    _sql(case, "DELETE FROM outputs")
    assert small.run(case / "archive", case / "out").withdrawn == 1
    _stands_alone(case, ANNA)


def test_a_damaged_record_of_a_study_that_is_not_in_the_archive_is_said(case, capsys):
    (case / "archive" / "berta-cc.dcm").unlink()
    _sql(case, "UPDATE studies SET rows = '{'")
    held = _studies(case)
    summary = small.run(case / "archive", case / "out")
    assert verdict.exit_code(summary) is ExitCode.ALL_ANALYSED
    said = " ".join(capsys.readouterr().err.split())
    assert f"results of study {BERTA} cannot be read back and stay in the tables as they were" in said
    assert "bring its files back" in said
    assert ANNA not in said
    assert _studies(case) == held
    assert (case / "out" / "studies" / BERTA / "report.pdf").is_file()
    # A table that has to be made from nothing can hold only what is kept.
    (case / "out" / "studies.csv").unlink()
    small.run(case / "archive", case / "out")
    said = " ".join(capsys.readouterr().err.split())
    assert f"results of study {BERTA} cannot be read back and are missing in the tables" in said
    assert _studies(case)["studies"] == {ANNA}


def test_only_reasons_that_speak_of_the_content_contradict():
    assert {Reason.DUPLICATE, Reason.UNREADABLE, Reason.STILL_WRITTEN} < set(withdraw._NO_CONTRADICTION)
