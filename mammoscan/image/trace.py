"""Tracing: a small convolutional network draws the outlines of the regions that were found.

Growing says where something is, but badly how far it reaches: it stops at a bright core or runs along
tissue. The network sees a square window around a grown region, with the region in it, and says of every
pixel whether it belongs to a lesion there. It contracts and expands after Ronneberger et al., U-Net,
MICCAI 2015, and is so small that numpy runs it where the regions are found. ``mammoscan train`` fits it
on lesions that people drew (``model.tracing``). Calcification clusters keep their outline.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import IO, TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.core.domain import RegionKind
from mammoscan.image.morphology import fill_holes
from mammoscan.image.segment.outline import border, region_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared, Region, Segmented

FILE = "outlines.npz"
SIDE = 32  # pixels of a window
CONTEXT = 3.0  # side of the window over the longer side of the region
CHANNELS = 4  # grey level, breast, region, size of the window
SLOPE = 0.1  # of the activation below zero
FINER = 4  # pixels of the drawn mask per pixel of the window: a smooth outline
HELD = 5.0  # standard deviations at which grey levels are held
USUAL_MM = 40.0  # the size of a window is told as the logarithm of its ratio to this
# Convolutions of 3 x 3 by level (its pixels are 2^level as large): inputs and outputs. The last is 1 x 1.
LAYERS = (
    (CHANNELS, 16), (16, 24), (24, 48), (48, 48), (48, 48), (96, 32), (56, 24), (40, 16), (16, 1),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Window:
    """A square of the working image. x, y: its top left corner, working pixels; side: its pixels."""

    x: int
    y: int
    side: int

    def cut(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """The window of a working image at SIDE x SIDE; 0 outside the image."""
        h, w = plane.shape
        top, bottom = max(0, self.y), min(h, self.y + self.side)
        left, right = max(0, self.x), min(w, self.x + self.side)
        whole = plane[top:bottom, left:right]
        if whole.shape != (self.side, self.side):
            whole = np.zeros((self.side, self.side), np.float32)
            if top < bottom and left < right:
                whole[top - self.y : bottom - self.y, left - self.x : right - self.x] = plane[top:bottom, left:right]
        way = cv2.INTER_AREA if self.side > SIDE else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(whole, (SIDE, SIDE), interpolation=way), np.float32)

    def filled(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """The share of each of SIDE x SIDE pixels that a polygon in working pixels covers, 0 to 1."""
        fine = SIDE * FINER
        inside = (np.asarray(points, np.float64) - (self.x, self.y)) * (fine / self.side) - 0.5
        canvas = np.zeros((fine, fine), np.float32)
        cv2.fillPoly(canvas, [np.round(inside).astype(np.int32)], 1.0)
        return np.asarray(cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


@dataclass(frozen=True, slots=True)
class Tracer:
    """The network: kernels (height, width, inputs, outputs) and biases of LAYERS, in their order."""

    kernels: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of every pixel, (n, SIDE, SIDE), of windows (n, SIDE, SIDE, CHANNELS)."""

        def layer(number: int, x: NDArray[np.float32]) -> NDArray[np.float32]:
            out = _convolved(x, self.kernels[number], self.biases[number])
            return np.asarray(np.maximum(out, np.float32(SLOPE) * out))

        first = layer(0, windows)
        second = layer(1, _halved(first))
        third = layer(3, layer(2, _halved(second)))
        deep = layer(4, _halved(third))
        third = layer(5, np.concatenate([third, _doubled(deep)], axis=3))
        second = layer(6, np.concatenate([second, _doubled(third)], axis=3))
        first = layer(7, np.concatenate([first, _doubled(second)], axis=3))
        logits = _convolved(first, self.kernels[8], self.biases[8])[..., 0]
        return np.asarray(1.0 / (1.0 + np.exp(-logits)), np.float32)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """As they are stored, by name."""
        pairs = zip(self.kernels, self.biases, strict=True)
        return {f"trace{i}/{j}": array for i, pair in enumerate(pairs) for j, array in enumerate(pair)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]]) -> Tracer:
        """Read back. Raises KeyError for a missing array, ValueError for one of another shape."""
        kernels = tuple(np.asarray(arrays[f"trace{i}/0"], np.float32) for i in range(len(LAYERS)))
        biases = tuple(np.asarray(arrays[f"trace{i}/1"], np.float32) for i in range(len(LAYERS)))
        for kernel, bias, (inputs, outputs) in zip(kernels, biases, LAYERS, strict=True):
            if kernel.shape[2:] != (inputs, outputs) or bias.shape != (outputs,):
                raise ValueError(f"a kernel of {kernel.shape} in the place of {inputs} inputs and {outputs} outputs")
        return cls(kernels, biases)


def trace(segmented: Segmented, tracer: Tracer) -> Segmented:
    """The same regions in the same order, masses with their outline drawn anew.

    A region in whose window the network sees nothing keeps the outline that it has.
    """
    prepared = segmented.prepared
    masses = [i for i, region in enumerate(segmented.regions) if region.kind is RegionKind.MASS]
    if not masses:
        return segmented
    places = [window(prepared, segmented.regions[i]) for i in masses]
    seen = inputs(prepared, [segmented.regions[i] for i in masses], places)
    regions = list(segmented.regions)
    for index, place, planes, probability in zip(masses, places, seen, tracer(seen), strict=True):
        regions[index] = _drawn(prepared, regions[index], place, planes, probability)
    return replace(segmented, regions=tuple(regions))


@cache
def frozen() -> Tracer:
    """The network that mammoscan ships, in ``models/``."""
    with files("mammoscan.models").joinpath(FILE).open("rb") as stream:
        return load(stream)


@cache
def at(path: Path) -> Tracer:
    """The network of another model; read once in a process.

    Raises
    ------
    ValueError
        When the file does not hold such a network.
    """
    try:
        with path.open("rb") as stream:
            return load(stream)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"not a network that draws outlines: {error}") from error


def load(stream: IO[bytes]) -> Tracer:
    """A network as ``model.tracing.save`` writes it."""
    with np.load(stream, allow_pickle=False) as arrays:
        return Tracer.of(arrays)


def window(prepared: Prepared, region: Region) -> Window:
    """The square around a region that the network sees."""
    points = prepared.geometry.to_working(region.contour)
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(SIDE, int(np.ceil((high - low).max() * CONTEXT)))
    x, y = (int(v) for v in np.round((low + high - side) / 2))
    return Window(x, y, side)


def inputs(prepared: Prepared, regions: Sequence[Region], places: Sequence[Window]) -> NDArray[np.float32]:
    """What the network sees of regions, (n, SIDE, SIDE, CHANNELS).

    Grey levels less the region's mean, over the deviation in the window, 0 outside the breast; shares of
    breast and of region, 0 to 1; the logarithm of the window's size.
    """
    out = np.zeros((len(regions), SIDE, SIDE, CHANNELS), np.float32)
    breast = prepared.breast.astype(np.float32)
    for row, region, place in zip(out, regions, places, strict=True):
        grey, tissue = place.cut(prepared.pixels), place.cut(breast)
        grown = place.filled(prepared.geometry.to_working(region.contour))
        inside = tissue > 0.5
        deviation = float(grey[inside].std()) if inside.any() else 0.0
        mean = float((grey * grown).sum() / max(float(grown.sum()), 1e-6))
        row[..., 0] = np.clip((grey - mean) / max(deviation, 1e-3), -HELD, HELD) * inside
        row[..., 1], row[..., 2] = tissue, grown
        row[..., 3] = np.log(place.side * prepared.geometry.mm / USUAL_MM)
    return out


def _drawn(
    prepared: Prepared, region: Region, place: Window, planes: NDArray[np.float32], probability: NDArray[np.float32]
) -> Region:
    size = (SIDE * FINER, SIDE * FINER)
    fine = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR)
    tissue = cv2.resize(planes[..., 1], size, interpolation=cv2.INTER_LINEAR) > 0.5
    grown = cv2.resize(planes[..., 2], size, interpolation=cv2.INTER_LINEAR)
    count, parts = cv2.connectedComponents(((fine > 0.5) & tissue).astype(np.uint8), connectivity=4)
    if count < 2:
        return region
    # Of several pieces the one that is surest, and rather where the region was grown than beside it.
    worth = np.bincount(parts.ravel(), weights=(fine * (0.2 + grown)).ravel())
    mask = fill_holes(parts == 1 + int(worth[1:].argmax()))
    step = place.side / (SIDE * FINER)
    geometry = prepared.geometry
    points = geometry.to_source(border(mask) * step + (place.x, place.y))
    area = float(np.count_nonzero(mask)) * step * step / (geometry.scale_x * geometry.scale_y)
    return region_from(prepared, region.kind, points, area, region.saliency, region.spots)


def _convolved(x: NDArray[np.float32], kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolution of (n, h, w, inputs), its edges filled with 0."""
    size, _, inputs, outputs = kernel.shape
    n, h, w, _ = x.shape
    edge = size // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    # A tap's inputs lie in one piece: the padded images from its place on. What is computed of the padding is left out.
    flat, stride = padded.reshape(-1, inputs), w + 2 * edge
    out = np.zeros((len(flat), outputs), np.float32)
    reached = len(flat) - (size - 1) * (stride + 1)
    part = np.empty((reached, outputs), np.float32)
    for row in range(size):
        for column in range(size):
            first = row * stride + column
            out[:reached] += np.matmul(flat[first : first + reached], kernel[row, column], out=part)
    return out.reshape(n, h + 2 * edge, stride, outputs)[:, :h, :w] + bias


def _halved(x: NDArray[np.float32]) -> NDArray[np.float32]:
    n, h, w, c = x.shape
    return np.asarray(x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4)), np.float32)


def _doubled(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x.repeat(2, axis=1).repeat(2, axis=2)
