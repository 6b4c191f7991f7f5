"""From scored regions to findings, breasts and studies. Pure functions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core.domain import BreastResult, Finding, Laterality, Prediction
from mammoscan.model.outputs import BREAST_INPUTS, breast_inputs
from mammoscan.model.terms import log_odds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mammoscan.core.domain import Age, Region
    from mammoscan.model.scores import Score

# Two regions mark the same place when the intersection of their boxes covers this share of the smaller.
SAME_PLACE = 0.5


def select(regions: Sequence[Region], malignancy: Sequence[float], *, most: int) -> tuple[int, ...]:
    """Indices of the regions to report: the highest malignancy scores, one a place, at most ``most``.

    Ties go to the more salient region, then to the earlier, so the choice never depends on the
    order of anything but the regions themselves.
    """
    order = sorted(range(len(regions)), key=lambda i: (-malignancy[i], -regions[i].saliency, i))
    kept: list[int] = []
    for index in order:
        if len(kept) == most:
            break
        if all(overlap(regions[index].box, regions[other].box) < SAME_PLACE for other in kept):
            kept.append(index)
    return tuple(kept)


def overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Intersection of two boxes (x0, y0, x1, y1) over the area of the smaller, 0 to 1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second))
    return float(np.clip(width * height / smaller, 0.0, 1.0)) if smaller > 0 else 0.0


def number(predictions: Iterable[Prediction]) -> tuple[Prediction, ...]:
    """Number the findings of a study 1, 2, ... in the order of its images.

    The tracking identifier is the number within the image, so that it does not change when another
    image joins the study.
    """
    count = 0
    out = []
    for prediction in predictions:
        findings: list[Finding] = []
        for finding in prediction.findings:
            count += 1
            findings.append(dataclasses.replace(finding, number=count))
        out.append(dataclasses.replace(prediction, findings=tuple(findings)))
    return tuple(out)


def breasts(predictions: Iterable[Prediction], age: Age | None, score: Score | None) -> tuple[BreastResult, ...]:
    """One result a side, from its images' scores and the age; left, right, then others.

    score: the model's; without one the side's highest image score stands for it.
    """
    sides: dict[Laterality, list[float]] = {}
    for prediction in predictions:
        sides.setdefault(prediction.header.laterality, []).append(prediction.scores.malignancy)
    return tuple(
        BreastResult(side, len(sides[side]), _breast(sides[side], age, score)) for side in Laterality if side in sides
    )


def _breast(malignancy: Sequence[float], age: Age | None, score: Score | None) -> float:
    if score is None:
        return max(malignancy)
    inputs = breast_inputs(log_odds(np.array(malignancy)), None if age is None else age.years)
    return float(score(inputs[None, [BREAST_INPUTS.index(name) for name in score.inputs]])[0])
