"""UIDs that are the same whenever the same result is made again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mammoscan.core.domain import Header, RegionKind, ReportContext, StudyResult


def uid(*parts: str) -> str:
    """A UID below 2.25 (PS3.5 B.2) made from text: 128 bits of SHA-256, marked as a version 5 UUID."""
    digest = bytearray(hashlib.sha256("\0".join(("mammoscan", *parts)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{int.from_bytes(digest, 'big')}"


def of_result(kind: str, result: StudyResult, context: ReportContext) -> str:
    """The UID of a series or object of a study: from the study, the model and the configuration."""
    return uid(kind, result.study.study_instance_uid, context.model.sha256, context.config_digest)


def tracking(header: Header, kind: RegionKind, number: int, model_sha256: str, config_digest: str) -> tuple[str, str]:
    """Tracking Identifier and Tracking Unique Identifier of an image's finding (1, 2, ...)."""
    unique = uid("finding", header.sop_instance_uid, str(number), model_sha256, config_digest)
    return tracking_id(header, kind, number, unique), unique


def tracking_id(header: Header, kind: RegionKind, number: int, unique: str) -> str:
    """Tracking Identifier of an image's finding with a Tracking Unique Identifier: for people, and still its own."""
    place = " ".join(v for v in (header.laterality.value, header.view.value) if v != "unknown")
    return f"{place or 'image'} {kind.value.partition('-')[0]} {number} ({unique[-6:]})"
