"""The five pictures of an image: original, thresholded dense tissue, outlines, classification, Grad-CAM. Pure.

All are uint8 RGB in the source's orientation (but ``hung_picture``) and are drawn from source coordinates: a source point
(x, y) lies at (x, y) * preview scale * side / longer preview side, corner convention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan import NOTICE
from mammoscan.report import labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mammoscan.core.domain import Finding, Prediction, ReportContext

    Picture = NDArray[np.uint8]
    Colour = tuple[int, int, int]
    Box = tuple[float, float, float, float]

TITLES = ("original", "thresholded dense tissue", "segmented outlines", "classification with score", "Grad-CAM")
ABOVE, BELOW, DENSE = (255, 80, 60), (90, 180, 255), (255, 210, 0)  # RGB
HEAT_SHOWN = 0.5  # opacity of the hottest place
GROUND = 0.7  # opacity of the black below a label
SIDE = 900  # longer side of a picture, pixels
_SUBPIXEL = 4  # OpenCV's drawing takes coordinates with this many binary digits


def five_pictures(prediction: Prediction, *, side: int = SIDE) -> tuple[Picture, ...]:
    """Original, dense tissue that is counted, outlines with numbers, boxes with scores, Grad-CAM: uint8 RGB (h, w, 3).

    The longer side is ``side`` pixels. Red: at or above the operating point; blue: below. Titles: ``TITLES``.
    """
    original, scale = _base(prediction, side)
    return (
        original,
        _thresholded(prediction, original),
        _outlined(original, prediction.findings, scale),
        _classified(original, prediction.findings, scale),
        _heated(original, prediction.findings, scale),
    )


def hung_picture(prediction: Prediction, worst: str, *, mirrored: bool, side: int = 520, text: float = 0.9) -> Picture:
    """An image as it hangs on the first page: findings at or above the operating point and the worst of its breast.

    uint8 RGB, the longer side ``side`` pixels. worst: tracking UID of the breast's worst finding, whose outline is
    thicker. mirrored: turned over for hanging, the labels not. text: size of the labels, 1 being 22 pixels high.
    """
    original, scale = _base(prediction, side)
    picture = np.ascontiguousarray(original[:, ::-1]) if mirrored else np.array(original)
    shown = [f for f in prediction.findings if f.above_threshold or f.tracking_uid == worst]
    outlines = []
    for finding in shown:
        points = finding.region.contour * scale
        outlines.append(np.array([picture.shape[1], 0]) + points * (-1, 1) if mirrored else points)
    for finding, points in reversed([*zip(shown, outlines, strict=True)]):
        _polygon(picture, points, _colour(finding), width=3 if finding.tracking_uid == worst else 2)
    texts = [f"{f.number}: {f.scores.malignancy:.2f}" for f in shown]
    _label(picture, outlines, texts, [_colour(f) for f in shown], size=text)
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
    """The five pictures side by side with their titles, uint8 RGB."""
    pictures = five_pictures(prediction)
    titles = (*TITLES[:-1], f"{TITLES[-1]}; operating point {threshold:.3f}")
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
    """The pixels that percent density counts, tinted and outlined."""
    h, w = original.shape[:2]
    dense = cv2.resize(prediction.preview.dense.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST)
    picture = np.array(original)
    tint = picture[dense > 0].astype(np.float32)
    picture[dense > 0] = (0.7 * tint + 0.3 * np.array(DENSE)).astype(np.uint8)
    edges, _ = cv2.findContours(dense, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, edges, -1, DENSE, 1, cv2.LINE_8)
    return picture


def _outlined(original: Picture, findings: tuple[Finding, ...], scale: float) -> Picture:
    outlines = [f.region.contour * scale for f in findings]
    return _marked(original, findings, outlines, [str(f.number) for f in findings])


def _classified(original: Picture, findings: tuple[Finding, ...], scale: float) -> Picture:
    boxes = [_corners(f.region.box) * scale for f in findings]
    return _marked(original, findings, boxes, [f"{f.number}: {f.scores.malignancy:.2f}" for f in findings])


def _marked(
    original: Picture, findings: tuple[Finding, ...], outlines: Sequence[NDArray[np.float64]], texts: Sequence[str]
) -> Picture:
    """The picture with the findings' outlines, in its pixels, and what is written beside each."""
    picture = np.array(original)
    for finding, points in reversed([*zip(findings, outlines, strict=True)]):  # the first, the most suspicious, on top
        _polygon(picture, points, _colour(finding))
    _label(picture, outlines, texts, [_colour(f) for f in findings])
    return picture


def _heated(original: Picture, findings: tuple[Finding, ...], scale: float) -> Picture:
    """Grad-CAM of the findings at or above the operating point (else of the first) over the original.

    Each finding's heat covers its crop (outlined) and is relative to its own maximum.
    """
    shown = [f for f in heated(findings) if f.heat_box is not None]
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
    boxes = [_corners(f.heat_box) * scale for f in shown if f.heat_box is not None]
    for finding, box in zip(shown, boxes, strict=True):
        _polygon(picture, box, _colour(finding), width=2)
    _label(picture, boxes, [str(f.number) for f in shown], [_colour(f) for f in shown])
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


def _colour(finding: Finding) -> Colour:
    return ABOVE if finding.above_threshold else BELOW


def _polygon(picture: Picture, points: NDArray[np.float64], colour: Colour, *, width: int | None = None) -> None:
    """A closed line through points (n, 2) of the picture, over a darker, wider one that sets it off."""
    # These points count from the pixel's corner, OpenCV's from its centre.
    drawn = np.round((points - 0.5) * 2**_SUBPIXEL).astype(np.int32).reshape(-1, 1, 2)
    line = width or max(1, max(picture.shape) // 400)
    for shade, thick in (((0, 0, 0), line + 2), (colour, line)):
        cv2.polylines(picture, [drawn], True, shade, thick, cv2.LINE_AA, shift=_SUBPIXEL)


def _label(
    picture: Picture, outlines: Sequence[NDArray[np.float64]], texts: Sequence[str], colours: Sequence[Colour],
    *, size: float | None = None,
) -> None:  # fmt: skip
    """A text beside each outline (n, 2) in pixels of the picture, on no outline and no other text (``labels.place``)."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    size = size or max(picture.shape) / 900
    thick = max(1, round(size * 2))
    edge = 3  # pixels of the ground around the letters
    extents = [cv2.getTextSize(text, font, size, thick) for text in texts]
    placed = labels.place(
        (picture.shape[0], picture.shape[1]), outlines, [(w + 2 * edge, h + b + 2 * edge) for (w, h), b in extents]
    )
    for label, colour in zip(placed, colours, strict=True):
        if label.leader is not None:
            ends = [(round(x - 0.5), round(y - 0.5)) for x, y in label.leader]
            for shade, wide in (((0, 0, 0), 4), (colour, 2)):
                cv2.line(picture, ends[0], ends[1], shade, wide, cv2.LINE_AA)
    for label, text, ((_, h), _), colour in zip(placed, texts, extents, colours, strict=True):
        x0, y0, x1, y1 = label.box
        ground = picture[y0:y1, x0:x1]
        ground[:] = np.round(ground * (1 - GROUND))
        cv2.putText(picture, text, (x0 + edge, y0 + edge + h), font, size, colour, thick, cv2.LINE_AA)
