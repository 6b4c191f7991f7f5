"""Synthetic lesions: circumscribed and spiculated masses, benign and malignant calcifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core.domain import RegionKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]


def draw(
    kind: RegionKind,
    malignant: bool,
    radius_mm: float,
    dx: Plane,
    dy: Plane,
    rng: np.random.Generator,
    mm: float,
) -> Plane:
    """What a lesion adds to the picture, in display units.

    Parameters
    ----------
    radius_mm
        Radius of the mass without its spicules, or of the cluster.
    dx, dy
        Offset of every pixel from the lesion's centre in mm.
    mm
        Side of a pixel.
    """
    if kind is RegionKind.CALCIFICATION:
        return calcifications(malignant, radius_mm, dx, dy, rng, mm)
    return spiculated_mass(radius_mm, dx, dy, rng) if malignant else oval_mass(radius_mm, dx, dy, rng)


def _along(dx: Plane, dy: Plane, turn: float) -> Plane:
    """The coordinate in direction ``turn``, kept in float32."""
    return dx * float(np.cos(turn)) + dy * float(np.sin(turn))


def oval_mass(radius_mm: float, dx: Plane, dy: Plane, rng: np.random.Generator) -> Plane:
    """A circumscribed oval with a thin dark halo, as a fibroadenoma or cyst shows."""
    turn, ratio = rng.uniform(0, np.pi), rng.uniform(1.1, 1.4)
    u = (_along(dx, dy, turn)) / np.float32(radius_mm)
    v = (_along(dy, -dx, turn)) * np.float32(ratio / radius_mm)
    rho = np.hypot(u, v)
    body = 1.0 / (1.0 + np.exp(np.clip((rho - 0.97) * radius_mm / 0.35, -40, 40)))
    dome = 0.75 + 0.25 * np.sqrt(np.clip(1.0 - rho**2, 0.0, 1.0))
    halo = np.exp(-(((rho - 1.0) * radius_mm - 1.2) ** 2) / 0.5)
    return np.asarray(0.19 * body * dome - 0.025 * halo, np.float32)


def spiculated_mass(radius_mm: float, dx: Plane, dy: Plane, rng: np.random.Generator) -> Plane:
    """An irregular dense core with strands that radiate up to twice its radius."""
    rho, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    rim = np.full_like(rho, radius_mm)
    for order in range(2, 9):
        rim += np.float32(radius_mm * rng.normal(0, 0.32 / order)) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    body = 1.0 / (1.0 + np.exp(np.clip((rho - 0.85 * rim) / (0.14 * radius_mm), -40, 40)))
    out = 0.26 * body
    for _ in range(int(rng.integers(18, 30))):
        turn, reach = rng.uniform(0, 2 * np.pi), radius_mm * rng.uniform(1.5, 2.5)
        along = _along(dx, dy, turn)
        bow = rng.normal(0, 0.12) / radius_mm
        across = _along(dy, -dx, turn) - np.float32(bow) * along**2
        width = np.float32(rng.uniform(0.28, 0.55)) * np.clip(1.35 - along / reach, 0.3, 1.2)
        strand = np.exp(-((across / width) ** 2)) * np.clip(1.0 - along / reach, 0, 1) ** 0.7 * (along > 0)
        out = out + 0.13 * strand * (1.0 - 0.8 * body)
    return np.asarray(out, np.float32)


def calcifications(
    malignant: bool, radius_mm: float, dx: Plane, dy: Plane, rng: np.random.Generator, mm: float
) -> Plane:
    """A cluster: few round equal grains (benign), or many of different size and shape (malignant)."""
    out = np.zeros_like(dx)
    count = int(rng.integers(16, 28)) if malignant else int(rng.integers(5, 9))
    for _ in range(count):
        turn, away = rng.uniform(0, 2 * np.pi), radius_mm * np.sqrt(rng.uniform(0, 1)) * 0.95
        x0, y0 = away * np.cos(turn), away * np.sin(turn)
        size = rng.uniform(0.14, 0.34) if malignant else rng.uniform(0.26, 0.34)  # radius in mm
        stretch = rng.uniform(1.0, 2.8) if malignant else 1.0
        axis = rng.uniform(0, np.pi)
        near = (np.abs(dx - x0) < 3.0) & (np.abs(dy - y0) < 3.0)
        u = np.cos(axis) * (dx[near] - x0) + np.sin(axis) * (dy[near] - y0)
        v = np.cos(axis) * (dy[near] - y0) - np.sin(axis) * (dx[near] - x0)
        # A grain smaller than a pixel is smeared over it: wider and fainter.
        long, short = np.hypot(size * stretch, 0.5 * mm), np.hypot(size, 0.5 * mm)
        share = size * size * stretch / (long * short)
        grain = np.exp(-(((u / long) ** 2 + (v / short) ** 2) ** 1.5))
        out[near] = np.maximum(out[near], (0.62 if malignant else 0.7) * share * grain)
    return out
