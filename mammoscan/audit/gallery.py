"""The worst misses and false alarms, with pictures where the archive is at hand."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscan.audit.lesions import Lesion, Mark
from mammoscan.audit.links import report_of
from mammoscan.audit.match import Pair
from mammoscan.audit.measure import LevelAudit, Threshold
from mammoscan.audit.story import Audit, named
from mammoscan.core.config import SWITCHABLE, AnalysisConfig
from mammoscan.core.domain import Header, SourceFile
from mammoscan.core.errors import InputError

log = logging.getLogger(__name__)
MOST = 8
PICTURE_SIDE = 640  # pixels, of a picture's longer side
MARGIN = 0.03  # of the image, kept around the breast
LIT = 12  # of 255: brighter pixels are not background
CENTRE_ONLY = 0.014  # of the image, half the side of the square that stands for a mark without a box
MOST_MARKS = 6  # marks below the threshold that a picture shows; all above it are shown
# BGR: bluish green for malignant lesions, sky blue for benign ones, vermilion for marks (Okabe and Ito 2008).
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
TRUTH, BENIGN, MARK, DARK = (115, 190, 0), (233, 180, 86), (60, 130, 255), (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Card:
    """One case of a gallery. picture: JPEG bytes, or None with why in ``missing``.

    image: its path or identifier. who: patient, side and view, as far as known. report: path of
    the study's PDF below the results, '' where there is none.
    """

    case: str
    score: float
    truth: str
    image: str
    who: str
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
    """Misses by rising score, false alarms by falling score.

    At the first threshold and at those asked for with ``--threshold``. Without any: the lowest
    positives and the highest negatives. By image where the labels are about images, else at the
    level shown first.
    """
    level = next((a for a in audit.levels if a.cases.level == "image"), audit.primary)
    asked = {named(value) for value in audit.config.thresholds}
    shown: list[Threshold | None] = [t for i, t in enumerate(level.thresholds) if i == 0 or t.name in asked]
    return tuple(g for threshold in shown or [None] for g in _at(audit, level, threshold))


def _at(audit: Audit, level: LevelAudit, threshold: Threshold | None) -> list[Gallery]:
    cases, where = level.cases, f"{level.cases.level} level"
    if threshold is None:
        missed, alarms = cases.truth, ~cases.truth
        names: tuple[str, str] = ("Lowest positives", "Highest negatives")
    else:
        flagged = cases.scores >= threshold.value
        missed, alarms = cases.truth & ~flagged, ~cases.truth & flagged
        names = (f"Worst misses at {threshold.name}", f"Worst false alarms at {threshold.name}")
    out = []
    for title, chosen, sign in zip(names, (missed, alarms), (1, -1), strict=True):
        indices = np.flatnonzero(chosen)
        order = indices[np.argsort(sign * cases.scores[indices], kind="stable")]
        cards = tuple(
            _card(audit, cases.ids[i], float(cases.scores[i]), cases.members[i], threshold) for i in order[:MOST]
        )
        out.append(Gallery(f"{title} ({where})", cards, len(order)))
    return out


def _card(audit: Audit, name: str, score: float, members: tuple[Pair, ...], threshold: Threshold | None) -> Card:
    # The picture of a miss is of an image that holds the cancer, with its highest score.
    pair = next((m for m in members if m.label.positive), members[0])
    picture, missing = _picture(audit, pair, threshold)
    truth = pair.label.class_name or ("positive" if pair.label.positive else "negative")
    image = pair.image
    report = report_of(audit, image.study_instance_uid, image.folder)
    who = " ".join(part for part in (image.patient_id, image.laterality, image.view) if part)
    return Card(name, score, truth, image.path or image.id, who, report, picture, missing)


def _picture(audit: Audit, pair: Pair, threshold: Threshold | None) -> tuple[bytes | None, str]:
    archive = audit.config.archive or audit.joined.results.archive
    if archive is None or not pair.image.path:
        return None, "no picture: the results name no archive (--archive) or no path"
    path = Path(archive) / pair.image.path
    if not path.is_file():
        return None, "no picture: the image is not in the archive"
    try:
        pixels = display_pixels(path, pair.image.sop_instance_uid)
    except InputError as error:
        return None, f"no picture: {error.message}"
    except _OtherImageError:
        return None, "no picture: the file holds another image now than the one that has this score"
    except Exception as error:
        log.warning("no picture of %s: %s", pair.image.path, type(error).__name__)
        return None, f"no picture: the image cannot be shown ({type(error).__name__})"
    of_marks = None if threshold is None else audit.joined.results.points("region").get(threshold.name, threshold.value)
    return draw(pixels, pair, of_marks), ""


class _OtherImageError(Exception):
    """A file was replaced since the results were made."""


def display_pixels(path: Path, sop_instance_uid: str = "") -> NDArray[np.uint8]:
    """An image in display sense, uint8, as the run decodes it and turns it upright. sop_instance_uid: whose it must be, where known."""
    # Imported here: the decoders load only where a picture is wanted.
    from mammoscan.archive import header
    from mammoscan.image import pixels, polarity

    status = path.stat()
    file = SourceFile(path, path.name, status.st_size, status.st_mtime_ns)
    found = header.read_header(file, include=SWITCHABLE, settle_seconds=0.0, now=time.time())
    if not isinstance(found, Header):
        raise InputError(found.reason, path=path)
    if sop_instance_uid and found.sop_instance_uid != sop_instance_uid:
        raise _OtherImageError
    image = polarity.upright(pixels.read_image(found, max_pixels=AnalysisConfig().max_pixels))
    return np.asarray(np.clip(image.pixels * 255 + 0.5, 0, 255), dtype=np.uint8)


def draw(pixels: NDArray[np.uint8], pair: Pair, threshold: float | None) -> bytes:
    """JPEG of the breast with the lesions of the truth and the marks: thick where flagged, thin below the threshold."""
    marks = sorted(pair.image.marks, key=lambda m: -m.score)
    above = [m for m in marks if threshold is None or m.score >= threshold]
    below = [m for m in marks if m not in above][:MOST_MARKS]
    half = CENTRE_ONLY * max(pixels.shape)
    places = {mark: _place(mark, half) for mark in (*above, *below)}
    view = _window(pixels, [*(lesion.box for lesion in (*pair.lesions, *pair.others)), *places.values()])
    x0, y0, x1, y1 = view.x0, view.y0, view.x0 + view.width, view.y0 + view.height
    size = (max(round(view.width * view.scale), 1), max(round(view.height * view.scale), 1))
    # Enlarging has no area to average over.
    how = cv2.INTER_AREA if view.scale < 1 else cv2.INTER_CUBIC
    picture = cv2.cvtColor(cv2.resize(pixels[y0:y1, x0:x1], size, interpolation=how), cv2.COLOR_GRAY2BGR)
    for mark in reversed(below):
        cv2.rectangle(picture, *view.corners(places[mark]), MARK, 2)
    for mark in reversed(above):
        for colour, thickness in _framed(MARK, 3):
            cv2.rectangle(picture, *view.corners(places[mark]), colour, thickness)
    for lesions, colour in ((pair.others, BENIGN), (pair.lesions, TRUTH)):
        for lesion in lesions:
            for shade, thickness in _framed(colour, 2):
                _outline(picture, lesion, view, shade, thickness)
    _label(picture, [(f"{m.score:.2f}", view.corners(places[m])) for m in above or below[:1]])
    # Colours at full resolution, or thin lines lose theirs.
    settings = [
        cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    ]  # fmt: skip
    sound, data = cv2.imencode(".jpg", picture, settings)
    if not sound:
        raise ValueError("the picture cannot be encoded")
    return bytes(data)


@dataclass(frozen=True, slots=True)
class _View:
    """The part of the source image that a picture shows, in source pixels, and picture pixels a source pixel."""

    x0: int
    y0: int
    width: int
    height: int
    scale: float

    def point(self, x: float, y: float) -> tuple[int, int]:
        """A place of the source image in the picture."""
        return round((x - self.x0) * self.scale), round((y - self.y0) * self.scale)

    def corners(self, box: Box) -> tuple[tuple[int, int], tuple[int, int]]:
        """A box of the source image in the picture: two corners."""
        return self.point(box[0], box[1]), self.point(box[2], box[3])


def _window(pixels: NDArray[np.uint8], boxes: Sequence[Box]) -> _View:
    """Where something is to be seen: the largest lit object (the breast) with all ``boxes``.

    Scanned films and many digital views are half background, which would make lesions tiny.
    """
    height, width = pixels.shape
    _, _, found, _ = cv2.connectedComponentsWithStats((cv2.blur(pixels, (9, 9)) > LIT).astype(np.uint8))
    around = list(boxes)
    if len(found) > 1:
        x, y, w, h, _ = (int(v) for v in found[1 + int(np.argmax(found[1:, cv2.CC_STAT_AREA]))])
        around.append((x, y, x + w, y + h))
    else:
        around.append((0, 0, width, height))
    edge = MARGIN * max(width, height)
    x0 = max(int(min(b[0] for b in around) - edge), 0)
    y0 = max(int(min(b[1] for b in around) - edge), 0)
    x1 = min(int(max(b[2] for b in around) + edge) + 1, width)
    y1 = min(int(max(b[3] for b in around) + edge) + 1, height)
    return _View(x0, y0, x1 - x0, y1 - y0, PICTURE_SIDE / max(x1 - x0, y1 - y0))


def _place(mark: Mark, half: float) -> Box:
    """A mark's box in source pixels; a square of twice ``half`` where only its centre is known."""
    x, y = mark.centre
    return mark.box or (x - half, y - half, x + half, y + half)


def _label(picture: NDArray[np.uint8], texts: Sequence[tuple[str, tuple[tuple[int, int], tuple[int, int]]]]) -> None:
    """Write each text beside its box, on a ground of its own and not over another text where there is room."""
    font, size, pad = cv2.FONT_HERSHEY_SIMPLEX, 0.6, 3
    height, width = picture.shape[:2]
    taken: list[tuple[int, int, int, int]] = []
    for text, ((x0, y0), (x1, y1)) in texts:
        (w, h), _ = cv2.getTextSize(text, font, size, 1)
        w, h = w + 2 * pad, h + 2 * pad
        spots = [(x0, y0 - h - 3), (x0, y1 + 3), (x1 + 3, y0), (x0 - w - 3, y0), (x0, y0)]
        inside = [(min(max(x, 0), width - w), min(max(y, 0), height - h)) for x, y in spots]
        free = [
            (x, y) for x, y in inside if not any(x < c and a < x + w and y < d and b < y + h for a, b, c, d in taken)
        ]
        x, y = (free or inside)[0]
        taken.append((x, y, x + w, y + h))
        cv2.rectangle(picture, (x, y), (x + w, y + h), DARK, cv2.FILLED)
        cv2.putText(picture, text, (x + pad, y + h - pad), font, size, MARK, 1, cv2.LINE_AA)


def _outline(picture: NDArray[np.uint8], lesion: Lesion, view: _View, colour: Colour, width: int) -> None:
    if lesion.radius is not None:
        radius = max(round(lesion.radius * view.scale), 2)
        cv2.circle(picture, view.point(*lesion.centre), radius, colour, width, cv2.LINE_AA)
        return
    if lesion.mask is None:
        cv2.rectangle(picture, *view.corners(lesion.box), colour, width)
        return
    contours, _ = cv2.findContours(lesion.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corner = np.array(lesion.box[:2]) - (view.x0, view.y0)
    placed = [np.round((c + corner) * view.scale).astype(np.int32) for c in contours]
    cv2.drawContours(picture, placed, -1, colour, width, cv2.LINE_AA)


def _framed(colour: Colour, width: int) -> tuple[tuple[Colour, int], tuple[Colour, int]]:
    """First wider in black, then in colour, so that a line is seen on white as on grey."""
    return (DARK, width + 2), (colour, width)
