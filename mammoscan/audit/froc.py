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
    return _Sorted(marks).curve(None)


def sensitivity_at(marks: Marks, false_marks: tuple[float, ...] = FALSE_MARKS, weights: Floats | None = None) -> Floats:
    """Largest lesion sensitivity with at most each number of false marks per image.

    A step function, not interpolated: it is reached by a real threshold. ``weights``: by patient.
    """
    return _Sorted(marks).at(false_marks, weights)


class _Sorted:
    """Lesions and false marks in one falling order; built once for the bootstrap."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        scores = np.concatenate([marks.lesion_scores, marks.false_scores])
        self.groups = np.concatenate([marks.lesion_groups, marks.false_groups])
        lesion = np.arange(len(scores)) < len(marks.lesion_scores)
        order = np.argsort(-scores, kind="stable")
        order = order[np.isfinite(scores[order])]
        falling = scores[order]
        self.order, self.lesion = order, lesion[order]
        self.ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(order) else np.zeros(0, np.intp)

    def curve(self, weights: Floats | None) -> tuple[Floats, Floats]:
        marks = self.marks
        if weights is None:
            w, lesions, images = (
                np.ones(len(self.order)),
                float(len(marks.lesion_groups)),
                float(len(marks.image_groups)),
            )
        else:
            w = weights[self.groups[self.order]]
            lesions, images = (
                float(weights[marks.lesion_groups].sum()),
                float(weights[marks.image_groups].sum()),
            )
        found = np.concatenate([[0.0], np.cumsum(w * self.lesion)[self.ends]])
        false = np.concatenate([[0.0], np.cumsum(w * ~self.lesion)[self.ends]])
        with np.errstate(divide="ignore", invalid="ignore"):
            return false / images, found / lesions

    def at(self, false_marks: tuple[float, ...], weights: Floats | None) -> Floats:
        rate, sensitivity = self.curve(weights)
        index = np.searchsorted(rate, np.asarray(false_marks) + 1e-12, side="right") - 1
        return np.asarray(sensitivity[np.maximum(index, 0)])


def sorted_marks(marks: Marks) -> _Sorted:
    """The reusable order, for many replicates."""
    return _Sorted(marks)
