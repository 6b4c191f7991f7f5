"""How the ranking of ``mammoscan/saliency.py`` was fitted: ``python -m tests.real.fit_ranking``.

Every grown region of the films with a located finding (mini-MIAS, every second of CDD-CESM, every
eighth of CBIS-DDSM; sources in ``films``) is a case: a hit of a finding or not. A quadratic logistic
regression is fitted on the patients with an odd number and tested on the others, the other way
round, then fitted on all. Prints the curves (before regions that share a place are dropped) and the
arrays of ``saliency_weights.py``. The shipped arrays were fitted with 90 seeds an image, so a new
fit differs a little.
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


def quadratic(z):
    """The standardised measures (held to 4 deviations) and all their products."""
    z = np.clip(z, -4.0, 4.0)
    first, second = np.triu_indices(z.shape[1])
    return np.column_stack([z, z[:, first] * z[:, second]])


def fit(done, weights):
    """Coefficients (MEAN, SCALE, linear and product weights) of films' (measures, hits).

    Each finding weighs the same however many regions hit it; classes are balanced.
    """
    x = np.concatenate([m for m, _ in done])
    y = np.concatenate([h.any(axis=1) for _, h in done])
    w = np.concatenate(
        [
            k * np.where(h.any(axis=1), (h / np.maximum(h.sum(axis=0), 1)).sum(axis=1), 1.0)
            for (_, h), k in zip(done, weights, strict=True)
        ]
    )
    w = np.where(y, w / w[y].sum(), w / w[~y].sum())
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    q = quadratic((x - mean) / scale)
    spread = q.std(axis=0) + 1e-9
    model = LogisticRegression(C=0.003, max_iter=3000)
    model.fit((q - q.mean(axis=0)) / spread, y, sample_weight=w * len(y) / 2)
    return mean, scale, model.coef_[0] / spread


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    sets = {"mias": films.mias(), "cesm": films.cesm()[::2], "cbis-mass": films.cbis()[::8]}
    every = [f for s in sets.values() for f in s if truths(f)]
    weights = [2.0 if f.source == "mias" else 1.0 for f in every]
    done = joblib.Parallel(n_jobs=jobs)(joblib.delayed(cases)(f) for f in every)
    for half in (True, False):
        chosen = [i for i, f in enumerate(every) if is_odd(f) == half]
        mean, scale, coefficients = fit([done[i] for i in chosen], [weights[i] for i in chosen])
        for source in sets:
            ranked = []
            for (m, h), film in zip(done, every, strict=True):
                if film.source == source and is_odd(film) != half and len(m):
                    ranked.append(h[np.argsort(-(quadratic((m - mean) / scale) @ coefficients))])
            print(f"fitted on {'odd' if half else 'even'}, held out {source}: {curve(ranked)} at {AT}", flush=True)
    mean, scale, coefficients = fit(done, weights)
    count = len(saliency.MEASURES)
    parts = {"MEAN": mean, "SCALE": scale, "WEIGHTS": coefficients[:count], "PRODUCTS": coefficients[count:]}
    for name, values in parts.items():
        print(f"{name} = np.array({[float(f'{v:.4g}') for v in values]})")


if __name__ == "__main__":
    main()
