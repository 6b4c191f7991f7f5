"""A nightly run: silent when all is well, else one line; the log tells the rest, and no value of a header."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from click.testing import CliRunner

from mammoscan.cli import main
from mammoscan.core import domain, logs, verdict
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.console import Console
from mammoscan.core.domain import View
from mammoscan.core.errors import ExitCode, Reason
from mammoscan.run import pipeline, publish
from tests import small

NAME = "Zyxplanted"
ANNA, BERTA = str(small.ANNA.study_uid), str(small.BERTA.study_uid)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An archive and the results of a run over it. Read only."""
    root = tmp_path_factory.mktemp("made")
    small.archive(root / "archive")
    for path in (root / "archive").iterdir():
        os.utime(path, (1e9, 1e9))
    small.run(root / "archive", root / "out")
    return root


@pytest.fixture
def case(made, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "case")
    return tmp_path / "case"


def _mammoscan(case, *more, settle=0, **environment):
    command = [sys.executable, "-m", "mammoscan", "run", str(case / "archive"), "--out", str(case / "out"),
               "--workers", "1", "--log-file", str(case / "log"), "--settle-seconds", str(settle),
               *map(str, more)]  # fmt: skip
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env={**os.environ, **environment}
    )


def _patched(case, code):
    """An environment in which every process, workers too, runs ``code`` when it starts."""
    folder = case / "patch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(textwrap.dedent(code))
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def _break(case):
    """Add an image whose pixels are short, and a file whose header ends."""
    bad = small.image(small.BERTA, view=View.MLO, seed=5, instance=2)
    bad.PixelData = bad.PixelData[:1000]
    small.write(case / "archive" / "short.dcm", bad)
    whole = (case / "archive" / "berta-cc.dcm").read_bytes()
    (case / "archive" / "cut.dcm").write_bytes(whole[:700])


def test_a_quiet_run_is_silent_when_all_is_well(case):
    done = _mammoscan(case, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_quiet_run_that_failed_files_says_so_in_one_line_every_night(case):
    _break(case)
    for _ in range(2):
        (case / "log").unlink(missing_ok=True)
        done = _mammoscan(case, "--quiet")
        assert done.returncode == ExitCode.SOME_FAILED
        assert done.stdout == ""
        assert done.stderr == (f"2 files failed (missing-uid 1, truncated 1): see {case / 'out' / 'files.csv'}\n")
        log = (case / "log").read_text()
        for path, reason in (("short.dcm", Reason.TRUNCATED), ("cut.dcm", Reason.MISSING_UID)):
            assert len(re.findall(f"failed: {path}: {reason.code}: .*{re.escape(reason.remedy)}", log)) == 1
        assert "start: mammoscan" in log
        assert "settings: model" in log
        assert "end: status 1" in log
        assert NAME not in log


def test_a_run_that_is_not_quiet_ends_with_the_codes_and_their_remedies(case):
    _break(case)
    done = _mammoscan(case)
    assert f"truncated 1: {Reason.TRUNCATED.meaning} ({Reason.TRUNCATED.remedy})" in done.stdout
    assert "2 files failed" in done.stderr


def test_a_withdrawn_study_is_said_in_the_line_the_log_and_on_the_terminal(case):
    ds = small.image(small.BERTA, view=View.MLO, seed=4, instance=2)
    ds.PatientID = "SOMEBODY-ELSE"
    small.write(case / "archive" / "else.dcm", ds)
    done = _mammoscan(case, "--quiet")
    assert done.stderr == (
        f"2 files failed (mixed-patients 2): see {case / 'out' / 'files.csv'}; "
        "results of 1 study withdrawn, since the archive contradicts them\n"
    )
    log = (case / "log").read_text()
    assert f"withdrawn: the results of study {BERTA}" in log
    assert "SOMEBODY" not in log


@pytest.mark.parametrize("content", [None, b"hello"], ids=["empty", "nothing for us"])
def test_nothing_to_analyse_is_said_in_words(tmp_path, content):
    (tmp_path / "archive").mkdir()
    if content:
        (tmp_path / "archive" / "note.txt").write_bytes(content)
    done = _mammoscan(tmp_path, "--quiet")
    assert done.returncode == ExitCode.NOTHING_ANALYSED
    (line,) = done.stderr.splitlines()
    assert line.startswith("nothing could be analysed: ")
    assert ("not-dicom 1" in line) if content else ("no files" in line)
    assert "nothing could be analysed: " in _mammoscan(tmp_path).stderr


def test_files_that_are_still_being_written_are_left_for_the_next_run_and_nothing_is_wrong(case):
    late = small.write(case / "archive" / "late.dcm", small.image(small.BERTA, view=View.MLO, seed=5, instance=2))
    done = _mammoscan(case, "--quiet", settle=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (row,) = [r for r in small.table(case / "out", "files") if r["path"] == "late.dcm"]
    assert (row["status"], row["code"]) == ("skipped", "still-being-written")
    summary = small.run(case / "archive", case / "out", settle_seconds=600)
    assert (summary.waiting, summary.failed, summary.skipped, summary.unchanged, summary.files) == (1, 0, 0, 3, 4)
    for path in (case / "archive").glob("*-*.dcm"):
        path.unlink()
    assert _mammoscan(case, "--quiet", settle=600).returncode == ExitCode.ALL_ANALYSED
    late.rename(case / "archive" / "later.dcm")
    os.utime(case / "archive" / "later.dcm", (1e9, 1e9))
    assert small.run(case / "archive", case / "out", settle_seconds=600).analysed == 1


def test_objects_of_kinds_that_are_no_longer_chosen_go_with_a_word(case):
    done = _mammoscan(case, "--write", "tid1500")
    assert "4 files of earlier reports were removed" in " ".join(done.stdout.split())
    assert "--write" in done.stdout
    assert (case / "log").read_text().count("removed: studies/") == 4


# --------------------------------------------------------------------------- reports that cannot be written


def _serially(monkeypatch):
    """Let the run do all in this process, where functions can be replaced."""
    monkeypatch.setattr(pipeline, "can_start_workers", lambda: False)


@pytest.fixture
def failing(case, monkeypatch):
    """Berta's report cannot be made, and is due since another kind is chosen; so is Anna's."""
    _serially(monkeypatch)
    rendered = publish.rendered

    def refuse(result, *arguments):
        if result.study.study_instance_uid == BERTA:
            raise KeyError(f"{result.patient.name} has no font")
        return rendered(result, *arguments)

    monkeypatch.setattr(publish, "rendered", refuse)
    return case


def _again(case, **options):
    return small.run(case / "archive", case / "out", write=("tid1500",), **options)


def test_a_report_that_cannot_be_written_costs_its_study_and_no_pixel_work(failing, monkeypatch, caplog):
    before = small.table(failing / "out", "images")
    for _ in range(2):  # and is tried again by every run
        summary = _again(failing)
        assert (summary.analysed, summary.unchanged, summary.failed, summary.studies) == (0, 2, 1, 2)
        assert summary.failures == (("report-failed", 1),)
        assert verdict.exit_code(summary) is ExitCode.SOME_FAILED
        (row,) = [r for r in small.table(failing / "out", "files") if r["status"] == "failed"]
        assert (row["path"], row["stage"], row["code"]) == ("berta-cc.dcm", "report", "report-failed")
        assert row["detail"] == "KeyError"
    assert not (failing / "out" / "studies" / ANNA / "report-pdf.dcm").exists()
    assert small.table(failing / "out", "images") == before  # the earlier report stands
    monkeypatch.undo()
    assert (_again(failing).failed, _again(failing).unchanged) == (0, 3)


def test_an_earlier_report_that_the_archive_contradicts_does_not_stand_for_one_that_cannot_be_written(failing):
    small.write(failing / "archive" / "mlo.dcm", small.image(small.BERTA, view=View.MLO, seed=5, instance=2))
    small.write(failing / "archive" / "again.dcm", small.image(small.BERTA, seed=9))  # contradicts the CC image
    summary = _again(failing)
    assert (summary.withdrawn, dict(summary.failures)) == (1, {"conflicting-uid": 2, "report-failed": 1})
    assert {row["study_instance_uid"] for row in small.table(failing / "out", "images")} == {ANNA}
    assert not (failing / "out" / "studies" / BERTA).exists()


def test_the_frames_of_a_failed_report_are_in_the_log_without_what_the_error_says(failing):
    logs.set_up(failing / "log")
    _again(failing)
    logs.set_up(None)
    log = (failing / "log").read_text()
    assert "Traceback (most recent call last):" in log
    assert "in refuse" in log
    assert "KeyError" in log
    assert NAME not in log


def test_a_report_that_kills_its_process_costs_its_study(case):
    killing = _patched(
        case,
        f"""
        import os, signal
        from mammoscan.run import publish
        rendered = publish.rendered
        def kill(result, *arguments):
            if result.study.study_instance_uid == "{BERTA}":
                os.kill(os.getpid(), signal.SIGKILL)
            return rendered(result, *arguments)
        publish.rendered = kill
    """,
    )
    done = _mammoscan(case, "--quiet", "--write", "tid1500", **killing)
    assert done.stderr == f"1 file failed (report-failed 1): see {case / 'out' / 'files.csv'}\n"
    assert done.returncode == ExitCode.SOME_FAILED
    assert not (case / "out" / "studies" / ANNA / "report-pdf.dcm").exists()


# --------------------------------------------------------------------------- what reaches the log, and what never does

NOISY = """
    import os, warnings
    from mammoscan.image import preprocess
    def fail(image):
        os.write(1, b"Zyxplanted^Anna printed on 1\\n")
        os.write(2, b"Not a JPEG file: starts with 0x00 0x00\\n")
        warnings.warn(f"{image.header.patient.name} warned")
        raise ValueError(f"{image.header.patient.name} {image.header.file.path} raised")
    preprocess.prepare_upright = fail
"""


@pytest.mark.parametrize("masked", [False, True], ids=["named", "masked"])
def test_what_workers_meet_and_libraries_print_is_in_the_log_and_nowhere_else(tmp_path, masked):
    small.write(tmp_path / "archive" / f"{NAME}.dcm", small.image(small.ANNA))
    more = ("--deidentify", "--deidentify-key", tmp_path / "key") if masked else ()
    done = _mammoscan(tmp_path, "--quiet", *more, **_patched(tmp_path, NOISY))
    assert done.returncode == ExitCode.NOTHING_ANALYSED
    (line,) = done.stderr.splitlines()
    assert line.startswith("nothing could be analysed: 1 file failed (internal-error 1)")
    assert done.stdout == ""
    log = (tmp_path / "log").read_text()
    assert "Traceback (most recent call last):" in log
    assert "in fail" in log
    assert "ValueError" in log
    assert "UserWarning at" in log
    assert "Not a JPEG file: starts with 0x00 0x00" in log
    assert "^Anna warned" not in log
    assert f"{NAME}.dcm raised" not in log
    if masked:
        assert NAME not in log
        assert "left out: --deidentify" in log
        assert str(tmp_path / "archive") not in log
    else:
        assert "printed on 1" in log
        assert f"failed: {NAME}.dcm: internal-error" in log


def test_without_a_log_what_libraries_print_goes_nowhere(tmp_path):
    small.write(tmp_path / "archive" / "a.dcm", small.image(small.ANNA))
    command = [sys.executable, "-m", "mammoscan", "run", str(tmp_path / "archive"), "--out", str(tmp_path / "out"),
               "--settle-seconds", "0", "--quiet"]  # fmt: skip
    environment = {**os.environ, **_patched(tmp_path, NOISY)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""


# --------------------------------------------------------------------------- what nobody foresaw


def _unforeseen(*_):
    raise KeyError(f"{NAME}^Anna")


@pytest.mark.parametrize("logged", [True, False], ids=["with a log", "without"])
def test_an_unexpected_end_has_a_status_of_its_own_and_its_traceback_in_a_file(case, monkeypatch, logged):
    monkeypatch.setattr(pipeline.Run, "go", _unforeseen)
    monkeypatch.setattr("tempfile.tempdir", str(case))
    more = ("--log-file", str(case / "log")) if logged else ()
    done = CliRunner().invoke(main, ["run", str(case / "archive"), "--out", str(case / "out"), "--quiet", *more])
    logs.set_up(None)
    assert done.exit_code == ExitCode.UNEXPECTED == 70
    (line,) = done.output.splitlines()
    place = case / "log" if logged else next(case.glob("mammoscan-error-*.log"))
    assert str(place) in line
    kept = place.read_text()
    assert "Traceback (most recent call last):" in kept
    assert "in _unforeseen" in kept
    assert "KeyError" in kept
    assert NAME not in kept + line


def test_an_interrupt_keeps_its_status(case, monkeypatch):
    monkeypatch.setattr(pipeline.Run, "go", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    done = CliRunner().invoke(main, ["run", str(case / "archive"), "--out", str(case / "out"), "--quiet"])
    assert done.exit_code == ExitCode.INTERRUPTED
    assert len(done.output.splitlines()) == 1


# --------------------------------------------------------------------------- words


def _summary(**counts):
    return domain.RunSummary(**{
        "files": 9, "analysed": 3, "skipped": 0, "failed": 0, "unchanged": 0, "studies": 1, "findings": 0, "seconds": 1.0,
        "stage_seconds": (), **counts,
    })  # fmt: skip


def test_all_is_well_is_no_word(tmp_path):
    assert verdict.verdict(_summary(), tmp_path) == ""
    assert verdict.verdict(_summary(waiting=2, skipped=1), tmp_path) == ""


def test_what_is_not_sent_is_a_word(tmp_path):
    assert verdict.verdict(_summary(unsent=2), tmp_path) == "2 objects are not sent"


def test_many_codes_are_the_most_frequent_ones(tmp_path):
    codes = verdict.ranked({**{r.code: 1 for r in list(Reason)[:9]}, Reason.TRUNCATED.code: 3})
    said = verdict.verdict(_summary(failed=12, failures=codes), tmp_path)
    assert said.startswith("12 files failed (truncated 3, ")
    assert ", ...)" in said


def test_what_is_wrong_meanwhile_is_one_line_in_quiet_mode(capsys):
    console = Console(quiet=True)
    with console.one_line():
        console.error("PACS: 2 of 3 objects are not sent")
        console.last_word("1 file failed")
    assert capsys.readouterr().err == "1 file failed; PACS: 2 of 3 objects are not sent\n"


def test_the_places_of_an_exception_are_kept_and_its_words_are_not():
    words = f"{NAME}^Anna"
    with pytest.raises(KeyError) as caught:
        _led_to(words)
    text = logs.frames(caught.value)
    assert text.count("Traceback (most recent call last):") == 2
    assert text.splitlines()[-1] == "KeyError"
    assert "in _led_to" in text
    assert NAME not in text


def _led_to(words):
    try:
        int(words)
    except ValueError as error:
        raise KeyError(words) from error


def test_a_name_that_this_machine_cannot_set_is_said_once_and_by_script_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.fontfiles, "east_asian_font", lambda: None)
    console = _Notes()
    for number, name in enumerate(("Yamada^Hanako=山田^花子", "Sato^Yuki=佐藤^雪")):
        subject = small.Subject(f"P{number}", name, study_key=str(number), character_set="ISO_IR 192")
        small.write(tmp_path / "archive" / f"{number}.dcm", small.image(subject, seed=number))
    options = {"write": (), "analysis": AnalysisConfig(max_regions=4), "review": False}
    small.run(tmp_path / "archive", tmp_path / "out", console=console, **options)
    assert console.said.count(pipeline.fontfiles.LACKING) == 1
    assert "apt-get install fonts-noto-cjk" in pipeline.fontfiles.LACKING
    small.run(tmp_path / "archive", tmp_path / "out", console=console, **options)
    assert console.said.count(pipeline.fontfiles.LACKING) == 1


class _Notes(Console):
    """A console that keeps its notes."""

    def __init__(self):
        super().__init__(quiet=True)
        self.said = []

    def note(self, text):
        self.said.append(text)
