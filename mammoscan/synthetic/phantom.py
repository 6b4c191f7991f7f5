"""Synthetic mammograms with their truth: outline, muscle, parenchyma, ligaments, lesions, grain.

Not a physical simulation: shapes, sizes in millimetres and textures are chosen so that the pictures
look like mammograms and every stage of the analysis meets what it will meet in a real one. Power-law
texture follows Burgess, Med Phys 2001 (exponent near 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.core.domain import Density, Laterality, RegionKind, View
from mammoscan.synthetic import lesions

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Share of the breast (behind the skin) that is glandular, per density class.
GLANDULAR = {Density.A: 0.06, Density.B: 0.2, Density.C: 0.42, Density.D: 0.68}
_FIELD_MM = (243.0, 194.4)  # height and width of the picture, near a 18 x 24 cm detector
_TEXTURE = 512  # side of a texture in samples


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion to draw, or drawn: radius in mm asked for; 'malignant' or 'benign'."""

    kind: RegionKind
    malignant: bool
    radius_mm: float


@dataclass(frozen=True, slots=True)
class Spec:
    """What to draw.

    height, width: pixels; the picture always shows about 243 x 194 mm. depth_mm: chest wall to
    nipple. bits: of the values written, 8 to 16. marker: a lead marker with side and view.
    patient: seed of what both breasts and all views of a patient share (the shape). glandular: share of
    the breast behind the skin that is glandular, 0 to 1; None: that of the density class.
    """

    laterality: Laterality
    view: View
    density: Density
    lesions: tuple[Lesion, ...] = ()
    height: int = 900
    width: int = 720
    depth_mm: float = 95.0
    bits: int = 12
    marker: bool = False
    patient: int = 0
    glandular: float | None = None


@dataclass(frozen=True, slots=True)
class PlacedLesion:
    """Where a lesion is: (x, y) and radius in pixels of the picture (corner convention)."""

    lesion: Lesion
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Truth:
    """What was drawn. Masks are bool (height, width); dense: where gland outweighs fat."""

    lesions: tuple[PlacedLesion, ...]
    breast: NDArray[np.bool_]
    pectoral: NDArray[np.bool_]
    dense: NDArray[np.bool_]
    mm: float  # side of a pixel


def render(spec: Spec, seed: int) -> tuple[NDArray[np.uint16], Truth]:
    """Draw a mammogram in display sense: bright tissue, chest wall at the laterality's side.

    Returns
    -------
    tuple
        uint16 (height, width), 0 to ``2**bits - 1``, and the truth. The same arguments give the
        same bytes.

    Raises
    ------
    ValueError
        For a view or side without a drawing.
    """
    if spec.view not in {View.CC, View.MLO} or spec.laterality not in {Laterality.LEFT, Laterality.RIGHT}:
        raise ValueError("only CC and MLO of the left or right breast can be drawn")
    rng = np.random.default_rng([seed, spec.patient])
    shape_rng = np.random.default_rng(spec.patient)
    mm = float(_FIELD_MM[0] / spec.height)
    y, x = np.mgrid[0 : spec.height, 0 : spec.width].astype(np.float32)
    x, y = (x + 0.5) * np.float32(mm), (y + 0.5) * np.float32(mm)

    depth = spec.depth_mm * shape_rng.uniform(0.93, 1.07)
    edge, nipple_y = _outline(spec.view, depth, rng)
    nipple_x = float(edge(np.array([nipple_y], np.float32))[0])
    nipple = (((x - nipple_x + 1.5) / 5.0) ** 2 + ((y - nipple_y) / 4.6) ** 2) < 1.0
    breast = (x < edge(y)) | nipple
    # Depth below the skin: nothing but skin and air bounds the breast, so the chest wall is mirrored.
    mirrored = np.hstack([np.ones((spec.height, spec.width // 2), np.uint8), breast.astype(np.uint8)])
    if spec.view is View.MLO:
        mirrored = np.vstack([mirrored[:1].repeat(spec.height // 4, 0), mirrored])
    below = cv2.distanceTransform(mirrored, cv2.DIST_L2, 5)[-spec.height :, spec.width // 2 :] * mm

    muscle = _muscle(spec.view, x, y, shape_rng, rng, mm)
    inside = breast & (muscle < 0.5) & (below > 4.0)
    gland, dense = _parenchyma(spec, x, y, (nipple_x, nipple_y), depth, inside, below, rng)
    strands = _ligaments(x, y, (nipple_x, nipple_y), rng)
    cloud = _sampled(_power_law(rng, 2.6), x, y, 150.0)

    # Thickness: full compression in the middle, rounded off over 18 mm towards the skin.
    thickness = np.clip(below / 18.0, 0.0, 1.0)
    thickness = np.sqrt(thickness * (2.0 - thickness))
    picture = thickness * (0.27 + 0.035 * cloud)
    fading = np.clip((below - 2.0) / 8.0, 0.0, 1.0) * (1.0 - muscle)
    picture += fading * (0.34 * gland * (1.0 + 0.16 * cloud) + 0.11 * strands * (0.35 + 0.65 * (1 - gland)))
    picture += 0.10 * np.exp(-(((below - 0.9) / 0.8) ** 2)) * breast  # skin
    picture += 0.16 * nipple * np.clip(below / 3.0, 0, 1)
    fibres = _sampled(_power_law(rng, 2.4), 0.85 * x + 0.53 * y, 3.0 * (0.53 * x - 0.85 * y), 400.0)
    picture += muscle * breast * (0.34 + 0.03 * fibres)

    placed = []
    # Lesions arise where the gland is, away from skin and muscle and from one another.
    free = inside & (below > 14.0) & (x > 12.0)
    for lesion in spec.lesions:
        position = _place(free, gland, rng, lesion.radius_mm / mm)
        if position is None:
            continue
        column, row = position
        picture += lesions.draw(lesion.kind, lesion.malignant, lesion.radius_mm, x - column * mm, y - row * mm, rng, mm)
        placed.append(PlacedLesion(lesion, column, row, lesion.radius_mm / mm))
        free &= np.hypot(x - column * mm, y - row * mm) > 3.0 * lesion.radius_mm + 8.0

    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), max(0.3, 0.11 / mm))
    picture = _shoulder(picture) * breast_soft(breast)
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    grain = 0.6 * grain + cv2.GaussianBlur(grain, (0, 0), 0.9)
    picture = 0.025 + 0.95 * picture + grain * (0.004 + 0.011 * np.sqrt(np.clip(picture, 0, 1)))
    if spec.laterality is Laterality.RIGHT:
        picture, breast, muscle, dense = picture[:, ::-1], breast[:, ::-1], muscle[:, ::-1], dense[:, ::-1]
        placed = [PlacedLesion(p.lesion, spec.width - p.x, p.y, p.radius) for p in placed]
    picture = np.ascontiguousarray(picture)
    if spec.marker:
        _lead_marker(picture, spec)
    top = 2**spec.bits - 1
    pixels = np.clip(np.rint(picture * top), 0, top).astype(np.uint16)
    pectoral = np.ascontiguousarray(muscle > 0.5) & breast
    breast, dense = np.ascontiguousarray(breast), np.ascontiguousarray(dense)
    return pixels, Truth(tuple(placed), breast, pectoral, dense, mm)


def breast_soft(breast: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The breast's mask with an edge softened over about a pixel."""
    return np.asarray(cv2.GaussianBlur(breast.astype(np.float32), (0, 0), 0.8), np.float32)


def _shoulder(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Like a film's characteristic curve: linear up to 0.7, then saturating below 1."""
    over = np.maximum(picture - 0.7, 0.0)
    return np.asarray(np.minimum(np.maximum(picture, 0.0), 0.7) + 0.3 * (1.0 - np.exp(-over / 0.3)), np.float32)


class _Edge:
    """Distance of the skin from the chest wall, in mm, by height in the picture."""

    def __init__(self, heights: NDArray[np.float64], depths: NDArray[np.float64]) -> None:
        self.heights, self.depths = heights, depths

    def __call__(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.interp(y, self.heights, self.depths).astype(np.float32)


def _outline(view: View, depth: float, rng: np.random.Generator) -> tuple[_Edge, float]:
    """The skin line and the nipple's height."""
    heights = np.linspace(0.0, _FIELD_MM[0], 600)
    if view is View.CC:
        centre = _FIELD_MM[0] / 2 + rng.uniform(-8, 8)
        half = min(0.95 * depth + 12.0, 112.0)
        t = (heights - centre) / half
        profile = np.clip(1.0 - np.abs(t) ** 2.15, 0.0, 1.0) ** (1 / 1.9)
        return _Edge(heights, profile * depth), centre + rng.uniform(-6, 6)
    nipple = rng.uniform(0.54, 0.6) * _FIELD_MM[0]
    fold = nipple + min(0.62 * depth + 16.0, 88.0)
    armpit = rng.uniform(0.42, 0.52) * depth
    upper = armpit + (depth - armpit) * np.sin(np.pi / 2 * np.clip(heights / nipple, 0, 1)) ** 1.5
    t = np.clip((heights - nipple) / (fold - nipple), 0.0, 1.0)
    lower = depth * (1.0 - t**2.3) ** (1 / 1.8)
    belly = 4.0 + 10.0 * np.clip((heights - fold + 12.0) / 45.0, 0.0, 1.0)
    profile = np.where(heights < nipple, upper, np.maximum(lower, belly * (heights > fold - 14.0)))
    kernel = np.hanning(23)
    padded = np.pad(profile, 11, mode="edge")
    return _Edge(heights, np.convolve(padded, kernel / kernel.sum(), "valid")), nipple


def _muscle(
    view: View, x: NDArray[np.float32], y: NDArray[np.float32], shape_rng: np.random.Generator,
    rng: np.random.Generator, mm: float,
) -> NDArray[np.float32]:  # fmt: skip
    """The pectoral wedge of an MLO, 0 to 1, its edge slightly convex and 2 mm soft."""
    top, foot = shape_rng.uniform(36, 48), shape_rng.uniform(100, 135)
    if view is not View.MLO:
        return np.zeros_like(x)
    top, foot = top * rng.uniform(0.95, 1.05), foot * rng.uniform(0.95, 1.05)
    t = np.clip(y / foot, 0.0, 1.2)
    edge = top * (1.0 - t) + 5.0 * np.sin(np.pi * np.clip(t, 0, 1))
    return np.asarray(1.0 / (1.0 + np.exp(np.clip((x - edge) / max(0.5, mm), -40, 40))), np.float32)


def _power_law(rng: np.random.Generator, exponent: float) -> NDArray[np.float32]:
    """A periodic texture with power spectrum 1/f**exponent, mean 0, standard deviation 1."""
    spectrum = np.fft.rfft2(rng.standard_normal((_TEXTURE, _TEXTURE)))
    frequency = np.hypot(np.fft.fftfreq(_TEXTURE)[:, None], np.fft.rfftfreq(_TEXTURE)[None]) * _TEXTURE
    frequency[0, 0] = 1.0
    spectrum *= frequency ** (-exponent / 2)
    spectrum[0, 0] = 0.0
    texture = np.fft.irfft2(spectrum, (_TEXTURE, _TEXTURE))
    return np.asarray(texture / texture.std(), np.float32)


def _sampled(
    texture: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32], period: float
) -> NDArray[np.float32]:
    """The texture at positions in units of ``period`` per repetition."""
    scale = np.float32(_TEXTURE / period)
    # remap has no wrapping that interpolates across the seam for large maps, so one row is repeated.
    wrapped = np.pad(texture, ((0, 1), (0, 1)), mode="wrap")
    u, v = np.mod(x * scale, _TEXTURE).astype(np.float32), np.mod(y * scale, _TEXTURE).astype(np.float32)
    return np.asarray(cv2.remap(wrapped, u, v, cv2.INTER_LINEAR), np.float32)


def _parenchyma(
    spec: Spec, x: NDArray[np.float32], y: NDArray[np.float32], nipple: tuple[float, float], depth: float,
    inside: NDArray[np.bool_], below: NDArray[np.float32], rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:  # fmt: skip
    """Glandular share, 0 to 1, and where it outweighs fat: a fan behind the nipple, broken up by fat at several scales."""
    coarse = _sampled(_power_law(rng, 3.2), x, y, 170.0)
    fine = _sampled(_power_law(rng, 2.2), x, y, 60.0)
    behind = (nipple[0] - x) / depth  # 0 at the nipple, 1 at the chest wall
    across = (y - nipple[1]) / depth
    lean = 0.25 * behind if spec.view is View.MLO else 0.0  # in the oblique the gland rises towards the armpit
    fan = -(((behind - 0.42) / 0.42) ** 2) - ((across + lean) / (0.34 + 0.3 * behind.clip(0, 1))) ** 2
    potential = 0.9 * fan + 0.55 * coarse + 0.28 * fine + 0.5 * np.clip((below - 6.0) / 20.0, -0.5, 0.6)
    share = GLANDULAR[spec.density] if spec.glandular is None else spec.glandular
    level = float(np.quantile(potential[inside][::7], 1.0 - share))
    soft = 1.0 / (1.0 + np.exp(np.clip(-(potential - level) / 0.24, -40, 40)))
    return np.asarray(soft * np.clip(0.78 + 0.16 * fine, 0.3, 1.2), np.float32), (potential > level) & inside


def _ligaments(
    x: NDArray[np.float32], y: NDArray[np.float32], nipple: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Cooper's ligaments, vessels and ducts: thin bright strands, most of them running to the nipple."""
    distance = np.hypot(x - nipple[0] - 12.0, y - nipple[1])
    angle = np.arctan2(y - nipple[1], nipple[0] + 12.0 - x)
    bend = _sampled(_power_law(rng, 3.2), x, y, 260.0) * 5.0
    out = np.zeros_like(x)
    for width, pull, weight in ((0.05, 26.0, 1.0), (0.07, 45.0, 0.7)):
        ridge = _sampled(_power_law(rng, 3.0), (distance + bend) * 0.55, angle * pull + bend, 130.0)
        out += np.float32(weight) * np.exp(-((ridge / width) ** 2))
    return np.asarray(cv2.GaussianBlur(out, (0, 0), 0.8), np.float32)


def _place(
    free: NDArray[np.bool_], gland: NDArray[np.float32], rng: np.random.Generator, radius: float
) -> tuple[float, float] | None:
    """A random place, (column, row) in pixels, likelier in gland; None where there is no room."""
    room = cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, 3) > min(radius, 40.0)
    weights = np.where(room, 0.15 + gland, 0.0)[::4, ::4]
    cumulated = np.cumsum(weights.ravel(), dtype=np.float64)
    if cumulated[-1] <= 0:
        return None
    index = int(np.searchsorted(cumulated, rng.uniform(0, cumulated[-1])))
    row, column = divmod(index, weights.shape[1])
    return float(4 * column) + 0.5, float(4 * row) + 0.5


def _lead_marker(picture: NDArray[np.float32], spec: Spec) -> None:
    """Side and view in lead letters in the upper corner away from the chest wall."""
    scale = spec.height / 900
    text = f"{spec.laterality.value} {spec.view.value}"
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.1 * scale, max(1, round(3 * scale)))
    margin = round(24 * scale)
    left = spec.width - wide - margin if spec.laterality is Laterality.LEFT else margin
    letters = np.zeros(picture.shape, np.uint8)
    cv2.putText(
        letters, text, (left, margin + high), cv2.FONT_HERSHEY_SIMPLEX, 1.1 * scale, 255,
        max(1, round(3 * scale)), cv2.LINE_8,
    )  # fmt: skip
    picture[letters > 127] = 0.93
