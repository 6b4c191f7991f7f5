"""One image through the array stages: what a worker process does with it."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan.core.config import HALF
from mammoscan.core.domain import Analysed, Failed, Geometry, Preview
from mammoscan.core.errors import InputError, Reason, Stage
from mammoscan.image import crops, dense, features, nipple, pixels, polarity, preprocess, segment, trace
from mammoscan.image.segment import ranking

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.core.config import AnalysisConfig
    from mammoscan.core.domain import Header, Image, Prepared

log = logging.getLogger(__name__)

# Longest side of the pictures in reports, in pixels: enough for a printed half page.
PREVIEW_SIDE = 900
# Rows of the picture on the review page, and pixels at most, for images that are wide: nothing is ever enlarged.
LARGE_ROWS, LARGE_PIXELS = 1600, 3_000_000
# Bytes at most of that picture: the first of these qualities that keeps to it is taken, else the last. Four views, with
# marks and numbers, stay below 1 MB.
LARGE_BYTES = 225_000
_QUALITIES = (88, 82, 75, 67, 58, 48, 38, 28)


def analyse(
    header: Header, config: AnalysisConfig, cut: crops.CropGeometry, ranked_by: Path | None = None,
    traced_by: Path | None = None, anonymous: bool = False, large: bool = False,
) -> Analysed | Failed:  # fmt: skip
    """Decode, prepare, segment and measure one image. The only place that catches per image.

    cut: how the model's crops are cut (``Bundle.crop``). ranked_by: the model's own ranking of candidate regions
    (``Bundle.ranking``). traced_by: the network that draws their outlines (``Bundle.outlines``). anonymous: whether
    the preview must show nothing that could name a person (``only_breast``). large: whether the picture of the review
    page is drawn as well.

    Returns
    -------
    Analysed, or Failed with the stage and the coded reason. Never raises for a bad image.
    """
    # The work is spread over processes already: more threads would only fight for the same cores.
    cv2.setNumThreads(1)
    seconds: list[tuple[str, float]] = []
    stage = Stage.PIXELS
    began = time.perf_counter()

    def lap() -> None:
        nonlocal began
        now = time.perf_counter()
        seconds.append((stage.value, now - began))
        began = now

    try:
        image = _read(header, config, cut)
        lap()
        stage = Stage.PREPROCESS
        # The reports show the picture that was analysed, turned over where that was.
        image = polarity.upright(image)
        prepared = preprocess.prepare_upright(image)
        lap()
        stage = Stage.SEGMENT
        trees = None if ranked_by is None else ranking.at(ranked_by)
        segmented = segment.segment(prepared, max_regions=config.max_regions, trees=trees)
        segmented = trace.trace(segmented, trace.frozen() if traced_by is None else trace.at(traced_by))
        lap()
        stage = Stage.FEATURES
        measures = features.region_features(segmented)
        counted = dense.dense_pixels(prepared)
        whole = features.image_features(prepared, counted)
        tip = nipple.place(prepared)
        greys = crops.grey_range(prepared)
        patches = crops.region_crops(segmented, cut, greys=greys)
        tiles = crops.whole_tiles(prepared, side=cut.side, greys=greys)
        picture = _pictured(image, prepared, counted, anonymous=anonymous, large=large)
        lap()
    except InputError as error:
        return failed(header, stage, error.reason, error.detail)
    except MemoryError:
        return failed(header, stage, Reason.TOO_LARGE, "out of memory")
    except Exception as error:
        log.exception("internal error in stage %s", stage.value)
        return failed(header, stage, Reason.INTERNAL, f"{type(error).__name__}: {error}")
    return Analysed(
        header=header,
        geometry=prepared.geometry,
        regions=segmented.regions,
        features=measures,
        image_features=whole,
        crops=patches,
        tiles=tiles,
        preview=picture,
        flags=prepared.flags,
        seconds=tuple(seconds),
        nipple=tip,
    )


def _read(header: Header, config: AnalysisConfig, cut: crops.CropGeometry) -> Image:
    half = config.resolution == HALF and preprocess.half_will_do(header, cut.finest_mm)
    return pixels.read_image(header, max_pixels=config.max_pixels, half=half)


def drawn(
    header: Header, config: AnalysisConfig, cut: crops.CropGeometry, *, anonymous: bool, large: bool = False
) -> Preview:
    """The preview of an image alone, as ``analyse`` draws it.

    Raises
    ------
    InputError
        When the image cannot be decoded or holds no breast.
    OSError
        When it cannot be read.
    """
    cv2.setNumThreads(1)
    image = polarity.upright(_read(header, config, cut))
    prepared = preprocess.prepare_upright(image)
    return _pictured(image, prepared, dense.dense_pixels(prepared), anonymous=anonymous, large=large)


def _pictured(image: Image, prepared: Prepared, counted: NDArray[np.bool_], *, anonymous: bool, large: bool) -> Preview:
    half = _halved(image.pixels)
    picture = preview(image, prepared.geometry, counted, half=half)
    if anonymous:
        picture = only_breast(picture, prepared)
    return replace(picture, large=enlarged(image, prepared, anonymous=anonymous, half=half)) if large else picture


def _halved(pixels: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The mean of every two by two pixels, from which smaller pictures are drawn with less work than from all; None where
    a side is odd.
    """
    rows, columns = pixels.shape
    if rows % 2 or columns % 2:
        return None
    return np.asarray(cv2.resize(pixels, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA), np.float32)


def _reduced(
    pixels: NDArray[np.float32], half: NDArray[np.float32] | None, size: tuple[int, int]
) -> NDArray[np.float32]:
    """The means of pixels in a picture of size (width, height); from ``half`` where it has as many or more."""
    if half is not None and size[0] <= half.shape[1] and size[1] <= half.shape[0]:
        pixels = half
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32)


def failed(header: Header, stage: Stage, reason: Reason, detail: str = "") -> Failed:
    """The failure of an image whose header was read."""
    return Failed(
        file=header.file,
        stage=stage,
        reason=reason,
        detail=detail,
        study_instance_uid=header.study.study_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        header=header,
    )


def preview(
    image: Image, geometry: Geometry, counted: NDArray[np.bool_], *, half: NDArray[np.float32] | None = None
) -> Preview:
    """A small picture of the source, with the dense pixels that are counted laid over it in its orientation.

    image: (rows, columns) float32 in 0 to 1. counted: bool at the working scale of ``geometry``. half: the image's
    pixels, two by two, if known.
    """
    rows, columns = image.source_shape
    scale = min(1.0 / image.step, PREVIEW_SIDE / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = _reduced(image.pixels, half, size)
    return Preview(
        pixels=np.round(np.clip(small, 0.0, 1.0) * 255.0).astype(np.uint8),
        dense=_laid_over(counted, geometry, size, scale),
        scale=scale,
    )


def enlarged(image: Image, prepared: Prepared, *, anonymous: bool, half: NDArray[np.float32] | None = None) -> bytes:
    """The picture of the review page: grey JPEG of ``LARGE_ROWS`` rows, or as many as the source has.

    anonymous: with black for everything but the breast (``only_breast``). half: as of ``preview``.
    """
    rows, columns = image.source_shape
    scale = min(1.0 / image.step, LARGE_ROWS / rows, (LARGE_PIXELS / (rows * columns)) ** 0.5)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = _reduced(image.pixels, half, size)
    pixels = cv2.convertScaleAbs(small, alpha=255.0)  # rounds, and ends at 255
    if anonymous:
        pixels = only_breast(Preview(pixels, np.zeros(pixels.shape, bool), scale), prepared).pixels
    for quality in _QUALITIES:
        good, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
        if not good:
            raise RuntimeError("a picture could not be encoded")
        if jpeg.size <= LARGE_BYTES:
            break
    return jpeg.tobytes()


def only_breast(picture: Preview, prepared: Prepared) -> Preview:
    """The preview with black for everything but breast and pectoral muscle: markers and labels name people.

    Where the header says that annotations are burned in, all is black: they may lie on the breast.
    """
    if prepared.header.burned_in:
        return replace(picture, pixels=np.zeros_like(picture.pixels))
    rows, columns = picture.pixels.shape
    tissue = prepared.breast | prepared.pectoral
    shown = _laid_over(tissue, prepared.geometry, (columns, rows), picture.scale)
    return replace(picture, pixels=np.where(shown, picture.pixels, np.uint8(0)))


def _laid_over(mask: NDArray[np.bool_], geometry: Geometry, size: tuple[int, int], scale: float) -> NDArray[np.bool_]:
    """A mask at the working scale in a picture of the source, size (width, height), scale its pixels per source pixel."""
    # Working pixels to picture pixels: the inverse of the geometry, in OpenCV's centre convention.
    corners = np.array([[0.0, 0.0], [geometry.width, 0.0], [0.0, geometry.height]])
    target = geometry.to_source(corners) * scale
    matrix = cv2.getAffineTransform((corners - 0.5).astype(np.float32), (target - 0.5).astype(np.float32))
    over = cv2.warpAffine(mask.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST)
    return np.asarray(over, dtype=bool)
