"""Splits by patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mammoscan.errors import LabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def folds(
    group: NDArray[np.str_], label: NDArray[np.int64], source: NDArray[np.str_], *, count: int, seed: int
) -> NDArray[np.int64]:
    """Fold 0 to count - 1 of every row: a patient is in one fold only, labels and sources in all alike."""
    strata = np.unique(np.char.add(source.astype(str), label.astype(str)), return_inverse=True)[1]
    out = np.full(len(group), -1, np.int64)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for fold, (_, rows) in enumerate(splitter.split(np.zeros(len(group)), strata, group)):
        out[rows] = fold
    return out


def check_no_leak(group: NDArray[np.str_], part: NDArray[np.int64]) -> None:
    """Make sure that no patient is in two parts.

    Raises
    ------
    LabelError
        Naming a patient that is.
    """
    seen: dict[str, int] = {}
    for patient, where in zip(group.tolist(), part.tolist(), strict=True):
        if seen.setdefault(patient, where) != where:
            raise LabelError(f"patient {patient} is in part {seen[patient]} and in part {where}")
