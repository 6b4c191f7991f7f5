"""Archives and runs that several tests share."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# An example that takes long on a busy machine says nothing about what it shows.
settings.register_profile("mammoscan", deadline=None)
settings.load_profile("mammoscan")

# dciodvfy and tid1500reader come with pip and lie beside the interpreter, also when the environment is not activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """The demo archive and its labels, written once: ``demo/archive``, ``demo/labels.csv``."""
    from mammoscan.synthetic.archive import write_demo

    out = tmp_path_factory.mktemp("demo")
    write_demo(out)
    return out


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


@pytest.fixture(scope="session")
def demo_story(demo, tmp_path_factory) -> DemoStory:
    """The one run over the demo archive, which is read-only meanwhile. Read only."""
    folder, archive = tmp_path_factory.mktemp("demo-run"), demo / "archive"
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
    log = folder / "run.log"
    return DemoStory(folder / "reports", done.returncode, done.stdout + done.stderr, log, before, state(archive))


@pytest.fixture(scope="session")
def demo_run(demo_story) -> Path:
    """The output folder of a run over the demo archive. Read only; copy it to change it."""
    return demo_story.out


@pytest.fixture
def copied_run(demo_run, tmp_path) -> Path:
    """A copy of the demo run's output that a test may change."""
    return shutil.copytree(demo_run, tmp_path / "reports")
