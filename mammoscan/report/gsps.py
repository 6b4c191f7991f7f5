"""Grayscale Softcopy Presentation States (PS3.3 A.33.1): marks over the source images, one a side.

Only findings at or above the operating point are drawn: a presentation state has no Rendering Intent to tell a
viewer what not to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence

from mammoscan.core.domain import Flag, Laterality
from mammoscan.core.values import held, one_line
from mammoscan.report import objects
from mammoscan.report.sr_common import to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mammoscan.core.domain import Finding, Prediction, ReportContext, StudyResult
    from mammoscan.image.display import Display
    from mammoscan.image.luts import Lut

LAYER = "MAMMOSCAN"
_TEXT_HEIGHT = 1 / 40  # of the image's longer side
_Group = tuple[Laterality, bool, object]


def render(result: StudyResult, context: ReportContext, displays: Mapping[str, Display]) -> dict[str, bytes]:
    """One file a side with marks; a side whose images differ in polarity or modality LUT needs one for each.

    displays: by SOPInstanceUID; an image without one is left out.
    """
    groups: dict[_Group, list[Prediction]] = {}
    for p in result.images:
        display = displays.get(p.header.sop_instance_uid)
        if display is not None and any(f.above_threshold for f in p.findings):
            key = (p.header.laterality, _is_inverse(p), (display.rescale, display.modality_lut))
            groups.setdefault(key, []).append(p)
    files: dict[str, bytes] = {}
    counts: dict[Laterality, int] = {}
    for (side, inverse, _), images in groups.items():
        counts[side] = n = counts.get(side, 0) + 1
        name = f"{side.value}-{n}" if n > 1 else side.value
        shown = [(p, displays[p.header.sop_instance_uid]) for p in images]
        files[f"presentation-state-{name}.dcm"] = _state(side, n, inverse, shown, result, context)
    return files


def _state(
    side: Laterality, number: int, inverse: bool, images: list[tuple[Prediction, Display]], result: StudyResult,
    context: ReportContext,
) -> bytes:  # fmt: skip
    named = f"{side.value}: " if side is not Laterality.UNKNOWN else ""
    ds = objects.instance(
        "gsps", f"{side.value}-{number}", result, context,
        description=f"{named}mammoscan marks", series=side.value, side=side, number=number,
    )  # fmt: skip
    ds.ContentLabel = "FINDINGS"
    ds.ContentDescription = "findings at or above the operating point; research, not a diagnosis"[:64]
    ds.ContentCreatorName = ""
    ds.PresentationCreationDate, ds.PresentationCreationTime = context.created
    headers = [p.header for p, _ in images]
    ds.ReferencedSeriesSequence = objects.references_by_series(headers, "ReferencedImageSequence")
    ds.DisplayedAreaSelectionSequence = Sequence([_area(p) for p, _ in images])
    layer = Dataset()
    layer.GraphicLayer, layer.GraphicLayerOrder = LAYER, 1
    layer.GraphicLayerRecommendedDisplayGrayscaleValue = 0xFFFF
    layer.GraphicLayerRecommendedDisplayCIELabValue = [41000, 51000, 45000]
    layer.GraphicLayerDescription = "Findings (research, second reading)"
    ds.GraphicLayerSequence = Sequence([layer])
    ds.GraphicAnnotationSequence = Sequence([_annotation(p) for p, _ in images])
    _modality(ds, images[0][1])
    transforms = [_voi(p, d) for p, d in images if d.window is not None or d.voi_lut is not None]
    if transforms:
        ds.SoftcopyVOILUTSequence = Sequence(transforms)
    # The output of the VOI transformation counts from black to white only after this (PS3.3 C.11.6).
    ds.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    return to_bytes(ds)


def _is_inverse(prediction: Prediction) -> bool:
    """Whether low values are bright: as the header says, unless the picture contradicts it."""
    return (prediction.header.photometric == "MONOCHROME1") != (Flag.INVERTED in prediction.flags)


def _area(prediction: Prediction) -> Dataset:
    header = prediction.header
    item = Dataset()
    item.ReferencedImageSequence = Sequence([objects.reference(header)])
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [header.columns, header.rows]
    item.PresentationSizeMode = "SCALE TO FIT"
    if header.spacing is not None:
        item.PresentationPixelSpacing = [f"{v:.8g}" for v in (header.spacing.row_mm, header.spacing.column_mm)]
    else:
        item.PresentationPixelAspectRatio = ["1", "1"]
    return item


def _annotation(prediction: Prediction) -> Dataset:
    header = prediction.header
    shown = [f for f in prediction.findings if f.above_threshold]
    item = Dataset()
    item.ReferencedImageSequence = Sequence([objects.reference(header)])
    item.GraphicLayer = LAYER
    item.TextObjectSequence = Sequence([_label(f, header.rows, header.columns) for f in shown])
    item.GraphicObjectSequence = Sequence([_outline(f) for f in shown])
    return item


def _outline(finding: Finding) -> Dataset:
    """The outline in pixels of the source image, (0, 0) its top left corner (PS3.3 C.10.5.1.2)."""
    contour = finding.region.contour
    closed = np.vstack([contour, contour[:1]])
    item = Dataset()
    item.GraphicAnnotationUnits, item.GraphicDimensions = "PIXEL", 2
    item.NumberOfGraphicPoints = len(closed)
    item.GraphicData = [float(v) for v in closed.astype(np.float32).ravel()]
    item.GraphicType, item.GraphicFilled = "POLYLINE", "N"
    item.TrackingID, item.TrackingUID = finding.tracking_id, finding.tracking_uid
    return item


def _label(finding: Finding, rows: int, columns: int) -> Dataset:
    x0, y0, x1, _ = finding.region.box
    height = max(rows, columns) * _TEXT_HEIGHT
    width = 5 * height
    left = x1 if x1 + width <= columns else max(0.0, x0 - width)
    top = min(max(0.0, y0), rows - height)
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = f"{finding.number}: {finding.scores.malignancy:.2f} (research)"
    item.BoundingBoxTopLeftHandCorner = [float(np.float32(v)) for v in (left, top)]
    item.BoundingBoxBottomRightHandCorner = [float(np.float32(v)) for v in (min(left + width, columns), top + height)]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    item.TrackingID, item.TrackingUID = finding.tracking_id, finding.tracking_uid
    return item


def _modality(ds: Dataset, display: Display) -> None:
    if display.modality_lut is not None:
        item = _lut(display.modality_lut)
        item.ModalityLUTType = held(one_line(display.modality_lut.kind), "LO") or "US"
        ds.ModalityLUTSequence = Sequence([item])
    elif display.rescale is not None:
        slope, intercept, kind = display.rescale
        ds.RescaleSlope, ds.RescaleIntercept = f"{slope:.10g}", f"{intercept:.10g}"
        ds.RescaleType = held(one_line(kind), "LO")


def _voi(prediction: Prediction, display: Display) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = Sequence([objects.reference(prediction.header)])
    if display.voi_lut is not None:
        item.VOILUTSequence = Sequence([_lut(display.voi_lut)])
    elif display.window is not None:
        item.WindowCenter, item.WindowWidth = (f"{v:.10g}" for v in display.window)
        if display.function:
            item.VOILUTFunction = display.function
    return item


def _lut(lut: Lut) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if lut.first < 0 else "US", [len(lut.entries) % 65536, lut.first, lut.bits])
    if lut.first < 0:
        # One VR for all three: a count beyond its range wraps, as readers expect (PS3.3 C.11.1.1).
        count = len(lut.entries) % 65536
        item["LUTDescriptor"].value = [count - 65536 if count > 32767 else count, lut.first, lut.bits]
    if lut.explanation:
        item.LUTExplanation = held(one_line(lut.explanation), "LO")
    item.add_new("LUTData", "OW", np.asarray(lut.entries, "<u2").tobytes())
    return item
