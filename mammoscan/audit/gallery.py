"""The worst misses and false alarms, with pictures where the archive is at hand."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscan.audit.lesions import Lesion, Mark
from mammoscan.audit.links import report_of
from mammoscan.audit.match import Pair
from mammoscan.audit.measure import Threshold
from mammoscan.audit.story import Audit
from mammoscan.config import SWITCHABLE, AnalysisConfig
from mammoscan.domain import Header, SourceFile
from mammoscan.errors import InputError

log = logging.getLogger(__name__)
MOST = 8
PICTURE_HEIGHT = 640  # pixels
MOST_MARKS = 6  # marks below the threshold that a picture shows; all above it are shown
# BGR: bluish green for malignant lesions, sky blue for benign ones, vermilion for marks (Okabe and Ito 2008).
Colour = tuple[int, int, int]
TRUTH, BENIGN, MARK, DARK = (115, 190, 0), (233, 180, 86), (60, 130, 255), (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Card:
    """One case of a gallery. picture: JPEG bytes, or None with why in ``missing``.

    report: path of the study's PDF below the results, '' where there is none.
    """

    case: str
    score: float
    truth: str
    image: str
    report: str
    picture: bytes | None
    missing: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Cases of one kind, worst first; total counts all of the kind."""

    title: str
    cards: tuple[Card, ...]
    total: int


def galleries(audit: Audit) -> tuple[Gallery, ...]:
    """Misses by rising score, false alarms by falling score, at the first threshold.

    Without a threshold: the lowest positives and the highest negatives. By image where the labels
    are about images, else at the level shown first.
    """
    level = next((a for a in audit.levels if a.cases.level == "image"), audit.primary)
    cases, threshold = level.cases, (level.thresholds[0] if level.thresholds else None)
    flagged = cases.scores >= threshold.value if threshold else None
    missed = cases.truth if flagged is None else cases.truth & ~flagged
    alarms = ~cases.truth if flagged is None else ~cases.truth & flagged
    names = ("Worst misses", "Worst false alarms") if threshold else ("Lowest positives", "Highest negatives")
    out = []
    for title, chosen, sign in zip(names, (missed, alarms), (1, -1), strict=True):
        indices = np.flatnonzero(chosen)
        order = indices[np.argsort(sign * cases.scores[indices], kind="stable")]
        cards = tuple(
            _card(audit, cases.ids[i], float(cases.scores[i]), cases.members[i], threshold) for i in order[:MOST]
        )
        out.append(Gallery(f"{title} ({cases.level} level)", cards, len(order)))
    return tuple(out)


def _card(audit: Audit, name: str, score: float, members: tuple[Pair, ...], threshold: Threshold | None) -> Card:
    # The picture of a miss is of an image that holds the cancer, with its highest score.
    pair = next((m for m in members if m.label.positive), members[0])
    picture, missing = _picture(audit, pair, threshold)
    truth = pair.label.class_name or ("positive" if pair.label.positive else "negative")
    image = pair.image
    report = report_of(audit, image.study_instance_uid, image.folder)
    return Card(name, score, truth, image.path or image.id, report, picture, missing)


def _picture(audit: Audit, pair: Pair, threshold: Threshold | None) -> tuple[bytes | None, str]:
    archive = audit.config.archive or audit.joined.results.archive
    if archive is None or not pair.image.path:
        return None, "no picture: the results name no archive (--archive) or no path"
    path = Path(archive) / pair.image.path
    if not path.is_file():
        return None, "no picture: the image is not in the archive"
    try:
        pixels = display_pixels(path)
    except Exception as error:
        log.warning("no picture of %s: %s", pair.image.path, type(error).__name__)
        return None, f"no picture: the image cannot be shown ({type(error).__name__})"
    return draw(pixels, pair, threshold.value if threshold else None), ""


def display_pixels(path: Path) -> NDArray[np.uint8]:
    """An image in display sense, uint8, as the run decodes it."""
    # Imported here: the decoders load only where a picture is wanted.
    from mammoscan import header, pixels

    status = path.stat()
    file = SourceFile(path, path.name, status.st_size, status.st_mtime_ns)
    found = header.read_header(file, include=SWITCHABLE, settle_seconds=0.0, now=time.time())
    if not isinstance(found, Header):
        raise InputError(found.reason, path=path)
    image = pixels.read_image(found, max_pixels=AnalysisConfig().max_pixels)
    return np.asarray(np.clip(image.pixels * 255 + 0.5, 0, 255), dtype=np.uint8)


def draw(pixels: NDArray[np.uint8], pair: Pair, threshold: float | None) -> bytes:
    """JPEG with the lesions of the truth and the marks: thick where flagged, thin below the threshold."""
    scale = PICTURE_HEIGHT / pixels.shape[0]
    size = (max(round(pixels.shape[1] * scale), 1), PICTURE_HEIGHT)
    picture = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    marks = sorted(pair.image.marks, key=lambda m: -m.score)
    above = [m for m in marks if threshold is None or m.score >= threshold]
    below = [m for m in marks if m not in above][:MOST_MARKS]
    for mark, width in (*((m, 1) for m in reversed(below)), *((m, 2) for m in reversed(above))):
        x0, y0, x1, y1 = _box(mark, scale)
        for colour, thickness in _framed(MARK, width) if width > 1 else ((MARK, 1),):
            cv2.rectangle(picture, (x0, y0), (x1, y1), colour, thickness)
    for mark in reversed(above or below[:1]):
        x0, y0, _, _ = _box(mark, scale)
        place = (min(max(x0, 2), size[0] - 42), max(y0 - 5, 14))
        for colour, thickness in _framed(MARK, 1):
            text = f"{mark.score:.2f}"
            cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, colour, thickness, cv2.LINE_AA)
    for lesions, colour in ((pair.others, BENIGN), (pair.lesions, TRUTH)):
        for lesion in lesions:
            for shade, thickness in _framed(colour, 2):
                _outline(picture, lesion, scale, shade, thickness)
    # Colours at full resolution, or thin lines lose theirs.
    settings = [
        cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    ]  # fmt: skip
    sound, data = cv2.imencode(".jpg", picture, settings)
    if not sound:
        raise ValueError("the picture cannot be encoded")
    return bytes(data)


def _box(mark: Mark, scale: float) -> tuple[int, int, int, int]:
    """A mark's box in picture pixels; a small square where only its centre is known."""
    x, y = mark.centre
    x0, y0, x1, y1 = mark.box or (x - 9 / scale, y - 9 / scale, x + 9 / scale, y + 9 / scale)
    return round(x0 * scale), round(y0 * scale), round(x1 * scale), round(y1 * scale)


def _outline(picture: NDArray[np.uint8], lesion: Lesion, scale: float, colour: Colour, width: int) -> None:
    x, y = (round(v * scale) for v in lesion.centre)
    if lesion.radius is not None:
        cv2.circle(picture, (x, y), max(round(lesion.radius * scale), 2), colour, width, cv2.LINE_AA)
        return
    x0, y0, x1, y1 = (round(v * scale) for v in lesion.box)
    if lesion.mask is None:
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour, width)
        return
    contours, _ = cv2.findContours(lesion.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    placed = [np.round((c + (lesion.box[0], lesion.box[1])) * scale).astype(np.int32) for c in contours]
    cv2.drawContours(picture, placed, -1, colour, width, cv2.LINE_AA)


def _framed(colour: Colour, width: int) -> tuple[tuple[Colour, int], tuple[Colour, int]]:
    """First wider in black, then in colour, so that a line is seen on white as on grey."""
    return (DARK, width + 2), (colour, width)
