"""What is said of a study in the light of an earlier one of the same patient. Pure functions.

Who is one patient is decided elsewhere (``run.patients``); here two studies are held against each other. A finding was
seen before where the earlier study reported one of its kind at its place, in an image of the same side and view. A place is
told from the nipple, as in the registration of mammograms in pairs (Sanjay-Gopal et al., Med Phys 26 (1999) 2669; Timp et
al., Med Phys 32 (2005) 2629; Filev et al., Med Phys 32 (2005) 504): distance, and the half of the breast that the view
tells (inner or outer, upper or lower). Breasts are compressed and turned another way every time, so that the limits (``domain.LIMITS``) are
those of a search region, not of a measurement. They were chosen so that a finding of another quadrant is never taken for the
same, at the cost of calling some new that were there before: the error that makes a reader look again.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from scipy.optimize import linear_sum_assignment

from mammoscan.core.domain import (
    LIMITS,
    Compared,
    Counterpart,
    DensitySource,
    Earlier,
    EarlierBreast,
    EarlierStudy,
    Flag,
    Laterality,
    NoEarlier,
    NotCompared,
    RegionKind,
    Seen,
    View,
)
from mammoscan.image import nipple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mammoscan.core.domain import Finding, Prediction, ReportContext, StudyResult

LISTED = 5  # earlier studies that are named
# What shows part of the breast, or shows it in another way: a finding that is missing in it says nothing.
SPECIAL = frozenset({
    Flag.PARTIAL_VIEW, Flag.CONTRAST, Flag.STEREOTACTIC, Flag.MAGNIFICATION, Flag.SPOT, Flag.LATERALITY_CONFLICT,
    Flag.VIEW_CONFLICT,
})  # fmt: skip


class KnownFinding(NamedTuple):
    """A finding as it is kept for later studies.

    place: towards the chest wall and down, from the nipple; diameter: of a disc of its area. Both in depths of the breast.
    """

    number: int
    tracking_id: str
    tracking_uid: str
    kind: RegionKind
    malignancy: float
    above_threshold: bool
    place: tuple[float, float]
    diameter: float


class KnownImage(NamedTuple):
    """An image as it is kept. down: where the picture's lower edge points to (PS3.3 C.7.6.1.1.1), '' where that is unknown.

    nipple: whether it was found: without it places and diameters are 0. depth_mm: nipple to chest wall, None where the
    spacing is unknown. kind: view modifiers, and whether there is an implant.
    """

    laterality: Laterality
    view: View
    kind: tuple[str, ...]
    special: bool
    coarse: bool
    down: str
    nipple: bool
    depth_mm: float | None
    findings: tuple[KnownFinding, ...]


class KnownBreast(NamedTuple):
    """A breast as it is kept (``EarlierBreast``)."""

    laterality: Laterality
    malignancy: float
    density: str
    estimated: bool


class Known(NamedTuple):
    """A study as it is kept to be compared with. model: what its scores rest on."""

    study_instance_uid: str
    study_date: str
    model: str
    malignancy: float | None
    breasts: tuple[KnownBreast, ...]
    images: tuple[KnownImage, ...]


# --------------------------------------------------------------------------- what is kept of a study


def known(result: StudyResult, context: ReportContext) -> Known:
    """What later studies are to know of a study."""
    return Known(
        result.study.study_instance_uid,
        result.study.study_date,
        hashlib.sha256(f"{context.model.sha256} {context.config_digest} {context.precision}".encode()).hexdigest()[:16],
        result.malignancy,
        tuple(KnownBreast(b.laterality, b.malignancy, *_density(result, b.laterality)) for b in result.breasts),
        tuple(_image(p) for p in result.images),
    )


def _density(result: StudyResult, side: Laterality) -> tuple[str, bool]:
    """The densities of a breast's images in one word, readings before estimates."""
    found = [p.density for p in result.images if p.header.laterality is side]
    for estimated in (False, True):
        values = {
            d.density.value
            for d in found
            if d.source is not DensitySource.NONE and (d.source is DensitySource.ESTIMATE) is estimated
        }
        if values:
            return "/".join(sorted(values)), estimated
    return "", False


def _image(p: Prediction) -> KnownImage:
    h = p.header
    depth = nipple.depth(p)
    spacing = h.spacing
    return KnownImage(
        laterality=h.laterality,
        view=h.view,
        kind=(*sorted(h.view_modifiers), *(["implant"] if h.implant else [])),
        special=bool(SPECIAL & set(p.flags)),
        coarse=Flag.LOW_RESOLUTION in p.flags,
        down=nipple.down(h),
        nipple=depth is not None,
        depth_mm=depth * spacing.column_mm if depth is not None and spacing else None,
        findings=tuple(_finding(f, p, depth) for f in p.findings),
    )


def _finding(f: Finding, p: Prediction, depth: float | None) -> KnownFinding:
    place = nipple.seen_from(p, f)
    diameter = 2.0 * math.sqrt(f.region.area_px * nipple.aspect(p.header) / math.pi)
    return KnownFinding(
        f.number, f.tracking_id, f.tracking_uid, f.region.kind, f.scores.malignancy, f.above_threshold,
        (0.0, 0.0) if place is None or depth is None else (place[0] / depth, place[1] / depth),
        0.0 if depth is None else diameter / depth,
    )  # fmt: skip


# --------------------------------------------------------------------------- what is said


def earlier(study: Known, others: Iterable[Known]) -> Earlier:
    """What is said of a study's findings and of its patient's earlier studies.

    others: the studies of the same person. Those of the same day are none another's earlier study.
    """
    if not study.study_date:
        return Earlier(NoEarlier.NO_DATE)
    before = [o for o in others if o.study_date and o.study_date < study.study_date and o.malignancy is not None]
    if not before:
        return Earlier(NoEarlier.NONE)
    # Of several on one day that which shows most of today's views, then that with more images.
    views = {(i.laterality, i.view) for i in study.images}
    before.sort(key=lambda o: o.study_instance_uid)
    before.sort(
        key=lambda o: (o.study_date, len(views & {(i.laterality, i.view) for i in o.images}), len(o.images)),
        reverse=True,
    )
    return Earlier(
        None,
        tuple(_named(o, study) for o in before[:LISTED]),
        len(before) - min(len(before), LISTED),
        compare(study, before[0]),
    )


def digest(said: Earlier) -> str:
    """What tells whether the same is said, and after it the UIDs of the studies that are named; '' where nothing is said."""
    if not said.studies and said.none is not NoEarlier.UNCERTAIN:
        return ""
    named = [study.study_instance_uid for study in said.studies]
    return " ".join((hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32], *named))


def named(claims: str) -> tuple[str, ...]:
    """The UIDs of the studies that are named, from what ``digest`` gave."""
    return tuple(claims.split(" ")[1:])


def compare(study: Known, before: Known) -> tuple[Compared, ...]:
    """What is said of each finding of a study in the light of an earlier one, in the order of its images and findings."""
    return tuple(said for image in study.images for said in _of_image(image, study, before))


def _named(other: Known, study: Known) -> EarlierStudy:
    assert other.malignancy is not None
    breasts = tuple(EarlierBreast(*breast) for breast in other.breasts)
    return EarlierStudy(
        other.study_instance_uid, other.study_date, other.malignancy, breasts, same_model=other.model == study.model
    )


def _of_image(image: KnownImage, study: Known, before: Known) -> list[Compared]:
    same_view = [i for i in before.images if (i.laterality, i.view) == (image.laterality, image.view)]
    why = None
    if before.model != study.model:
        why = NotCompared.MODEL
    elif image.laterality not in {Laterality.LEFT, Laterality.RIGHT} or image.view is View.UNKNOWN:
        why = NotCompared.SIDE_OR_VIEW
    elif image.special:
        why = NotCompared.SPECIAL_VIEW
    elif not same_view:
        why = NotCompared.VIEW_MISSING
    elif not image.nipple:
        why = NotCompared.NIPPLE
    if why is not None:
        return [Compared(f.tracking_uid, Seen.NOT_COMPARABLE, why) for f in image.findings]
    out: list[Compared] = []
    for kind in RegionKind:
        found = [f for f in image.findings if f.kind is kind]
        usable = [i for i in same_view if _hindered(image, i, kind) is None]
        if usable:
            out += _matched(found, image, usable)
        else:
            hindered = _hindered(image, same_view[0], kind)
            out += [Compared(f.tracking_uid, Seen.NOT_COMPARABLE, hindered) for f in found]
    order = [f.tracking_uid for f in image.findings]
    return sorted(out, key=lambda said: order.index(said.tracking_uid))


def _hindered(image: KnownImage, then: KnownImage, kind: RegionKind) -> NotCompared | None:
    """Why findings of a kind cannot be compared between two images of one side and view; None where they can."""
    if then.special or then.kind != image.kind:
        return NotCompared.SPECIAL_VIEW
    if then.down != image.down:
        return NotCompared.ORIENTATION
    if not then.nipple:
        return NotCompared.EARLIER_NIPPLE
    if kind is RegionKind.CALCIFICATION and (then.coarse or image.coarse):
        return NotCompared.RESOLUTION
    return None


def _matched(found: Sequence[KnownFinding], image: KnownImage, earlier_images: Sequence[KnownImage]) -> list[Compared]:
    """Each finding, all of one kind, with its counterpart: one to one, as many as possible, and of such pairings the nearest."""
    then = [(f, i) for i in earlier_images for f in i.findings if f.kind in {g.kind for g in found}]
    if not found or not then:
        return [Compared(f.tracking_uid, Seen.NEW) for f in found]
    apart = np.array([[_apart(f, image, g, i) for g, i in then] for f in found])
    far = 1.0 + len(found) * LIMITS.apart  # more than all pairs of another pairing together
    rows, columns = linear_sum_assignment(np.where(np.isfinite(apart), apart, far))
    pairs = {int(r): int(c) for r, c in zip(rows, columns, strict=True) if np.isfinite(apart[r, c])}
    out = []
    for number, f in enumerate(found):
        if number not in pairs:
            out.append(Compared(f.tracking_uid, Seen.NEW))
            continue
        g, i = then[pairs[number]]
        measured = _units(image, i)[1]
        distance = float(apart[number, pairs[number]]) / (1.0 if measured else LIMITS.depth)
        counterpart = Counterpart(
            g.number, g.tracking_id, g.tracking_uid, g.malignancy, g.above_threshold, round(distance, 4), measured
        )
        out.append(Compared(f.tracking_uid, Seen.BEFORE, then=counterpart))
    return out


def _units(image: KnownImage, then: KnownImage) -> tuple[tuple[float, float], bool]:
    """Millimetres that a depth of each of two breasts counts for, and whether these were measured."""
    if image.depth_mm is None or then.depth_mm is None:
        return (LIMITS.depth, LIMITS.depth), False
    return (image.depth_mm, then.depth_mm), True


def _apart(finding: KnownFinding, image: KnownImage, other: KnownFinding, then: KnownImage) -> float:
    """How far apart two findings of one kind lie, each seen from its nipple, in mm; infinite beyond the limits."""
    (unit, unit_then), _ = _units(image, then)
    here, there = np.array(finding.place) * unit, np.array(other.place) * unit_then
    sizes = sorted((finding.diameter * unit, other.diameter * unit_then))
    apart = float(np.hypot(*(here - there)))
    same_half = here[1] * there[1] >= 0 or min(abs(here[1]), abs(there[1])) < LIMITS.line
    near = abs(float(np.hypot(*here)) - float(np.hypot(*there))) <= LIMITS.distance and apart <= LIMITS.apart
    return apart if near and same_half and sizes[1] <= LIMITS.sizes * sizes[0] else math.inf
