"""Free-response ROC: lesions found against false marks per image (Bunch et al., SPIE 1977;127:124)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FALSE_MARKS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks against lesions.

    lesion_scores: (lesions,) highest score of the marks that hit it, -inf where none does.
    lesion_groups: (lesions,) patient numbers. false_scores, false_groups: of marks that hit no
    lesion. image_groups: (images,) patient number of every image searched.
    """

    lesion_scores: Floats
    lesion_groups: NDArray[np.intp]
    false_scores: Floats
    false_groups: NDArray[np.intp]
    image_groups: NDArray[np.intp]


def froc_curve(marks: Marks) -> tuple[Floats, Floats]:
    """(false marks per image, sensitivity) at each threshold, starting with (0, 0)."""
    return _Sorted(marks).curve()


def sensitivity_at(marks: Marks, false_marks: tuple[float, ...] = FALSE_MARKS, weights: Floats | None = None) -> Floats:
    """Largest lesion sensitivity with at most each number of false marks per image.

    A step function, not interpolated: it is reached by a real threshold. ``weights``: by patient, how often each counts.
    """
    return _Sorted(marks).at(false_marks, weights)


class _Sorted:
    """Lesions and false marks in one falling order; built once for the bootstrap."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        scores = np.concatenate([marks.lesion_scores, marks.false_scores])
        groups = np.concatenate([marks.lesion_groups, marks.false_groups])
        lesion = np.arange(len(scores)) < len(marks.lesion_scores)
        order = np.argsort(-scores, kind="stable")
        order = order[np.isfinite(scores[order])]
        falling = scores[order]
        self.groups, self.lesion = groups[order], lesion[order]
        self.ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(order) else np.zeros(0, np.intp)
        # Sensitivity rises only at scores that a lesion has: what a replicate needs is counted between them.
        holds = np.add.reduceat(self.lesion, np.append(0, self.ends[:-1] + 1)) > 0 if len(order) else np.zeros(0, bool)
        steps = self.ends[holds]
        behind = steps[-1] + 1 if len(steps) else 0
        numbers = np.searchsorted(steps, np.arange(behind))  # which step each mark comes before, or is at
        found = self.lesion[:behind]
        self.steps = len(steps)
        self.lesion_steps, self.lesion_groups = numbers[found], self.groups[:behind][found]
        self.false_groups = self.groups[:behind][~found]
        # Where the false marks in front of each step begin; a step may have none.
        self.false_starts = np.searchsorted(numbers[~found], np.arange(self.steps))
        # One more place, so that a step without false marks behind the last of them has somewhere to point.
        self.drawn = np.zeros(len(self.false_groups) + 1, dtype=np.float32)
        self.empty = np.diff(np.append(self.false_starts, len(self.false_groups))) == 0
        self.images_by_patient = np.bincount(marks.image_groups).astype(np.float64)
        self.lesions_by_patient = np.bincount(marks.lesion_groups, minlength=len(self.images_by_patient)).astype(
            np.float64
        )

    def curve(self) -> tuple[Floats, Floats]:
        """(false marks per image, sensitivity) at each threshold, starting with (0, 0)."""
        found = np.concatenate([[0.0], np.cumsum(self.lesion, dtype=np.float64)[self.ends]])
        false = np.concatenate([[0.0], np.cumsum(~self.lesion, dtype=np.float64)[self.ends]])
        with np.errstate(divide="ignore", invalid="ignore"):
            return false / len(self.marks.image_groups), found / len(self.marks.lesion_groups)

    def at(self, false_marks: tuple[float, ...], weights: Floats | None) -> Floats:
        """Sensitivity at numbers of false marks per image. weights: by patient, how often each counts; None for once."""
        w = np.ones(len(self.images_by_patient)) if weights is None else weights
        # Products and their sums, since a threaded dot product of so few numbers waits longer than it works.
        images, lesions = (w * self.images_by_patient).sum(), (w * self.lesions_by_patient).sum()
        found = np.cumsum(np.bincount(self.lesion_steps, w[self.lesion_groups], self.steps))
        # Counts are whole numbers, which the short form holds exactly; half as long, they stay in the processor's cache.
        # Into the same memory each time: fresh pages cost more than what is written to them.
        w.astype(np.float32).take(self.false_groups, out=self.drawn[:-1], mode="clip")
        stretches = np.add.reduceat(self.drawn, self.false_starts, dtype=np.float64) if self.steps else np.zeros(0)
        stretches[self.empty] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.append(0.0, np.cumsum(stretches) / images)
            sensitivity = np.append(0.0, found) / lesions
        index = np.searchsorted(rate, np.asarray(false_marks) + 1e-12, side="right") - 1
        return np.asarray(sensitivity[np.maximum(index, 0)])


def sorted_marks(marks: Marks) -> _Sorted:
    """The reusable order, for many replicates."""
    return _Sorted(marks)
