"""From header results to studies: grouping, duplicates, contradictions. Pure: who compares twins is given."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan.core.domain import DensityReading, Failed, Header, Skipped
from mammoscan.core.errors import Reason, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    # What files that carry one SOPInstanceUID are: of one content, of two, or not to be read, with the system's words.
    Same = Callable[[list[Header]], bool | str]

Result = Header | Skipped | Failed


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What is to be done with a study. headers: images to analyse, by series, instance and UID."""

    study_instance_uid: str
    headers: tuple[Header, ...]
    skipped: tuple[Skipped, ...]
    failed: tuple[Failed, ...]
    densities: tuple[DensityReading, ...]


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image with the key of its result and the density that is known before its pixels are.

    header: as the file has it, for the analysis. written: as it is kept and written; the same, or without identities.
    number: of the file in the inventory. content: digest of the file as it is, b'' where that is not known.
    gone: whether the file is not in the archive any more, so that only what was found in it is known.
    """

    header: Header
    written: Header
    key: str
    density: DensityReading | None
    number: int = 0
    content: bytes = b""
    gone: bool = False


def plan_studies(results: Iterable[Result], same: Same) -> tuple[tuple[StudyPlan, ...], tuple[Skipped | Failed, ...]]:
    """Group results by StudyInstanceUID; what belongs to no study comes second.

    One SOPInstanceUID with one content twice: the first by path stays, the others are ``DUPLICATE``.
    With two contents, or of one study with two patients: all of them fail, none is chosen. So do images without a
    patient's identifier in a study that has one.
    Every result ends in exactly one place, whatever the order of the results.
    same: compares the files of several headers; False where their contents differ, a text where they cannot be read.
    """
    studies: dict[str, list[Result]] = defaultdict(list)
    loose: list[Skipped | Failed] = []
    for result in _without_twins(sorted(results, key=lambda r: r.file.relative), same):
        uid = result.study.study_instance_uid if isinstance(result, Header) else result.study_instance_uid
        if uid:
            studies[uid].append(result)
        else:
            loose.append(_failed(result, Reason.MISSING_UID) if isinstance(result, Header) else result)
    return tuple(_plan(uid, studies[uid]) for uid in sorted(studies)), tuple(loose)


def _plan(uid: str, results: list[Result]) -> StudyPlan:
    headers = [r for r in results if isinstance(r, Header)]
    skipped = tuple(r for r in results if isinstance(r, Skipped))
    failed = [r for r in results if isinstance(r, Failed)]
    stating = [s for s in skipped if s.densities]
    patients = [(h.patient.patient_id, h.patient.issuer) for h in headers]
    if differ([*patients, *(s.patient for s in stating if s.patient[0])]):
        failed += [_failed(h, Reason.MIXED_PATIENTS) for h in headers]
        headers, stating = [], []
    if any(identifier for identifier, _ in patients):
        # Nothing says that these are of the same person, and the study's report bears that person's name.
        failed += [_failed(h, Reason.MISSING_ID) for h in headers if not h.patient.patient_id]
        headers = [h for h in headers if h.patient.patient_id]
    headers.sort(key=in_order)
    densities = tuple(dict.fromkeys(d for s in stating for d in s.densities))
    return StudyPlan(uid, tuple(headers), skipped, tuple(failed), densities)


def differ(patients: list[tuple[str, str]]) -> bool:
    """Whether these are two patients: two identifiers, or one of two issuers. A missing one says nothing."""
    return len({identifier for identifier, _ in patients if identifier}) > 1 or len({i for _, i in patients if i}) > 1


def _without_twins(results: list[Result], same: Same) -> list[Result]:
    """The results, with those of images that share a SOPInstanceUID turned into what that means."""
    images: dict[str, list[Header]] = defaultdict(list)
    others: set[str] = set()
    for result in results:
        if isinstance(result, Header):
            images[result.sop_instance_uid].append(result)
        elif isinstance(result, Skipped) and result.sop_instance_uid:
            # Skipped by rule although an image of this UID was not: its content is another one.
            others.add(result.sop_instance_uid)
    decided = {uid: _decided(twins, same, contradicted=uid in others) for uid, twins in images.items()}
    return [decided[r.sop_instance_uid].pop(0) if isinstance(r, Header) else _contradicted(r, images) for r in results]


def _contradicted(result: Skipped | Failed, images: dict[str, list[Header]]) -> Skipped | Failed:
    if isinstance(result, Skipped) and result.sop_instance_uid in images:
        return Failed(
            result.file, Stage.DISCOVER, Reason.CONFLICTING_UID, "", result.study_instance_uid, result.sop_instance_uid
        )
    return result


def _decided(twins: list[Header], same: Same, *, contradicted: bool) -> list[Result]:
    """What becomes of images with one SOPInstanceUID, in their order."""
    if contradicted:
        return [_failed(h, Reason.CONFLICTING_UID) for h in twins]
    if len(twins) == 1:
        return list(twins)
    found = same(twins)
    if isinstance(found, str):
        return [_failed(h, Reason.UNREADABLE, found) for h in twins]
    if not found:
        return [_failed(h, Reason.CONFLICTING_UID) for h in twins]
    first, *others = twins
    return [first, *(
        Skipped(h.file, Stage.DISCOVER, Reason.DUPLICATE, f"of {first.file.relative}",
                h.study.study_instance_uid, h.sop_instance_uid)
        for h in others
    )]  # fmt: skip


def _failed(header: Header, reason: Reason, detail: str = "") -> Failed:
    # Without the header: a result for a contradictory identity would be a report about somebody unknown.
    return Failed(header.file, Stage.DISCOVER, reason, detail, header.study.study_instance_uid, header.sop_instance_uid)


def in_order(header: Header) -> tuple[object, ...]:
    """The place of an image in its study: series, instance, UID."""
    return _or_last(header.series_number), _or_last(header.instance_number), header.sop_instance_uid


def _or_last(number: int | None) -> tuple[bool, int]:
    return number is None, number or 0
