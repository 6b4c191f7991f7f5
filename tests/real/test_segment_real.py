"""Regions against the findings of the real films, ranked by trees that did not see the film's patient."""

from __future__ import annotations

import joblib
import numpy as np
import pytest

from mammoscan import preprocess, segment
from tests.real import films, hits

pytestmark = [pytest.mark.slow, films.SKIP, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def ordered():
    """By set: hits and Dice of the regions in the order of a held-out ranking, one pair a film."""
    every = [f for f in hits.chosen_films() if hits.truths(f)]
    done = joblib.Parallel(n_jobs=2, batch_size=4)(joblib.delayed(hits.measured)(f) for f in every)
    pairs = hits.held_out(done)
    return {s: [p for p, f in zip(pairs, done, strict=True) if f.source == s] for s in ("mias", "cesm", "cbis-mass")}


def shares(pairs):
    total, curve = hits.curve([hit for hit, _ in pairs])
    print(f"\n{total} findings, hit at {hits.AT} regions: {curve}")
    return dict(zip(hits.AT, curve, strict=True))


def test_85_percent_of_located_mias_findings_are_hit_at_20_regions_a_film(ordered):
    assert shares(ordered["mias"])[20] >= 0.85


def test_80_percent_of_cesm_lesions_are_hit_at_20_regions_an_image(ordered):
    assert shares(ordered["cesm"])[20] >= 0.80


def test_85_percent_of_cbis_boxes_are_hit_at_20_regions_an_image(ordered):
    assert shares(ordered["cbis-mass"])[20] >= 0.85


def test_outlines_of_the_cesm_lesions_that_are_hit_have_a_median_dice_of_55_percent(ordered):
    found = hits.dice_of_hits(ordered["cesm"])
    print(f"\nmedian Dice {np.median(found):.3f} of {len(found)}")
    assert np.median(found) >= 0.55


def test_segment_keeps_what_the_measurement_keeps():
    """The figures above are those of ``segment()``: the same regions in the same order."""
    film = next(f for f in films.mias() if films.circles(f))
    regions = segment.segment(preprocess.prepare(film.image()), max_regions=20).regions
    done = hits.measured(film)
    hit, _ = hits.in_order(done, segment.ranking.frozen())
    truths = hits.truths(film)
    assert [[hits.hits(r, t) for t in truths] for r in regions] == hit[:20].tolist()
