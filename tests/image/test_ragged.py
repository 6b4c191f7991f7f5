"""Sums over parts of a list are to the bit those of the parts alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoscan.image import ragged


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.integers(0, 10_000))
def test_sums_means_and_deviations_are_those_of_each_part(kind, lengths, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(0.3, 1.0, length).astype(kind) for length in lengths]
    values, sizes = np.concatenate(parts), np.array(lengths)
    for ours, theirs in (
        (ragged.sums, np.sum), (ragged.means, np.mean), (ragged.variances, np.var), (ragged.deviations, np.std),
    ):  # fmt: skip
        found = ours(values, sizes)
        assert found.dtype == kind
        assert found.tolist() == [float(theirs(part)) for part in parts]
