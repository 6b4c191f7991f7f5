"""A whole run: every file ends once, resumes, repeats, never writes to the archive."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pydicom
import pytest

from mammoscan.core import verdict
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.console import Console
from mammoscan.core.errors import ExitCode, LockedError, UsageError
from mammoscan.run import inspection, pipeline, planner
from mammoscan.run.config import RunConfig
from mammoscan.run.ledger import NAME
from tests.conftest import state
from tests.storms import bars


def _run(archive, out, **options):
    options.setdefault("settle_seconds", 0)
    return pipeline.run(RunConfig(archive=Path(archive), out=Path(out), **options), Console(quiet=True))


def _table(out, name):
    with (out / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _studies_of(demo, count):
    """The first ``count`` studies that have several images, as (uid, relative paths)."""
    with (demo / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    paths = {}
    for row in rows:
        paths.setdefault(row["study_instance_uid"], set()).add(row["path"])
    return sorted((uid, sorted(p)) for uid, p in paths.items() if len(p) > 1)[:count]


@pytest.fixture
def small(demo, tmp_path):
    """An archive of two studies of two images that a test may change."""
    archive = tmp_path / "small"
    for _, paths in _studies_of(demo, 2):
        for path in paths[:2]:
            target = archive / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(demo / "archive" / path, target)
    return archive


def test_every_file_of_the_archive_is_listed_exactly_once(demo, demo_run):
    listed = Counter(row["path"] for row in _table(demo_run, "files"))
    on_disk = {p.relative_to(demo / "archive").as_posix() for p in (demo / "archive").rglob("*") if p.is_file()}
    assert set(listed) == on_disk
    assert set(listed.values()) == {1}
    assert {row["status"] for row in _table(demo_run, "files")} == {"analysed", "skipped", "failed"}
    assert all(row["code"] for row in _table(demo_run, "files") if row["status"] != "analysed")


def test_every_labelled_image_is_analysed(demo, demo_run):
    with (demo / "labels.csv").open(encoding="utf-8", newline="") as stream:
        labelled = {row["sop_instance_uid"] for row in csv.DictReader(stream)}
    assert labelled == {row["sop_instance_uid"] for row in _table(demo_run, "images")}


def test_every_study_has_its_reports(demo_run):
    for row in _table(demo_run, "studies"):
        folder = demo_run / "studies" / row["study_instance_uid"]
        numbers = range(1, int(row["images_analysed"]) + 1)
        shown = {f["sop_instance_uid"] for f in _table(demo_run, "findings") if f["above_threshold"] == "yes"}
        assert shown, "some study of the demo has marks"
        images = [i for i in _table(demo_run, "images") if i["study_instance_uid"] == row["study_instance_uid"]]
        assert {p.name for p in folder.iterdir()} == {
            "mammography-cad-sr.dcm", "report.pdf", "report-pdf.dcm", "tid1500-sr.dcm", "review.js",
            *(f"tid1500-{n:02d}.dcm" for n, i in enumerate(images, 1) if i["sop_instance_uid"] in shown),
            *(f"review-{n:02d}.jpg" for n in numbers),
        }  # fmt: skip


def test_the_archive_is_not_touched(demo_story):
    assert demo_story.before
    assert demo_story.after == demo_story.before


def test_a_second_run_does_no_pixel_work_and_changes_no_byte(demo, copied_run, monkeypatch):
    before = state(copied_run)
    monkeypatch.setattr(pipeline, "Pump", _never)
    monkeypatch.setattr(pipeline, "Scorer", _never)
    summary = _run(demo / "archive", copied_run)
    assert summary.analysed == 0
    assert summary.unchanged > 0
    assert state(copied_run) == before


def _never(*_):
    raise AssertionError("no pixel work was to be done")


def test_only_a_new_file_is_analysed_and_its_study_reported_again(small, tmp_path):
    out = tmp_path / "out"
    files = sorted(p for p in small.rglob("*") if p.is_file())
    late = files[-1]
    hidden = tmp_path / "late"
    late.rename(hidden)
    first = _run(small, out)
    before = state(out / "studies")
    hidden.rename(late)
    second = _run(small, out)
    assert first.analysed == len(files) - 1
    assert (second.analysed, second.unchanged) == (1, len(files) - 1)
    changed = {Path(name).parts[0] for name, state in state(out / "studies").items() if before.get(name) != state}
    assert len(changed) == 1


def test_a_new_configuration_redoes_the_analysis(small, tmp_path):
    out = tmp_path / "out"
    first = _run(small, out)
    second = _run(small, out, analysis=AnalysisConfig(max_findings=1))
    assert second.analysed == first.analysed


def test_a_lost_report_is_written_again_with_the_same_bytes(demo, copied_run):
    victim = next(copied_run.rglob("report.pdf"))
    content = victim.read_bytes()
    victim.unlink()
    summary = _run(demo / "archive", copied_run)
    assert summary.analysed == 0
    assert victim.read_bytes() == content


def _kept_studies(out):
    """How many studies the state file on disk holds at this moment; a report alone may not be in it yet."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{out / NAME}?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM studies").fetchone()[0]
    except sqlite3.OperationalError:  # not there yet, or held by the run
        return 0


def test_a_killed_run_leaves_whole_files_and_the_next_one_finishes_it(demo, demo_run, tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "mammoscan", "run", str(demo / "archive"),
        "--out", str(out), "--settle-seconds", "0", "--quiet",
    ]  # fmt: skip
    with subprocess.Popen(command, start_new_session=True) as process:
        deadline = time.monotonic() + 300
        while not _kept_studies(out) and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert list(out.glob("studies/*/report.pdf"))
    assert bars.broken_after_a_kill(out) == []
    summary = _run(demo / "archive", out)
    assert summary.unchanged > 0
    assert bars.half_written(out) == []
    assert bars.lost_or_twice(demo / "archive", out) == []
    assert bars.differences(out, demo_run, leaving_out=frozenset({bars.WRITTEN_AT})) == []
    assert all(re.fullmatch(r"\d{14}", row[bars.WRITTEN_AT]) for row in _table(out, "studies"))


def test_a_result_with_a_byte_too_few_or_of_another_is_not_taken_for_whole(copied_run):
    """What the check of whole files would say of one that is not."""
    assert bars.half_written(copied_run) == bars.broken_after_a_kill(copied_run) == []
    cut, changed, *_ = sorted(copied_run.glob("studies/*/*.dcm"))
    cut.write_bytes(cut.read_bytes()[:-1])
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    pdf = next(copied_run.glob("studies/*/report.pdf"))
    pdf.write_bytes(pdf.read_bytes()[:-100])
    (pdf.parent / "another").write_bytes(b"")
    names = {p.relative_to(copied_run).as_posix() for p in (cut, changed, pdf, pdf.parent / "another")}
    assert {line.split(":")[0] for line in bars.half_written(copied_run)} == names
    # Readable as DICOM, one byte short or changed as they are: this is why the state file is asked where it can be.
    assert f"{pdf.relative_to(copied_run)}: not whole" in bars.broken_after_a_kill(copied_run)


def test_workers_and_file_order_change_no_bit_and_batch_size_no_score(small, tmp_path):
    _run(small, tmp_path / "a", workers=1, batch_size=1)
    _run(small, tmp_path / "b", workers=1, batch_size=32)
    renamed = tmp_path / "renamed"
    for number, path in enumerate(sorted((p for p in small.rglob("*") if p.is_file()), reverse=True)):
        renamed.mkdir(exist_ok=True)
        shutil.copy2(path, renamed / f"{number:03d}")
    _run(renamed, tmp_path / "c", workers=2, batch_size=32)
    order = {"images": "sop_instance_uid", "findings": "tracking_uid", "studies": "study_instance_uid"}
    for name, column in order.items():
        one, other = (sorted(_table(tmp_path / out, name), key=lambda row: row[column]) for out in "bc")
        assert one
        elsewhere = {"path", bars.WRITTEN_AT}
        assert [{k: v for k, v in row.items() if k not in elsewhere} for row in one] == [
            {k: v for k, v in row.items() if k not in elsewhere} for row in other
        ]
    # Another size of batch may be computed by other kernels, whose sums are taken in another order.
    for row, expected in zip(_table(tmp_path / "a", "images"), _table(tmp_path / "b", "images"), strict=True):
        assert row["sop_instance_uid"] == expected["sop_instance_uid"]
        assert abs(float(row["malignancy"]) - float(expected["malignancy"])) <= 1e-4


def test_two_runs_into_one_folder_the_second_leaves(small, tmp_path):
    from mammoscan.core import store

    out = tmp_path / "out"
    with store.output_lock(out), pytest.raises(LockedError):
        _run(small, out)


def test_an_output_folder_inside_the_archive_is_left_out(small):
    first = _run(small, small / "reports")
    second = _run(small, small / "reports")
    assert second.files == first.files
    assert second.analysed == 0


def test_the_archive_cannot_be_the_output(small):
    with pytest.raises(UsageError):
        _run(small, small)


def test_an_empty_archive_ends_with_nothing_analysed(tmp_path):
    (tmp_path / "empty").mkdir()
    summary = _run(tmp_path / "empty", tmp_path / "out")
    assert verdict.exit_code(summary) is ExitCode.NOTHING_ANALYSED


def test_run_json_names_versions_model_and_counts(demo_run):
    run = json.loads((demo_run / "run.json").read_text())
    assert run["model"]["sha256"]
    assert run["versions"]["tensorflow"]
    assert run["counts"]["failed"] >= 1
    assert "second reading" in run["notice"]


def test_no_patient_data_reaches_the_log(demo, demo_story):
    assert demo_story.status == ExitCode.SOME_FAILED, demo_story.said
    said = demo_story.log.read_text() + demo_story.said
    assert demo_story.log.read_text()
    for path in (demo / "archive").rglob("*"):
        if path.is_file():
            try:
                ds = pydicom.dcmread(path, stop_before_pixels=True)
            except Exception:
                continue
            for name in (str(ds.get("PatientName", "")), str(ds.get("PatientBirthDate", ""))):
                assert not name or name not in said


def _replaced_after_the_header_pass(monkeypatch, path, content):
    """The file gets other content, of the same size and time, when its header has been read."""
    plan, status = planner.plans.plan_studies, path.stat()

    def meanwhile(results, same):
        path.write_bytes(content)
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
        return plan(results, same)

    monkeypatch.setattr(planner.plans, "plan_studies", meanwhile)


def test_a_file_that_is_replaced_after_its_header_was_read_lends_no_pixels_and_is_taken_up_by_the_next_run(
    small, tmp_path, monkeypatch
):
    first = next(p for p in sorted(small.rglob("*")) if p.is_file())
    content = first.read_bytes()
    ds = pydicom.dcmread(first)
    uid = str(ds.SOPInstanceUID)
    other = content.replace(uid.encode(), uid[:-1].encode() + (b"1" if uid[-1] != "1" else b"2"))
    assert len(other) == len(content)
    with monkeypatch.context() as patch:
        _replaced_after_the_header_pass(patch, first, other)
        summary = _run(small, tmp_path / "out", workers=1)
    name = first.relative_to(small).as_posix()
    row = next(row for row in _table(tmp_path / "out", "files") if row["path"] == name)
    assert (summary.failed, row["status"], row["code"], row["stage"]) == (1, "failed", "changed", "pixels")
    assert uid not in {row["sop_instance_uid"] for row in _table(tmp_path / "out", "images")}
    # Content, size and time are as planned again: the failure was of the moment.
    status = first.stat()
    first.write_bytes(content)
    os.utime(first, ns=(status.st_mtime_ns, status.st_mtime_ns))
    summary = _run(small, tmp_path / "out", workers=1)
    assert (summary.analysed, summary.failed) == (1, 0)
    assert uid in {row["sop_instance_uid"] for row in _table(tmp_path / "out", "images")}


def test_inspect_shows_no_pixels_of_a_file_that_is_replaced_after_its_header_was_read(small, monkeypatch):
    first = next(p for p in sorted(small.rglob("*")) if p.is_file())
    read = inspection.headers.read_header

    def meanwhile(*arguments, **options):
        found = read(*arguments, **options)
        first.write_bytes(first.read_bytes() + b"\0\0")
        return found

    monkeypatch.setattr(inspection.headers, "read_header", meanwhile)
    found = inspection.inspect(first, AnalysisConfig(), None)
    assert found.picture is None
    assert dict(found.facts)["decision"].startswith("failed: changed: ")
