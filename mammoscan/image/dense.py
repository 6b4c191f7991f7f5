"""Dense (fibroglandular) tissue of a whole breast: which pixels are counted in its percent density.

The classical measure by area (Boyd et al., J Natl Cancer Inst 87 (1995) 670; Byng et al., Phys Med Biol 39
(1994) 1629): the periphery is made even for the breast's falling thickness, every picture gets a threshold
of its own between its fat and its dense tissue, and what lies above counts, in per cent of the breast
without the pectoral muscle. The skin's rim never counts. A person sets that threshold by eye; here it
follows from the pixel's surroundings and from the spread of grey levels in the breast by a small function
(two layers, ``models/density.json``), fitted on patients with an odd number of the prepared sets and on
phantoms of known share. ``mammoscan.training.dense_fit`` fits such a function; the file's ``made_by`` says what made
the one that ships. Pure functions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared

FILE = "density.json"
GRID_MM = 1.0  # pixel at which tissue is told apart, or the picture's if that is larger
SKIN_MM = 4.0  # depth below the skin from which tissue counts
INNER_MM = 8.0  # depth from which grey levels are compared: what is nearer the skin is thinner
SCALES_MM = (1.5, 4.0, 9.0, 20.0)  # standard deviations of the Gaussians
DEEPEST_MM = 60  # beyond this depth the background is one
_UNIT = 0.1  # of the grey scale, to which grey levels are related
FARTHEST = 6.0  # standard deviations at which a measure is held
_FEWEST = 200  # grid pixels that stand for a breast


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of the grid's pixels that may count.

    where: bool (h, w) on the grid, the breast more than SKIN_MM below the skin. measures: float32 (n, m), a
    row each of its pixels. mm: the grid's pixel.
    """

    where: NDArray[np.bool_]
    measures: NDArray[np.float32]
    mm: float


@dataclass(frozen=True, slots=True)
class Judge:
    """The fitted function: dense where ``straight`` and ``bent`` parts of the measures sum to above 0.

    mean, deviation: (m,), of the measures. first: (m, k) and offsets (k,), the second layer's ``second`` (k,),
    straight: (m,), level: the threshold, negated.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    first: NDArray[np.float32]
    offsets: NDArray[np.float32]
    second: NDArray[np.float32]
    straight: NDArray[np.float32]
    level: float

    def __call__(self, measures: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far above the threshold each row lies, (n,): above 0 is dense."""
        z = np.clip((measures - self.mean) / self.deviation, -FARTHEST, FARTHEST)
        bent = np.tanh(z @ self.first + self.offsets) @ self.second
        return np.asarray(bent + z @ self.straight + self.level, np.float32)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Judge:
        """Read back what ``models/density.json`` holds."""
        names = ("mean", "deviation", "first", "offsets", "second", "straight")
        arrays = {name: np.asarray(facts[name], np.float32) for name in names}
        return cls(**arrays, level=float(facts["level"]))


@cache
def frozen() -> Judge:
    """The function that ships with this software."""
    return Judge.of(json.loads((files("mammoscan.models") / FILE).read_text(encoding="utf-8")))


def dense_pixels(prepared: Prepared) -> NDArray[np.bool_]:
    """The pixels that percent density counts: bool at the working scale, all within the breast."""
    breast = prepared.breast
    measured = measure(prepared.plain, breast, prepared.pectoral, mm=prepared.geometry.mm)
    if measured is None:
        return np.zeros_like(breast)
    above = np.full(measured.where.shape, -1.0, np.float32)
    above[measured.where] = np.clip(frozen()(measured.measures), -1.0, 1.0)
    size = breast.shape[::-1]
    # Smooth where the grid is enlarged, but never beyond the pixels that may count.
    may = cv2.resize(measured.where.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return np.asarray((cv2.resize(above, size, interpolation=cv2.INTER_LINEAR) > 0) & may & breast)


def measure(
    plain: NDArray[np.float32], breast: NDArray[np.bool_], pectoral: NDArray[np.bool_], *, mm: float
) -> Measured | None:
    """The measures that tell dense tissue from fat; None where the breast is too small for any.

    plain: float32 (h, w), 0 to 1, chest wall on the left. breast, pectoral: bool (h, w), the breast without
    the muscle, and the muscle. mm: size of a pixel.
    """
    shrink = min(1.0, mm / GRID_MM)
    size = tuple(max(8, round(side * shrink)) for side in breast.shape[::-1])
    pixels, share, muscle = (
        cv2.resize(a.astype(np.float32), size, interpolation=cv2.INTER_AREA) for a in (plain, breast, pectoral)
    )
    grid = mm / shrink
    inside = share > 0.5
    tissue = inside | (muscle > 0.5)
    depth = below_skin(tissue) * grid
    where, inner = inside & (depth > SKIN_MM), inside & (depth > INNER_MM)
    if inner.sum() < _FEWEST:
        inner = where
    if inner.sum() < _FEWEST:
        return None
    return Measured(where, _measures(pixels, tissue, inside, inner, where, depth, grid), grid)


def below_skin(tissue: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of every pixel from the skin, in pixels; chest wall (left), top and bottom are no skin."""
    # Left of tissue there is the chest wall, also where the crop or the film leaves a margin there.
    filled = np.maximum.accumulate(tissue[:, ::-1], axis=1)[:, ::-1].astype(np.uint8)
    reach = max(tissue.shape)
    padded = np.pad(np.pad(filled, ((reach, reach), (reach, 0)), mode="edge"), ((0, 0), (0, 1)))
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[reach:-reach, reach:-1]
    return np.asarray(distance, np.float32)


def _measures(
    pixels: NDArray[np.float32], tissue: NDArray[np.bool_], inside: NDArray[np.bool_], inner: NDArray[np.bool_],
    where: NDArray[np.bool_], depth: NDArray[np.float32], mm: float,
) -> NDArray[np.float32]:  # fmt: skip
    fine, small, wide = (_mean(pixels, tissue, scale / mm) for scale in SCALES_MM[:3])
    wider = _mean(pixels, inside, SCALES_MM[3] / mm)
    low, lower, middle, upper, high = (float(v) for v in np.quantile(fine[inner], (0.05, 0.25, 0.5, 0.75, 0.95)))
    spread = high - low + 0.02
    grain, lumps = (
        np.log(np.sqrt(_mean((fine - base) ** 2, mask, scale / mm)) + 0.003)
        for base, mask, scale in ((small, tissue, 5.0), (wide, inner, SCALES_MM[2]))
    )
    background = _by_depth(fine, where, depth)
    even = fine - background[np.clip(depth, 0, DEEPEST_MM).astype(np.intp)]
    x, y = _place(inside)
    relative = depth / max(1.0, float(depth[where].max()))
    planes = (
        (fine - middle) / _UNIT, (fine - low) / _UNIT, (fine - low) / spread, (small - middle) / spread,
        (wide - middle) / _UNIT, (fine - wide) / _UNIT, (wide - wider) / _UNIT, even / _UNIT, even / spread,
        grain, lumps, np.exp(-depth / 6.0), np.exp(-depth / 15.0), relative, x, x * x, y, y * y,
    )  # fmt: skip
    whole = (
        spread / _UNIT, (middle - low) / spread, (upper - lower) / spread, float(np.median(grain[inner])),
        float(np.median(lumps[inner])), high / (middle + 0.05), low / (middle + 0.05),
        (background[10] - background[30]) / _UNIT, low / _UNIT, middle / _UNIT, high / _UNIT,
    )  # fmt: skip
    rows = [plane[where] for plane in planes] + [np.full(int(where.sum()), value) for value in whole]
    return np.stack(rows, axis=1).astype(np.float32)


def _by_depth(fine: NDArray[np.float32], where: NDArray[np.bool_], depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lower quarter of the grey levels at each millimetre of depth: fat under a falling thickness."""
    steps = np.clip(depth[where], 0, DEEPEST_MM).astype(np.intp)
    values = fine[where]
    order = np.argsort(steps, kind="stable")
    parts = np.split(values[order], np.cumsum(np.bincount(steps, minlength=DEEPEST_MM + 1))[:-1])
    known = [n for n, part in enumerate(parts) if part.size > 20] or [int(steps[0])]
    levels = np.interp(np.arange(DEEPEST_MM + 1), known, [float(np.quantile(parts[n], 0.25)) for n in known])
    return np.asarray(cv2.GaussianBlur(levels.astype(np.float32)[None], (0, 0), 2.0)[0], np.float32)


def _place(inside: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every pixel's place between chest wall and nipple, and between the breast's upper and lower end, 0 to 1."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    y, x = np.indices(inside.shape)
    return (x - columns[0]) / (np.ptp(columns) + 1), (y - rows[0]) / (np.ptp(rows) + 1)


def _mean(plane: NDArray[np.float32], mask: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """Gaussian mean of the mask's pixels around every pixel."""
    weight = mask.astype(np.float32)
    near = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)
    return np.asarray(cv2.GaussianBlur(plane * weight, (0, 0), sigma) / near)
