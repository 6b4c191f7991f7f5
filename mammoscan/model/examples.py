"""Labelled crops for training, made by the project's own preprocessing, segmentation and crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import joblib
import numpy as np

from mammoscan import crops, preprocess, segment
from mammoscan.domain import Density as _Density
from mammoscan.domain import DensityReading, DensitySource, Laterality
from mammoscan.errors import InputError
from mammoscan.findings import overlap
from mammoscan.model.classify import CLASSES, clinical_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mammoscan.model.datasets.film import Box, Film

# Negatives: this many of a film's own most salient candidate regions that touch no finding.
NEGATIVES = {"mias": 8, "cbis-mass": 1, "cesm": 2, "rsna": 1}
NEGATIVES_ELSEWHERE = 2
UNKNOWN_DENSITY = DensityReading(_Density.UNKNOWN, DensitySource.NONE, Laterality.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Examples:
    """Crops (n, side, side) uint8 with what is known of them.

    label: index in CLASSES. group: patient, unique across the sets. kind: 'truth' (a crop at a
    finding's own box) or 'candidate' (a region of the project's own segmentation).
    """

    crops: NDArray[np.uint8]
    clinical: NDArray[np.float32]
    label: NDArray[np.int64]
    source: NDArray[np.str_]
    group: NDArray[np.str_]
    film: NDArray[np.str_]
    kind: NDArray[np.str_]

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Examples:
        """Some of them."""
        return Examples(*(getattr(self, name)[chosen] for name in self.__slots__))


def choose(films: Sequence[Film], *, screening: int, seed: int) -> list[Film]:
    """The films to train on: all, but of the RSNA films only ``screening`` normal ones, drawn by seed.

    RSNA's other films have no place of a lesion, so that nothing can be cut out of them.
    """
    normal = [index for index, film in enumerate(films) if film.source == "rsna" and film.is_normal()]
    drawn = set(np.random.default_rng(seed).permutation(normal)[:screening].tolist())
    return [film for index, film in enumerate(films) if film.source != "rsna" or index in drawn]


def make(films: Sequence[Film], *, side: int, context: float, jobs: int) -> Examples:
    """Examples of all films, in their order; a film without a breast gives none."""
    parts = joblib.Parallel(n_jobs=jobs, batch_size=8)(joblib.delayed(_of_film)(f, side, context) for f in films)
    rows = [row for part in parts for row in part]
    patches, clinical, label, source, group, film, kind = zip(*rows, strict=True)
    return Examples(
        np.stack(patches), np.stack(clinical), np.array(label), np.array(source), np.array(group),
        np.array(film), np.array(kind),
    )  # fmt: skip


def _of_film(film: Film, side: int, context: float) -> list[tuple[object, ...]]:
    cv2.setNumThreads(1)
    try:
        prepared = preprocess.prepare(film.image())
    except InputError:
        return []
    clinical = clinical_inputs(film.header, film.header.density or UNKNOWN_DENSITY)
    found, occupied = film.findings(), film.occupied()
    out: list[tuple[object, ...]] = []

    def add(box: Box, label: str, kind: str) -> None:
        patch = crops.crop(prepared, box, side=side, context=context)
        out.append((patch, clinical, CLASSES.index(label), film.source, film.patient,
                    f"{film.source}/{film.name}", kind))  # fmt: skip

    for label, box in found:
        add(box, label, "truth")
    if not (found or film.is_normal()):
        return out
    negatives = 0
    for region in segment.segment(prepared, max_regions=20).regions:
        hit = next((label for label, box in found if _marks(region.box, region.centre, box)), None)
        if hit is not None:
            add(region.box, hit, "candidate")
        elif negatives < NEGATIVES.get(film.source, NEGATIVES_ELSEWHERE) and all(
            overlap(region.box, box) < 0.05 for box in occupied
        ):
            add(region.box, "normal", "candidate")
            negatives += 1
    return out


def _marks(region: Box, centre: tuple[float, float], box: Box) -> bool:
    """Whether a region is about the finding: its centre inside it, and their sizes alike."""
    inside = box[0] <= centre[0] <= box[2] and box[1] <= centre[1] <= box[3]
    area = (region[2] - region[0]) * (region[3] - region[1])
    truth = (box[2] - box[0]) * (box[3] - box[1])
    return inside and 0.2 < area / max(truth, 1e-6) < 4.0
