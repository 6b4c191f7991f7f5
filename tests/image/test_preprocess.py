"""Breast mask, side, crop, geometry and contrast on drawn pictures."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.core.domain import (
    Flag,
    Geometry,
    Header,
    Image,
    Laterality,
    Patient,
    Sex,
    SourceFile,
    Spacing,
    SpacingSource,
    StudyFacts,
    View,
)
from mammoscan.core.errors import InputError, Reason
from mammoscan.image import preprocess


def header(rows, columns, *, view=View.CC, mm=None):
    spacing = None if mm is None else Spacing(mm[0], mm[1], SpacingSource.IMAGER)
    return Header(
        file=SourceFile(Path("a.dcm"), "a.dcm", 0, 0), sop_class_uid="", sop_instance_uid="1.2",
        series_instance_uid="", transfer_syntax_uid="",
        modality="MG", series_number=None, instance_number=None,
        patient=Patient("", "", "", "", Sex.UNKNOWN, ""), study=StudyFacts("", "", "", "", "", "", "", ""),
        age=None,
        laterality=Laterality.UNKNOWN, view=view, view_modifiers=(), density=None, manufacturer="",
        manufacturer_model="", spacing=spacing, presentation_intent="", photometric="MONOCHROME2", rows=rows,
        columns=columns, bits_stored=12, patient_orientation=(), content_date="", content_time="",
        acquisition_date="", implant=None, partial_view=None, magnification=None, burned_in=None, lossy=None,
        flags=(), skip=None,
    )  # fmt: skip


def truth(rows=600, columns=480):
    """A half ellipse on the left wall."""
    y, x = np.mgrid[:rows, :columns]
    return (x / (0.6 * columns)) ** 2 + ((y - rows / 2) / (0.42 * rows)) ** 2 < 1


def muscle(rows=600, columns=480):
    y, x = np.mgrid[:rows, :columns]
    return x / (0.28 * columns) + y / (0.5 * rows) < 1


def picture(*, rows=600, columns=480, view=View.CC, mm=(0.4, 0.4), background=0.0, label=False, seed=0):
    rng = np.random.default_rng(seed)
    breast = truth(rows, columns) | (muscle(rows, columns) if view is View.MLO else False)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (rows, columns)).astype(np.float32), (0, 0), 6)
    pixels = np.full((rows, columns), background, np.float32)
    pixels[breast] = (0.45 + 0.2 * texture)[breast]
    if view is View.MLO:
        pixels[muscle(rows, columns)] = 0.75
    if label:
        pixels[20:60, -110:-30] = 0.9
    pixels = np.clip(cv2.GaussianBlur(pixels, (0, 0), 1.0) + rng.normal(0, 0.004, pixels.shape), 0, 1)
    return Image(header(rows, columns, view=view, mm=mm), pixels.astype(np.float32), np.zeros(pixels.shape, bool))


def mirrored(image):
    return replace(
        image,
        pixels=np.ascontiguousarray(image.pixels[:, ::-1]),
        padding=np.ascontiguousarray(image.padding[:, ::-1]),
    )


def in_source(mask, geometry):
    """A working mask drawn on the source's grid."""
    out = np.zeros((geometry.source_height, geometry.source_width), bool)
    w, h = round(geometry.width / geometry.scale_x), round(geometry.height / geometry.scale_y)
    x0, y0 = int(geometry.x0), int(geometry.y0)
    drawn = cv2.resize(mask.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST) > 0
    out[y0 : y0 + h, x0 : x0 + w] = drawn
    return out[:, ::-1] if geometry.flipped else out


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


geometries = st.builds(
    Geometry,
    source_width=st.integers(50, 5000),
    source_height=st.integers(50, 5000),
    flipped=st.booleans(),
    x0=st.integers(0, 40).map(float),
    y0=st.integers(0, 40).map(float),
    scale_x=st.floats(0.05, 1.0),
    scale_y=st.floats(0.05, 1.0),
    width=st.just(100),
    height=st.just(100),
    mm=st.just(0.2),
    mm_known=st.just(True),
)


@given(geometries, st.lists(st.tuples(st.floats(-10, 6000), st.floats(-10, 6000)), min_size=1, max_size=5))
def test_points_survive_the_way_to_the_source_and_back(geometry, points):
    points = np.array(points)
    np.testing.assert_allclose(geometry.to_working(geometry.to_source(points)), points, atol=1e-6)
    np.testing.assert_allclose(geometry.to_source(geometry.to_working(points)), points, atol=1e-6)


@given(geometries)
def test_flipping_twice_is_the_identity(geometry):
    width = geometry.source_width
    whole = replace(geometry, flipped=True, x0=0.0, y0=0.0, scale_x=1.0, scale_y=1.0)
    points = np.array([[0.0, 0.0], [width, 3.0], [1.5, 2.5]])
    assert np.array_equal(whole.to_source(whole.to_source(points)), points)
    assert whole.to_source(np.array([[0.0, 0.0]]))[0, 0] == width


@settings(max_examples=12, deadline=None)
@given(
    st.integers(40, 150),
    st.integers(200, 380),
    st.booleans(),
    st.sampled_from([(0.1, 0.1), (0.4, 0.4), (0.2, 0.3)]),
)
def test_a_bright_box_is_found_where_it_was_in_the_source(x, y, flip, mm):
    image = picture(mm=mm)
    image.pixels[y : y + 24, x : x + 24] = 1.0
    box = (480 - x - 24, y, 480 - x, y + 24) if flip else (x, y, x + 24, y + 24)
    prepared = preprocess.prepare(mirrored(image) if flip else image)
    assert prepared.geometry.flipped is flip
    for pixels, geometry in ((prepared.plain, prepared.geometry), (prepared.fine, prepared.fine_geometry)):
        rows, columns = np.nonzero(pixels > 0.85)
        ends = geometry.to_source(np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], float))
        found = (*ends.min(axis=0), *ends.max(axis=0))
        assert np.abs(np.subtract(found, box)).max() <= 2 / min(geometry.scale_x, geometry.scale_y)


@pytest.mark.parametrize("background", [0.0, 0.08, 0.2])
@pytest.mark.parametrize("label", [False, True])
def test_the_mask_is_the_breast_whatever_the_background_and_labels(background, label):
    image = picture(background=background, label=label)
    prepared = preprocess.prepare(image)
    assert dice(in_source(prepared.breast, prepared.geometry), truth()) > 0.96


@pytest.mark.parametrize("view", [View.CC, View.MLO])
def test_a_mirrored_picture_gives_the_mirrored_masks(view):
    image = picture(view=view)
    one, other = preprocess.prepare(image), preprocess.prepare(mirrored(image))
    assert one.geometry.flipped is not other.geometry.flipped
    assert np.array_equal(in_source(one.breast, one.geometry), in_source(other.breast, other.geometry)[:, ::-1])
    np.testing.assert_allclose(one.pixels, other.pixels, atol=1e-5)


def test_the_muscle_is_removed_from_oblique_views_only():
    image = picture(view=View.MLO)
    prepared = preprocess.prepare(image)
    assert dice(in_source(prepared.pectoral, prepared.geometry), muscle()) > 0.9
    assert not (prepared.breast & prepared.pectoral).any()
    assert (prepared.removed >= prepared.pectoral).all()
    as_cc = preprocess.prepare(replace(image, header=replace(image.header, view=View.CC)))
    assert not as_cc.pectoral.any()


def test_an_oblique_view_without_an_edge_keeps_its_breast_and_says_so():
    image = picture()
    flat = np.where(truth(), np.float32(0.5), np.float32(0.0)).astype(np.float32)
    prepared = preprocess.prepare(replace(image, pixels=flat, header=replace(image.header, view=View.MLO)))
    assert Flag.PECTORAL_NOT_FOUND in prepared.flags
    assert not prepared.pectoral.any()


def test_a_white_frame_is_not_the_breast():
    image = picture()
    image.pixels[:, -20:] = 1.0
    image.pixels[-15:] = 1.0
    prepared = preprocess.prepare(image)
    assert not prepared.geometry.flipped
    assert dice(in_source(prepared.breast, prepared.geometry), truth()) > 0.95


def test_a_picture_with_white_air_is_turned_over_and_flagged():
    image = picture()
    upright, inverted = (
        preprocess.prepare(image),
        preprocess.prepare(replace(image, pixels=1.0 - image.pixels)),
    )
    assert Flag.INVERTED in inverted.flags
    assert Flag.INVERTED not in upright.flags
    assert np.array_equal(upright.breast, inverted.breast)
    np.testing.assert_allclose(upright.plain, inverted.plain, atol=1e-5)


def test_a_faint_breast_goes_on():
    image = picture()
    prepared = preprocess.prepare(replace(image, pixels=image.pixels * 0.12))
    assert dice(in_source(prepared.breast, prepared.geometry), truth()) > 0.9


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_blank_picture_has_no_breast(level):
    image = picture()
    with pytest.raises(InputError) as error:
        preprocess.prepare(replace(image, pixels=np.full_like(image.pixels, level)))
    assert error.value.reason is Reason.NO_BREAST


def test_a_picture_that_is_all_padding_has_no_breast():
    image = picture()
    with pytest.raises(InputError):
        preprocess.prepare(replace(image, pixels=np.zeros_like(image.pixels), padding=np.ones_like(image.padding)))


@pytest.mark.parametrize(
    ("mm", "working", "fine"), [(0.05, 0.2, 0.1), (0.1, 0.2, 0.1), (0.15, 0.2, 0.15), (0.4, 0.4, 0.4)]
)
def test_pixels_are_never_made_finer_than_the_source(mm, working, fine):
    prepared = preprocess.prepare(picture(mm=(mm, mm)))
    for geometry, expected in ((prepared.geometry, working), (prepared.fine_geometry, fine)):
        assert geometry.mm == pytest.approx(expected)
        assert geometry.scale_x == pytest.approx(mm / expected, rel=0.02)
        assert geometry.scale_x <= 1.0
    assert prepared.geometry.mm_known


def test_pixels_that_are_not_square_become_square():
    geometry = preprocess.prepare(picture(mm=(0.1, 0.2))).geometry
    assert geometry.scale_x == pytest.approx(1.0, rel=0.02)
    assert geometry.scale_y == pytest.approx(0.5, rel=0.02)


def test_an_unknown_spacing_is_assumed_and_marked():
    prepared = preprocess.prepare(picture(mm=None))
    assert not prepared.geometry.mm_known
    assert prepared.geometry.mm == pytest.approx(preprocess.ASSUMED_HEIGHT_MM / 600)
    assert Flag.SPACING_UNKNOWN in prepared.flags


def test_pixels_are_normalised_within_the_breast():
    prepared = preprocess.prepare(picture())
    assert prepared.pixels.dtype == np.float32
    inside = prepared.pixels[prepared.breast]
    assert inside.min() >= 0.0
    assert inside.max() <= 1.0
    low, high = np.percentile(inside, (1.0, 99.5))
    assert low == pytest.approx(0.0, abs=0.01)
    assert high == pytest.approx(1.0, abs=0.01)


def test_a_dim_breast_beside_a_bright_muscle_is_kept():
    image = picture(view=View.MLO)
    y, x = np.mgrid[:600, :480]
    large = (x / 430) ** 2 + ((y - 300) / 290) ** 2 < 1
    air = np.random.default_rng(1).normal(0, 0.004, large.shape)
    levels = np.where(muscle(), 0.95, np.where(large, 0.2 + 10 * air, air))
    prepared = preprocess.prepare(replace(image, pixels=np.clip(levels, 0, 1).astype(np.float32)))
    assert dice(in_source(prepared.breast, prepared.geometry), large & ~muscle()) > 0.93
