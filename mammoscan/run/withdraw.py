"""Results that the archive no longer bears out: which they are, and how they go.

A study whose files are merely gone keeps its results. One of whose files the archive now says that they are another
patient's, that two contents carry one identifier, or that a rule leaves them out, and that has no image left to
report on, does not: its results leave the tables, the folder and the queues.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan.core import store
from mammoscan.core.errors import Reason
from mammoscan.run import tablerows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mammoscan.core.domain import Failed, Skipped
    from mammoscan.run.ledger import Ledger, StudyRecord

    Other = Skipped | Failed

log = logging.getLogger(__name__)

# What says nothing against an image's results: it stands elsewhere in the archive, or cannot be seen just now.
_NO_CONTRADICTION = (Reason.DUPLICATE, Reason.OUTPUT, Reason.UNREADABLE, Reason.STILL_WRITTEN, Reason.CHANGED)


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


def contradiction(others: Sequence[Other], record: StudyRecord | None, uid: Callable[[str], str]) -> Reason | None:
    """Why the results of a study no longer stand, None where they do.

    others: all files of the study in the archive, none of which is an image to analyse. record: None where the
    state file holds one that cannot be read. uid: a UID as it is written in the record.
    """
    if any(other.reason is Reason.MIXED_PATIENTS for other in others):
        return Reason.MIXED_PATIENTS
    instances = tablerows.instances(record.rows) if record else set()
    against = (
        other.reason
        for other in others
        if other.reason not in _NO_CONTRADICTION and (not instances or uid(other.sop_instance_uid) in instances)
    )
    return next(against, None)


def withdraw(
    ledger: Ledger, out: Path, study_instance_uid: str, others: Sequence[Other], uid: Callable[[str], str]
) -> list[Withdrawal]:
    """Withdraw the results of a study without images, if the archive contradicts them.

    others: the files of the study, which has no image to analyse. uid: a UID as it is written. The state file forgets
    a study in the same transaction in which it notes what is to be removed, so that a crash at any moment is completed
    by the next run (``complete``).
    """
    if not ledger.has_study(study_instance_uid):
        return []
    reason = contradiction(others, ledger.study(study_instance_uid), uid)
    if reason is None:
        return []
    withdrawal = Withdrawal(study_instance_uid, reason, ledger.sent(study_instance_uid))
    ledger.withdraw(study_instance_uid, reason.code)
    log.warning("%s", withdrawal)
    complete(ledger, out)
    return [withdrawal]


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


def noted(reason: Reason, detail: str, withdrawn: str) -> str:
    """The detail of a failed file as ``files.csv`` lists it: with a word where its study's results were withdrawn for it.

    withdrawn: the code of the reason why they were, '' where they were not.
    """
    if withdrawn != reason.code:
        return detail
    word = "earlier results of the study are withdrawn"
    return f"{detail}; {word}" if detail else word
