"""Join labels and results by identifier, and build the cases of each level."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoscan.audit import lesions
from mammoscan.audit.froc import Marks
from mammoscan.audit.images import ImageResult, ImageTable
from mammoscan.audit.labels import ONE_IMAGE, Key, Label, Labels, LabelTable
from mammoscan.audit.lesions import Lesion
from mammoscan.audit.results import Results
from mammoscan.core.columns import Lazy, Made, TextColumn, by_appearance
from mammoscan.core.errors import LabelError, UsageError
from mammoscan.core.identifiers import Spellings

LEVELS = ("region", "image", "breast", "patient", "study")
_IMAGE_KEYS = {*ONE_IMAGE, Key.VIEW}
# Keys that begin with a number which people keep in spreadsheets.
_NUMBERED = {Key.ID, Key.VIEW, Key.BREAST, Key.PATIENT}
_Found = int | tuple[int, ...]  # the place of one image, or of several
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


@dataclass(frozen=True, slots=True, eq=False)
class PairTable(Made[Pair]):
    """All pairs, by column; an item is a ``Pair``. image, label: intp (n,), places in the tables. placed: lesions and others by pair."""

    images: ImageTable
    labels: LabelTable
    image: NDArray[np.intp]
    label: NDArray[np.intp]
    placed: Mapping[int, tuple[tuple[Lesion, ...], tuple[Lesion, ...]]]

    def __len__(self) -> int:
        return len(self.image)

    def made(self, index: int) -> Pair:
        found, others = self.placed.get(index, ((), ()))
        return Pair(self.images[self.image[index]], self.labels[self.label[index]], found, others)

    def positive(self) -> NDArray[np.bool_]:
        """Whether each pair's label is malignant, (n,)."""
        return self.labels.positives()[self.label]


@dataclass(frozen=True, slots=True, eq=False)
class Members(Made[tuple[Pair, ...]]):
    """The pairs of each case. order: intp, places in ``pairs``, those of a case together; starts: intp (cases + 1,)."""

    pairs: PairTable
    order: NDArray[np.intp]
    starts: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def made(self, index: int) -> tuple[Pair, ...]:
        return tuple(map(self.pairs.made, self.order[self.starts[index] : self.starts[index + 1]].tolist()))

    @property
    def firsts(self) -> NDArray[np.intp]:
        """The first pair of each case, (cases,)."""
        return self.order[self.starts[:-1]]


@dataclass(frozen=True, slots=True)
class Joined:
    """Labels and results joined; what found no partner, with why. notes: how the tables were read and matched."""

    key: Key
    pairs: PairTable
    unmatched_labels: Sequence[tuple[Label, str]]
    unmatched_results: Sequence[ImageResult]
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
    ids: Sequence[str]
    truth: NDArray[np.bool_]
    scores: NDArray[np.float64]
    groups: NDArray[np.intp]
    members: Sequence[tuple[Pair, ...]]
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
    images, table = ImageTable.of(results.images), labels.labels
    index = _index(images, labels.key)
    one = labels.key in ONE_IMAGE
    of_image, of_label = array("q"), array("q")
    lost: list[tuple[int, str]] = []
    taken: dict[int, int] = {}
    problems: dict[int, str] = {}  # by label
    restored: list[str] = []
    keys = _Keys(labels, index, images)
    lines = table.lines[table.firsts].tolist()
    placed: dict[int, tuple[tuple[Lesion, ...], tuple[Lesion, ...]]] = {}
    located = table.placed()
    segs: dict[Path, Mapping[str, tuple[Lesion, ...]]] = {}
    for number, written in enumerate(table.written()):
        named, why = keys.find(written, lines[number])
        if named is None:
            problems[number] = why
            continue
        met = index.get(named, ())
        found = (met,) if isinstance(met, int) else met
        if not found:
            reason = results.failed.get(written[0], "") if len(written) == 1 else ""
            lost.append((number, f"not analysed: {reason}" if reason else why or "no such result"))
        elif why:
            restored.append(why)
        if one and len(found) > 1:
            raise LabelError(
                f"label {written[0]!r} (row {lines[number]}) fits {len(found)} results", path=results.source
            )
        lesions_of = _places(table[number], [images[i] for i in found], segs) if located[number] else None
        for image in found:
            if image in taken:
                raise LabelError(
                    f"result {images.ids[image]!r} fits two labels (row {lines[number]}); "
                    f"the other is row {lines[taken[image]]}",
                    path=results.source,
                )
            taken[image] = number
            if lesions_of is not None:
                placed[len(of_image)] = lesions_of[images.ids[image]]
            of_image.append(image)
            of_label.append(number)
    pairs = PairTable(images, table, np.array(of_image, dtype=np.intp), np.array(of_label, dtype=np.intp), placed)
    wrong = list(problems.items()) + _contradicted(pairs, one=one)
    if wrong:
        raise LabelError(
            _listed([why for _, why in sorted(wrong, key=operator.itemgetter(0))]),
            path=results.source,
            remedy="correct these rows of the labels; row 1 is the heading",
        )
    partner = np.zeros(len(images), dtype=bool)
    partner[pairs.image] = True
    rest = np.flatnonzero(~partner)
    notes = [f"labels: {note}" for note in labels.notes] + [f"results: {note}" for note in results.notes]
    if restored:
        notes.append(f"matched though leading zeros differ, as spreadsheets drop them: {_listed(restored)}")
    return Joined(
        labels.key,
        pairs,
        Lazy(len(lost), lambda i: (table[lost[i][0]], lost[i][1])),
        Lazy(len(rest), lambda i: images[rest[i]]),
        results,
        tuple(notes),
    )


def _listed(texts: Sequence[str]) -> str:
    return "; ".join(texts[:_MOST]) + (f"; and {len(texts) - _MOST} more" if len(texts) > _MOST else "")


class _Keys:
    """The key under which the results know a label's case; numbers may have lost their leading zeros on the way."""

    def __init__(self, labels: Labels, index: Mapping[tuple[str, ...], _Found], images: ImageTable) -> None:
        self._index = index
        self._images = images
        self._name = labels.key.columns[0]
        self._spellings = (
            Spellings((key[0] for key in index), [written[0] for written in labels.labels.written()])
            if labels.key in _NUMBERED
            else None
        )

    def find(self, key: tuple[str, ...], row: int) -> tuple[tuple[str, ...] | None, str]:
        """The key, and a note where it is spelled in another way; None and why where it could be two cases."""
        if self._spellings is None:
            return key, ""
        written, *rest = key
        found = self._spellings.find(written)
        if found.known == (written,):
            return key, ""
        said = f"row {row}: {self._name} {written!r}"
        if len(found.known) > 1:
            candidates = " or ".join(f"{value!r} ({self._where(value)})" for value in found.known)
            return None, f"{said} could be {candidates}, which differ in leading zeros only"
        if not found.known:
            near = " and ".join(map(repr, found.near))
            return key, f"no such result; {near} differs in leading zeros" if near else ""
        (value,) = found.known
        return (value, *rest), f"{said} is {value!r}"

    def _where(self, value: str) -> str:
        found = next(found for key, found in self._index.items() if key[0] == value)
        image = self._images[found if isinstance(found, int) else found[0]]
        return f"row {image.row} of the results" if image.row else image.path or image.id


def _contradicted(pairs: PairTable, *, one: bool) -> list[tuple[int, str]]:
    """What labels state otherwise than the results that they meet, each with the number of its label."""
    images, labels = pairs.images, pairs.labels
    known = {"laterality": images.lateralities, "view": images.views, "study_instance_uid": images.study_instance_uids}
    rows = labels.firsts[pairs.label]
    # Of a label of several rows each states its own; they are looked at one by one.
    suspect = labels.counts[pairs.label] > 1 if labels.stated else np.zeros(len(pairs), dtype=bool)
    for name, column in labels.stated.items():
        places = {value: code for code, value in enumerate(known[name].values)}
        wanted = np.array([places.get(value, -1) for value in column.values], dtype=np.intp)
        codes = known[name].codes[pairs.image]
        both = column.filled[rows] & known[name].filled[pairs.image]
        suspect |= both & (wanted[column.codes[rows]] != codes)
    return [
        (int(pairs.label[i]), why)
        for i in np.flatnonzero(suspect).tolist()
        for why in _contradictions(labels[pairs.label[i]], images[pairs.image[i]], one=one)
    ]


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


def _places(
    label: Label, images: Sequence[ImageResult], read: dict[Path, Mapping[str, tuple[Lesion, ...]]]
) -> dict[str, tuple[tuple[Lesion, ...], tuple[Lesion, ...]]]:
    """Malignant and other lesions of a label in its images, by the image's id."""
    found = _segmented(label, label.segs, images, read)
    others = _segmented(label, label.other_segs, images, read)
    return {
        i.id: ((*label.lesions, *found.get(i.id, ())), (*label.other_lesions, *others.get(i.id, ()))) for i in images
    }


def _index(images: ImageTable, key: Key) -> dict[tuple[str, ...], _Found]:
    """Images, by their place, under each key that a label may give them."""
    out: dict[tuple[str, ...], _Found] = {}

    def put(name: tuple[str, ...], image: int) -> None:
        if name in out:
            before = out[name]
            out[name] = (before, image) if isinstance(before, int) else (*before, image)
        else:
            out[name] = image

    if key in ONE_IMAGE:
        columns = [images.ids]
        columns += [images.sop_instance_uids] if key is not Key.PATH else []
        columns += [images.paths] if key is not Key.SOP else []
        for image, values in enumerate(zip(*columns, strict=True)):
            for value in dict.fromkeys(values):
                if value:
                    put((value,), image)
        return out
    named = {
        "patient_id": images.patient_ids,
        "laterality": images.lateralities,
        "view": images.views,
        "study_instance_uid": images.study_instance_uids,
    }
    for image, values in enumerate(zip(*(named[c] for c in key.columns), strict=True)):
        if all(values):
            put(values, image)
    return out


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
    pairs, images = joined.pairs, joined.pairs.images
    names = _names(images, joined.key, level)
    codes = names.codes[pairs.image]
    named = np.flatnonzero(names.filled[pairs.image])
    units, first = by_appearance(codes[named])
    scores = images.scores_for(level)
    # Members by falling score; of those alike in both scores the identifiers decide, in the order of text.
    order = named[np.lexsort((-images.scores[pairs.image[named]], -scores[pairs.image[named]], units))]
    starts = np.append(0, np.cumsum(np.bincount(units, minlength=len(first)))).astype(np.intp)
    order = _ties_by_identifier(order, starts, pairs, scores)
    members = Members(pairs, order, starts)
    leading = pairs.image[members.firsts]
    groups, _ = by_appearance(images.patients()[leading])
    notes = []
    if len(named) < len(pairs):
        notes.append(f"{len(pairs) - len(named)} images left out: their {level} is unknown")
    if not images.patient_ids.filled[leading].all():
        notes.append("some results name no patient: the bootstrap draws their study or image instead")
    true_class = predicted = None
    classes = pairs.labels.worst_classes()[pairs.label[order]] - 1  # places in CLASSES; -1 is none of them
    if len(members) and classes.min() >= 0 and not np.isnan(images.classes[pairs.image[order], 0]).any():
        # The worst label of a case, and the classes of its most suspicious image.
        true_class = np.maximum.reduceat(classes, starts[:-1])
        predicted = np.argmax(images.classes[leading], axis=1)
    return Cases(
        level,
        names.taken(pairs.image[named[first]]),
        np.logical_or.reduceat(pairs.positive()[order], starts[:-1]),
        scores[leading],
        groups,
        members,
        true_class,
        predicted,
        tuple(notes),
    )


def _ties_by_identifier(
    order: NDArray[np.intp], starts: NDArray[np.intp], pairs: PairTable, scores: NDArray[np.float64]
) -> NDArray[np.intp]:
    """The members of each case with those of equal scores in the order of their identifiers."""
    image = pairs.image[order]
    inner = np.ones(max(len(order) - 1, 0), dtype=bool)
    inner[starts[1:-1] - 1] = False
    own = pairs.images.scores
    alike = inner & (np.diff(scores[image]) == 0) & (np.diff(own[image]) == 0)
    out: NDArray[np.intp] = order.copy()
    # Stretches of places that are each like the next.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], alike, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2).tolist():
        part = order[start : stop + 1].tolist()
        out[start : stop + 1] = sorted(part, key=lambda pair: pairs.images.ids[int(pairs.image[pair])])
    return out


def _names(images: ImageTable, key: Key, level: str) -> TextColumn:
    """The case of a level that each image is of, '' where it is unknown."""
    if level == "image":
        return images.ids
    if level == "study":
        return images.study_instance_uids
    if level == "patient":
        return images.patient_ids
    # A label of a patient's breast is about that breast in all of the patient's studies.
    whose = images.patient_ids
    if key not in {Key.VIEW, Key.BREAST, Key.PATIENT}:
        studies = images.study_instance_uids
        if studies.filled.all():
            whose = studies
        else:
            whose = TextColumn.of(a or b for a, b in zip(studies, images.patient_ids, strict=True))
    sides = images.lateralities
    codes = whose.codes.astype(np.int64) * len(sides.values) + sides.codes
    breasts, first = by_appearance(codes)
    names = [f"{whose[i]} {sides[i]}" if whose[i] and sides[i] else "" for i in first.tolist()]
    return TextColumn(breasts.astype(np.int32), names)


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
    pairs, images, labels = joined.pairs, joined.pairs.images, joined.pairs.labels
    pairs, images, labels = joined.pairs, joined.pairs.images, joined.pairs.labels
    # A location belongs to one image, so a label that fits two views cannot place it.
    shared = np.bincount(pairs.label, minlength=len(labels))[pairs.label] > 1
    drawn = np.zeros(len(labels.lines), dtype=bool)  # rows with a malignant lesion of their own, not in a SEG
    drawn[list(labels.lesions)] = True
    doubtful = shared & np.logical_or.reduceat((drawn & labels.positive)[labels.order], labels.starts[:-1])[pairs.label]
    placed = np.zeros(len(pairs), dtype=bool)
    placed[[i for i, (found, _) in pairs.placed.items() if found]] = True
    unclear = pairs.positive() & (~labels.located()[pairs.label] | ~placed | doubtful)
    kept = np.flatnonzero(~unclear)
    image = pairs.image[kept]
    image_groups, _ = by_appearance(images.patients()[image])
    keys = images.mark_keys[image]
    begin = np.where(keys < 0, 0, images.marks.starts[keys])
    counts = np.where(keys < 0, 0, images.marks.starts[keys + 1] - begin)
    # Of each mark: which of the kept pairs it is in, and its place in the table of marks.
    inside = np.repeat(np.arange(len(kept)), counts)
    ends = np.cumsum(counts)
    mark = np.arange(len(inside)) + np.repeat(begin - (ends - counts), counts)
    truth = np.zeros(len(mark), dtype=bool)
    scores = images.marks.scores[mark]
    lesion_scores: list[float] = []
    lesion_groups: list[int] = []
    for i in np.flatnonzero(placed[kept]).tolist():
        stop = int(ends[i])
        start = stop - int(counts[i])
        places, _ = pairs.placed[int(kept[i])]
        found = [[lesions.hits(images.marks[m], lesion) for lesion in places] for m in mark[start:stop].tolist()]
        truth[start:stop] = [any(row) for row in found]
        for column in range(len(places)):
            best = [s for s, row in zip(scores[start:stop].tolist(), found, strict=True) if row[column]]
            lesion_scores.append(max(best, default=-np.inf))
            lesion_groups.append(int(image_groups[i]))
    if not lesion_scores:
        return None
    groups = image_groups[inside]
    cases = Cases(
        "region",
        Lazy(len(mark), lambda k: f"{images.ids[int(image[inside[k]])]} #{images.marks.numbers[int(mark[k])]}"),
        truth,
        scores,
        groups,
        Members(pairs, kept[inside], np.arange(len(mark) + 1)),
    )
    marks = Marks(
        np.array(lesion_scores), np.array(lesion_groups, dtype=np.intp), scores[~truth], groups[~truth], image_groups
    )
    return Regions(cases, marks, int(unclear.sum()), len(lesion_scores))
