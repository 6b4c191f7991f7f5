"""The archive as the state file remembers it: what is new, changed, gone, back, moved or the same under other times."""

import os
import shutil
import sqlite3
import sys
from contextlib import closing

import pydicom
import pytest

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import View
from mammoscan.run import pipeline, tasks
from mammoscan.run.ledger import NAME
from mammoscan.send import queue
from tests import small
from tests.storms import bars

ANNA, BERTA = str(small.ANNA.study_uid), str(small.BERTA.study_uid)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An archive and the results of a run over it. Read only."""
    root = tmp_path_factory.mktemp("made")
    small.archive(root / "archive")
    (root / "archive" / "notes.txt").write_text("no image")
    small.run(root / "archive", root / "out", write=("cad-sr", "gsps", "sc"))
    return root


@pytest.fixture
def case(made, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "case")
    return tmp_path / "case"


def _run(case, **options):
    return small.run(case / "archive", case / "out", write=("cad-sr", "gsps", "sc"), **options)


def _bytes(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _results(case):
    """Every file of the results but the state file, by name."""
    return {name: content for name, content in _bytes(case / "out").items() if name != NAME}


def _listed(case):
    return {row["path"]: (row["status"], row["code"]) for row in small.table(case / "out", "files")}


def _never(*_):
    raise AssertionError("nothing was to be done")


_opened = []
sys.addaudithook(lambda event, arguments: _opened.append(str(arguments[0])) if event == "open" else None)


def test_a_pass_over_an_unchanged_archive_opens_no_file_of_it(case, monkeypatch):
    monkeypatch.setattr(tasks, "read_headers", _never)
    monkeypatch.setattr(pipeline, "Pump", _never)
    before = _bytes(case / "out")
    _opened.clear()
    summary = _run(case, workers=0)
    assert (summary.files, summary.analysed, summary.unchanged) == (4, 0, 3)
    assert not [path for path in _opened if path.startswith(str(case / "archive"))]
    assert any(path.startswith(str(case / "out")) for path in _opened)
    assert _bytes(case / "out") == before


@pytest.mark.parametrize("hours", [1, -1])
def test_files_whose_times_moved_are_not_analysed_again_and_no_byte_of_a_result_changes(case, hours, monkeypatch):
    """SMB and daylight saving, or a copy."""
    before, archive = _results(case), _bytes(case / "archive")
    for path in (case / "archive").rglob("*"):
        moved = path.stat().st_mtime_ns + hours * 3600 * 10**9
        os.utime(path, ns=(moved, moved))
    monkeypatch.setattr(tasks, "analyse_file", _never)
    summary = _run(case)
    assert (summary.analysed, summary.unchanged, summary.failed) == (0, 3, 0)
    assert _results(case) == before
    assert _bytes(case / "archive") == archive
    # From now on the new times are the known ones.
    monkeypatch.setattr(tasks, "read_headers", _never)
    assert _run(case).unchanged == 3


def test_objects_whose_files_only_moved_in_time_are_not_sent_again(case):
    with closing(sqlite3.connect(case / "out" / NAME)) as db, db:
        queue.prepare(db)
        before = db.execute("SELECT path, sha256 FROM outputs ORDER BY path").fetchall()
    for path in (case / "archive").rglob("*"):
        os.utime(path, (1, 1))
    _run(case)
    with closing(sqlite3.connect(case / "out" / NAME)) as db:
        assert db.execute("SELECT path, sha256 FROM outputs ORDER BY path").fetchall() == before


def test_a_file_whose_time_and_content_changed_is_analysed_again(case):
    path = case / "archive" / "berta-cc.dcm"
    ds = pydicom.dcmread(path)
    pixels = ds.pixel_array.copy()
    pixels[pixels.shape[0] // 3 :] //= 2
    ds.PixelData = pixels.tobytes()
    size = path.stat().st_size
    ds.save_as(path)
    assert path.stat().st_size == size
    before = _results(case)
    summary = _run(case)
    assert (summary.analysed, summary.unchanged) == (1, 2)
    changed = {name for name, content in _results(case).items() if before.get(name) != content}
    assert {name.split("/")[1] for name in changed if name.startswith("studies/")} == {BERTA}


def test_a_file_that_changed_under_the_same_size_and_time_is_found_where_that_is_asked(case):
    path = case / "archive" / "berta-cc.dcm"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1000:] = bytes(1000)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert _run(case).analysed == 0
    summary = _run(case, compare_content=True)
    assert (summary.analysed, summary.unchanged) == (1, 2)
    before = _results(case)
    summary = _run(case, compare_content=True)
    assert (summary.analysed, summary.unchanged) == (0, 3)
    assert _results(case) == before


def test_an_archive_that_loses_a_study_keeps_its_results_and_says_which_files_are_gone(case):
    before = _results(case)
    (case / "archive" / "berta-cc.dcm").rename(case / "berta-cc.dcm")
    summary = _run(case)
    assert (summary.files, summary.gone, summary.unchanged) == (3, 1, 2)
    assert _listed(case)["berta-cc.dcm"] == ("gone", "gone")
    tables = {"files.csv", "run.json"}
    assert {n: c for n, c in _results(case).items() if n not in tables} == {
        n: c for n, c in before.items() if n not in tables
    }
    # It comes back as it was: nothing is to be done but to list it.
    (case / "berta-cc.dcm").rename(case / "archive" / "berta-cc.dcm")
    summary = _run(case)
    assert (summary.files, summary.gone, summary.analysed) == (4, 0, 0)
    assert {n: c for n, c in _results(case).items() if n != "run.json"} == {
        n: c for n, c in before.items() if n != "run.json"
    }


def test_a_file_without_results_that_is_gone_is_forgotten(case):
    (case / "archive" / "notes.txt").unlink()
    _run(case)
    assert "notes.txt" not in _listed(case)


def test_moved_files_are_not_analysed_again_and_are_listed_where_they_lie(case, monkeypatch):
    reports = {n: c for n, c in _results(case).items() if n.endswith(".dcm")}
    (case / "archive" / "2026").mkdir()
    for name in ("anna-cc.dcm", "anna-mlo.dcm"):
        shutil.move(case / "archive" / name, case / "archive" / "2026" / name)
    monkeypatch.setattr(tasks, "analyse_file", _never)
    summary = _run(case)
    assert (summary.files, summary.gone, summary.analysed, summary.unchanged) == (4, 0, 0, 3)
    assert set(_listed(case)) == {"2026/anna-cc.dcm", "2026/anna-mlo.dcm", "berta-cc.dcm", "notes.txt"}
    assert {r["path"] for r in small.table(case / "out", "images")} == set(_listed(case)) - {"notes.txt"}
    assert {n: c for n, c in _results(case).items() if n.endswith(".dcm")} == reports


def test_images_that_come_after_others_of_their_study_have_gone_are_reported_together(case):
    """A router that empties its folder between two deliveries of one study."""
    before = small.table(case / "out", "images")
    for name in ("anna-cc.dcm", "anna-mlo.dcm"):
        (case / "archive" / name).unlink()
    small.write(case / "archive" / "later.dcm", small.image(small.ANNA, view=View.CC, seed=7, instance=9))
    summary = _run(case)
    assert (summary.analysed, summary.gone) == (1, 2)
    after = {r["sop_instance_uid"]: r for r in small.table(case / "out", "images")}
    for row in before:
        kept = after[row["sop_instance_uid"]]
        if row["study_instance_uid"] == ANNA:
            assert "source-gone" in kept["flags"]
        assert {k: v for k, v in kept.items() if k != "flags"} == {k: v for k, v in row.items() if k != "flags"}
    assert len(after) == 4


def test_what_a_modality_still_writes_is_left_for_the_next_pass_and_said_so(case):
    small.write(case / "archive" / "new.dcm", small.image(small.ANNA, view=View.CC, seed=7, instance=9))
    summary = _run(case, settle_seconds=3600)
    assert (summary.waiting, summary.analysed) == (1, 0)
    assert _listed(case)["new.dcm"] == ("skipped", "still-being-written")
    summary = _run(case)
    assert (summary.waiting, summary.analysed) == (0, 1)


def test_the_tables_can_be_looked_at_before_the_run_is_over(case, monkeypatch):
    shutil.rmtree(case / "out")
    seen = []
    monkeypatch.setattr(pipeline, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(pipeline, "LOOK_SHARE", 0)
    write = pipeline.tables.write

    def watched(*arguments):
        found = write(*arguments)
        seen.append((len(small.table(case / "out", "images")), {s for s, _ in _listed(case).values()}))
        return found

    monkeypatch.setattr(pipeline.tables, "write", watched)
    _run(case)
    assert seen[0] == (0, {"pending", "skipped"})
    assert seen[-1] == (3, {"analysed", "skipped"})
    assert {count for count, _ in seen} > {0, 3}


def test_a_picture_that_is_lost_between_analysis_and_report_is_drawn_again(case, monkeypatch):
    whole = _results(case)
    shutil.rmtree(case / "out")
    monkeypatch.setattr(tasks.previews, "write", lambda *_: None)
    _run(case, workers=0)
    monkeypatch.undo()
    assert not (case / "out" / ".previews").exists()
    pictures = {n for n in whole if n.endswith(("sc.dcm", "report.pdf"))}
    assert pictures <= set(_results(case))
    assert bars.half_written(case / "out") == []


def test_no_pictures_are_left_when_the_reports_stand(case):
    assert not (case / "out" / ".previews").exists()
    assert bars.half_written(case / "out") == []


@pytest.mark.parametrize("named", [".", "../archive"])
def test_the_archive_may_be_named_from_within(case, named, monkeypatch):
    """Only the first run reads headers: the second finds the files by what the state file says."""
    shutil.rmtree(case / "out")
    monkeypatch.chdir(case / "archive")
    assert small.run(named, case / "out", write=("none",)).analysed == 3
    assert small.run(named, case / "out", write=("none",), analysis=AnalysisConfig(threshold=0.5)).analysed == 3


def test_a_file_of_which_what_is_kept_cannot_be_read_back_is_read_again(case):
    before = _results(case)
    with closing(sqlite3.connect(case / "out" / NAME)) as db, db:
        db.execute("UPDATE files SET facts = x'00' WHERE path = 'anna-cc.dcm'")
    summary = _run(case)
    assert (summary.failed, summary.analysed, summary.unchanged) == (0, 0, 3)
    assert _results(case) == before
    with closing(sqlite3.connect(case / "out" / NAME)) as db:
        assert len(db.execute("SELECT facts FROM files WHERE path = 'anna-cc.dcm'").fetchone()[0]) > 100


def test_two_files_of_one_instance_are_held_against_each_other_again_where_contents_are_compared(case):
    copy = case / "archive" / "copy.dcm"
    shutil.copy2(case / "archive" / "berta-cc.dcm", copy)
    _run(case)
    assert _listed(case)["copy.dcm"] == ("skipped", "duplicate")
    status, content = copy.stat(), bytearray(copy.read_bytes())
    content[-1000:] = bytes(1000)
    copy.write_bytes(content)
    os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
    _run(case)
    assert _listed(case)["copy.dcm"] == ("skipped", "duplicate")
    _run(case, compare_content=True)
    assert {_listed(case)[name] for name in ("copy.dcm", "berta-cc.dcm")} == {("failed", "conflicting-uid")}


def test_a_file_that_comes_up_elsewhere_nights_after_it_was_gone_is_listed_where_it_lies(case):
    (case / "archive" / "berta-cc.dcm").rename(case / "berta-cc.dcm")
    assert _run(case).gone == 1
    (case / "berta-cc.dcm").rename(case / "archive" / "elsewhere.dcm")
    summary = _run(case)
    assert (summary.gone, summary.analysed, summary.unchanged) == (0, 0, 3)
    assert {"berta-cc.dcm", "elsewhere.dcm"} & set(_listed(case)) == {"elsewhere.dcm"}


@pytest.mark.parametrize(("patient", "kept"), [({"IssuerOfPatientID": "HOSPITAL"}, 2), ({"PatientID": "OTHER"}, 0)])
def test_what_was_found_in_files_that_are_gone_stays_only_with_the_same_patient(case, patient, kept):
    """An issuer that only the later file states makes nobody another patient; another identifier does."""
    for name in ("anna-cc.dcm", "anna-mlo.dcm"):
        (case / "archive" / name).unlink()
    later = small.image(small.ANNA, view=View.CC, seed=7, instance=9)
    for keyword, value in patient.items():
        setattr(later, keyword, value)
    small.write(case / "archive" / "later.dcm", later)
    _run(case)
    assert len([r for r in small.table(case / "out", "images") if r["study_instance_uid"] == ANNA]) == kept + 1
