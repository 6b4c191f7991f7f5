"""The fit of percent density, on phantoms alone."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mammoscan.image import dense
from mammoscan.training import dense_fit


@pytest.fixture(scope="module")
def phantoms():
    return [dense_fit.of_phantom((99, n), 200) for n in range(12)]


@pytest.fixture(scope="module")
def films(phantoms):
    """Phantoms of which only the share is told."""
    return [dataclasses.replace(p, source="mias", density="abcd"[int(p.aim // 22)], known=None) for p in phantoms]


def test_a_fit_tells_dense_from_fat_by_phantoms(films, phantoms):
    judge = dense_fit.levelled(dense_fit.fit(films, phantoms, seed=1, steps=300), films, phantoms)
    right = np.mean([((judge(p.measures) > 0) == p.known).mean() for p in phantoms])
    off = np.mean([abs(p.percent(judge) - p.aim) for p in phantoms])
    assert right > 0.8
    assert off < 8.0


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tmp_path, films, phantoms):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        dense_fit.write(dense_fit.fit(films, phantoms, seed=seed, steps=20), tmp_path / name, made_by="a test")
    first, again, other = ((tmp_path / name).read_bytes() for name in ("first", "again", "other"))
    assert first == again
    assert first != other


def test_what_is_written_is_read_back_as_it_was_fitted(tmp_path, films, phantoms):
    judge = dense_fit.fit(films, phantoms, seed=1, steps=20)
    dense_fit.write(judge, tmp_path / "density.json", made_by="a test")
    facts = json.loads((tmp_path / "density.json").read_text())
    assert facts["made_by"] == "a test"
    found = dense.Judge.of(facts)(phantoms[0].measures)
    assert found == pytest.approx(judge(phantoms[0].measures), abs=1e-3)


def test_the_gradient_of_the_loss_is_its_derivative():
    rng = np.random.default_rng(0)
    groups, phantoms, drawn = dense_fit._GROUPS * dense_fit._FILMS, dense_fit._PHANTOMS, dense_fit._DRAWN
    sums = rng.normal(0, 1, (groups + phantoms, drawn))
    truth = (rng.random((phantoms, drawn)) > 0.5).astype(float)
    parts, aims = rng.uniform(0.7, 1.0, (len(sums), 1)), rng.uniform(0.4, 0.6, (len(sums), 1))

    def loss(s):
        p = 1 / (1 + np.exp(-s))
        off = p.mean(axis=1, keepdims=True) * parts - aims
        films, last = off[:groups], off[groups:]
        of_class = films.reshape(dense_fit._GROUPS, -1).mean(axis=1)
        return (
            20 * (films**2).mean() + 20 * dense_fit.BY_CLASS * (of_class**2).mean()
            + 20 * dense_fit.BY_PIXEL * (last**2).mean()
            + dense_fit.DECIDED * (p[:groups] * (1 - p[:groups])).mean()
            - dense_fit.BY_PIXEL * (truth * np.log(p[groups:]) + (1 - truth) * np.log(1 - p[groups:])).mean()
        )  # fmt: skip

    found = dense_fit._slope(1 / (1 + np.exp(-sums)), parts, aims, truth)
    for place in ((0, 0), (40, 7), (70, 3)):
        moved = np.zeros_like(sums)
        moved[place] = 1e-5
        expected = (loss(sums + moved) - loss(sums - moved)) / 2e-5
        assert found[place] == pytest.approx(expected, rel=1e-3)
