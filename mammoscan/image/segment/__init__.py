"""Suspicious regions: thresholds and seeds, growing, merging by similarity, clusters of spots, ranking.

The two source papers threshold the filtered breast and then grow and merge regions by similarity
with their neighbourhood until nothing merges. Here all three steps propose regions of 3 to 60 mm:
``threshold`` the pieces above falling grey levels, and seeds where a difference of Gaussians is a
maximum in place and scale; ``grow`` grows the seeds; ``merge`` merges alike neighbours until nothing
merges, each region on the way being a proposal; ``sift`` keeps one of those that are nearly the same.
``spots`` adds clusters of microcalcifications.
``measure`` says what each looks like, ``ranking`` how much that is like a lesion. Lengths are in
millimetres; where the header has no pixel spacing, in those that ``preprocess`` assumes.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core.domain import Segmented
from mammoscan.image.segment import grow, measure, merge, outline, ranking, sift, spots, threshold
from mammoscan.image.segment.field import search_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared
    from mammoscan.image.segment.field import Field
    from mammoscan.image.segment.proposal import Proposal
    from mammoscan.image.segment.ranking import Trees

SHARED = 0.1  # intersection over union above which the less salient of two regions is dropped
# Clusters are ranked among themselves, by spots; they take every third place, as long as there are any.
TURN = 3


def segment(prepared: Prepared, *, max_regions: int, trees: Trees | None = None) -> Segmented:
    """Candidate regions of a prepared image, most salient first, at most ``max_regions``.

    Contours, boxes and centres are in source image pixels; areas in mm² where the header has the
    pixel spacing. Every third region is a cluster of spots, as long as there are any; it takes over
    the saliency of the region before it. trees: the ranking, else the one that mammoscan ships.
    """
    field = search_field(prepared)
    found: list[tuple[Proposal, float]] = []
    if field.breast.any():
        proposals = propose(field)
        shared = measure.overlaps(field, proposals)
        saliency = (trees or ranking.frozen()).score(measure.measures(field, proposals, shared))
        masses = [(proposals[k], float(saliency[k])) for k in select(saliency, shared, most=max_regions)]
        found = in_turn(masses, spots.clusters(prepared, field))[:max_regions]
    return Segmented(prepared, tuple(outline.region(prepared, field.scale, p, value) for p, value in found))


def propose(field: Field) -> list[Proposal]:
    """Masses that stand out of their surroundings, in an order that depends on the image alone."""
    return sift.distinct(field, chain(grow.grown(field), threshold.pieces(field), merge.merged(field)))


def in_turn(masses: list[tuple[Proposal, float]], clusters: list[Proposal]) -> list[tuple[Proposal, float]]:
    """Masses with their saliency, every third place given to the next cluster; what is left follows."""
    out: list[tuple[Proposal, float]] = []
    first, second = iter(masses), iter(clusters)
    for _ in range(len(masses) + len(clusters)):
        cluster = next(second, None) if len(out) % TURN == TURN - 1 else None
        mass = next(first, None) if cluster is None else None
        if mass is not None:
            out.append(mass)
        elif (cluster := cluster or next(second, None)) is not None:
            out.append((cluster, out[-1][1] if out else 0.0))
    return out


def select(saliency: NDArray[np.float64], shared: NDArray[np.float32], *, most: int) -> list[int]:
    """Indices of the most salient proposals, no two of which share their place; at most ``most``.

    saliency: float64 (n,). shared: intersection over union of every two, (n, n). Ties go to the earlier.
    """
    kept: list[int] = []
    for index in np.argsort(-saliency, kind="stable").tolist():
        if len(kept) >= most:
            break
        if all(shared[index, other] <= SHARED for other in kept):
            kept.append(index)
    return kept
