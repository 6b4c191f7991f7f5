"""The breast without what is not breast: mask, side, crop, denoising, contrast. Pure functions.

Steps, after the two source papers (filter, crop) and the usual mammogram pre-processing (labels and
pectoral muscle removed first: Karssemeijer, Phys Med Biol 43 (1998) 365; Kwok et al., IEEE TMI 23
(2004) 1129, whose straight line refined to a curve is the idea used here).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.core.domain import Flag, Geometry, Header, Image, Prepared, View
from mammoscan.core.errors import InputError, Reason
from mammoscan.image.morphology import fill_holes
from mammoscan.image.pectoral import pectoral_mask
from mammoscan.image.polarity import upright

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORKING_MM = 0.2  # working pixel where the source allows it
FINE_MM = 0.1  # finest pixel that is used, for calcifications and crops
HALF_MM = 0.125  # up to this size of pixel half the resolution is as good
MASK_MM = 0.8  # pixel at which masks are found
# Where the header has no spacing, the source's rows are taken to span a 24 cm detector or film.
# Only scales of filters follow from it; no size in millimetres is ever reported from it.
ASSUMED_HEIGHT_MM = 240.0
MARGIN_MM = 3.0
# A breast covers more than this share of its picture (a close view may fill it).
SMALLEST_SHARE = 0.02
AIR_LEFT = 0.08  # share of the pixels outside padding that are air, where padding lies beside the air
NEARLY_BLACK = 0.04  # the darkest pixels beside padding that stands for black air are no brighter
DARKEST = 0.1  # per cent of the pixels that count as the darkest
# Where air's level may lie between the darkest and Otsu's; on film and digital air it is below 0.2.
MUSCLE_SPLIT = 0.35


def prepare(image: Image) -> Prepared:
    """Mask, orient, crop, denoise and normalise one image.

    Parameters
    ----------
    image
        Display-sense pixels, float32 (rows, columns), 0 to 1.

    Returns
    -------
    Prepared
        With the chest wall on the left. The working pixel is 0.2 mm or the source's if that is
        larger; ``fine`` is 0.1 mm or the source's. Where the header has no pixel spacing the rows
        are taken to span 240 mm (``geometry.mm_known`` is False).

    Raises
    ------
    InputError
        ``NO_BREAST`` when nothing in the picture can be a breast.
    """
    return prepare_upright(upright(image))


def prepare_upright(image: Image) -> Prepared:
    """As ``prepare``, of an image that ``polarity.upright`` has seen.

    Raises
    ------
    InputError
        ``NO_BREAST``, as ``prepare``.
    """
    header = image.header
    row_mm, column_mm, known = source_millimetres(header)
    row_mm, column_mm = row_mm * image.step, column_mm * image.step
    flags = list(dict.fromkeys((*header.flags, *image.flags)))
    if not known and Flag.SPACING_UNKNOWN not in flags:
        flags.append(Flag.SPACING_UNKNOWN)
    shrink_x, shrink_y = min(1.0, column_mm / MASK_MM), min(1.0, row_mm / MASK_MM)
    small = _shrink(image.pixels, shrink_x, shrink_y)
    padding = np.zeros(small.shape, bool)
    if image.left_out.any():
        padding = _shrink(image.left_out.astype(np.float32), shrink_x, shrink_y) > 0.5
    mm = max(MASK_MM, column_mm, row_mm)
    breast, foreground = breast_mask(small, padding, mm=mm)
    flipped = chest_wall_is_right(breast)
    if flipped:
        small, breast, foreground = small[:, ::-1], breast[:, ::-1], foreground[:, ::-1]
    pectoral = np.zeros_like(breast)
    if header.view.shows_pectoral_muscle or header.view is View.UNKNOWN:
        pectoral = pectoral_mask(np.ascontiguousarray(small), breast, mm=mm, certain=header.view is not View.UNKNOWN)
        if not pectoral.any() and header.view.shows_pectoral_muscle:
            flags.append(Flag.PECTORAL_NOT_FOUND)
    removed = (foreground & ~breast) | pectoral

    x0, y0, x1, y1 = _crop_box(breast, image.pixels.shape, MARGIN_MM / mm)
    working = _geometry(image.pixels.shape, flipped, (x0, y0, x1, y1), (column_mm, row_mm), WORKING_MM, known=known)
    fine = _geometry(image.pixels.shape, flipped, (x0, y0, x1, y1), (column_mm, row_mm), FINE_MM, known=known)
    if flipped:
        width = image.pixels.shape[1]
        crop = np.asarray(cv2.flip(image.pixels[y0:y1, width - x1 : width - x0], 1), dtype=np.float32)
    else:
        crop = image.pixels[y0:y1, x0:x1]
    fine_pixels = _resize(crop, fine)
    plain = _resize(crop, working)
    masks = [
        _mask_at(mask, image.pixels.shape, (x0, y0, x1, y1), working)
        for mask in (breast & ~pectoral, pectoral, removed)
    ]
    if working.mm > 2 * FINE_MM + 1e-9:
        flags.append(Flag.LOW_RESOLUTION)
    return Prepared(
        header=header,
        geometry=_of_source(working, image),
        pixels=normalise(denoise(plain), masks[0]),
        plain=plain,
        breast=masks[0],
        pectoral=masks[1],
        removed=masks[2],
        fine_geometry=_of_source(fine, image),
        fine=fine_pixels,
        flags=tuple(flags),
    )


def source_millimetres(header: Header) -> tuple[float, float, bool]:
    """(row, column) pixel size in millimetres, and whether the header knew it."""
    if header.spacing is not None:
        return header.spacing.row_mm, header.spacing.column_mm, True
    size = ASSUMED_HEIGHT_MM / header.rows
    return size, size, False


def half_will_do(header: Header, finest_mm: float) -> bool:
    """Whether every second pixel of an image is as fine as what is shown of it. finest_mm: that, for the network."""
    row_mm, column_mm, _ = source_millimetres(header)
    return 2 * max(row_mm, column_mm) <= min(finest_mm, HALF_MM)


def breast_mask(
    pixels: NDArray[np.float32], padding: NDArray[np.bool_], *, mm: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the breast (with muscle) and the whole foreground (with labels and plates).

    pixels: float32 (h, w), 0 to 1, bright tissue. padding: bool (h, w). mm: pixel size.

    The threshold lies between the background's level and Otsu's; padding counts as background as dark
    as the darkest of the rest, and is never tissue; white frames of film scans are taken out first;
    an opening of 3 mm cuts off labels that touch the breast; of what is left the largest component is
    the breast, grown back by the opening's reach and filled.

    Raises
    ------
    InputError
        ``NO_BREAST``.
    """
    pixels = _with_dark_padding(pixels, padding)
    frame = _white_frame(pixels) & ~padding
    inside = ~(frame | padding)
    if inside.mean() < SMALLEST_SHARE:
        raise InputError(Reason.NO_BREAST, "nothing but padding or white")
    smooth = cv2.GaussianBlur(np.where(frame, 0, pixels).astype(np.float32), (0, 0), max(0.6, 1.0 / mm))
    values = smooth[~frame]
    dark = float(np.percentile(values, 2))
    if float(np.percentile(smooth[inside], 98)) - dark < 0.02:
        raise InputError(Reason.NO_BREAST, "no contrast")
    level = _otsu(values)
    background = values[values < level]
    if background.size and float(np.median(background)) - dark > MUSCLE_SPLIT * (level - dark):
        # Half of what lies below is far above the darkest: the level parted muscle from breast.
        level = _otsu(background)
        background = background[background < level]
    base = float(np.median(background)) if background.size else dark
    noise = float(np.median(np.abs(background - base))) if background.size else 0.0
    threshold = max(base + 3.0 * noise, base + 0.15 * (level - base), 0.02)
    foreground = (smooth > threshold) & ~frame & ~_kept_out(padding, smooth > threshold)
    reach = max(1, round(3.0 / mm))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    # The border is replicated outwards, so that tissue at the picture's edge is not worn away.
    padded = cv2.copyMakeBorder(foreground.astype(np.uint8), reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[reach:-reach, reach:-reach]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        raise InputError(Reason.NO_BREAST, "no large bright area")
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    core = (labels == best).astype(np.uint8)
    grown = cv2.dilate(core, kernel).astype(bool) & foreground
    breast = fill_holes(grown)
    share = float(breast.mean())
    if share < SMALLEST_SHARE:
        raise InputError(Reason.NO_BREAST, f"the bright area covers only {share:.1%} of the picture")
    return breast, ((pixels > threshold) & ~padding) | breast


def chest_wall_is_right(breast: NDArray[np.bool_]) -> bool:
    """Whether the breast lies at the right edge: decided by the pixels, never by the header.

    The chest wall is the side where the breast's columns are tallest and end abruptly.
    """
    columns = breast.sum(axis=0)
    low, high = (int(c) for c in np.flatnonzero(columns > 0.3 * columns.max())[[0, -1]])
    reach = max(1, (high - low) // 12)
    left = float(columns[low : low + reach + 1].mean())
    right = float(columns[high - reach : high + 1].mean())
    return right > left


def denoise(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of 3 x 3 (the papers' filter), then a light bilateral filter that keeps edges."""
    return np.asarray(cv2.bilateralFilter(cv2.medianBlur(pixels, 3), 5, 0.04, 1.5), dtype=np.float32)


def normalise(pixels: NDArray[np.float32], breast: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Stretch the breast's grey levels so that its 1st and 99.5th percentiles become 0 and 1."""
    values = pixels[breast] if breast.any() else pixels.ravel()
    low, high = (float(v) for v in np.percentile(values, (1.0, 99.5)))
    if high - low < 1e-6:
        return np.zeros_like(pixels)
    return np.asarray(np.clip((pixels - low) / (high - low), 0.0, 1.0), dtype=np.float32)


def _with_dark_padding(pixels: NDArray[np.float32], padding: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Padding as dark as the darkest pixels outside it: it may stand for the air, of which nothing else is left then,
    or lie beside air that is darker or brighter than it.
    """
    if not padding.any() or padding.all():
        return pixels
    darkest = float(np.percentile(pixels[~padding], DARKEST))
    # It is black already, and mixed with the skin at its edge.
    return np.where(padding, np.float32(darkest), pixels) if darkest > NEARLY_BLACK else pixels


def _kept_out(padding: NDArray[np.bool_], bright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Padding that is no tissue. bright: above the threshold.

    Where padding stands for the air, or air lies beside it, the skin line is blurred into it as into air; where it
    was painted over tissue nothing is.
    """
    beside = (cv2.dilate(padding.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~padding
    if not beside.any():
        return padding
    is_air = float((~bright)[~padding].mean()) <= AIR_LEFT or float(bright[beside].mean()) < 0.5
    return cv2.erode(padding.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) if is_air else padding


def _white_frame(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """White borders and plates of film scans: bright, flat, and touching the picture's edge or not."""
    bright = (pixels > 0.93).astype(np.uint8)
    frame = np.zeros(pixels.shape, bool)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=4)
    h, w = pixels.shape
    for index in range(1, count):
        x, y, width, height, area = stats[index]
        touches = x == 0 or y == 0 or x + width == w or y + height == h
        straight = area > 0.6 * width * height
        long = width > 0.5 * w or height > 0.25 * h
        thin = min(width, height) < 0.12 * max(h, w)
        # A frame runs along the edge as a straight thin band, or around the whole picture.
        if touches and ((straight and thin and long) or (width > 0.9 * w and height > 0.9 * h and area < 0.3 * h * w)):
            frame |= labels == index
    if frame.any():
        frame = cv2.dilate(frame.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    return frame


def _otsu(values: NDArray[np.float32]) -> float:
    scaled = np.clip(values * 255.0, 0, 255).astype(np.uint8).reshape(-1, 1)
    level, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(level) / 255.0


def _shrink(pixels: NDArray[np.float32], x: float, y: float) -> NDArray[np.float32]:
    h, w = pixels.shape
    size = (max(8, round(w * x)), max(8, round(h * y)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _crop_box(breast: NDArray[np.bool_], shape: tuple[int, ...], margin: float) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(breast.any(axis=1)), np.flatnonzero(breast.any(axis=0))
    fx, fy = shape[1] / breast.shape[1], shape[0] / breast.shape[0]
    x0 = max(0, math.floor((columns[0] - margin) * fx))
    y0 = max(0, math.floor((rows[0] - margin) * fy))
    x1 = min(shape[1], math.ceil((columns[-1] + 1 + margin) * fx))
    y1 = min(shape[0], math.ceil((rows[-1] + 1 + margin) * fy))
    return x0, y0, x1, y1


def _geometry(
    shape: tuple[int, ...],
    flipped: bool,
    box: tuple[int, int, int, int],
    millimetres: tuple[float, float],
    target: float,
    *,
    known: bool,
) -> Geometry:
    x0, y0, x1, y1 = box
    # One square working pixel for both directions, never finer than the coarser source direction.
    mm = max(target, *millimetres)
    width = max(8, round((x1 - x0) * millimetres[0] / mm))
    height = max(8, round((y1 - y0) * millimetres[1] / mm))
    return Geometry(
        source_width=shape[1],
        source_height=shape[0],
        flipped=flipped,
        x0=float(x0),
        y0=float(y0),
        scale_x=width / (x1 - x0),
        scale_y=height / (y1 - y0),
        width=width,
        height=height,
        mm=mm,
        mm_known=known,
    )


def _of_source(geometry: Geometry, image: Image) -> Geometry:
    """The geometry of a working image that came from an image's pixels, from its source's."""
    step = image.step
    if step == 1:
        return geometry
    rows, columns = image.source_shape
    # The pixels of a lower resolution stand where every step-th pixel of the source does (T.800 F.3): their corners lie
    # less than a step before that. A mirrored picture begins at its last pixel, which may reach beyond the source.
    before = (step - 1) / 2
    first = before + columns - step * geometry.source_width if geometry.flipped else -before
    return replace(
        geometry,
        source_width=columns,
        source_height=rows,
        x0=step * geometry.x0 + first,
        y0=step * geometry.y0 - before,
        scale_x=geometry.scale_x / step,
        scale_y=geometry.scale_y / step,
    )


def _resize(crop: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    size = (geometry.width, geometry.height)
    if crop.shape == size[::-1]:
        return np.ascontiguousarray(crop)
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _mask_at(
    mask: NDArray[np.bool_], shape: tuple[int, ...], box: tuple[int, int, int, int], geometry: Geometry
) -> NDArray[np.bool_]:
    """A mask of the whole (flipped) picture, cut to the box and drawn smoothly at the working size."""
    h, w = mask.shape
    fx, fy = w / shape[1], h / shape[0]
    sx, sy = (box[2] - box[0]) * fx / geometry.width, (box[3] - box[1]) * fy / geometry.height
    # Working pixel centre to mask pixel centre.
    matrix = np.array(
        [[sx, 0.0, box[0] * fx + 0.5 * sx - 0.5], [0.0, sy, box[1] * fy + 0.5 * sy - 0.5]], dtype=np.float64
    )
    over = cv2.warpAffine(
        mask.astype(np.float32),
        matrix,
        (geometry.width, geometry.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(over > 0.5)
