"""Outlines drawn anew: their coordinates, what keeps its outline, and what a damaged network says."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from mammoscan.core.domain import RegionKind
from mammoscan.image import segment, trace
from mammoscan.image.segment import outline, spots
from mammoscan.image.trace import LAYERS, SIDE, Tracer
from tests.drawn import breast, in_source

RADIUS = 25


def saying(answer):
    """A network that says what ``answer`` makes of the windows."""
    return lambda windows: np.asarray(answer(windows), np.float32)


def dice(first, second) -> float:
    """Of two polygons in source pixels."""
    canvas = np.zeros((2, 2000, 2000), np.uint8)
    for plane, points in zip(canvas, (first, second), strict=True):
        cv2.fillPoly(plane, [np.round(points - 0.5).astype(np.int32)], 1)
    return 2 * float((canvas[0] & canvas[1]).sum()) / float(canvas.sum())


@pytest.fixture(params=[False, True], ids=["as it is", "flipped"])
def segmented(request):
    prepared = breast([(150, 300, RADIUS, 0.3)], flipped=request.param, x0=310.0, y0=77.0)
    return segment.segment(prepared, max_regions=6)


def test_a_network_that_repeats_what_was_grown_leaves_every_outline_in_its_place(segmented):
    traced = trace.trace(segmented, saying(lambda windows: windows[..., 2]))
    assert len(traced.regions) == len(segmented.regions)
    for before, after in zip(segmented.regions, traced.regions, strict=True):
        assert dice(before.contour, after.contour) > 0.9
        assert after.area_px == pytest.approx(before.area_px, rel=0.12)
        assert after.area_mm2 == pytest.approx(before.area_mm2, rel=0.12)
        assert (after.saliency, after.kind) == (before.saliency, before.kind)
        assert after.box == (*after.contour.min(axis=0), *after.contour.max(axis=0))


def test_what_the_network_draws_lies_there_in_source_pixels(segmented):
    """A disc in the window's middle, a sixth of it wide, is half the region's longer side."""
    yy, xx = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    disc = np.hypot(xx - SIDE / 2, yy - SIDE / 2) < SIDE / 12
    traced = trace.trace(segmented, saying(lambda windows: np.broadcast_to(disc, windows.shape[:3])))
    before, after = segmented.regions[0], traced.regions[0]
    middle = np.array([before.box[0] + before.box[2], before.box[1] + before.box[3]]) / 2
    wide = max(before.box[2] - before.box[0], before.box[3] - before.box[1])
    assert np.hypot(*(np.array(after.centre) - middle)) < 2
    assert after.box[2] - after.box[0] == pytest.approx(wide / 2, rel=0.2)


def test_where_the_network_sees_nothing_the_grown_outline_stays(segmented):
    traced = trace.trace(segmented, saying(lambda windows: np.zeros(windows.shape[:3])))
    assert traced.regions == segmented.regions


def test_of_several_pieces_the_one_on_the_region_is_taken(segmented):
    def answer(windows):
        out = 0.9 * windows[..., 2]
        out[:, :8, :8] = 1.0  # surer, but beside the region
        return out

    before, after = segmented.regions[0], trace.trace(segmented, saying(answer)).regions[0]
    assert dice(before.contour, after.contour) > 0.9


def test_nothing_is_drawn_outside_the_breast():
    prepared = breast([(20, 300, RADIUS, 0.3)])
    traced = trace.trace(segment.segment(prepared, max_regions=20), saying(lambda windows: np.ones(windows.shape[:3])))
    outside = cv2.erode((~prepared.breast).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    for region in traced.regions:
        canvas = np.zeros(outside.shape, np.uint8)
        points = prepared.geometry.to_working(region.contour)
        cv2.fillPoly(canvas, [np.round(points - 0.5).astype(np.int32)], 1)
        assert not (canvas.astype(bool) & outside).sum() > 0.01 * canvas.sum()


def test_clusters_of_spots_keep_their_outline():
    rng = np.random.default_rng(1)
    specks = [(int(150 + x), int(300 + y)) for x, y in rng.uniform(-20, 20, (12, 2))]
    prepared = breast(specks=specks)
    field = segment.search_field(prepared)
    cluster = outline.region(prepared, field.scale, spots.clusters(prepared, field)[0], 1.0)
    assert cluster.kind is RegionKind.CALCIFICATION
    both = dataclasses.replace(segment.segment(prepared, max_regions=0), regions=(cluster,))
    assert trace.trace(both, trace.frozen()).regions == (cluster,)


def test_the_shipped_network_outlines_a_drawn_mass():
    prepared = breast([(150, 300, RADIUS, 0.3)])
    at = in_source(prepared, 150, 300)
    traced = trace.trace(segment.segment(prepared, max_regions=5), trace.frozen())
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = np.array(at) + RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert dice(traced.regions[0].contour, circle) > 0.75


def test_regions_do_not_depend_on_those_beside_them():
    segmented = segment.segment(breast([(150, 300, RADIUS, 0.3), (100, 420, 15, 0.2)]), max_regions=8)
    alone = [
        trace.trace(dataclasses.replace(segmented, regions=(r,)), trace.frozen()).regions[0] for r in segmented.regions
    ]
    for one, other in zip(alone, trace.trace(segmented, trace.frozen()).regions, strict=True):
        np.testing.assert_allclose(one.contour, other.contour, atol=0.5)


def test_what_is_no_network_is_refused(tmp_path):
    path = tmp_path / "outlines.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"pickled|not a network"):
        trace.at(path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(ValueError, match="not a network"):
        trace.at(path)
    wrong = np.zeros((3, 3, 1, 1), np.float32)
    with pytest.raises(ValueError, match="in the place of"):
        Tracer.of({f"trace{i}/{j}": wrong for i in range(len(LAYERS)) for j in range(2)})
