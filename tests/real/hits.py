"""How well rankings of candidate regions do: ``python -m tests.real.hits [--cache FILE]``.

Every proposal of the films with a located finding (mini-MIAS, CDD-CESM, every third of CBIS-DDSM;
sources in ``films``) is a case, ranked as ``mammoscan train`` does. Fitted in five folds by patient and
measured on the patients held out: findings hit at AT regions a film, and the Dice of the first region
that hits. Boxes and circles stand for findings as ellipses. --cache keeps what was measured.
"""

from __future__ import annotations

import argparse
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import joblib
import numpy as np

from mammoscan import preprocess, segment
from mammoscan.model import rank
from mammoscan.segment import measure, outline, spots
from tests.real import films

AT = (5, 10, 15, 20, 30)
FOLDS = 5
SEED = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """A film's proposals: measures (n, m), overlaps with each other (n, n), hit and Dice (n, findings).

    clusters: hit and Dice of its clusters of spots (clusters, findings), in their order.
    """

    source: str
    patient: str
    measures: np.ndarray
    shared: np.ndarray
    hit: np.ndarray
    dice: np.ndarray
    clusters: tuple[np.ndarray, np.ndarray]


def truths(film):
    """Findings as (kind, value): circles of MIAS, boxes of CBIS, lesion masks of CESM."""
    if film.source == "mias":
        return [("circle", c) for c in films.circles(film)]
    if film.source == "cbis-mass":
        return [("box", b) for b in film.occupied()]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(film.lesion_mask().astype(np.uint8))
    return [("mask", labels == i) for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= 20]


def hits(region, truth) -> bool:
    """Whether a region marks a finding: its centre lies in the finding, or the finding's centre lies
    in the region and the region's area is under four times the finding's.
    """
    kind, value = truth
    x, y = region.centre
    contour = region.contour.astype(np.float32).reshape(-1, 1, 2)
    if kind == "circle":
        cx, cy, r = value
        inside, centre, area = np.hypot(x - cx, y - cy) <= r, (cx, cy), np.pi * r * r
    elif kind == "box":
        x0, y0, x1, y1 = value
        inside = x0 <= x <= x1 and y0 <= y <= y1
        centre, area = ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0) * (y1 - y0)
    else:
        h, w = value.shape
        inside = bool(value[min(h - 1, max(0, int(y))), min(w - 1, max(0, int(x)))])
        ys, xs = np.nonzero(value)
        centre, area = (float(xs.mean()) + 0.5, float(ys.mean()) + 0.5), float(value.sum())
    contains = cv2.pointPolygonTest(contour, (float(centre[0]), float(centre[1])), False) >= 0
    return bool(inside or (contains and region.area_px < 4 * area))


def chosen_films():
    """Patients of three sets; those of RSNA have no place of a lesion."""
    return [*films.mias(), *films.cesm(), *films.cbis()[::3]]


def measured(film) -> Measured:
    cv2.setNumThreads(1)
    image = film.image()
    prepared = preprocess.prepare(image)
    field = segment.search_field(prepared)
    proposals = segment.propose(field)
    shared = measure.overlaps(field, proposals)
    found = truths(film)
    masks = [rank.drawn(lesion, image.pixels.shape) for lesion in film.lesions()]

    def marks(chosen):
        hit = np.zeros((len(chosen), len(found)), bool)
        overlap = np.zeros(hit.shape, np.float32)
        for i, proposal in enumerate(chosen):
            region = outline.region(prepared, field.scale, proposal, 0.0)
            hit[i] = [hits(region, t) for t in found]
            overlap[i] = [rank.dice(region, m) for m in masks]
        return hit, overlap

    numbers = measure.measures(field, proposals, shared)
    clusters = marks(spots.clusters(prepared, field))
    return Measured(film.source, film.patient, numbers, shared.astype(np.float16), *marks(proposals), clusters)


def fold_of(patient: str) -> int:
    return zlib.crc32(patient.encode()) % FOLDS


def curve(matrices):
    """Share of the findings hit at AT regions a film. matrices: hits (regions in order, findings)."""
    first = [np.where(m.any(axis=0), m.argmax(axis=0), 10**9) if len(m) else np.full(m.shape[1], 10**9)
             for m in matrices]  # fmt: skip
    first = np.concatenate(first) if first else np.empty(0)
    return len(first), [round(float((first < k).mean()), 3) for k in AT]


def in_order(film: Measured, trees):
    """Hits and Dice of the regions that segment() would keep."""
    kept = segment.select(trees.score(film.measures), film.shared, most=max(AT))
    masses = [((film.hit[k], film.dice[k]), 0.0) for k in kept]
    rows = [pair for pair, _ in segment.in_turn(masses, list(zip(*film.clusters, strict=True)))][: max(AT)]
    none = film.hit[:0], film.dice[:0]
    return tuple(np.array([r[i] for r in rows]).reshape(-1, film.hit.shape[1]) for i in (0, 1)) if rows else none


def dice_of_hits(ordered, at: int = 20):
    """Dice of the first region that hits each finding within the first ``at``."""
    out = []
    for hit, overlap in ordered:
        for j in range(hit.shape[1]):
            if hit[:at, j].any():
                out.append(float(overlap[int(hit[:at, j].argmax()), j]))
    return out


def fit(chosen):
    sizes = {source: sum(f.source == source for f in chosen) for source in {f.source for f in chosen}}
    weight = {source: np.sqrt(max(sizes.values()) / size) for source, size in sizes.items()}  # as ``rank.cases``
    return rank.fit(
        [rank.Case(f.measures, f.dice.max(axis=1, initial=0.0), weight[f.source]) for f in chosen], seed=SEED
    )


def held_out(done):
    """By film: hits and Dice in the order of a ranking that did not see the film's patient."""
    out = {}
    for fold in range(FOLDS):
        trees = fit([f for f in done if fold_of(f.patient) != fold])
        out.update({i: in_order(f, trees) for i, f in enumerate(done) if fold_of(f.patient) == fold})
    return [out[i] for i in range(len(done))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.cache and arguments.cache.exists():
        done = joblib.load(arguments.cache)
    else:
        every = [f for f in chosen_films() if truths(f)]
        done = joblib.Parallel(n_jobs=arguments.jobs, batch_size=4)(joblib.delayed(measured)(f) for f in every)
        if arguments.cache:
            joblib.dump(done, arguments.cache)
    ordered = held_out(done)
    for source in ("mias", "cesm", "cbis-mass"):
        part = [o for o, f in zip(ordered, done, strict=True) if f.source == source]
        found = dice_of_hits(part)
        print(f"held out, {source}: findings, hit at {AT}: {curve([h for h, _ in part])}; "
              f"median Dice of the first region that hits {np.median(found):.3f} ({len(found)})")  # fmt: skip


if __name__ == "__main__":
    main()
