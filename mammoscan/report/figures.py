"""The pictures of an image: original, thresholded dense tissue, outlines, classification, Grad-CAM. Pure.

All are uint8 RGB in the source's orientation and are drawn from source coordinates: a source point
(x, y) lies at (x, y) * preview scale * side / longer preview side, corner convention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan import NOTICE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import Finding, Prediction, ReportContext

    Picture = NDArray[np.uint8]
    Colour = tuple[int, int, int]
    Box = tuple[float, float, float, float]

TITLES = ("original", "thresholded dense tissue", "segmented outlines", "classification with score")
HEAT_TITLE = "Grad-CAM"
ABOVE, BELOW, DENSE = (255, 80, 60), (90, 180, 255), (255, 210, 0)  # RGB
HEAT_SHOWN = 0.5  # opacity of the hottest place
SIDE = 900  # longer side of a picture, pixels
_SUBPIXEL = 4  # OpenCV's drawing takes coordinates with this many binary digits


def four_pictures(prediction: Prediction, *, side: int = SIDE) -> tuple[Picture, Picture, Picture, Picture]:
    """Original, dense tissue that is counted, outlines with numbers, boxes with scores: uint8 RGB (h, w, 3).

    The longer side is ``side`` pixels. Red: at or above the operating point; blue: below.
    """
    original, scale = _base(prediction, side)
    return (
        original,
        _thresholded(prediction, original),
        _outlined(original, prediction.findings, scale),
        _classified(original, prediction.findings, scale),
    )


def grad_cam_picture(prediction: Prediction, *, side: int = SIDE) -> Picture:
    """Grad-CAM of the findings at or above the operating point (else of the first) over the original.

    Each finding's heat covers its crop (outlined) and is relative to its own maximum. uint8 RGB.
    """
    original, scale = _base(prediction, side)
    shown = [f for f in heated(prediction.findings) if f.heat_box is not None]
    h, w = original.shape[:2]
    heat = np.zeros((h, w), np.float32)
    for finding in shown:
        assert finding.heat is not None
        assert finding.heat_box is not None
        x0, y0, x1, y1 = (v * scale for v in finding.heat_box)
        rows, columns = finding.heat.shape
        sx, sy = (x1 - x0) / columns, (y1 - y0) / rows
        # Map cells count from their corners, OpenCV from their centres; beyond the crop there is no heat.
        matrix = np.array([[sx, 0, x0 + 0.5 * sx - 0.5], [0, sy, y0 + 0.5 * sy - 0.5]])
        over = cv2.warpAffine(finding.heat, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = np.zeros((h, w), bool)
        inside[_span(y0, y1, h), _span(x0, x1, w)] = True
        heat = np.where(inside, np.maximum(heat, np.clip(over, 0, 1)), heat)
    colours = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1]
    weight = (HEAT_SHOWN * heat)[..., None]
    picture = np.asarray(np.round((1 - weight) * original + weight * colours), dtype=np.uint8)
    taken: list[Box] = []
    for finding in shown:
        assert finding.heat_box is not None
        colour = ABOVE if finding.above_threshold else BELOW
        _polygon(picture, _corners(finding.heat_box), scale, colour, width=1)
        _label(picture, str(finding.number), finding.heat_box, scale, colour, taken)
    return picture


def overlay_picture(prediction: Prediction, context: ReportContext, *, side: int = SIDE) -> Picture:
    """The image with the outlines of the findings to be presented, above a band that says what it is: uint8 RGB.

    The image's longer side is ``side`` pixels. Findings below the operating point are left out.
    """
    original, scale = _base(prediction, side)
    shown = tuple(f for f in prediction.findings if f.above_threshold)
    picture = _outlined(original, shown, scale)
    for_whom = " ".join(v.value for v in (prediction.header.laterality, prediction.header.view) if v.value != "unknown")
    scores = "; ".join(f"{f.number}: {f.scores.malignancy:.2f}" for f in shown) or "none"
    words = (
        f"mammoscan {for_whom}: findings at or above the operating point {context.finding_threshold:.3f}: {scores}. "
        f"Not for reading. {NOTICE}"
    )
    return np.vstack([picture, _band(words, picture.shape[1])])


def heated(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings whose Grad-CAM is shown: those at or above the operating point, else the first."""
    with_heat = tuple(f for f in findings if f.heat is not None)
    return tuple(f for f in with_heat if f.above_threshold) or with_heat[:1]


def heat_scale(width: int, height: int) -> Picture:
    """The colours of Grad-CAM from 0 (left) to 1 (right) as they appear over black, uint8 RGB."""
    ramp = np.tile(np.linspace(0, 1, width), (height, 1))
    colours = cv2.applyColorMap(np.round(ramp * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.asarray(colours[:, :, ::-1], dtype=np.uint8)


def inspect_panel(prediction: Prediction, threshold: float) -> Picture:
    """The four pictures and Grad-CAM side by side with their titles, uint8 RGB."""
    pictures = (*four_pictures(prediction), grad_cam_picture(prediction))
    titles = (*TITLES, f"{HEAT_TITLE}; operating point {threshold:.3f}")
    h, w = pictures[0].shape[:2]
    bar, gap, font = 44, 8, cv2.FONT_HERSHEY_SIMPLEX
    out = np.full((h + bar, len(pictures) * (w + gap) - gap, 3), 24, np.uint8)
    widest = max(cv2.getTextSize(t, font, 1.0, 1)[0][0] for t in titles)
    size = min(0.8, (w - 8) / widest)
    for index, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        x = index * (w + gap)
        out[bar:, x : x + w] = picture
        cv2.putText(out, title, (x + 4, 29), font, size, (255, 255, 255), 1, cv2.LINE_AA)
    return out


# --------------------------------------------------------------------------- the pictures


def _base(prediction: Prediction, side: int) -> tuple[Picture, float]:
    """The preview as RGB with its longer side ``side`` pixels, and picture pixels per source pixel."""
    grey = prediction.preview.pixels
    zoom = side / max(grey.shape)
    size = (max(1, round(grey.shape[1] * zoom)), max(1, round(grey.shape[0] * zoom)))
    resized = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB), np.uint8), prediction.preview.scale * zoom


def _thresholded(prediction: Prediction, original: Picture) -> Picture:
    h, w = original.shape[:2]
    """The pixels that percent density counts, tinted and outlined."""
    dense = cv2.resize(prediction.preview.dense.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST)
    picture = np.array(original)
    tint = picture[dense > 0].astype(np.float32)
    picture[dense > 0] = (0.7 * tint + 0.3 * np.array(DENSE)).astype(np.uint8)
    edges, _ = cv2.findContours(dense, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, edges, -1, DENSE, 1, cv2.LINE_8)
    return picture


def _outlined(original: Picture, findings: tuple[Finding, ...], scale: float) -> Picture:
    picture = np.array(original)
    for finding in reversed(findings):  # the first, the most suspicious, on top
        _polygon(picture, finding.region.contour, scale, ABOVE if finding.above_threshold else BELOW)
    taken: list[Box] = []
    for finding in findings:
        colour = ABOVE if finding.above_threshold else BELOW
        _label(picture, str(finding.number), finding.region.box, scale, colour, taken)
    return picture


def _classified(original: Picture, findings: tuple[Finding, ...], scale: float) -> Picture:
    picture = np.array(original)
    for finding in reversed(findings):
        colour = ABOVE if finding.above_threshold else BELOW
        _polygon(picture, _corners(finding.region.box), scale, colour)
    taken: list[Box] = []
    for finding in findings:
        colour = ABOVE if finding.above_threshold else BELOW
        text = f"{finding.number}: {finding.scores.malignancy:.2f}"
        _label(picture, text, finding.region.box, scale, colour, taken)
    return picture


# --------------------------------------------------------------------------- drawing


def _band(words: str, width: int) -> Picture:
    """Words on black, wrapped to a width in pixels."""
    font, size, line = cv2.FONT_HERSHEY_SIMPLEX, 0.45, 18
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if cv2.getTextSize(longer, font, size, 1)[0][0] > width - 8 and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    out = np.zeros((line * len(lines) + 8, width, 3), np.uint8)
    for number, text in enumerate(lines, 1):
        cv2.putText(out, text, (4, number * line), font, size, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def _corners(box: Box) -> NDArray[np.float64]:
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)


def _span(low: float, high: float, size: int) -> slice:
    """Pixels whose centres lie between two positions (corner convention)."""
    return slice(int(np.clip(np.ceil(low - 0.5), 0, size)), int(np.clip(np.ceil(high - 0.5), 0, size)))


def _polygon(
    picture: Picture, points: NDArray[np.float64], scale: float, colour: Colour, *, width: int | None = None
) -> None:
    """A closed line through source points (n, 2), over a darker, wider one that sets it off."""
    # Source points count from the pixel's corner, OpenCV's from its centre.
    drawn = np.round((points * scale - 0.5) * 2**_SUBPIXEL).astype(np.int32).reshape(-1, 1, 2)
    line = width or max(1, max(picture.shape) // 400)
    for shade, thick in (((0, 0, 0), line + 2), (colour, line)):
        cv2.polylines(picture, [drawn], True, shade, thick, cv2.LINE_AA, shift=_SUBPIXEL)


def _label(picture: Picture, text: str, box: Box, scale: float, colour: Colour, taken: list[Box]) -> None:
    """Text beside a box in source pixels, where it neither leaves the picture nor covers another label."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(picture.shape) / 900
    thick = max(1, round(size * 2))
    (w, h), below = cv2.getTextSize(text, font, size, thick)
    x0, y0, x1, y1 = (v * scale for v in box)
    gap = 5.0
    places = [
        (x1 + gap, y0), (x0 - gap - w, y0), (x0, y0 - gap - h), (x0, y1 + gap),
        (x1 + gap, y1 - h), (x0 - gap - w, y1 - h), (x1 - w, y0 - gap - h), (x1 - w, y1 + gap),
    ]  # fmt: skip
    tall, wide = picture.shape[:2]
    fitting = [(x, y) for x, y in places if x >= 1 and y >= 1 and x + w < wide - 1 and y + h + below < tall - 1]
    free = [p for p in fitting if not any(_meet((p[0], p[1], p[0] + w, p[1] + h + below), t) for t in taken)]
    x, y = (free or fitting or places)[0]
    x, y = min(max(x, 1), max(1, wide - w - 1)), min(max(y, 1), max(1, tall - h - below - 1))
    taken.append((x, y, x + w, y + h + below))
    origin = (round(x), round(y + h))
    cv2.putText(picture, text, origin, font, size, (0, 0, 0), thick + 3, cv2.LINE_AA)
    cv2.putText(picture, text, origin, font, size, colour, thick, cv2.LINE_AA)


def _meet(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
