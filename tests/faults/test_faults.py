"""The machine's faults: one line with cause and remedy, a documented status, and the next run goes on.

The shares and disks are pretended by a preloaded shim (``share.c``, needs gcc) or are small mounts in a namespace of
their own (needs root).
"""

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mammoscan.core import verdict
from mammoscan.core.errors import ExitCode
from mammoscan.run.ledger import NAME
from tests import small

GCC = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def _namespace():
    """Whether small file systems can be mounted in a namespace of one's own."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=4k tmpfs /mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


MOUNT = pytest.mark.skipif(not _namespace(), reason="needs root that may mount")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An archive of one study and the results of a run over it. Read only."""
    root = tmp_path_factory.mktemp("made")
    small.write(root / "archive" / "anna-cc.dcm", small.image(small.ANNA))
    small.run(root / "archive", root / "out")
    return root


@pytest.fixture
def case(made, tmp_path):
    """A copy with work left that needs no network: one report is missing."""
    shutil.copytree(made, tmp_path / "case")
    next((tmp_path / "case" / "out").rglob("report.pdf")).unlink()
    return tmp_path / "case"


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    target = tmp_path_factory.mktemp("shim") / "share.so"
    source = Path(__file__).with_name("share.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(target), str(source), "-ldl"], check=True)
    return target


def _command(case, *more, out=None):
    return [sys.executable, "-m", "mammoscan", "run", str(case / "archive"), "--out", str(out or case / "out"),
            "--settle-seconds", "0", "--workers", "1", *map(str, more)]  # fmt: skip


def _run(case, *more, out=None, **environment):
    return subprocess.run(
        _command(case, "--quiet", *more, out=out), capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, **environment},
    )  # fmt: skip


def _is_one_line(done, status, *words):
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert "(" in done.stderr  # the remedy


def _goes_on(case, made):
    """The next run ends what was left, with the results of an undisturbed one."""
    assert verdict.verdict(small.run(case / "archive", case / "out"), case / "out") == ""
    _is_as(case / "out", made / "out")


def _is_as(out, reference):
    assert _files(out) == _files(reference)


def _files(out):
    """Every file but those that tell of the run itself."""
    found = (p for p in out.rglob("*") if p.is_file() and p.name not in {"run.json", NAME})
    return {str(p.relative_to(out)): p.read_bytes() for p in found}


REFUSED = {
    "a share without locks": ({"FAULT": f"flock:{errno.ENOLCK}"}, "no locks"),
    "a share that knows no locks": ({"FAULT": f"flock:{errno.ENOTSUP}"}, "no locks"),
    "no space for a report": ({"FAULT": f"write:{errno.ENOSPC}", "FAULT_AT": ".mammoscan-partial"}, "no space"),
    "no space for the name of a report": ({"FAULT": f"create:{errno.ENOSPC}", "FAULT_AT": ".mammoscan-partial"}, "no space"),
    "no space for the state": ({"FAULT": f"write:{errno.ENOSPC}", "FAULT_AT": NAME}, "no space"),
    "no space for the lock": ({"FAULT": f"create:{errno.ENOSPC}", "FAULT_AT": ".lock"}, "no space"),
    "a quota that is used up": ({"FAULT": f"write:{errno.EDQUOT}", "FAULT_AT": ".mammoscan-partial"}, "quota"),
    "a disk that fails": ({"FAULT": f"write:{errno.EIO}", "FAULT_AT": ".mammoscan-partial"}, "storage"),
    "a state file on a disk that fails": ({"FAULT": f"write:{errno.EIO}", "FAULT_AT": NAME}, "storage"),
}  # fmt: skip


@GCC
@pytest.mark.parametrize(("faults", "word"), REFUSED.values(), ids=REFUSED)
def test_what_the_disk_refuses_is_one_line_and_the_next_run_goes_on(case, made, shim, faults, word):
    done = _run(case, LD_PRELOAD=str(shim), FAULT_ROOT=str(case / "out"), **faults)
    _is_one_line(done, ExitCode.USAGE, word, str(case / "out"))
    assert not list((case / "out").rglob(".mammoscan-partial*"))
    _goes_on(case, made)


BORNE = {
    "folders are not synced (CIFS)": f"syncdir:{errno.EINVAL}",
    "folders are not synced (FUSE)": f"syncdir:{errno.ENOTSUP}",
    "folders may not be synced": f"syncdir:{errno.EACCES}",
    "modes are not changed (SMB)": f"chmod:{errno.EPERM}",
}


@GCC
@pytest.mark.parametrize("faults", BORNE.values(), ids=BORNE)
def test_what_a_share_cannot_do_and_nothing_needs_is_borne(case, made, shim, faults):
    done = _run(case, LD_PRELOAD=str(shim), FAULT_ROOT=str(case / "out"), FAULT=faults)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    _is_as(case / "out", made / "out")


def test_a_state_file_that_another_program_holds_is_one_line_after_a_while(case, made):
    with contextlib.closing(sqlite3.connect(case / "out" / NAME, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        _is_one_line(_run(case), ExitCode.LOCKED, "another program holds the state file")
    _goes_on(case, made)


DAMAGE = {
    "cut in half": lambda content: content[: len(content) // 2],
    "no state file at all": lambda content: b"hello" * (len(content) // 5),
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_state_file_is_one_line_and_changes_nothing(case, damage):
    state = case / "out" / NAME
    state.write_bytes(damage(state.read_bytes()))
    before = {p: p.read_bytes() for p in (case / "out").rglob("*") if p.is_file()}
    _is_one_line(_run(case), ExitCode.USAGE, "the state file is damaged", str(state))
    assert {p: p.read_bytes() for p in (case / "out").rglob("*") if p.is_file()} == before


def test_without_its_state_file_and_reports_a_folder_is_filled_anew(case, made):
    (case / "out" / NAME).write_bytes(b"")
    assert _run(case).returncode == ExitCode.USAGE
    (case / "out" / NAME).unlink()
    shutil.rmtree(case / "out" / "studies")
    assert _run(case).returncode == ExitCode.ALL_ANALYSED
    assert small.table(case / "out", "studies")


def test_results_below_a_file_are_one_line(case):
    file = case / "archive" / "anna-cc.dcm"
    _is_one_line(_run(case, out=file / "x"), ExitCode.USAGE, "not a folder", str(file))


@pytest.mark.parametrize("place", ["nowhere/x.log", "archive/anna-cc.dcm/x.log"])
def test_a_log_that_cannot_be_opened_is_one_line(case, made, place):
    _is_one_line(_run(case, "--log-file", case / place), ExitCode.USAGE, "log", place)
    _goes_on(case, made)


def test_a_log_on_a_full_disk_costs_the_log_alone(case, made):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = _run(case, "--log-file", "/dev/full")
    said = done.stderr.splitlines()
    assert done.returncode == 0
    assert len(said) == 1
    assert "the log is not whole" in done.stderr
    _is_as(case / "out", made / "out")


def _in_namespace(case, mounts, out=None):
    import shlex

    script = f"{mounts} && exec {shlex.join(_command(case, '--quiet', out=out))}"
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=600
    )


@MOUNT
def test_a_read_only_folder_of_results_is_one_line(case, made):
    out = case / "out"
    mounts = f"mount --bind {out} {out} && mount -o remount,bind,ro {out}"
    _is_one_line(_in_namespace(case, mounts), ExitCode.USAGE, "read-only", str(out))
    _goes_on(case, made)


@MOUNT
@pytest.mark.parametrize("size", ["0", "60k", "200k"])
def test_a_full_disk_is_one_line_at_whatever_moment_it_fills_up(case, size):
    (case / "small").mkdir()
    mounts = f"mount -t tmpfs -o size={'4k,nr_inodes=1' if size == '0' else size} tmpfs {case / 'small'}"
    _is_one_line(_in_namespace(case, mounts, out=case / "small" / "out"), ExitCode.USAGE, "no space")


@MOUNT
@pytest.mark.parametrize("options", ["size=4k,ro", "size=4k,nr_inodes=1"], ids=["read-only", "full"])
def test_without_semaphores_the_run_does_all_in_one_process(case, made, options):
    done = _in_namespace(case, f"mount -t tmpfs -o {options} tmpfs /dev/shm")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    _is_as(case / "out", made / "out")


@pytest.mark.parametrize("environment", [{"HOME": "/nonexistent"}, {"TMPDIR": "/nonexistent"}], ids=["home", "tmpdir"])
def test_a_run_needs_neither_a_home_nor_a_place_for_temporary_files(case, made, environment):
    done = _run(case, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    _is_as(case / "out", made / "out")
