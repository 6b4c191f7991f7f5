"""Splits by patient, and their file."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core.errors import LabelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_WORST = ("", "normal", "benign", "malignant")


def strata(
    patient: NDArray[np.str_], source: NDArray[np.str_], label: NDArray[np.str_], density: NDArray[np.str_]
) -> dict[str, tuple[str, str, str]]:
    """(set, worst label, most frequent density) of every patient, from her films."""
    out: dict[str, tuple[str, str, str]] = {}
    for one in np.unique(patient):
        rows = patient == one
        worst = max(label[rows].tolist(), key=_WORST.index)
        stated, counts = np.unique(density[rows & (density != "")], return_counts=True)
        out[str(one)] = (str(source[rows][0]), worst, str(stated[counts.argmax()]) if len(stated) else "")
    return out


def folds(of_patient: dict[str, tuple[str, str, str]], *, count: int, seed: int) -> dict[str, int]:
    """Fold 0 to count - 1 of every patient; each set, worst label and density in all alike.

    A stratum's patients are dealt out in turn, each stratum beginning where the one before ended, so that
    small strata are spread as well.

    Raises
    ------
    LabelError
        When there are fewer patients than folds.
    """
    patients = sorted(of_patient)
    if len(patients) < count:
        raise LabelError(f"{len(patients)} patients cannot be split into {count} folds", remedy="add patients")
    rng = np.random.default_rng(seed)
    out, turn = {}, 0
    for stratum in sorted(set(of_patient.values())):
        members = [p for p in patients if of_patient[p] == stratum]
        for index in rng.permutation(len(members)):
            out[members[index]] = turn % count
            turn += 1
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


def write(path: Path, of_patient: dict[str, tuple[str, str, str]], fold: dict[str, int]) -> None:
    """Write patient, set, worst label, density and fold as CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("patient", "set", "worst_label", "density", "fold"))
        table.writerows((p, *of_patient[p], fold[p]) for p in sorted(fold))
