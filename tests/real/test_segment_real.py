"""Regions against the findings of the real films: the curve of findings hit, and the bars."""

from __future__ import annotations

import cv2
import joblib
import numpy as np
import pytest

from mammoscan import preprocess, segment
from tests.real import films, fit_ranking

pytestmark = [pytest.mark.slow, films.SKIP]


def measured(film):
    """Hits (regions, findings), and the Dice of the first region that hits each mask."""
    cv2.setNumThreads(1)
    regions = segment.segment(preprocess.prepare(film.image()), max_regions=30).regions
    truths = fit_ranking.truths(film)
    hit = np.array([[fit_ranking.hits(r, t) for t in truths] for r in regions], bool).reshape(-1, len(truths))
    dice = []
    for j, (kind, value) in enumerate(truths):
        if kind == "mask" and hit[:20, j].any():
            drawn = np.zeros(value.shape, np.uint8)
            outline = regions[int(hit[:, j].argmax())].contour - 0.5
            cv2.fillPoly(drawn, [np.round(outline).astype(np.int32)], 1)
            dice.append(2 * float((drawn.astype(bool) & value).sum()) / float(drawn.sum() + value.sum()))
    return hit, dice


def run(name, chosen):
    done = joblib.Parallel(n_jobs=2)(joblib.delayed(measured)(f) for f in chosen)
    for half in (True, False):
        part = [m for f, (m, _) in zip(chosen, done, strict=True) if fit_ranking.is_odd(f) == half]
        side = "odd" if half else "even"
        print(f"{name}, {side} patients: findings, hit at {fit_ranking.AT}: {fit_ranking.curve(part)}")
    curve = fit_ranking.curve([m for m, _ in done])
    print(f"{name}, all: {curve}")
    return dict(zip(fit_ranking.AT, curve[1], strict=True)), [d for _, found in done for d in found]


def test_85_percent_of_located_mias_findings_are_hit_at_20_regions_a_film():
    curve, _ = run("mias", [f for f in films.mias() if films.circles(f)])
    assert curve[20] >= 0.85


def test_80_percent_of_cesm_lesions_are_hit_and_outlined_at_20_regions_an_image():
    curve, dice = run("cesm", [f for f in films.cesm() if fit_ranking.truths(f)])
    print(f"Dice of hit lesions: median {np.median(dice):.2f} of {len(dice)}")
    assert curve[20] >= 0.80
    assert np.median(dice) >= 0.55


def test_85_percent_of_cbis_boxes_are_hit_at_20_regions_an_image():
    curve, _ = run("cbis", [f for f in films.cbis() if fit_ranking.truths(f)][::4])
    assert curve[20] >= 0.85
