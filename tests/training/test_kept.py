"""What is kept on disk is made anew where the code that made it changed, wherever that code lies."""

import pytest

from mammoscan.training import examples, kept, rank, tracing


@pytest.mark.parametrize("module", [examples, rank, tracing])
def test_the_digest_holds_every_file_that_a_step_names_and_its_own(module, tmp_path, monkeypatch):
    monkeypatch.setattr(kept.mammoscan, "__file__", str(tmp_path / "__init__.py"))
    for pattern in module._CODE:
        path = tmp_path / pattern.replace("**/*", "some/one")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a = 1\n")
    before = kept.digest([], [1], module._CODE)
    assert f"training/{module.__name__.rpartition('.')[2]}.py" in module._CODE
    assert kept.digest([], [1], module._CODE) == before
    for path in sorted(tmp_path.rglob("*.py")):
        path.write_text("a = 2\n")
        assert kept.digest([], [1], module._CODE) != before
        path.write_text("a = 1\n")


@pytest.mark.parametrize("module", [examples, rank, tracing])
def test_every_pattern_of_a_step_is_a_file_of_the_package(module):
    assert kept.digest([], [1], module._CODE)


def test_code_that_was_moved_is_an_error_and_no_silent_hit():
    with pytest.raises(ValueError, match=r"no file is model/rank\.py"):
        kept.digest([], [1], ("image/crops.py", "model/rank.py"))
