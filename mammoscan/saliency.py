"""How much a grown region looks like a mass: measures, and their frozen ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.saliency_weights import MEAN, PRODUCTS, SCALE, WEIGHTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEASURES = (
    "log_radius_mm", "log_radius_mm_squared", "response", "log_response", "contrast", "contrast_over_spread",
    "mean", "surround_mean", "rim_gradient", "gradient_convergence", "rim_convergence", "circularity",
    "log_area_ratio", "spread", "log_skin_mm", "across", "down", "inside_share", "peak_over_surround",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A region in its window. Arrays are (h, w); far is the distance from the seed in pixels."""

    pixels: NDArray[np.float32]
    breast: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    inward: NDArray[np.float32]
    strength: NDArray[np.float32]
    far: NDArray[np.float32]
    radius: float
    response: float
    mm: float
    skin_mm: float
    across: float
    down: float


def measures(s: Surroundings) -> NDArray[np.float64]:
    """The measures named in ``MEASURES``, finite."""
    area = float(s.mask.sum())
    equivalent = np.sqrt(area / np.pi)
    ring = s.breast & ~s.mask & (s.far < 2.2 * max(s.radius, equivalent))
    around = s.pixels[ring] if ring.any() else s.pixels[s.breast]
    inside = s.pixels[s.mask]
    contrast = float(inside.mean() - around.mean())
    spread = float(around.std()) + 0.01
    eroded = s.mask.copy()
    eroded[1:-1, 1:-1] = (
        s.mask[1:-1, 1:-1] & s.mask[:-2, 1:-1] & s.mask[2:, 1:-1] & s.mask[1:-1, :-2] & s.mask[1:-1, 2:]
    )
    eroded[[0, -1], :] = False
    eroded[:, [0, -1]] = False
    rim = s.mask & ~eroded
    disc = s.breast & (s.far < 1.3 * s.radius) & (s.far > 0.3 * s.radius)
    convergence = float((s.inward[disc] / s.strength[disc]).mean()) if disc.any() else 0.0
    radius_mm = np.log(s.radius * s.mm)
    perimeter = float(rim.sum())
    return np.array(
        [
            radius_mm,
            radius_mm**2,
            s.response,
            np.log(s.response + 1e-3),
            contrast,
            contrast / spread,
            float(inside.mean()),
            float(around.mean()),
            float(s.inward[rim].mean()) * 10.0,
            convergence,
            float(s.inward[rim].sum() / s.strength[rim].sum()),
            4.0 * np.pi * area / max(perimeter, 1.0) ** 2,
            np.log(area / (np.pi * s.radius**2)),
            float(inside.std()),
            np.log(s.skin_mm + 1.0),
            s.across,
            s.down,
            float(s.breast.mean()),
            float(np.percentile(inside, 90) - around.mean()),
        ]
    )


def score(values: NDArray[np.float64]) -> float:
    """Rank of a region, higher first: log odds of the fitted regression without its constant.

    The regression is linear in the standardised measures (held to 4 standard deviations) and in
    all their products. Not a probability.
    """
    z = np.clip((values - MEAN) / SCALE, -4.0, 4.0)
    return float(z @ WEIGHTS + np.outer(z, z)[np.triu_indices(len(MEASURES))] @ PRODUCTS)
