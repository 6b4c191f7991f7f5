"""A study that looks like one: synthetic mammograms with outlined lesions and heat, for the PDF and figures."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from mammoscan.core.domain import (
    Density,
    DensityReading,
    DensitySource,
    Flag,
    Laterality,
    Preview,
    RegionKind,
    StudyResult,
    View,
)
from mammoscan.synthetic import phantom
from tests.report import results

HEIGHT, WIDTH = 3600, 2880  # of the pretended source
_LESIONS = (
    phantom.Lesion(RegionKind.MASS, malignant=True, radius_mm=9.0),
    phantom.Lesion(RegionKind.CALCIFICATION, malignant=False, radius_mm=7.0),
)


def heat(side: int = 7) -> np.ndarray:
    """A bump off the middle, float32 (side, side), 0 to 1."""
    y, x = np.mgrid[0:side, 0:side]
    return np.exp(-(((x - 0.6 * side) / 2) ** 2) - ((y - 0.4 * side) / 2) ** 2).astype(np.float32)


def phantom_study(**changes) -> StudyResult:
    """Four views, lesions in the left breast; ``changes`` go to the headers."""
    predictions = []
    spacing = dataclasses.replace(results.header().spacing, row_mm=0.0675, column_mm=0.0675)
    for n, (side, view) in enumerate(results.VIEWS, 1):
        facts = {"rows": HEIGHT, "columns": WIDTH, "spacing": spacing, **changes}
        h = results.header(side, view, n, **facts)
        lesions = _LESIONS if side is Laterality.LEFT else ()
        spec = phantom.Spec(side, view, Density.C, lesions, marker=True, patient=3)
        pixels, truth = phantom.render(spec, n)
        scale = pixels.shape[0] / HEIGHT
        findings = []
        for number, (placed, score) in enumerate(zip(truth.lesions, (0.83, 0.12), strict=False), 1):
            x, y, r = placed.x / scale, placed.y / scale, placed.radius / scale
            made = results.finding(h, number, score, x=x, y=y, kind=placed.lesion.kind)
            angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
            wave = r * (1 + 0.12 * np.sin(7 * angle))
            contour = np.column_stack([x + wave * np.cos(angle), y + wave * np.sin(angle)])
            (x0, y0), (x1, y1) = contour.min(axis=0), contour.max(axis=0)
            region = dataclasses.replace(
                made.region, contour=contour, box=(x0, y0, x1, y1), area_px=np.pi * r**2,
                area_mm2=np.pi * r**2 * h.spacing.row_mm**2 if h.spacing else None,
            )  # fmt: skip
            box = (x - 1.6 * r, y - 1.6 * r, x + 1.6 * r, y + 1.6 * r)
            findings.append(dataclasses.replace(made, region=region, heat=heat(), heat_box=box))
        grey = np.round(pixels / (2**spec.bits - 1) * 255).astype(np.uint8)
        bright = cv2.GaussianBlur(grey, (0, 0), 3) > np.percentile(grey[truth.breast], 90)
        reading = DensityReading(Density.C, DensitySource.REPORT if n < 3 else DensitySource.ESTIMATE, side)
        predictions.append(
            dataclasses.replace(
                results.prediction(h, findings),
                geometry=dataclasses.replace(results.prediction(h).geometry, flipped=side is Laterality.RIGHT),
                preview=Preview(grey, bright & truth.breast, scale),
                density=reading,
                flags=(Flag.LOSSY,) if view is View.CC else (),
            )  # fmt: skip
        )
    return results.study(predictions, patient=predictions[0].header.patient, facts=predictions[0].header.study)
