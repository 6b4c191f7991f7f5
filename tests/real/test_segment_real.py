"""Regions against the findings of the real films, ranked and drawn by what did not see the film's patient."""

from __future__ import annotations

import numpy as np
import pytest

from tests.real import films, hits

pytestmark = [pytest.mark.slow, films.SKIP, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """By set: what held-out rankings and outlines make of each film."""
    done = hits.held_out(tmp_path_factory.mktemp("fits"))
    return {s: [m for m in done if m.source == s] for s in ("mias", "cesm", "cbis-mass")}


def shares(done):
    total, curve = hits.curve(done)
    print(f"\n{total} findings, hit at {hits.AT} regions: {curve}")
    return dict(zip(hits.AT, curve, strict=True))


def test_85_percent_of_located_mias_findings_are_hit_at_20_regions_a_film(measured):
    assert shares(measured["mias"])[20] >= 0.85


def test_80_percent_of_cesm_lesions_are_hit_at_20_regions_an_image(measured):
    assert shares(measured["cesm"])[20] >= 0.80


def test_85_percent_of_cbis_boxes_are_hit_at_20_regions_an_image(measured):
    assert shares(measured["cbis-mass"])[20] >= 0.85


def test_outlines_of_the_cesm_lesions_that_are_hit_have_a_median_dice_of_55_percent(measured):
    found = hits.dice_of_hits(measured["cesm"])
    print(f"\nmedian Dice {np.median(found):.3f} of {len(found)}")
    assert np.median(found) >= 0.55
