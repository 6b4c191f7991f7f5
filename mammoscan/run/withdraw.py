"""Results that the archive no longer bears out: which they are, and how they go.

A study whose files are merely gone keeps its results. One of whose files the archive now says that they are another
patient's, that two contents carry one identifier, or that a rule leaves them out, and that has no image left to
report on, does not: its results leave the tables, the folder and the queues.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mammoscan.core import store
from mammoscan.core.domain import Failed
from mammoscan.core.errors import Reason
from mammoscan.report.tables import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mammoscan.core.domain import Skipped
    from mammoscan.run.ledger import Ledger, StudyRecord

    Other = Skipped | Failed

log = logging.getLogger(__name__)

# What says nothing against an image's results: it stands elsewhere in the archive, or cannot be seen just now.
_NO_CONTRADICTION = (Reason.DUPLICATE, Reason.OUTPUT, Reason.UNREADABLE, Reason.STILL_WRITTEN, Reason.CHANGED)
_INSTANCE = [column.name for column in COLUMNS["images"]].index("sop_instance_uid")


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A study whose results went. sent: how many objects each destination has by now."""

    study_instance_uid: str
    reason: Reason
    sent: Mapping[str, int]

    def __str__(self) -> str:
        gone = ", ".join(f"{count} at {destination}" for destination, count in sorted(self.sent.items()))
        there = f"; objects that were sent before must be removed by hand: {gone}" if gone else ""
        return f"withdrawn: the results of study {self.study_instance_uid}: {self.reason.meaning}{there}"


def contradiction(others: Sequence[Other], record: StudyRecord | None) -> Reason | None:
    """Why the results of a study no longer stand, None where they do.

    others: all files of the study in the archive, none of which is an image to analyse. record: None where the
    state file holds one that cannot be read.
    """
    if any(other.reason is Reason.MIXED_PATIENTS for other in others):
        return Reason.MIXED_PATIENTS
    rows = record.rows.get("images", []) if record else []
    instances = {row[_INSTANCE] for row in rows}
    against = (
        other.reason
        for other in others
        if other.reason not in _NO_CONTRADICTION and (not instances or other.sop_instance_uid in instances)
    )
    return next(against, None)


def withdraw(ledger: Ledger, out: Path, others_of: Mapping[str, Sequence[Other]]) -> list[Withdrawal]:
    """Withdraw the results of studies without images that the archive contradicts.

    others_of: by StudyInstanceUID (as it is written) the files of studies that have no image to analyse. The state
    file forgets a study in the same transaction in which it notes what is to be removed, so that a crash at any
    moment is completed by the next run (``complete``).
    """
    done = []
    for uid, others in others_of.items():
        if not ledger.has_study(uid):
            continue
        reason = contradiction(others, ledger.study(uid))
        if reason is None:
            continue
        withdrawal = Withdrawal(uid, reason, ledger.sent(uid))
        ledger.withdraw(uid, reason.code)
        log.warning("%s", withdrawal)
        done.append(withdrawal)
    complete(ledger, out)
    return done


def complete(ledger: Ledger, out: Path) -> int:
    """Remove the files that no longer are results; return how many there were. Safe to repeat."""
    doomed = ledger.removals()
    removed = 0
    for name in doomed:
        if store.remove(out, name):
            log.info("removed: %s", name)
            removed += 1
    if doomed:
        ledger.removed(doomed)
    return removed


def noted(other: Other, withdrawn: Mapping[str, str]) -> Other:
    """A file as ``files.csv`` lists it: with a word where its study's results were withdrawn for it.

    withdrawn: StudyInstanceUID to the code of the reason.
    """
    if not isinstance(other, Failed) or withdrawn.get(other.study_instance_uid) != other.reason.code:
        return other
    word = "earlier results of the study are withdrawn"
    return replace(other, detail=f"{other.detail}; {word}" if other.detail else word)
