"""Seeds, growing, merging and clusters on drawn breasts whose truth is known."""

from __future__ import annotations

import dataclasses
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.core.domain import RegionKind
from mammoscan.image import features, segment
from mammoscan.image.segment import grow, measure, merge, outline, ranking, spots, threshold
from mammoscan.image.segment.proposal import Origin, Proposal
from tests.drawn import MM, breast, in_source


@pytest.mark.parametrize("radius_mm", [5.0, 10.0])
def test_a_clear_mass_is_among_the_first_three_regions_and_well_outlined(radius_mm):
    radius = radius_mm / MM
    prepared = breast([(150, 300, radius, 0.3)])
    regions = segment.segment(prepared, max_regions=20).regions
    at = in_source(prepared, 150, 300)
    best = next(r for r in regions if np.hypot(r.centre[0] - at[0], r.centre[1] - at[1]) < radius / 2)
    assert regions.index(best) < 3
    assert best.area_px == pytest.approx(np.pi * radius**2, rel=0.5)
    assert best.area_mm2 == pytest.approx(best.area_px * MM * MM)


def test_a_small_mass_is_the_first_region_and_outlined_as_widely_as_readers_do():
    """The ranking learnt from outlines drawn by readers, who leave a margin around what is small."""
    prepared = breast([(150, 300, 2.5 / MM, 0.3)])
    region = segment.segment(prepared, max_regions=20).regions[0]
    far = np.hypot(*(region.contour - in_source(prepared, 150, 300)).T) * MM
    assert far.min() > 2.0
    assert far.max() < 2.5 + 2.5


@pytest.mark.parametrize("flipped", [False, True])
def test_outlines_lie_on_the_lesion_in_source_pixels(flipped):
    radius = 25
    prepared = breast([(150, 300, radius, 0.3)], flipped=flipped, x0=310.0, y0=77.0)
    at = in_source(prepared, 150, 300)
    region = segment.segment(prepared, max_regions=5).regions[0]
    far = np.hypot(region.contour[:, 0] - at[0], region.contour[:, 1] - at[1])
    assert np.median(far) == pytest.approx(radius, abs=5)
    assert np.hypot(region.centre[0] - at[0], region.centre[1] - at[1]) < 4
    x0, y0, x1, y1 = region.box
    assert (x0, y0) == tuple(region.contour.min(axis=0))
    assert (x1, y1) == tuple(region.contour.max(axis=0))


def test_area_in_millimetres_is_unknown_without_spacing():
    prepared = breast([(150, 300, 25, 0.3)], spacing=False)
    segmented = segment.segment(prepared, max_regions=5)
    assert all(r.area_mm2 is None for r in segmented.regions)
    measured = features.region_features(segmented)
    columns = [features.REGION_FEATURES.index(f"feature_{n}") for n in ("area_mm2", "perimeter_mm")]
    assert np.isnan(measured[:, columns]).all()


def test_features_of_a_mass_are_those_that_were_drawn():
    radius = 30
    segmented = segment.segment(breast([(150, 300, radius, 0.3)]), max_regions=3)
    row = dict(zip(features.REGION_FEATURES, features.region_features(segmented)[0], strict=True))
    assert row["feature_equivalent_diameter_mm"] == pytest.approx(2 * radius * MM, rel=0.3)
    assert row["feature_contrast"] == pytest.approx(0.3, abs=0.1)
    assert row["feature_circularity"] > 0.6
    assert row["feature_edge_sharpness"] > 0
    assert row["feature_spots"] == 0


def test_a_flat_breast_has_no_regions():
    prepared = breast()
    flat = np.where(prepared.breast, 0.4, 0).astype(np.float32)
    empty = dataclasses.replace(prepared, pixels=flat, plain=flat, fine=flat)
    segmented = segment.segment(empty, max_regions=20)
    assert segmented.regions == ()
    assert features.region_features(segmented).shape == (0, len(features.REGION_FEATURES))


@settings(max_examples=8, deadline=None)
@given(limit=st.integers(0, 12))
def test_no_more_regions_than_asked_for_and_fewer_are_the_first_of_more(limit):
    prepared = breast([(150, 300, 25, 0.3), (100, 450, 15, 0.25), (200, 200, 35, 0.2)])
    some = segment.segment(prepared, max_regions=limit).regions
    more = segment.segment(prepared, max_regions=20).regions
    assert len(some) <= limit
    assert [r.centre for r in some] == [r.centre for r in more[: len(some)]]
    assert [r.saliency for r in some] == sorted((r.saliency for r in some), reverse=True)


def test_the_same_image_gives_the_same_regions():
    prepared = breast([(150, 300, 25, 0.3)])
    first, second = (segment.segment(prepared, max_regions=20) for _ in range(2))
    assert [r.box for r in first.regions] == [r.box for r in second.regions]


def test_seeds_lie_in_the_breast_and_on_the_mass():
    field = segment.search_field(breast([(150, 300, 25, 0.3)]))
    places = [(x, y) for _, _, x, y in threshold.seeds(field)]
    assert all(field.breast[y, x] for x, y in places)
    assert any(np.hypot(x / field.scale - 150, y / field.scale - 300) < 10 for x, y in places)


def test_a_grown_region_is_one_piece_without_holes_that_holds_its_seed():
    field = segment.search_field(breast([(150, 300, 25, 0.3)]))
    found = threshold.seeds(field)
    assert found
    for _, index, x, y in found:
        grown = grow.grow(field, x, y, field.radii[index])
        if grown is None:
            continue
        assert grown.mask[y - grown.y, x - grown.x]
        assert cv2.connectedComponents(grown.mask.astype(np.uint8), connectivity=4)[0] == 2


def test_pieces_above_a_level_are_brighter_than_that_level_and_of_a_lesions_size():
    field = segment.search_field(breast([(150, 300, 25, 0.3)]))
    found = [sketch.proposal() for sketch in threshold.pieces(field)]
    assert found
    assert len(field.allowed(np.array([piece.mask.sum() for piece in found]))) == len(found)
    for piece in found:
        h, w = piece.mask.shape
        assert field.breast[piece.y : piece.y + h, piece.x : piece.x + w][piece.mask].all()
    at = np.array([150, 300]) * field.scale
    sketches = threshold.pieces(field)
    assert any(np.hypot(*(np.array([s.x, s.y]) - at)) < 5 for s in sketches)


def test_basins_fill_the_breast_and_nothing_else():
    field = segment.search_field(breast([(150, 300, 25, 0.3)]))
    labels = merge.basins(field)
    assert ((labels > 0) == field.breast).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=12),
    st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30),
    st.integers(1, 200),
)
def test_merging_goes_on_until_no_two_neighbours_fit_into_a_lesion(drawn, pairs, largest):
    areas, means = (np.array(v, float) for v in zip(*drawn, strict=True))
    lengths = {(i, j): 1 + (i + j) % 3 for i, j in pairs if i < j < len(drawn)}
    found = merge.merge(areas, means, lengths, largest=largest)
    assert found[: len(drawn)] == [[i] for i in range(len(drawn))]
    assert all(len(set(m)) == len(m) for m in found)
    assert all(areas[m].sum() <= largest for m in found[len(drawn) :])
    # What is left is what no other region holds.
    left = [m for k, m in enumerate(found) if not any(set(m) < set(other) for other in found[k + 1 :])]
    assert sorted(i for m in left for i in m) == list(range(len(drawn)))
    for k, first in enumerate(left):
        for second in left[k + 1 :]:
            touching = any((min(i, j), max(i, j)) in lengths for i in first for j in second)
            assert not touching or areas[first].sum() + areas[second].sum() > largest


def test_the_most_alike_neighbours_merge_first():
    areas, means = np.array([10.0, 10.0, 10.0]), np.array([0.50, 0.52, 0.90])
    found = merge.merge(areas, means, {(0, 1): 5, (1, 2): 5}, largest=100)
    assert [sorted(m) for m in found] == [[0], [1], [2], [0, 1], [0, 1, 2]]


def test_borders_are_counted_between_neighbours_only():
    labels = np.array([[1, 1, 2], [1, 1, 2], [0, 3, 3]], np.int32)
    assert merge.borders(labels) == {(0, 1): 2, (0, 2): 1, (1, 2): 1}


def test_measures_are_finite_and_say_what_was_drawn():
    field = segment.search_field(breast([(150, 300, 25, 0.3)]))
    yy, xx = np.mgrid[0 : field.pixels.shape[0], 0 : field.pixels.shape[1]]
    mask = np.hypot(xx - 150 * field.scale, yy - 300 * field.scale) <= 25 * field.scale
    y, x = np.nonzero(mask)
    window = mask[y.min() : y.max() + 1, x.min() : x.max() + 1]
    proposals = [Proposal(window, int(x.min()), int(y.min()), Origin.LEVEL)]
    shared = measure.overlaps(field, proposals)
    (row,) = measure.measures(field, proposals, shared)
    named = dict(zip(measure.MEASURES, row.tolist(), strict=True))
    assert np.isfinite(row).all()
    assert named["log_radius_mm"] == pytest.approx(np.log(25 * MM), abs=0.1)
    assert named["contrast"] == pytest.approx(0.3, abs=0.1)
    assert named["circularity"] > 0.8
    assert named["eccentricity"] > 0.9
    assert named["edge_convergence"] > 0.8
    assert named["open_edge"] == 0
    assert named["like_it"] == named["nearly_same"] == 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(20, 40), st.integers(-20, 20), st.integers(-20, 20))
def test_overlaps_on_the_coarse_grid_are_near_the_true_ones(x, y, side, dx, dy):
    field = segment.search_field(breast([(150, 300, 25, 0.3)]))
    a = Proposal(np.ones((side, side), bool), x + 20, y + 20, Origin.LEVEL)
    b = Proposal(np.ones((side, side), bool), x + 20 + dx, y + 20 + dy, Origin.LEVEL)
    both = max(0, side - abs(dx)) * max(0, side - abs(dy))
    shared = measure.overlaps(field, [a, b])
    assert shared[0, 0] == pytest.approx(1, abs=1e-5)
    assert shared[0, 1] == shared[1, 0]
    assert shared[0, 1] == pytest.approx(both / (2 * side * side - both), abs=0.3)
    apart = dataclasses.replace(b, x=b.x + 80, y=b.y + 80)  # not side by side: those may meet in one coarse cell
    assert measure.overlaps(field, [a, apart])[0, 1] == 0
    assert measure.overlaps(field, [a, a])[0, 1] == pytest.approx(1, abs=1e-5)


def test_kept_regions_do_not_share_their_place():
    shared = np.array([[1.0, 0.5, 0.05], [0.5, 1.0, 0.08], [0.05, 0.08, 1.0]], np.float32)
    assert segment.select(np.array([0.2, 0.9, 0.9]), shared, most=3) == [1, 2]
    assert segment.select(np.array([0.9, 0.2, 0.5]), shared, most=1) == [0]


@given(st.integers(0, 9), st.integers(0, 5))
def test_clusters_take_every_third_place_and_nothing_is_lost(masses, clusters):
    found = segment.in_turn([(f"m{i}", 1.0 - i / 10) for i in range(masses)], [f"c{i}" for i in range(clusters)])
    names = [name for name, _ in found]
    assert sorted(names) == sorted([f"m{i}" for i in range(masses)] + [f"c{i}" for i in range(clusters)])
    assert [n for n in names if n[0] == "m"] == [f"m{i}" for i in range(masses)]
    assert [n for n in names if n[0] == "c"] == [f"c{i}" for i in range(clusters)]
    if masses >= 2 and clusters:
        assert names[2] == "c0"
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)


def test_holes_of_a_region_lie_within_its_outline_and_count_in_its_area():
    prepared = breast([(150, 300, 25, 0.3)])
    ring = np.ones((9, 9), bool)
    ring[3:6, 3:6] = False
    region = outline.region(prepared, 1.0, Proposal(ring, 10, 10, Origin.MERGED), 0.5)
    assert region.area_px == 81


def test_the_shipped_ranking_asks_for_the_measures_that_there_are():
    trees = ranking.frozen()
    assert trees.feature.max() < len(measure.MEASURES)
    values = np.random.default_rng(1).normal(size=(50, len(measure.MEASURES))).astype(np.float32)
    scores = trees.score(values)
    assert scores.shape == (50,)
    np.testing.assert_array_equal(trees.score(values[::-1]), scores[::-1])


# --------------------------------------------------------------------------- clusters of spots


def test_a_cluster_of_spots_is_found_and_its_spots_are_counted():
    places = [(150, 300), (158, 304), (152, 312), (165, 298), (144, 306), (160, 316)]
    prepared = breast(specks=places)
    field = segment.search_field(prepared)
    (proposal,) = [p for p in spots.clusters(prepared, field) if p.spots >= 5]
    cluster = outline.region(prepared, field.scale, proposal, 0.5)
    assert cluster.kind is RegionKind.CALCIFICATION
    assert cluster.spots == len(places)
    centre = in_source(prepared, *np.mean(places, axis=0))
    assert np.hypot(cluster.centre[0] - centre[0], cluster.centre[1] - centre[1]) < 5
    line = cluster.contour.astype(np.float32).reshape(-1, 1, 2)
    assert all(cv2.pointPolygonTest(line, in_source(prepared, *p), False) >= 0 for p in places)


def test_pixels_too_coarse_for_spots_give_no_clusters():
    prepared = breast(specks=[(150, 300), (158, 304), (152, 312), (165, 298)], mm=0.4)
    assert spots.clusters(prepared, segment.search_field(prepared)) == []


def test_segmenting_a_full_field_image_takes_at_most_two_and_a_half_cpu_seconds_on_a_busy_machine():
    prepared = breast([(400, 600, 60, 0.25)], height=1360, width=900)
    fine = cv2.resize(prepared.pixels, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    geometry = dataclasses.replace(prepared.geometry, width=1800, height=2720, scale_x=2.0, scale_y=2.0, mm=0.1)
    prepared = dataclasses.replace(prepared, fine=fine, fine_geometry=geometry)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        start = time.process_time()
        segment.segment(prepared, max_regions=20)
        spent = time.process_time() - start
    finally:
        cv2.setNumThreads(threads)
    assert spent < 2.5  # the aim is 1 s on a free core; other tests may share this one
