"""How well the regions of real films hit their findings: ``python -m tests.real.hits [--out FOLDER]``.

Films with a located finding (mini-MIAS, CDD-CESM, 420 of CBIS-DDSM; sources in ``films``), their regions ranked
and their outlines drawn as ``mammoscan train`` fits both in five folds by patient, measured on the patients
held out: findings hit at AT regions a film, and the Dice of the first region that hits, as grown and as drawn.
Boxes and circles stand for findings as ellipses. --out keeps the fits; that of a training has them already.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import joblib
import numpy as np

from mammoscan.image import preprocess, segment, trace
from mammoscan.training import datasets, rank, tracing, train
from mammoscan.training.examples import choose
from tests.real import films

AT = (5, 10, 15, 20, 30)
CONFIG = train.TrainConfig(seed=1, folds=5)


@dataclass(frozen=True, slots=True)
class Measured:
    """A film's regions in their order against its findings: hit, Dice as drawn and as grown, (regions, findings)."""

    source: str
    hit: np.ndarray
    dice: np.ndarray
    grown: np.ndarray


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


def measured(film, trees, tracer) -> Measured:
    cv2.setNumThreads(1)
    image = film.image()
    grown = segment.segment(preprocess.prepare(image), max_regions=max(AT), trees=trees)
    drawn = trace.trace(grown, tracer)
    found = truths(film)
    masks = [rank.drawn(lesion, image.pixels.shape) for lesion in film.lesions()]

    def table(value):
        return np.array([value(r) for r in drawn.regions]).reshape(-1, len(found))

    dice = table(lambda r: [rank.dice(r, m) for m in masks])
    before = np.array([[rank.dice(r, m) for m in masks] for r in grown.regions]).reshape(-1, len(found))
    return Measured(film.source, table(lambda r: [hits(r, t) for t in found]).astype(bool), dice, before)


def held_out(out: Path, jobs: int = 2) -> list[Measured]:
    """All films, each by what saw nothing of its patient. out: where the fits are kept."""
    every = choose(datasets.read(films.DATA), screening=800, seed=CONFIG.seed)
    of_patient = train.folds_of(every, out, CONFIG)
    fold = [of_patient[film.patient] for film in every]
    fits = {"seed": CONFIG.seed, "most": CONFIG.ranked, "jobs": jobs}
    trees, _ = rank.cross_fitted(every, fold, out, **fits)
    tracers, _ = tracing.cross_fitted(every, fold, out, **fits)
    chosen = [i for i in rank.chosen(every, most=CONFIG.ranked, seed=CONFIG.seed) if truths(every[i])]
    return joblib.Parallel(n_jobs=jobs, batch_size=4)(
        joblib.delayed(measured)(every[i], trees[fold[i]], tracers[fold[i]]) for i in chosen
    )


def curve(done):
    """Findings, and the share of them that is hit at AT regions a film."""
    first = np.concatenate([np.where(m.hit.any(axis=0), m.hit.argmax(axis=0), 10**9) if len(m.hit)
                            else np.full(m.hit.shape[1], 10**9) for m in done])  # fmt: skip
    return len(first), [round(float((first < k).mean()), 3) for k in AT]


def dice_of_hits(done, at: int = 20, *, grown: bool = False):
    """Dice of the first region that hits each finding within the first ``at``."""
    out = []
    for m in done:
        dice = m.grown if grown else m.dice
        out += [float(dice[int(m.hit[:at, j].argmax()), j]) for j in range(m.hit.shape[1]) if m.hit[:at, j].any()]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        done = held_out(arguments.out or Path(temporary), arguments.jobs)
    for source in ("mias", "cesm", "cbis-mass"):
        part = [m for m in done if m.source == source]
        drawn, grown = (dice_of_hits(part, grown=value) for value in (False, True))
        print(f"held out, {source}: findings, hit at {AT}: {curve(part)}; median Dice of the first region that hits "
              f"{np.median(drawn):.3f}, as grown {np.median(grown):.3f} ({len(drawn)})")  # fmt: skip


if __name__ == "__main__":
    main()
