"""What the ledger keeps comes back the same."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mammoscan.core.domain import Failed, Geometry, Preview, Region, RegionKind, Scores, SourceFile
from mammoscan.core.errors import Reason, Stage
from mammoscan.run import codec


def _same(first, second):
    if dataclasses.is_dataclass(first):
        return type(first) is type(second) and all(
            _same(getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(first)
        )
    if isinstance(first, tuple):
        return isinstance(second, tuple) and len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    return first == second and type(first) is type(second)


VALUES = [
    Scores(0.1, 0.2, 0.7, 0.333333333333333),
    Geometry(10, 20, True, 1.5, 2.0, 0.5, 0.25, 7, 8, 0.2, False),
    Preview(np.arange(6, dtype=np.uint8).reshape(2, 3), np.eye(2, 3, dtype=bool), 0.5),
    Region(
        RegionKind.MASS, np.array([[0.1, np.nan], [1, 2], [3, 4]]), (0.0, 1.0, 2.0, 3.0), (1.0, 2.0), 5.0, None, 0.5
    ),
    Failed(
        SourceFile(Path("/a/Żółć\udcff"), "Żółć", 1, 2), Stage.PIXELS, Reason.TRUNCATED, "half", "1.2", "1.2.3", None
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_value_comes_back_the_same(value):
    assert _same(codec.decode(type(value), codec.encode(value)), value)


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_the_same_value_gives_the_same_bytes(value):
    assert codec.encode(value) == codec.encode(value)


def test_bytes_of_another_type_are_refused():
    with pytest.raises(ValueError, match="Geometry"):
        codec.decode(Geometry, codec.encode(VALUES[0]))


def test_bytes_that_are_nothing_are_refused():
    with pytest.raises(ValueError, match="Scores"):
        codec.decode(Scores, b"junk")


def test_objects_cannot_be_smuggled_in():
    with pytest.raises(TypeError):
        codec.encode(object())
