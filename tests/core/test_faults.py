"""What the machine refuses, in words."""

import errno

import pytest

from mammoscan.core import faults


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EINVAL])
def test_a_refusal_about_a_place_names_it_with_cause_and_remedy(number):
    said = str(faults.explained(OSError(number, "as the system says", "/archive/a:b")))
    assert "/archive/a:b" in said
    assert "(" in said
    assert said.count("\n") == 0


def test_an_argument_that_nobody_names_is_our_own_mistake():
    assert faults.explained(OSError(errno.EINVAL, "Invalid argument")) is None
