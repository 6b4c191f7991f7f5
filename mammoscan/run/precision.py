"""What the network computes in, for a results folder: scores of two precisions do not stand in one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mammoscan.model.precision import AUTO, Precision, chosen

if TYPE_CHECKING:
    from mammoscan.core.console import Console
    from mammoscan.model.bundle import Bundle
    from mammoscan.run.ledger import Ledger

log = logging.getLogger(__name__)
_NOTED = "precision"  # note of the ledger: of the last run


def settled(wanted: str, bundle: Bundle, ledger: Ledger, console: Console) -> Precision:
    """The precision of this run, noted for the next one. Where it changes, that and why is said.

    The precision is part of an image's key (``planner``), so what another one made is made again. wanted: one of
    ``model.precision.CHOICES``.
    """
    # Folders of before there was a choice have no note.
    before = ledger.fact(_NOTED) or (Precision.FLOAT32.value if ledger.totals()[0] else "")
    found = chosen(wanted, bundle, before=before)
    said = []
    if before and found.value != before:
        why = f"--precision {wanted}" if wanted != AUTO else f"this model is not said to hold in {before}"
        said.append(
            f"the results in this folder were computed in {before}; all are made again in {found.value} ({why}), "
            "since scores of the two are not the same"
        )
    if found is not Precision.FLOAT32 and found.value not in bundle.precisions:
        said.append(f"the model's description does not say that its scores hold in {found.value}")
    for text in said:
        console.note(text)
        log.warning("%s", text)
    ledger.note(_NOTED, found.value)
    return found
