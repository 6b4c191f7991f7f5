"""Archives and runs that several tests share."""

import os
import shutil
import sys
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


@pytest.fixture(scope="session")
def demo_run(demo, tmp_path_factory) -> Path:
    """The output folder of a run over the demo archive. Read only; copy it to change it."""
    from mammoscan.core.console import Console
    from mammoscan.run import pipeline
    from mammoscan.run.config import RunConfig

    out = tmp_path_factory.mktemp("demo-run") / "reports"
    pipeline.run(RunConfig(archive=demo / "archive", out=out, settle_seconds=0), Console(quiet=True))
    return out


@pytest.fixture
def copied_run(demo_run, tmp_path) -> Path:
    """A copy of the demo run's output that a test may change."""
    return shutil.copytree(demo_run, tmp_path / "reports")
