"""Findings against those of an earlier study: what counts as one place, one to one, and when nothing is said."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.core.domain import (
    LIMITS,
    Flag,
    Laterality,
    NoEarlier,
    NotCompared,
    RegionKind,
    Seen,
    Spacing,
    SpacingSource,
    View,
)
from mammoscan.image import nipple
from mammoscan.model import priors
from mammoscan.run import patients
from mammoscan.run.patients import NOBODY, Visit
from tests.report import results

NIPPLE = (850.0, 600.0)  # of a left breast, chest wall at the left, 0.1 mm a pixel: 85 mm deep
SMALL = Spacing(0.2, 0.2, SpacingSource.IMAGER)


def image(places=(), *, tip=NIPPLE, flags=(), score=0.5, **changes):
    """An image with findings at (x, y, kind) in source pixels; the second number is its SOPInstanceUID's end."""
    h = results.header(**changes)
    found = [results.finding(h, n, score, x=x, y=y, kind=kind) for n, (x, y, kind) in enumerate(places, 1)]
    made = results.prediction(h, found)
    return dataclasses.replace(made, nipple=tip, flags=tuple(flags))


def study(*images, date="20260101", uid="1.2.3.4.5", context=results.CONTEXT):
    facts = dataclasses.replace(results.STUDY, study_date=date, study_instance_uid=uid)
    return priors.known(results.study(images, facts=facts), context)


def said(now, then):
    """What is said of the findings of one image in the light of another."""
    found = priors.compare(study(now), study(then, date="20240101", uid="1.2.3.4.4"))
    return [(s.seen.value, s.why.value if s.why else "") for s in found]


MASS, CALC = RegionKind.MASS, RegionKind.CALCIFICATION


@pytest.mark.parametrize(
    ("then", "seen"),
    [
        ((400, 300, MASS), "seen-before"),
        ((480, 300, MASS), "seen-before"),  # 8 mm nearer to the nipple
        ((620, 300, MASS), "new"),  # 16 mm nearer: the distance differs by more than 15 mm
        ((400, 900, MASS), "new"),  # as far from the nipple, in the other half
        ((400, 300, CALC), "new"),  # of another kind
        ((320, 590, MASS), "new"),  # as far from the nipple, 29 mm away
    ],
)
def test_a_finding_was_seen_before_where_one_of_its_kind_lay_at_its_place(then, seen):
    assert said(image([(400, 300, MASS)]), image([then])) == [(seen, "")]


def test_near_the_line_through_the_nipple_halves_are_not_told():
    now, then = image([(400, 540, MASS)]), image([(400, 660, MASS)])
    assert said(now, then) == [("seen-before", "")]
    assert said(image([(400, 490, MASS)]), image([(400, 710, MASS)])) == [("new", "")]  # 11 mm from it, both


def test_sizes_may_differ_threefold():
    now, then = image([(400, 300, MASS)]), image([(400, 300, MASS)])
    region = then.findings[0].region
    for times, seen in ((1 / 2.9, "seen-before"), (2.9, "seen-before"), (3.1, "new"), (1 / 3.1, "new")):
        other = dataclasses.replace(region, area_px=region.area_px * times**2)
        changed = dataclasses.replace(then.findings[0], region=other)
        assert said(now, dataclasses.replace(then, findings=(changed,))) == [(seen, "")], times


def test_the_spacing_of_each_image_counts():
    """The same breast at half the resolution, and lying the other way round."""
    coarse = image([(200, 150, MASS)], tip=(425.0, 300.0), spacing=SMALL)
    region = dataclasses.replace(coarse.findings[0].region, area_px=coarse.findings[0].region.area_px / 4)
    coarse = dataclasses.replace(coarse, findings=(dataclasses.replace(coarse.findings[0], region=region),))
    assert said(image([(400, 300, MASS)]), coarse) == [("seen-before", "")]
    turned = image([(500, 300, MASS)], tip=(50.0, 600.0))
    turned = dataclasses.replace(turned, geometry=dataclasses.replace(turned.geometry, flipped=True))
    (found,) = priors.compare(study(image([(400, 300, MASS)])), study(turned, date="20240101"))
    assert found.then.apart == 0
    assert found.then.apart_mm


def test_without_a_spacing_places_are_relative_to_the_depth_of_the_breast():
    now = image([(400, 300, MASS)], spacing=None)
    (found,) = priors.compare(study(now), study(image([(400, 300, MASS)])))
    assert (found.seen, found.then.apart, found.then.apart_mm) == (Seen.BEFORE, 0.0, False)
    far = image([(400 + 0.25 * 850, 300, MASS)])
    assert said(now, far) == [("new", "")]


OTHER = dataclasses.replace(results.CONTEXT, model=dataclasses.replace(results.CONTEXT.model, sha256="ef" * 32))


@pytest.mark.parametrize(
    ("now", "then", "why"),
    [
        ({}, {"view": View.MLO}, NotCompared.VIEW_MISSING),
        ({}, {"laterality": Laterality.RIGHT}, NotCompared.VIEW_MISSING),
        ({"laterality": Laterality.UNKNOWN}, {"laterality": Laterality.UNKNOWN}, NotCompared.SIDE_OR_VIEW),
        ({"view": View.UNKNOWN}, {"view": View.UNKNOWN}, NotCompared.SIDE_OR_VIEW),
        ({"flags": (Flag.SPOT,)}, {}, NotCompared.SPECIAL_VIEW),
        ({}, {"flags": (Flag.PARTIAL_VIEW,)}, NotCompared.SPECIAL_VIEW),
        ({}, {"implant": True}, NotCompared.SPECIAL_VIEW),
        ({}, {"view_modifiers": ("implant displaced",)}, NotCompared.SPECIAL_VIEW),
        ({}, {"patient_orientation": ("P", "H")}, NotCompared.ORIENTATION),
        ({"tip": None}, {}, NotCompared.NIPPLE),
        ({}, {"tip": None}, NotCompared.EARLIER_NIPPLE),
    ],
)
def test_nothing_is_said_where_the_two_images_cannot_be_compared(now, then, why):
    places = [(400, 300, MASS)]
    assert said(image(places, **now), image(places, **then)) == [("not-comparable", why.value)]


def test_calcifications_are_not_looked_for_in_a_coarse_image_and_masses_are():
    places = [(400, 300, MASS), (300, 800, CALC)]
    coarse = image(places, flags=(Flag.LOW_RESOLUTION,))
    assert said(image(places), coarse) == [("seen-before", ""), ("not-comparable", NotCompared.RESOLUTION.value)]


def test_scores_and_findings_of_another_model_are_not_compared():
    now = study(image([(400, 300, MASS)]))
    then = study(image([(400, 300, MASS)]), date="20240101", uid="1.2.3.4.4", context=OTHER)
    found = priors.earlier(now, [then])
    assert [s.why for s in found.findings] == [NotCompared.MODEL]
    assert not found.studies[0].same_model


def test_each_finding_has_one_counterpart_and_the_pairing_is_the_nearest():
    now = image([(400, 300, MASS), (430, 300, MASS)])
    found = priors.compare(study(now), study(image([(425, 300, MASS)])))
    assert [s.seen for s in found] == [Seen.NEW, Seen.BEFORE]
    # Greedily the second would take the first's only counterpart.
    both = priors.compare(study(now), study(image([(290, 300, MASS), (425, 300, MASS)])))
    assert [s.then.number for s in both] == [1, 2]


def test_two_images_of_one_view_are_both_looked_at():
    now = study(image([(400, 300, MASS)]))
    then = study(image([], n=1), image([(400, 300, MASS)], n=2), date="20240101")
    assert [s.seen for s in priors.compare(now, then)] == [Seen.BEFORE]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(100, 800), st.integers(100, 1100), st.sampled_from(RegionKind)), max_size=5),
    st.lists(st.tuples(st.integers(100, 800), st.integers(100, 1100), st.sampled_from(RegionKind)), max_size=5),
    st.floats(-5, 5),
)
def test_pairs_are_one_to_one_within_the_limits_and_know_no_direction(here, there, shift):
    now, then = image(here), image(there)
    forth = priors.compare(study(now), study(then, uid="1.2.3.4.4"))
    back = priors.compare(study(then, uid="1.2.3.4.4"), study(now))
    assert [s.tracking_uid for s in forth] == [f.tracking_uid for f in now.findings]
    used = [s.then.number for s in forth if s.then]
    assert len(used) == len(set(used))
    assert len(used) == len([s for s in back if s.then])
    for finding, s in zip(now.findings, forth, strict=True):
        if s.then is None:
            continue
        other = then.findings[s.then.number - 1]
        assert other.region.kind is finding.region.kind
        a, b = (np.subtract(NIPPLE, f.region.centre) * 0.1 for f in (finding, other))
        assert s.then.apart == pytest.approx(np.hypot(*(a - b)), abs=1e-3)
        assert s.then.apart <= LIMITS.apart + 1e-3
        assert abs(np.hypot(*a) - np.hypot(*b)) <= LIMITS.distance + 1e-6
    # Where the whole breast lies in the picture says nothing.
    moved = image([(x + shift, y + shift, k) for x, y, k in there], tip=(NIPPLE[0] + shift, NIPPLE[1] + shift))
    moved = dataclasses.replace(moved, geometry=dataclasses.replace(moved.geometry, x0=shift))
    assert [s.seen for s in priors.compare(study(now), study(moved))] == [s.seen for s in forth]


def test_the_latest_earlier_day_is_compared_with_and_others_are_listed():
    def at(date, number, *, images=1):
        return study(*(image([], n=n) for n in range(1, images + 1)), date=date, uid=f"1.2.3.{number}")

    dates = ["20100101", "20120101", "20140101", "20160101", "20180101", "20200101", "20260101", "20270101", ""]
    others = [at(date, n) for n, date in enumerate(dates)] + [at("20200101", 99, images=2)]
    found = priors.earlier(at("20260101", 50), others)
    assert [s.study_instance_uid for s in found.studies] == ["1.2.3.99", "1.2.3.5", "1.2.3.4", "1.2.3.3", "1.2.3.2"]
    assert (found.more, found.none) == (2, None)
    assert priors.earlier(at("20260101", 50), [at("20260101", 1)]).none is NoEarlier.NONE  # of the same day
    assert priors.earlier(at("", 50), others).none is NoEarlier.NO_DATE
    assert priors.earlier(at("20260101", 50), [at("", 1)]).none is NoEarlier.NONE


def test_a_study_of_which_nothing_was_analysed_is_no_earlier_one():
    failed = priors.known(results.outcomes()["all-failed"], results.CONTEXT)._replace(study_date="20200101")
    assert priors.earlier(study(image()), [failed]).none is NoEarlier.NONE


def test_what_is_kept_is_read_back_and_damage_is_noticed():
    made = Visit(NOBODY, study(image([(400, 300, MASS), (300, 800, CALC)]), image([], n=2, view=View.MLO, tip=None)))
    content = patients.packed(made)
    assert patients.unpacked(content) == made
    assert len(content) < 1000
    with pytest.raises(ValueError, match="cannot be read back"):
        patients.unpacked(content[:-8])


@pytest.mark.parametrize(
    ("side", "view", "orientation", "y", "half"),
    [
        (Laterality.LEFT, View.CC, ("A", "R"), 300, "outer"),
        (Laterality.LEFT, View.CC, ("A", "R"), 900, "inner"),
        (Laterality.RIGHT, View.CC, ("P", "L"), 300, "outer"),
        (Laterality.RIGHT, View.CC, ("P", "R"), 300, "inner"),
        (Laterality.RIGHT, View.CC, (), 300, "outer"),
        (Laterality.LEFT, View.MLO, ("A", "FR"), 300, "upper"),
        (Laterality.LEFT, View.MLO, (), 900, "lower"),
        (Laterality.LEFT, View.ML, ("A", "H"), 300, "lower"),
        (Laterality.LEFT, View.CC, ("A", "R"), 650, "central"),
        (Laterality.UNKNOWN, View.CC, (), 300, ""),
    ],
)
def test_the_half_of_the_breast_is_told_as_far_as_the_view_tells_it(side, view, orientation, y, half):
    made = image([(400, y, MASS)], laterality=side, view=view, patient_orientation=orientation)
    assert nipple.half(made, made.findings[0]) == half
    assert nipple.distance_mm(made, made.findings[0]) == pytest.approx(np.hypot(45, (y - 600) / 10))
