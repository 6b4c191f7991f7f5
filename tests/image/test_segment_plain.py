"""Regions measured many at once, against the plain definition of each step, one mask at a time (``tests.plain``)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mammoscan.image import segment
from mammoscan.image.segment import grow, measure, merge, ranking, sift, threshold
from mammoscan.image.segment.proposal import Origin, Proposal, Sketch
from tests import plain
from tests.drawn import breast

MASSES = [(150, 300, 25, 0.3), (100, 450, 15, 0.25), (200, 200, 35, 0.2), (10, 350, 20, 0.3)]


@pytest.fixture(scope="module")
def field():
    return segment.search_field(breast(MASSES))


def blobs(field, seed):
    """Pieces of noise at all scales, with holes, at all edges, in windows tight or wide, on breast and air."""
    rng = np.random.default_rng(seed)
    height, width = field.pixels.shape
    found = []
    for sigma, share in ((0.6, 0.95), (2.0, 0.9), (6.0, 0.7), (20.0, 0.6), (40.0, 0.4)):
        noise = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), sigma)
        _, labels, stats, _ = cv2.connectedComponentsWithStats((noise > np.quantile(noise, share)).astype(np.uint8))
        for label in rng.permutation(np.arange(1, len(stats)))[:25]:
            x, y, w, h = (int(v) for v in stats[label, :4])
            more = int(rng.integers(0, 12))
            x0, y0 = max(0, x - more), max(0, y - more)
            mask = labels[y0 : y + h + more, x0 : x + w + more] == label
            found.append(Proposal(mask, x0, y0, Origin(int(rng.integers(0, 3)))))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_measures_of_all_proposals_are_those_of_each_alone(field, seed):
    proposals = blobs(field, seed)
    shared = measure.overlaps(field, proposals)
    found, wanted = measure.measures(field, proposals, shared), plain.measures(field, proposals, shared)
    for column, name in enumerate(measure.MEASURES):
        np.testing.assert_allclose(found[:, column], wanted[:, column], rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("seed", range(6))
def test_overlaps_are_those_of_cells_counted_one_by_one(field, seed):
    proposals = blobs(field, seed)
    np.testing.assert_array_equal(measure.overlaps(field, proposals), plain.overlaps(field, proposals))


def test_no_proposals_have_no_measures(field):
    assert measure.measures(field, [], measure.overlaps(field, [])).shape == (0, len(measure.MEASURES))


@pytest.mark.parametrize("seed", range(6))
def test_a_sketch_tells_area_middle_and_contrast_of_its_mask(field, seed):
    for proposal in blobs(field, seed):
        sketch = Sketch.of(field, proposal)
        ys, xs = np.nonzero(proposal.mask)
        assert sketch.area == len(ys)
        assert (sketch.x, sketch.y) == (xs.mean() + proposal.x, ys.mean() + proposal.y)
        contrast = sift.contrast(sketch, *sift.tables(field), 5)
        assert contrast == pytest.approx(plain.contrast(field, proposal, 5), abs=1e-5)


def test_sketches_of_merged_basins_are_those_of_their_masks(field):
    sketches = list(merge.merged(field))
    assert len(sketches) > 50
    for sketch in sketches:
        own, cut = sketch, Sketch.of(field, sketch.proposal())
        assert (own.area, own.x, own.y, own.tissue, own.window) == (cut.area, cut.x, cut.y, cut.tissue, cut.window)
        assert (own.total, own.tissue_total) == pytest.approx((cut.total, cut.tissue_total), rel=1e-9)


@pytest.mark.parametrize("box", [(3, 4, 20, 30), (-5, -7, 9, 8), (0, 0, 10_000, 10_000), (7, 7, 7, 7)])
def test_sums_of_boxes_are_those_of_their_pixels(field, box):
    left, top, right, bottom = box
    part = field.pixels[max(0, top) : bottom, max(0, left) : right].astype(np.float64)
    assert sift.Sums(field.pixels)(*box) == pytest.approx(float(part.sum()), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_seeds_grow_as_they_do_level_by_level(field, seed):
    rng = np.random.default_rng(seed)
    height, width = field.pixels.shape
    places = [(x, y, field.radii[index]) for _, index, x, y in threshold.seeds(field)]
    places += [
        (int(rng.integers(0, width)), int(rng.integers(0, height)), field.radii[int(rng.integers(0, len(field.radii)))])
        for _ in range(150)
    ]
    grown = 0
    for place in places:
        found, wanted = grow.grow(field, *place), plain.grow(field, *place)
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            grown += 1
            assert (found.x, found.y) == (wanted.x, wanted.y)
            np.testing.assert_array_equal(found.mask, wanted.mask)
    assert grown >= 20


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_areas_and_boxes_counted_by_runs_are_those_of_opencv(field, share):
    noise = np.random.default_rng(3).random(field.pixels.shape) < share
    count, labels, stats, _ = cv2.connectedComponentsWithStats(noise.astype(np.uint8), connectivity=4)
    runs = threshold.Runs.of(labels)
    np.testing.assert_array_equal(runs.areas(count), stats[:, cv2.CC_STAT_AREA])
    for label in np.flatnonzero(stats[:, cv2.CC_STAT_AREA])[:500]:
        assert runs.box(int(label)) == tuple(stats[label, :4])


def test_the_trees_of_the_ranking_give_what_a_walk_through_each_gives():
    trees = ranking.frozen()
    values = np.random.default_rng(4).normal(size=(20, len(measure.MEASURES))).astype(np.float32)
    values[0] = 1e9
    values[1] = -1e9
    np.testing.assert_allclose(trees.score(values), plain.scores(trees, values), rtol=1e-12)
