"""The views on the PDF's first page, as they hang, beside what is said of each breast and its worst finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Paragraph, Spacer, Table, TableStyle

from mammoscan.core.domain import Failed, Laterality, Prediction
from mammoscan.report import figures, hanging, pdf_image
from mammoscan.report.fonts import marked_up
from mammoscan.report.pdf_parts import SMALL, WIDTH
from mammoscan.report.pdf_words import SIDES, view_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mammoscan.core.domain import BreastResult, Finding, Header, ReportContext, StudyResult

WORDS = 37 * mm  # width of a column of words
_PICTURE = (WIDTH - 2 * WORDS) / 2 - 2 * mm  # greatest width of a picture
_HEIGHTS = {1: 64 * mm, 2: 58 * mm, 3: 38 * mm, 4: 29 * mm}  # of a picture, by the number of rows
_LEAST = 36 * mm  # with more rows, which go on to the next page
_TEXT = 45 * mm  # a label has size 1 in a picture of this height
# Chest walls together, at the middle of the page.
_STYLES = {
    Laterality.RIGHT: ParagraphStyle("right", parent=SMALL, alignment=TA_RIGHT, rightIndent=3),
    Laterality.LEFT: ParagraphStyle("left", parent=SMALL, leftIndent=3),
}
NOTE = (
    "Reduced pictures, hung with the chest walls together; do not read from them. Outlined are the findings at or above the "
    "operating point (red) and, thicker, the worst finding of each breast even below it (blue). How these scores follow from one another: last page."
)


def worst(result: StudyResult) -> dict[Laterality, tuple[Prediction, Finding]]:
    """The finding of each side with the highest score, with its image; none where a side has no finding.

    Of equal ones the first.
    """
    out: dict[Laterality, tuple[Prediction, Finding]] = {}
    for image in result.images:
        side = image.header.laterality
        for finding in image.findings:
            if side not in out or finding.scores.malignancy > out[side][1].scores.malignancy:
                out[side] = (image, finding)
    return out


def views(result: StudyResult, context: ReportContext) -> list[Flowable]:
    """The images as they hang, those that failed in their places, the words on a breast at its side of the page."""
    images: list[Prediction | Failed] = [*result.images, *(f for f in result.failed if f.header)]
    hung = hanging.rows(images, _header)
    height = _HEIGHTS.get(len(hung), _LEAST)
    found = worst(result)
    said = {b.laterality: _breast(b, found.get(b.laterality), context) for b in result.breasts}
    rows: list[list[Sequence[Flowable]]] = []
    for pair in hung:
        beside: list[Sequence[Flowable]] = []
        for image, side in zip(pair, (Laterality.RIGHT, Laterality.LEFT), strict=True):
            # What stands at the left of the page need not be of the right breast where the side is not known.
            own = _header(image).laterality if image else side
            beside.append(said.pop(own, []))
        cells = [
            _cell(image, side, found, context, height) if image else _nothing(other, side)
            for image, other, side in zip(pair, reversed(pair), (Laterality.RIGHT, Laterality.LEFT), strict=True)
        ]
        rows.append([beside[0], *cells, beside[1]])
    out = Table(rows, colWidths=[WORDS, _PICTURE + 2 * mm, _PICTURE + 2 * mm, WORDS], hAlign="LEFT")
    out.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 1),
                ("RIGHTPADDING", (0, 0), (-1, -1), 1),
                ("TOPPADDING", (0, 0), (-1, -1), 1),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
                ("ALIGN", (1, 0), (1, -1), "RIGHT"),
            ]
        )
    )
    return [Spacer(1, 1.5 * mm), out, Paragraph(NOTE, SMALL)]


def _header(image: Prediction | Failed) -> Header:
    assert image.header is not None
    return image.header


def _breast(breast: BreastResult, found: tuple[Prediction, Finding] | None, context: ReportContext) -> list[Flowable]:
    side = SIDES[breast.laterality]
    name = side if breast.laterality is Laterality.UNKNOWN else f"{side} breast"
    lines = [
        f"<b>{name[0].upper()}{name[1:]}</b>",
        f"score <b>{breast.malignancy:.3f}</b>, {_against(breast.malignancy >= context.breast_threshold)} "
        f"{context.breast_threshold:.3f}",
    ]
    if found is None:
        lines += ["", "No finding is reported. That excludes nothing."]
    else:
        image, finding = found
        region = finding.region
        size = pdf_image.size(region.box, image.header.spacing)
        kind = region.kind.value + (f", {region.spots} spots" if region.spots else "")
        lines += [
            "",
            f"<b>Worst finding: no. {finding.number}</b>",
            f"{marked_up(view_name(image.header))}: {kind}",
            "size unknown" if size == "unknown" else f"{size} mm",
            f"score <b>{finding.scores.malignancy:.3f}</b>, {_against(finding.above_threshold)} "
            f"{context.finding_threshold:.3f}",
        ]
    return [Paragraph(line or "&nbsp;", SMALL) for line in lines]


def _nothing(other: Prediction | Failed | None, side: Laterality) -> list[Flowable]:
    """In a row without an image of a side; beside one whose side is not known nothing is missing."""
    known = other is not None and _header(other).laterality in _STYLES
    return [Paragraph(f"no {SIDES[side]} image", _STYLES[side])] if known else []


def _against(above: bool) -> str:
    return "<b>at or above</b>" if above else "below"


def _cell(
    image: Prediction | Failed, side: Laterality, found: dict[Laterality, tuple[Prediction, Finding]],
    context: ReportContext, height: float,
) -> list[Flowable]:  # fmt: skip
    name = marked_up(view_name(_header(image)))
    if isinstance(image, Failed):
        return [Paragraph(f"<b>{name}: failed</b> ({image.reason.code}): nothing is said about it", _STYLES[side])]
    turned = hanging.mirrored(image)
    against = _against(image.scores.malignancy >= context.threshold)
    caption = f"<b>{name}</b> {image.scores.malignancy:.3f}, {against} {context.threshold:.3f}"
    uid = found[image.header.laterality][1].tracking_uid if image.header.laterality in found else ""
    picture = figures.hung_picture(image, uid, mirrored=turned, text=_TEXT / height)
    shown = pdf_image.embedded(picture if image.findings else picture[:, :, 0], _PICTURE, height)
    words = [caption + ("; mirrored for hanging" if turned else ""), pdf_image.not_shown(image)]
    return [shown, *(Paragraph(text, _STYLES[side]) for text in words if text)]
