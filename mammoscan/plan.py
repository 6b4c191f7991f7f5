"""From header results to studies: grouping, duplicates, contradictions. Pure but for digests of twins."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan.domain import DensityReading, Failed, Header, Skipped
from mammoscan.errors import Reason, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

Result = Header | Skipped | Failed


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What is to be done with a study. headers: images to analyse, by series, instance and UID."""

    study_instance_uid: str
    headers: tuple[Header, ...]
    skipped: tuple[Skipped, ...]
    failed: tuple[Failed, ...]
    densities: tuple[DensityReading, ...]


def plan_studies(results: Iterable[Result]) -> tuple[tuple[StudyPlan, ...], tuple[Skipped | Failed, ...]]:
    """Group results by StudyInstanceUID; what belongs to no study comes second.

    One SOPInstanceUID with one content twice: the first by path stays, the others are ``DUPLICATE``.
    With two contents, or of one study with two patients: all of them fail, none is chosen.
    Every result ends in exactly one place.
    """
    studies: dict[str, list[Result]] = defaultdict(list)
    loose: list[Skipped | Failed] = []
    for result in _without_twins(results):
        uid = result.study.study_instance_uid if isinstance(result, Header) else result.study_instance_uid
        if uid:
            studies[uid].append(result)
        elif not isinstance(result, Header):
            loose.append(result)
    return tuple(_plan(uid, studies[uid]) for uid in sorted(studies)), tuple(loose)


def _plan(uid: str, results: list[Result]) -> StudyPlan:
    headers = [r for r in results if isinstance(r, Header)]
    failed = [r for r in results if isinstance(r, Failed)]
    if len({(h.patient.patient_id, h.patient.issuer) for h in headers}) > 1:
        failed += [_failed(h, Reason.MIXED_PATIENTS) for h in headers]
        headers = []
    headers.sort(key=lambda h: (_or_last(h.series_number), _or_last(h.instance_number), h.sop_instance_uid))
    skipped = tuple(r for r in results if isinstance(r, Skipped))
    densities = tuple(dict.fromkeys(d for s in skipped for d in s.densities))
    return StudyPlan(uid, tuple(headers), skipped, tuple(failed), densities)


def _without_twins(results: Iterable[Result]) -> list[Result]:
    out: list[Result] = []
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for result in results:
        if isinstance(result, Header):
            by_uid[result.sop_instance_uid].append(result)
        else:
            out.append(result)
    for twins in by_uid.values():
        if len(twins) == 1:
            out.append(twins[0])
            continue
        twins.sort(key=lambda h: h.file.relative)
        try:
            contents = {_content(h) for h in twins}
        except OSError as error:
            out.extend(_failed(h, Reason.UNREADABLE, error.strerror or "") for h in twins)
            continue
        if len(contents) > 1:
            out.extend(_failed(h, Reason.CONFLICTING_UID) for h in twins)
            continue
        first, *others = twins
        out.append(first)
        out.extend(
            Skipped(h.file, Stage.DISCOVER, Reason.DUPLICATE, f"of {first.file.relative}",
                    h.study.study_instance_uid, h.sop_instance_uid)
            for h in others
        )  # fmt: skip
    return out


def _content(header: Header) -> str:
    with header.file.path.open("rb") as stream:
        return (
            hashlib.file_digest(stream, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(stream.read()).hexdigest()
        )


def _failed(header: Header, reason: Reason, detail: str = "") -> Failed:
    # Without the header: a result for a contradictory identity would be a report about somebody unknown.
    return Failed(header.file, Stage.DISCOVER, reason, detail, header.study.study_instance_uid, header.sop_instance_uid)


def _or_last(number: int | None) -> tuple[bool, int]:
    return number is None, number or 0
