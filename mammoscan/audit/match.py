"""Join labels and results by identifier, and build the cases of each level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoscan.audit import lesions
from mammoscan.audit.froc import Marks
from mammoscan.audit.labels import ONE_IMAGE, Key, Label, Labels
from mammoscan.audit.lesions import Lesion
from mammoscan.audit.results import CLASSES, ImageResult, Results
from mammoscan.core.errors import LabelError, UsageError
from mammoscan.core.identifiers import Spellings

LEVELS = ("region", "image", "breast", "patient", "study")
_IMAGE_KEYS = {*ONE_IMAGE, Key.VIEW}
# Keys that begin with a number which people keep in spreadsheets.
_NUMBERED = {Key.ID, Key.VIEW, Key.BREAST, Key.PATIENT}
_MOST = 20  # rows that an error or a note names
ALLOWED: dict[str, set[Key]] = {
    "region": _IMAGE_KEYS,
    "image": _IMAGE_KEYS,
    "breast": _IMAGE_KEYS | {Key.BREAST},
    "study": _IMAGE_KEYS | {Key.BREAST, Key.STUDY},
    "patient": set(Key),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """An image with the label that is about it (or about its breast, study or patient).

    lesions: malignant ones in this image, others: benign ones; circles, boxes and segmentations.
    """

    image: ImageResult
    label: Label
    lesions: tuple[Lesion, ...] = ()
    others: tuple[Lesion, ...] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """Labels and results joined; what found no partner, with why. notes: how the tables were read and matched."""

    key: Key
    pairs: tuple[Pair, ...]
    unmatched_labels: tuple[tuple[Label, str], ...]
    unmatched_results: tuple[ImageResult, ...]
    results: Results
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of one level.

    truth: bool (n,). scores: (n,), the highest of the members' scores for this level. groups: patient numbers (n,).
    members: the pairs of each case, highest score first. names: class names where three classes
    are known on both sides; true_class, predicted_class: (n,) indices into CLASSES, else None.
    """

    level: str
    ids: tuple[str, ...]
    truth: NDArray[np.bool_]
    scores: NDArray[np.float64]
    groups: NDArray[np.intp]
    members: tuple[tuple[Pair, ...], ...]
    true_class: NDArray[np.intp] | None = None
    predicted_class: NDArray[np.intp] | None = None
    notes: tuple[str, ...] = ()


def join(labels: Labels, results: Results) -> Joined:
    """Find each label's images and the lesions in them.

    Raises
    ------
    LabelError
        With the rows: where a label's identifier fits two results or a result two labels, with or without
        leading zeros, where a row states another side, view or study than its result, and where a
        segmentation cannot be read or is of other images.
    """
    index: dict[tuple[str, ...], list[ImageResult]] = {}
    for image in results.images:
        for key in _keys(image, labels.key):
            index.setdefault(key, []).append(image)
    pairs: list[Pair] = []
    lost: list[tuple[Label, str]] = []
    taken: dict[str, Label] = {}
    problems: list[str] = []
    restored: list[str] = []
    keys = _Keys(labels, index)
    segs: dict[Path, Mapping[str, tuple[Lesion, ...]]] = {}
    for label in labels.labels:
        named, why = keys.find(label)
        if named is None:
            problems.append(why)
            continue
        found = index.get(named, [])
        if not found:
            reason = results.failed.get(label.key[0], "") if len(label.key) == 1 else ""
            lost.append((label, f"not analysed: {reason}" if reason else why or "no such result"))
        elif why:
            restored.append(why)
        if labels.key in ONE_IMAGE and len(found) > 1:
            raise LabelError(
                f"label {label.key[0]!r} (row {label.rows[0]}) fits {len(found)} results", path=results.source
            )
        placed = _segmented(label, label.segs, found, segs)
        others = _segmented(label, label.other_segs, found, segs)
        for image in found:
            if image.id in taken:
                raise LabelError(
                    f"result {image.id!r} fits two labels (row {label.rows[0]}); the other is row {taken[image.id].rows[0]}",
                    path=results.source,
                )
            taken[image.id] = label
            problems += _contradictions(label, image, one=labels.key in ONE_IMAGE)
            pairs.append(
                Pair(
                    image,
                    label,
                    (*label.lesions, *placed.get(image.id, ())),
                    (*label.other_lesions, *others.get(image.id, ())),
                )
            )
    if problems:
        raise LabelError(
            _listed(problems), path=results.source, remedy="correct these rows of the labels; row 1 is the heading"
        )
    rest = tuple(image for image in results.images if image.id not in taken)
    notes = [f"labels: {note}" for note in labels.notes] + [f"results: {note}" for note in results.notes]
    if restored:
        notes.append(f"matched though leading zeros differ, as spreadsheets drop them: {_listed(restored)}")
    return Joined(labels.key, tuple(pairs), tuple(lost), rest, results, tuple(notes))


def _listed(texts: Sequence[str]) -> str:
    return "; ".join(texts[:_MOST]) + (f"; and {len(texts) - _MOST} more" if len(texts) > _MOST else "")


class _Keys:
    """The key under which the results know a label's case; numbers may have lost their leading zeros on the way."""

    def __init__(self, labels: Labels, index: Mapping[tuple[str, ...], Sequence[ImageResult]]) -> None:
        self._index = index
        self._name = labels.key.columns[0]
        self._spellings = (
            Spellings((key[0] for key in index), [label.key[0] for label in labels.labels])
            if labels.key in _NUMBERED
            else None
        )

    def find(self, label: Label) -> tuple[tuple[str, ...] | None, str]:
        """The key, and a note where it is spelled in another way; None and why where it could be two cases."""
        written, *rest = label.key
        if self._spellings is None:
            return label.key, ""
        found = self._spellings.find(written)
        said = f"row {label.rows[0]}: {self._name} {written!r}"
        if len(found.known) > 1:
            candidates = " or ".join(f"{value!r} ({self._where(value)})" for value in found.known)
            return None, f"{said} could be {candidates}, which differ in leading zeros only"
        if not found.known:
            near = " and ".join(map(repr, found.near))
            return label.key, f"no such result; {near} differs in leading zeros" if near else ""
        (value,) = found.known
        return (value, *rest), "" if value == written else f"{said} is {value!r}"

    def _where(self, value: str) -> str:
        image = next(images[0] for key, images in self._index.items() if key[0] == value)
        return f"row {image.row} of the results" if image.row else image.path or image.id


def _contradictions(label: Label, image: ImageResult, *, one: bool) -> list[str]:
    """Where rows state another side, view or study than the result that they meet.

    one: every row is about this image. Rows about several each state their own, so that one of them must agree.
    """
    known = {"laterality": image.laterality, "view": image.view, "study_instance_uid": image.study_instance_uid}
    agreed = set() if one else {name for _, name, value in label.stated if known[name] == value}
    return [
        f"row {row} says {name} {value!r}, the result {image.path or image.id} {known[name]!r}"
        for row, name, value in label.stated
        if known[name] and known[name] != value and name not in agreed
    ]


def _segmented(
    label: Label,
    files: tuple[tuple[int, Path], ...],
    images: Sequence[ImageResult],
    read: dict[Path, Mapping[str, tuple[Lesion, ...]]],
) -> dict[str, tuple[Lesion, ...]]:
    """Lesions of segmentations by the image's id; ``read`` keeps what was read before."""
    out: dict[str, tuple[Lesion, ...]] = {}
    for row, path in files if images else ():
        try:
            found = read[path] if path in read else read.setdefault(path, lesions.from_seg(path))
        except LabelError as error:
            raise LabelError(f"row {row}: {error.message}", path=path, remedy=error.remedy) from error
        named = {i.id: found[i.sop_instance_uid] for i in images if i.sop_instance_uid in found}
        if not named and len(images) == len(found) == 1 and not images[0].sop_instance_uid:
            named = {images[0].id: next(iter(found.values()))}  # results without UIDs: the only image it can mean
        if not named:
            raise LabelError(
                f"row {row}: the segmentation outlines nothing in {' '.join(label.key)}",
                path=path,
                remedy="give the SEG whose source image this is",
            )
        for name, parts in named.items():
            out[name] = (*out.get(name, ()), *parts)
    return out


def _keys(image: ImageResult, key: Key) -> set[tuple[str, ...]]:
    if key in {Key.SOP, Key.PATH, Key.ID}:
        own = {image.id, image.sop_instance_uid if key is not Key.PATH else image.path}
        if key is Key.ID:
            own |= {image.sop_instance_uid, image.path}
        return {(value,) for value in own if value}
    values = {
        "patient_id": image.patient_id,
        "laterality": image.laterality,
        "view": image.view,
        "study_instance_uid": image.study_instance_uid,
    }
    found = tuple(values[c] for c in key.columns)
    return {found} if all(found) else set()


def patient_of(image: ImageResult) -> str:
    """What the bootstrap draws: the patient, else the study, else the image itself."""
    return (
        f"p:{image.patient_id}"
        if image.patient_id
        else f"s:{image.study_instance_uid}"
        if image.study_instance_uid
        else f"i:{image.id}"
    )


def levels_for(key: Key, wanted: Sequence[str]) -> tuple[str, ...]:
    """The levels to report: those wanted, else all that the labels allow.

    Raises
    ------
    UsageError
        Where a wanted level is finer than the labels.
    """
    allowed = tuple(level for level in LEVELS if key in ALLOWED[level])
    for level in wanted:
        if level not in allowed:
            raise UsageError(
                f"labels by {key.value} do not say what is true of one {level}",
                remedy=f"choose among {', '.join(allowed)}",
            )
    return tuple(level for level in allowed if level in wanted) if wanted else allowed


def build(joined: Joined, level: str) -> Cases:
    """Cases of a level above the region: a case is positive where one of its members is."""
    name = _namer(joined.key, level)
    units: dict[str, list[Pair]] = {}
    unnamed = 0
    for pair in joined.pairs:
        unit = name(pair.image)
        if unit is None:
            unnamed += 1
        else:
            units.setdefault(unit, []).append(pair)
    members = tuple(
        tuple(sorted(m, key=lambda p: (-p.image.score_for(level), -p.image.score, p.image.id))) for m in units.values()
    )
    patients: dict[str, int] = {}
    groups = [patients.setdefault(patient_of(m[0].image), len(patients)) for m in members]
    notes = []
    if unnamed:
        notes.append(f"{unnamed} images left out: their {level} is unknown")
    if any(not m[0].image.patient_id for m in members):
        notes.append("some results name no patient: the bootstrap draws their study or image instead")
    true_class = predicted = None
    if members and all(p.label.class_name in CLASSES and p.image.classes for m in members for p in m):
        # The worst label of a case, and the classes of its most suspicious image.
        true_class = np.array([max(CLASSES.index(p.label.class_name) for p in m) for m in members])
        predicted = np.array([int(np.argmax(m[0].image.classes or ())) for m in members])
    return Cases(
        level,
        tuple(units),
        np.array([any(p.label.positive for p in m) for m in members], dtype=bool),
        np.array([m[0].image.score_for(level) for m in members], dtype=np.float64),
        np.array(groups, dtype=np.intp),
        members,
        true_class,
        predicted,
        tuple(notes),
    )


def _namer(key: Key, level: str) -> Callable[[ImageResult], str | None]:
    # A label of a patient's breast is about that breast in all of the patient's studies.
    by_patient = key in {Key.VIEW, Key.BREAST, Key.PATIENT}

    def breast(image: ImageResult) -> str | None:
        whose = image.patient_id if by_patient else (image.study_instance_uid or image.patient_id)
        return f"{whose} {image.laterality}" if whose and image.laterality else None

    return {
        "image": lambda image: image.id,
        "breast": breast,
        "study": lambda image: image.study_instance_uid or None,
        "patient": lambda image: image.patient_id or None,
    }[level]


# --------------------------------------------------------------------------- regions


@dataclass(frozen=True, slots=True)
class Regions:
    """Findings as cases, and marks against lesions for FROC.

    cases.ids are ``<image> #<finding>``. left_out: images whose cancer has no location.
    """

    cases: Cases
    marks: Marks
    left_out: int
    lesions: int


def build_regions(joined: Joined) -> Regions | None:
    """Match findings to located malignant lesions; None where nothing can be matched.

    An image with a cancer that is not located says nothing about its marks, and is left out. A
    mark on a benign lesion is a false mark. Several marks on one lesion find it once.
    """
    if not joined.results.has_marks:
        return None
    # A location belongs to one image, so a label that fits two views cannot place it.
    uses: dict[tuple[str, ...], int] = {}
    for pair in joined.pairs:
        uses[pair.label.key] = uses.get(pair.label.key, 0) + 1
    patients: dict[str, int] = {}
    ids: list[str] = []
    truth: list[bool] = []
    scores: list[float] = []
    groups: list[int] = []
    members: list[tuple[Pair, ...]] = []
    lesion_scores: list[float] = []
    lesion_groups: list[int] = []
    false_scores: list[float] = []
    false_groups: list[int] = []
    image_groups: list[int] = []
    left_out = 0
    for pair in joined.pairs:
        places = pair.lesions
        doubtful = bool(pair.label.lesions) and uses[pair.label.key] > 1
        if pair.label.positive and (not pair.label.located or not places or doubtful):
            left_out += 1
            continue
        group = patients.setdefault(patient_of(pair.image), len(patients))
        image_groups.append(group)
        found = [[lesions.hits(mark, lesion) for lesion in places] for mark in pair.image.marks]
        for mark, row in zip(pair.image.marks, found, strict=True):
            ids.append(f"{pair.image.id} #{mark.number}")
            truth.append(any(row))
            scores.append(mark.score)
            groups.append(group)
            members.append((pair,))
            if not any(row):
                false_scores.append(mark.score)
                false_groups.append(group)
        for column in range(len(places)):
            best = [m.score for m, row in zip(pair.image.marks, found, strict=True) if row[column]]
            lesion_scores.append(max(best, default=-np.inf))
            lesion_groups.append(group)
    if not lesion_scores:
        return None
    cases = Cases(
        "region",
        tuple(ids),
        np.array(truth, dtype=bool),
        np.array(scores, dtype=np.float64),
        np.array(groups, dtype=np.intp),
        tuple(members),
    )
    marks = Marks(
        np.array(lesion_scores),
        np.array(lesion_groups, dtype=np.intp),
        np.array(false_scores, dtype=np.float64),
        np.array(false_groups, dtype=np.intp),
        np.array(image_groups, dtype=np.intp),
    )
    return Regions(cases, marks, left_out, len(lesion_scores))
