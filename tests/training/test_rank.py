"""The ranking's trees as arrays say what scikit-learn says."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from mammoscan.image.segment import ranking
from mammoscan.training import rank


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(3)
    made = []
    for _ in range(20):
        x = rng.normal(size=(200, 6)).astype(np.float32)
        made.append(rank.Case(x, (np.tanh(x[:, 0] * x[:, 1]) + 0.1 * rng.normal(size=200)).astype(np.float32)))
    return made


def test_arrays_give_what_the_fitted_model_gives(cases, monkeypatch):
    fitted = []
    original = HistGradientBoostingRegressor.fit

    def fit(self, *args, **kwargs):
        fitted.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(HistGradientBoostingRegressor, "fit", fit)
    trees = rank.fit(cases, seed=1)
    x = np.concatenate([c.measures for c in cases])
    np.testing.assert_allclose(trees.score(x), fitted[0].predict(x), atol=1e-5)


def test_the_ranking_learns_what_overlaps(cases):
    trees = rank.fit(cases[:15], seed=1)
    x, y = (np.concatenate([getattr(c, name) for c in cases[15:]]) for name in ("measures", "overlap"))
    assert np.corrcoef(trees.score(x), y)[0, 1] > 0.9


def test_what_is_written_is_read(cases, tmp_path):
    trees = rank.fit(cases[:3], seed=1)
    rank.save(trees, tmp_path / "ranking.npz")
    again = ranking.load((tmp_path / "ranking.npz").open("rb"))
    np.testing.assert_array_equal(again.score(cases[4].measures), trees.score(cases[4].measures))
