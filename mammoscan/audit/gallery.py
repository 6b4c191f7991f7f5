"""The worst misses and false alarms, with pictures where the archive is at hand."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscan.audit.lesions import Lesion
from mammoscan.audit.match import Pair
from mammoscan.audit.measure import Threshold
from mammoscan.audit.story import Audit
from mammoscan.config import SWITCHABLE, AnalysisConfig
from mammoscan.domain import Header, SourceFile
from mammoscan.errors import InputError

log = logging.getLogger(__name__)
MOST = 8
PICTURE_HEIGHT = 420  # pixels
TRUTH, MARK = (115, 158, 0), (0, 94, 213)  # BGR: bluish green for the truth, vermilion for marks


@dataclass(frozen=True, slots=True)
class Card:
    """One case of a gallery. picture: PNG bytes, or None with why in ``missing``."""

    case: str
    score: float
    truth: str
    image: str
    study: str
    folder: str
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

    Without a threshold: the lowest positives and the highest negatives.
    """
    level = next((a for a in audit.levels if a.cases.level == "image"), audit.primary)
    cases, threshold = level.cases, (level.thresholds[0] if level.thresholds else None)
    flagged = cases.scores >= threshold.value if threshold else None
    missed = cases.truth if flagged is None else cases.truth & ~flagged
    alarms = ~cases.truth if flagged is None else ~cases.truth & flagged
    out = []
    for title, chosen, sign in (("Worst misses", missed, 1), ("Worst false alarms", alarms, -1)):
        indices = np.flatnonzero(chosen)
        order = indices[np.argsort(sign * cases.scores[indices], kind="stable")]
        cards = tuple(
            _card(audit, cases.ids[i], float(cases.scores[i]), cases.members[i], threshold) for i in order[:MOST]
        )
        out.append(Gallery(title, cards, len(order)))
    return tuple(out)


def _card(audit: Audit, name: str, score: float, members: tuple[Pair, ...], threshold: Threshold | None) -> Card:
    # The picture of a miss is of an image that holds the cancer, with its highest score.
    pair = next((m for m in members if m.label.positive), members[0])
    picture, missing = _picture(audit, pair, threshold)
    truth = pair.label.class_name or ("positive" if pair.label.positive else "negative")
    image = pair.image
    return Card(name, score, truth, image.path or image.id, image.study_instance_uid, image.folder, picture, missing)


def _picture(audit: Audit, pair: Pair, threshold: Threshold | None) -> tuple[bytes | None, str]:
    archive = audit.config.archive or audit.joined.results.archive
    if archive is None or not pair.image.path:
        return None, "no archive given (--archive)"
    path = Path(archive) / pair.image.path
    if not path.is_file():
        return None, "the image is not in the archive"
    try:
        pixels = display_pixels(path)
    except Exception as error:
        log.warning("no picture of %s: %s", pair.image.path, type(error).__name__)
        return None, f"the image cannot be shown ({type(error).__name__})"
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
    """PNG with the lesions of the truth and the marks (dashed where below the threshold)."""
    scale = PICTURE_HEIGHT / pixels.shape[0]
    size = (max(round(pixels.shape[1] * scale), 1), PICTURE_HEIGHT)
    picture = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    for lesion in pair.label.lesions:
        _outline(picture, lesion, scale)
    for mark in pair.image.marks:
        box = mark.box or (
            mark.centre[0] - 9 / scale,
            mark.centre[1] - 9 / scale,
            mark.centre[0] + 9 / scale,
            mark.centre[1] + 9 / scale,
        )
        x0, y0, x1, y1 = (round(v * scale) for v in box)
        above = threshold is None or mark.score >= threshold
        cv2.rectangle(picture, (x0, y0), (x1, y1), MARK, 2 if above else 1)
        cv2.putText(
            picture,
            f"{mark.score:.2f}",
            (x0, max(y0 - 4, 10)),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.4,
            MARK,
            1,
            cv2.LINE_AA,
        )
    sound, data = cv2.imencode(".png", picture)
    if not sound:
        raise ValueError("the picture cannot be encoded")
    return bytes(data)


def _outline(picture: NDArray[np.uint8], lesion: Lesion, scale: float) -> None:
    x, y = (round(v * scale) for v in lesion.centre)
    if lesion.radius is not None:
        cv2.circle(picture, (x, y), max(round(lesion.radius * scale), 2), TRUTH, 2, cv2.LINE_AA)
        return
    x0, y0, x1, y1 = (round(v * scale) for v in lesion.box)
    cv2.rectangle(picture, (x0, y0), (x1, y1), TRUTH, 2)
