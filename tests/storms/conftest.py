"""What the storms share: a small archive and an undisturbed run over it."""

import pytest

from tests.storms import machine


@pytest.fixture(scope="session")
def images(shared):
    return shared("storm-archive", lambda folder: machine.archive(folder / "archive")) / "archive"


@pytest.fixture(scope="session")
def finished(images, shared):
    """Read only; copy it to change it."""
    return shared("storm-finished", lambda folder: machine.undisturbed(images, folder / "out")) / "out"
