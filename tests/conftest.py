"""Archives and runs that several tests share."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import settings

# An example that takes long on a busy machine says nothing about what it shows.
settings.register_profile("mammoscan", deadline=None)
settings.load_profile("mammoscan")

# dciodvfy and tid1500reader come with pip and lie beside the interpreter, also when the environment is not activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

# What takes longest begins first, so that the processes of the tests end together: files, or whole folders.
FIRST = ("training/test_train.py", "run/test_pipeline.py", "storms", "run/test_cluster.py", "run/test_night.py",
         "test_cli.py", "audit/test_audit.py", "run", "send", "training", "review", "report", "audit")  # fmt: skip


def pytest_configure(config):
    # pytest-xdist would send the files with most tests first, and those with few long ones last.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent

    def place(item) -> int:
        name = item.path.relative_to(here).as_posix()
        return next((n for n, first in enumerate(FIRST) if name == first or name.startswith(f"{first}/")), len(FIRST))

    items.sort(key=place)


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Have a folder filled once for all processes of the tests: ``shared(name, fill)``. The others wait. Read only."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def filled(name: str, fill: Callable[[Path], object]) -> Path:
        folder, whole = root / name, root / f"{name}.whole"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                whole.touch()
        return folder

    return filled


@pytest.fixture(scope="session")
def demo(shared) -> Path:
    """The demo archive and its labels, written once: ``demo/archive``, ``demo/labels.csv``. Read only.

    While a run goes over it, it is write-protected: who copies it, copies content and no modes.
    """
    from mammoscan.cli import main

    def write(folder: Path) -> None:
        result = CliRunner().invoke(main, ["demo", str(folder), "--write-only"], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    return shared("demo", write)


@dataclass(frozen=True)
class DemoStory:
    """A run over the demo archive from the command line. before, after: the archive, as ``state`` says."""

    out: Path
    status: int
    said: str
    log: Path
    before: dict
    after: dict


def state(folder: Path) -> dict:
    """Every file below a folder with its bytes' digest, inode and modification time."""
    return {
        str(p.relative_to(folder)): (
            hashlib.sha256(p.read_bytes()).hexdigest(),
            p.stat().st_ino,
            p.stat().st_mtime_ns,
        )
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def _run_over(archive: Path, folder: Path) -> None:
    """The run, and what was seen of it in ``story.json``."""
    command = [sys.executable, "-m", "mammoscan", "run", str(archive), "--out", str(folder / "reports"),
               "--settle-seconds", "0", "--log-file", str(folder / "run.log")]  # fmt: skip
    before = state(archive)
    for path in archive.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        for path in archive.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    seen = {"status": done.returncode, "said": done.stdout + done.stderr, "before": before, "after": state(archive)}
    (folder / "story.json").write_text(json.dumps(seen))


@pytest.fixture(scope="session")
def demo_story(demo, shared) -> DemoStory:
    """The one run over the demo archive, which is read-only meanwhile. Read only."""
    folder = shared("demo-run", lambda folder: _run_over(demo / "archive", folder))
    seen = json.loads((folder / "story.json").read_text())
    return DemoStory(folder / "reports", log=folder / "run.log", **seen)


@pytest.fixture(scope="session")
def demo_run(demo_story) -> Path:
    """The output folder of a run over the demo archive. Read only; copy it to change it."""
    return demo_story.out


@pytest.fixture
def copied_run(demo_run, tmp_path) -> Path:
    """A copy of the demo run's output that a test may change."""
    return shutil.copytree(demo_run, tmp_path / "reports")
