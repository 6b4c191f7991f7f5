"""What the storms share: a small archive and an undisturbed run over it."""

import pytest

from tests.storms import machine


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return machine.archive(tmp_path_factory.mktemp("storm-archive") / "archive")


@pytest.fixture(scope="session")
def finished(images, tmp_path_factory):
    """Read only; copy it to change it."""
    return machine.undisturbed(images, tmp_path_factory.mktemp("storm-finished") / "out")
