"""The command line, in sentences."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import jsonschema
import pytest
from click.testing import CliRunner

from mammoscan.cli import COMMANDS, main
from mammoscan.core.errors import ExitCode
from tests import docs
from tests.send.peers import STORESCP, StoreScp


def _mammoscan(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "mammoscan", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=600, **options,
    )  # fmt: skip


def test_help_answers_without_tensorflow():
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom mammoscan.cli import main\n"
        "result = CliRunner().invoke(main, ['--help'])\nassert result.exit_code == 0, result.output\n"
        "print(result.output)\n"
        "heavy = {'tensorflow', 'keras', 'cv2', 'pydicom', 'highdicom', 'reportlab'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output


def test_help_says_what_it_is_for():
    assert "second reading" in CliRunner().invoke(main, ["--help"]).output


def test_an_unknown_option_is_a_usage_error(tmp_path):
    assert _mammoscan("run", tmp_path, "--out", tmp_path / "out", "--nonsense").returncode == ExitCode.USAGE


def test_a_missing_archive_is_a_usage_error_that_names_it(tmp_path):
    done = _mammoscan("run", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert done.returncode == ExitCode.USAGE
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_model_is_an_error_that_names_it(demo, tmp_path):
    done = _mammoscan("run", demo / "archive", "--out", tmp_path / "out", "--model", tmp_path / "no-model")
    assert done.returncode == ExitCode.USAGE
    assert "no-model" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_operating_point_names_those_there_are(demo, tmp_path):
    done = _mammoscan("run", demo / "archive", "--out", tmp_path / "out", "--operating-point", "perfect")
    assert done.returncode == ExitCode.USAGE
    assert "sensitivity-0.90" in done.stderr


def test_nothing_to_analyse_is_status_three(tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "note.txt").write_text("hello")
    done = _mammoscan("run", tmp_path / "archive", "--out", tmp_path / "out", "--settle-seconds", 0)
    assert done.returncode == ExitCode.NOTHING_ANALYSED


def test_a_locked_folder_is_status_four(demo, tmp_path):
    from mammoscan.core import store

    with store.output_lock(tmp_path / "out"):
        done = _mammoscan("run", demo / "archive", "--out", tmp_path / "out")
    assert done.returncode == ExitCode.LOCKED
    assert "another run" in done.stderr


def test_quiet_says_one_line_where_files_failed(demo, copied_run):
    done = _mammoscan("run", demo / "archive", "--out", copied_run, "--settle-seconds", 0, "--quiet")
    assert done.returncode == ExitCode.SOME_FAILED
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert " failed (" in done.stderr
    assert f"see {copied_run / 'files.csv'}" in done.stderr


def test_json_prints_one_object_on_stdout(demo, copied_run):
    done = _mammoscan("run", demo / "archive", "--out", copied_run, "--settle-seconds", 0, "--json")
    summary = _valid(done.stdout, "run-summary")
    assert summary["analysed"] == 0
    assert summary["unchanged"] > 0
    assert summary["failed"] > 0
    assert summary["exit_status"] == done.returncode
    first, *others = summary["most_suspicious"]
    assert len(others) == 2
    assert all(first["malignancy"] >= other["malignancy"] for other in others)
    assert (copied_run / first["report"]).is_file()


def _valid(text, name):
    """The one object of a text, which its schema in the manual describes whole."""
    schema = json.loads((docs.MANUAL / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    content = json.loads(text)
    jsonschema.validate(content, schema, jsonschema.Draft202012Validator)
    assert set(content) == set(schema["properties"])
    return content


def test_plain_lines_are_written_when_there_is_no_terminal(demo, copied_run):
    done = _mammoscan("run", demo / "archive", "--out", copied_run, "--settle-seconds", 0)
    assert "reading headers: " in done.stderr
    assert "\x1b[" not in done.stdout + done.stderr
    assert "files failed" in done.stdout
    assert "second reading" in done.stdout
    lines = done.stdout.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("most suspicious studies"))
    scores = [float(line.split()[0]) for line in lines[start + 1 : start + 4]]
    assert scores == sorted(scores, reverse=True)
    named = Path(lines[start + 4].removeprefix("open next: "))
    assert named.is_file()


def test_a_terminal_gets_a_progress_display(demo, copied_run):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mammoscan", "run", str(demo / "archive"), "--out", str(copied_run),
         "--settle-seconds", "0"],
        stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    process.wait()
    assert b"reading headers" in shown
    assert b"skipped" in shown


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(demo, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "mammoscan", "run", str(demo / "archive"), "--out", str(out), "--settle-seconds", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(out.glob("studies/*/report.pdf")) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be interrupted"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "same command continues" in said
    assert "Traceback" not in said


def test_inspect_shows_facts_decision_and_pictures(demo, tmp_path):
    path = next(p for p in sorted((demo / "archive").rglob("*")) if _is_analysed(demo, p))
    done = _mammoscan("inspect", path, "--picture", tmp_path / "five.png")
    assert done.returncode == 0, done.stderr
    for word in ("PatientID", "laterality", "decision", "analysed", "malignancy", "second reading"):
        assert word in done.stdout
    assert (tmp_path / "five.png").read_bytes().startswith(b"\x89PNG")


def _is_analysed(demo, path):
    return path.is_file() and path.relative_to(demo / "archive").as_posix() in (demo / "labels.csv").read_text()


@pytest.mark.parametrize("terminal", [False, True])
def test_inspect_folds_nothing_when_it_is_piped(terminal, monkeypatch, capsys):
    from mammoscan.core.console import Console

    monkeypatch.setenv("COLUMNS", "60")
    console, long = Console(), "word " * 40 + "end"
    console._out._force_terminal = terminal
    console.facts((("PatientID", "[bold]x[/bold]"), ("flags", long)))
    lines = capsys.readouterr().out.splitlines()
    assert any("[bold]x[/bold]" in line for line in lines)
    assert (f"flags      {long}" in lines) is not terminal


def test_inspect_prints_one_object_that_its_schema_describes(demo, tmp_path):
    paths = [p for p in sorted((demo / "archive").rglob("*")) if p.is_file()]
    path = next(p for p in paths if _is_analysed(demo, p))
    done = _mammoscan("inspect", path, "--json")
    found = _valid(done.stdout, "inspect")
    assert (found["decision"], found["exit_status"], done.returncode) == ("analysed", 0, 0)
    assert set(found["header"]) == set(_schema_of("header"))
    assert set(found["image"]) == set(_schema_of("image"))
    assert all(set(finding) == set(_schema_of("findings")) for finding in found["findings"])
    assert found["findings"]
    note = tmp_path / "note.txt"
    note.write_text("hello")
    other = _valid(_mammoscan("inspect", note, "--json").stdout, "inspect")
    assert (other["decision"], other["code"], other["exit_status"]) == ("skipped", "not-dicom", 3)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(path.read_bytes()[:-5000])
    done = _mammoscan("inspect", cut, "--json")
    other = _valid(done.stdout, "inspect")
    assert (other["decision"], other["exit_status"], done.returncode) == ("failed", 1, 1)
    assert other["header"]["patient_id"] == found["header"]["patient_id"]


def _schema_of(name):
    part = json.loads((docs.MANUAL / "inspect.schema.json").read_text())["properties"][name]
    return part.get("items", part)["properties"]


def test_inspect_says_its_statuses():
    shown = " ".join(CliRunner().invoke(main, ["inspect", "--help"]).output.split())
    assert "Exit status: 0 analysed, or skipped by a rule, 1 " in shown


def test_inspect_says_why_a_file_is_not_analysed(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("hello")
    done = _mammoscan("inspect", note)
    assert done.returncode == ExitCode.NOTHING_ANALYSED
    assert "not-dicom" in done.stdout


def _without_the_engine(*arguments):
    """A command on a machine where TensorFlow and Keras are not installed."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('tensorflow', 'keras')))\n"
        "from mammoscan.cli import main; main(sys.argv[1:], prog_name='mammoscan')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["run", "inspect", "train"])
def test_what_needs_the_network_says_so_before_any_work(command, demo, tmp_path):
    image = next(p for p in sorted((demo / "archive").rglob("*")) if _is_analysed(demo, p))
    weights = tmp_path / "weights.npz"
    weights.touch()
    out = tmp_path / "out"
    done = _without_the_engine(*{
        "run": ("run", demo / "archive", "--out", out),
        "inspect": ("inspect", image),
        "train": ("train", demo, "--out", out, "--start", weights),
    }[command])  # fmt: skip
    assert done.returncode == ExitCode.USAGE, done.stderr
    said = " ".join(done.stderr.split())
    assert "TensorFlow, which is not installed here" in said
    assert "pip install 'tensorflow" in said
    assert not list(out.rglob("*.csv"))


def test_audit_needs_no_network(demo, copied_run, tmp_path):
    done = _without_the_engine("audit", copied_run, "--labels", demo / "labels.csv", "--out", tmp_path / "audit")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "audit" / "audit.html").is_file()


@STORESCP
def test_send_needs_no_network(copied_run, tmp_path):
    with StoreScp(tmp_path / "peer") as peer:
        done = _without_the_engine("send", copied_run, "--to", peer.to)
        assert done.returncode == 0, done.stderr
        assert len(set(peer.requests())) == len(list(copied_run.rglob("*.dcm")))


def test_demo_write_only_writes_the_same_bytes_as_the_tests_use(demo, tmp_path):
    done = _mammoscan("demo", tmp_path / "demo", "--write-only")
    assert done.returncode == 0, done.stderr
    for path in (demo / "archive").rglob("*"):
        if path.is_file():
            assert (
                tmp_path / "demo" / "archive" / path.relative_to(demo / "archive")
            ).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mammoscan", "in"], {"inspect"}),
        (["mammoscan", "run", "--oper"], {"--operating-point"}),
        (["mammoscan", "run", "--include", "for"], {"for-processing"}),
    ],
)
def test_the_shell_completes_commands_options_and_values(words, expected):
    given = {"_MAMMOSCAN_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = _mammoscan(env={**os.environ, **given})
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == expected, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_for_a_shell_gives_a_script_that_the_shell_takes(shell):
    done = _mammoscan(env={**os.environ, "_MAMMOSCAN_COMPLETE": f"{shell}_source"})
    assert done.returncode == 0, done.stderr
    assert "_MAMMOSCAN_COMPLETE" in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


def test_help_shows_every_option_once_in_its_group():
    shown = CliRunner().invoke(main, ["run", "--help"], terminal_width=200, max_content_width=200).output
    command = main.get_command(click.Context(main), "run")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert len(re.findall(rf"^ +{parameter.opts[0]}\b(?!-)", shown, flags=re.MULTILINE)) == 1, parameter.name
    titles = ("What is analysed", "Where results go", "Sending:", "Other machines:", "Advanced:")
    places = [shown.index(title) for title in titles]
    assert places == sorted(places)
    assert shown.index("--threshold") < places[1] < shown.index("--deidentify ") < places[2] < shown.index("--calling")
    assert shown.index("--batch-size") > places[4]


def test_help_names_no_option_that_is_not_there():
    from mammoscan.cli import help as helped

    listed = [name for names in helped._TITLES.values() for name in names]
    known = {p.name for name in ("run", "demo") for p in main.get_command(click.Context(main), name).params}
    assert len(listed) == len(set(listed))
    assert set(listed) <= known


def test_help_is_as_wide_as_the_terminal():
    for columns in (80, 140):
        shown = _mammoscan("run", "--help", env={**os.environ, "COLUMNS": str(columns)}).stdout
        longest = max(map(len, shown.splitlines()))
        assert columns - 20 < longest <= columns


def test_another_form_of_tables_analyses_nothing_is_audited_the_same_and_can_be_taken_back(demo, copied_run, tmp_path):
    names = [path.name for path in copied_run.glob("*.csv")]
    plain = {name: (copied_run / name).read_bytes() for name in names}
    audits = []
    for form in ("excel-semicolon", "excel", "plain"):
        done = _mammoscan(
            "run", demo / "archive", "--out", copied_run, "--settle-seconds", 0, "--json", "--tables", form
        )  # fmt: skip
        assert json.loads(done.stdout)["analysed"] == 0
        assert {name: (copied_run / name).read_bytes() == plain[name] for name in names} == dict.fromkeys(
            names, form == "plain"
        )
        out = tmp_path / form
        done = _mammoscan("audit", copied_run, "--labels", demo / "labels.csv", "--out", out, "--replicates", 100)
        assert done.returncode in {0, 1}, done.stderr
        audits.append([(out / name).read_bytes() for name in ("metrics.csv", "cases.csv", "unmatched.csv")])
    assert audits[0] == audits[1] == audits[2]
