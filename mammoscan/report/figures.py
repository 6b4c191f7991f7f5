"""The four pictures of an image: original, thresholded regions, outlines, classification. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.domain import Finding, Prediction

TITLES = ("original", "thresholded regions", "segmented outlines", "classification, Grad-CAM")
ABOVE, BELOW, SEEDS = (255, 80, 60), (90, 170, 255), (255, 210, 0)  # RGB
HEAT_SHOWN = 0.45  # opacity of the hottest place


def four_pictures(prediction: Prediction, *, side: int = 900) -> tuple[NDArray[np.uint8], ...]:
    """Four uint8 RGB pictures (h, w, 3) in the source's orientation, at most ``side`` pixels long.

    Findings are drawn from their source coordinates: red at or above the operating point, blue below.
    """
    preview = prediction.preview
    shrink = min(1.0, side / max(preview.pixels.shape))
    size = (max(1, round(preview.pixels.shape[1] * shrink)), max(1, round(preview.pixels.shape[0] * shrink)))
    grey = cv2.resize(preview.pixels, size, interpolation=cv2.INTER_AREA)
    seeds = cv2.resize(preview.seeds.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    scale = preview.scale * shrink
    original = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)

    thresholded = original.copy()
    edges, _ = cv2.findContours(seeds, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    tint = thresholded[seeds > 0].astype(np.float32)
    thresholded[seeds > 0] = (0.7 * tint + 0.3 * np.array(SEEDS)).astype(np.uint8)
    cv2.drawContours(thresholded, edges, -1, SEEDS, 1, cv2.LINE_AA)

    outlined = original.copy()
    for finding in reversed(prediction.findings):
        colour = ABOVE if finding.above_threshold else BELOW
        _outline(outlined, finding, scale, colour)
        _label(outlined, str(finding.number), finding, scale, colour)

    classified = _heated(original, prediction.findings, scale)
    for finding in reversed(prediction.findings):
        colour = ABOVE if finding.above_threshold else BELOW
        x0, y0, x1, y1 = (round(v * scale) for v in finding.region.box)
        cv2.rectangle(classified, (x0, y0), (x1, y1), colour, max(1, side // 450), cv2.LINE_AA)
        _label(classified, f"{finding.number}: {finding.scores.malignancy:.2f}", finding, scale, colour)
    return original, thresholded, outlined, classified


def inspect_panel(prediction: Prediction, threshold: float) -> NDArray[np.uint8]:
    """The four pictures side by side with their titles, uint8 RGB."""
    pictures = four_pictures(prediction)
    h, w = pictures[0].shape[:2]
    bar, gap = 40, 8
    out = np.full((h + bar, 4 * w + 3 * gap, 3), 20, np.uint8)
    for index, (picture, title) in enumerate(zip(pictures, TITLES, strict=True)):
        x = index * (w + gap)
        out[bar:, x : x + w] = picture
        text = title if index < 3 else f"{title}; operating point {threshold:.2f}"
        size = min(0.6, w / (12.0 * len(text)) * 1.2)
        cv2.putText(out, text, (x + 4, 27), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def _outline(picture: NDArray[np.uint8], finding: Finding, scale: float, colour: tuple[int, int, int]) -> None:
    # Source points count from the pixel's corner, OpenCV's from its centre; 4 binary digits of a pixel.
    points = np.round((finding.region.contour * scale - 0.5) * 16).astype(np.int32).reshape(-1, 1, 2)
    width = max(1, max(picture.shape) // 450)
    cv2.polylines(picture, [points], True, colour, width, cv2.LINE_AA, shift=4)


def _label(picture: NDArray[np.uint8], text: str, finding: Finding, scale: float, colour: tuple[int, int, int]) -> None:
    size = max(picture.shape) / 1400
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x = int(np.clip(finding.region.box[2] * scale + 3, 0, picture.shape[1] - w - 2))
    y = int(np.clip(finding.region.box[1] * scale + h, h + 2, picture.shape[0] - 3))
    thick = max(1, round(size * 2))
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), thick + 2, cv2.LINE_AA)
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, thick, cv2.LINE_AA)


def _heated(original: NDArray[np.uint8], findings: tuple[Finding, ...], scale: float) -> NDArray[np.uint8]:
    """Grad-CAM of the findings at or above the operating point (else of the first) over the picture."""
    shown = [f for f in findings if f.above_threshold] or list(findings[:1])
    h, w = original.shape[:2]
    heat = np.zeros((h, w), np.float32)
    for finding in shown:
        if finding.heat is None or finding.heat_box is None:
            continue
        x0, y0, x1, y1 = (v * scale for v in finding.heat_box)
        rows, columns = finding.heat.shape
        sx, sy = (x1 - x0) / columns, (y1 - y0) / rows
        matrix = np.array([[sx, 0, x0 + 0.5 * sx - 0.5], [0, sy, y0 + 0.5 * sy - 0.5]])
        over = cv2.warpAffine(finding.heat, matrix, (w, h), flags=cv2.INTER_CUBIC, borderValue=0)
        heat = np.maximum(heat, np.clip(over, 0, 1) * finding.scores.malignancy**0.5)
    colours = cv2.applyColorMap((np.clip(heat, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)[:, :, ::-1]
    weight = (HEAT_SHOWN * np.clip(heat, 0, 1))[..., None]
    return np.asarray((1 - weight) * original + weight * colours, dtype=np.uint8)
