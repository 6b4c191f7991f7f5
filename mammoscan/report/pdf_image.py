"""One image's page in the PDF: facts, pictures, findings."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
from reportlab.lib import colors
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Image, Paragraph, Spacer, Table, TableStyle

from mammoscan.core.domain import Flag
from mammoscan.report import earlier_words, figures
from mammoscan.report.fonts import marked_up
from mammoscan.report.pdf_parts import BODY, HEAD, SMALL, WIDTH, day, table
from mammoscan.report.pdf_words import density, view_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mammoscan.core.domain import Earlier, Finding, Prediction, ReportContext, Spacing

JPEG_QUALITY = 85
_COLUMNS, _GAP = 3, 3 * mm
_CELL = ((WIDTH - (_COLUMNS - 1) * _GAP) / _COLUMNS, 76 * mm)  # of a picture, width and height

GONE = "The image itself is not shown: its file is not in the archive any more."
NOT_SHOWN = "The image itself is not shown: annotations are burned into it, and this report is de-identified."


def page(p: Prediction, context: ReportContext, earlier: Earlier | None = None) -> list[Flowable]:
    """What is said about one image, on a page of its own. earlier: what is known of earlier studies."""
    h, area = p.header, p.image_features.breast_area_mm2
    against = "at or above" if p.scores.malignancy >= context.threshold else "below"
    intent = h.presentation_intent or "unknown"
    maker = " ".join(part for part in (h.manufacturer, h.manufacturer_model) if part) or "unknown"
    facts = (
        f"<b>File</b> {marked_up(h.file.relative)} &nbsp; <b>SOPInstanceUID</b> {marked_up(h.sop_instance_uid)}",
        f"<b>Maker</b> {marked_up(maker)} &nbsp; <b>Size</b> {h.columns} x {h.rows} px &nbsp; "
        f"<b>Pixel spacing</b> {_spacing(h.spacing)} &nbsp; <b>Intent</b> {marked_up(intent)}",
        f"<b>Density</b> {marked_up(density(p))} &nbsp; <b>Dense tissue</b> "
        f"{p.image_features.percent_density:.0f} % of the breast by area (estimated from the pixels, picture 2) &nbsp; "
        f"<b>Breast area</b> {f'{area / 100:.1f} cm²' if area is not None else 'unknown'} &nbsp; "
        f"<b>Flags</b> {', '.join(f.value for f in p.flags) or 'none'}",
    )
    return [
        Paragraph(
            f"{marked_up(view_name(h))}: malignancy score {p.scores.malignancy:.3f}, {against} the operating point "
            f"{context.threshold:.3f}",
            HEAD,
        ),
        *(Paragraph(line, SMALL) for line in facts),
        *([Paragraph(text, SMALL)] if (text := not_shown(p)) else []),
        Spacer(1, 2.5 * mm),
        _pictures(p),
        Paragraph(
            f"Findings: {len(p.findings)} reported of {p.candidates} candidate regions ("
            f"operating point {context.finding_threshold:.3f})",
            HEAD,
        ),
        _findings_table(p.findings, h.spacing) if p.findings else Paragraph("No region is reported.", BODY),
        *(
            Paragraph(f"{f.number}: {marked_up(f.tracking_id)} = {f.tracking_uid} (Tracking UID)", SMALL)
            for f in p.findings
        ),
        *_compared(p, earlier),
    ]


def _compared(p: Prediction, earlier: Earlier | None) -> list[Flowable]:
    """What the earlier study says of an image's findings."""
    if earlier is None or not earlier.studies or not p.findings:
        return []
    said = [(f, earlier.of(f.tracking_uid)) for f in p.findings]
    return [
        Paragraph(f"Compared with the study of {day(earlier.studies[0].study_date)}", HEAD),
        *(
            Paragraph(f"<b>{f.number}</b>: {earlier_words.of_finding(found, earlier)}.", BODY)
            for f, found in said
            if found
        ),
    ]


def not_shown(prediction: Prediction) -> str:
    """Why there is no picture, '' where there is one."""
    if Flag.SOURCE_GONE in prediction.flags:
        return GONE
    return NOT_SHOWN if prediction.header.burned_in and not prediction.preview.pixels.any() else ""


def _spacing(spacing: Spacing | None) -> str:
    if spacing is None:
        return "unknown"
    return f"{spacing.column_mm:.4g} x {spacing.row_mm:.4g} mm ({spacing.source.value})"


def _pictures(p: Prediction) -> Table:
    """The five pictures and what the colours mean, three a row."""
    titles = [f"{n}. {title}" for n, title in enumerate(figures.TITLES, 1)]
    shown: list[list[Flowable]] = [
        [_picture(picture, grey=n == 0), Paragraph(title, SMALL)]
        for n, (picture, title) in enumerate(zip(figures.five_pictures(p), titles, strict=True))
    ]
    shown.append(_legend(p))
    rows = [shown[n : n + _COLUMNS] for n in range(0, len(shown), _COLUMNS)]
    out = Table(rows, colWidths=[_CELL[0] + _GAP] * (_COLUMNS - 1) + [_CELL[0]], hAlign="LEFT")
    out.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 1),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ]
        )
    )
    return out


def _legend(p: Prediction) -> list[Flowable]:
    def swatch(colour: tuple[int, int, int], text: str) -> tuple[Flowable | str, Paragraph]:
        red, green, blue = colour
        block = Table([[""]], colWidths=[6 * mm], rowHeights=[3 * mm])
        block.setStyle(TableStyle([("BACKGROUND", (0, 0), (-1, -1), colors.Color(red / 255, green / 255, blue / 255))]))
        return block, Paragraph(text, SMALL)

    heated = figures.heated(p.findings)
    if heated:
        numbers = ", ".join(str(f.number) for f in heated)
        which = "at or above the operating point" if heated[0].above_threshold else "the highest score, below it"
        grad_cam = f"Grad-CAM of finding {numbers} ({which}), each relative to its own maximum, within its crop:"
    else:
        grad_cam = "Grad-CAM: none was computed."
    rows = [
        swatch(figures.ABOVE, "finding at or above the operating point"),
        swatch(figures.BELOW, "finding below the operating point"),
        swatch(figures.DENSE, f"dense tissue by threshold: what the {p.image_features.percent_density:.0f} % count"),
    ]
    key = Table(rows, colWidths=[9 * mm, _CELL[0] - 9 * mm], hAlign="LEFT")
    key.setStyle(
        TableStyle(
            [
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 1),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ]
        )
    )
    scale: list[Flowable] = []
    if heated:
        scale = [
            embedded(figures.heat_scale(256, 12), _CELL[0], 3 * mm),
            Table(
                [[Paragraph("0", SMALL), Paragraph('<para align="right">1</para>', SMALL)]],
                colWidths=[_CELL[0] / 2] * 2,
                style=[("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0)],
            ),
        ]
    return [
        Paragraph("<b>Key</b>", SMALL),
        key,
        Spacer(1, 2 * mm),
        Paragraph(grad_cam, SMALL),
        Spacer(1, 1 * mm),
        *scale,
        Spacer(1, 1 * mm),
        Paragraph(
            "Pictures are in the orientation of the stored image and reduced; do not read from them. Numbers are those "
            "of the table, after the colon stands the score.",
            SMALL,
        ),
    ]


def _findings_table(found: tuple[Finding, ...], spacing: Spacing | None) -> Table:
    rows = [
        (
            "no.", "kind", "centre x, y (px)", "size (mm)", "area (mm²)", "normal / benign / malignant",
            "score", "operating point", "tracking identifier",
        )
    ]  # fmt: skip
    for f in found:
        region, s = f.region, f.scores
        rows.append(
            (
                str(f.number),
                region.kind.value + (f", {region.spots} spots" if region.spots else ""),
                f"{region.centre[0]:.0f}, {region.centre[1]:.0f}",
                size(region.box, spacing),
                f"{region.area_mm2:.0f}" if region.area_mm2 is not None else "unknown",
                f"{s.normal:.2f} / {s.benign:.2f} / {s.malignant:.2f}",
                f"<b>{s.malignancy:.3f}</b>" if f.above_threshold else f"{s.malignancy:.3f}",
                "<b>at or above</b>" if f.above_threshold else "below",
                marked_up(f.tracking_id),
            )
        )
    return table(rows, [x * mm for x in (7, 26, 21, 19, 16, 28, 12, 18, 33)])


def size(box: tuple[float, float, float, float], spacing: Spacing | None) -> str:
    """Width x height of a box in source pixels, in mm."""
    if spacing is None:
        return "unknown"
    return f"{(box[2] - box[0]) * spacing.column_mm:.0f} x {(box[3] - box[1]) * spacing.row_mm:.0f}"


def _picture(pixels: NDArray[np.uint8], *, grey: bool) -> Image:
    return embedded(pixels[:, :, 0] if grey else pixels, *_CELL)


def embedded(pixels: NDArray[np.uint8], width: float, height: float) -> Image:
    """A grey (h, w) or RGB (h, w, 3) picture as JPEG, as large as fits."""
    good, jpeg = cv2.imencode(
        ".jpg", pixels if pixels.ndim == 2 else pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not good:
        raise RuntimeError("a picture could not be encoded")
    h, w = pixels.shape[:2]
    scale = min(width / w, height / h)
    return Image(io.BytesIO(jpeg.tobytes()), w * scale, h * scale, hAlign="LEFT")
