"""How the ranking of ``mammoscan/saliency.py`` was fitted: ``python -m tests.real.fit_ranking``.

Every grown region of every film with a located finding (mini-MIAS, CBIS-DDSM, CDD-CESM; sources in
``films``) is a case: a hit of a finding or not. A logistic regression on standardised measures is
fitted on the patients with an odd number and tested on the others, then on all. Prints the curve of
findings hit at 5 to 30 regions a film on both halves, and the arrays to paste.
"""

from __future__ import annotations

import re
import sys

import cv2
import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

from mammoscan import preprocess, saliency, segment
from tests.real import films

AT = (5, 10, 15, 20, 30)


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
    outline = region.contour.astype(np.float32).reshape(-1, 1, 2)
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
    contains = cv2.pointPolygonTest(outline, (float(centre[0]), float(centre[1])), False) >= 0
    return bool(inside or (contains and region.area_px < 4 * area))


def is_odd(film) -> bool:
    return int(re.sub(r"\D", "", film.patient)) % 2 == 1


def cases(film):
    """Measures (n, m), hit matrix (n, findings) of one film's grown regions."""
    cv2.setNumThreads(1)
    prepared = preprocess.prepare(film.image())
    field = segment.search_field(prepared)
    proposals = segment.propose(field)
    found = truths(film)
    matrix = np.zeros((len(proposals), len(found)), bool)
    for i, proposal in enumerate(proposals):
        region = segment._region(prepared, field.scale, proposal)
        matrix[i] = [hits(region, t) for t in found]
    return np.array([p.measures for p in proposals]).reshape(-1, len(saliency.MEASURES)), matrix


def curve(chosen):
    """Share of the findings hit at AT regions a film; regions as segment() ranks and keeps them."""
    total = sum(m.shape[1] for m in chosen)
    first = [np.where(m.any(axis=0), m.argmax(axis=0), 10**9) for m in chosen if m.size or m.shape[1]]
    first = np.concatenate(first) if first else np.empty(0)
    return total, [round(float((first < k).sum() / max(total, 1)), 3) for k in AT]


def final(film):
    cv2.setNumThreads(1)
    out = segment.segment(preprocess.prepare(film.image()), max_regions=max(AT))
    found = truths(film)
    matrix = np.array([[hits(r, t) for t in found] for r in out.regions], bool).reshape(-1, len(found))
    return matrix


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    sets = {"mias": films.mias(), "cbis-mass": films.cbis(), "cesm": films.cesm()}
    every = [f for s in sets.values() for f in s if truths(f)]
    done = joblib.Parallel(n_jobs=jobs)(joblib.delayed(cases)(f) for f in every)
    x = np.concatenate([m for m, _ in done])
    y = np.concatenate([h.any(axis=1) for _, h in done])
    odd = np.concatenate([np.full(len(m), is_odd(f)) for f, (m, _) in zip(every, done, strict=True)])
    weight = np.concatenate(
        [np.full(len(m), 1.0 / sum(g.source == f.source for g in every)) for f, (m, _) in zip(every, done, strict=True)]
    )
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = (x - mean) / scale
    for name, rows in (("odd", odd), ("even", ~odd), ("all", odd | True)):
        fitted = LogisticRegression(C=1.0, max_iter=2000, class_weight="balanced").fit(
            z[rows], y[rows], sample_weight=weight[rows] / weight.mean()
        )
        start = 0
        per_film = []
        for m, h in done:
            order = np.argsort(-(z[start : start + len(m)] @ fitted.coef_[0]))
            per_film.append(h[order])
            start += len(m)
        for source in sets:
            for half in (True, False):
                rows_of = [p for f, p in zip(every, per_film, strict=True) if f.source == source and is_odd(f) == half]
                print(f"fitted on {name}, {source}, {'odd' if half else 'even'}: {curve(rows_of)}", flush=True)
        ceiling = [h.any(axis=0).mean() for _, h in done if h.shape[1]]
        print("proposals hit at all:", np.mean(ceiling), "proposals a film:", np.mean([len(m) for m, _ in done]))
    print("MEAN = np.array(", np.round(mean, 5).tolist(), ")")
    print("SCALE = np.array(", np.round(scale, 5).tolist(), ")")
    print("WEIGHTS = np.array(", np.round(fitted.coef_[0], 4).tolist(), ")")


if __name__ == "__main__":
    main()
