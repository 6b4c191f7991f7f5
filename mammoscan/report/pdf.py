"""The report for people: one PDF a study."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import cv2
from reportlab import rl_config
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from mammoscan import NOTICE
from mammoscan.domain import DensitySource, Laterality
from mammoscan.report import figures, fonts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mammoscan.domain import Finding, Patient, Prediction, ReportContext, StudyResult

MARGIN = 15 * mm
WIDTH = A4[0] - 2 * MARGIN
JPEG_QUALITY = 82
_SIDES = {
    Laterality.LEFT: "left",
    Laterality.RIGHT: "right",
    Laterality.BOTH: "both",
    Laterality.UNKNOWN: "side unknown",
}
_BODY = ParagraphStyle("body", fontName=fonts.PLAIN, fontSize=8.5, leading=11)
_SMALL = ParagraphStyle("small", parent=_BODY, fontSize=7, leading=9)
_HEAD = ParagraphStyle("head", parent=_BODY, fontName=fonts.BOLD, fontSize=11, leading=15, spaceBefore=6, spaceAfter=3)
_TITLE = ParagraphStyle("title", parent=_BODY, fontName=fonts.BOLD, fontSize=15, leading=20)
_WARNING = ParagraphStyle(
    "warning", parent=_BODY, fontName=fonts.BOLD, fontSize=9, leading=12, textColor=colors.HexColor("#7a1500"),
    borderColor=colors.HexColor("#c23b1e"), borderWidth=1, borderPadding=5, backColor=colors.HexColor("#fdf1ee"),
    spaceBefore=8, spaceAfter=10,
)  # fmt: skip


def render(result: StudyResult, context: ReportContext) -> bytes:
    """The PDF's bytes; the same for the same result."""
    fonts.register()
    rl_config.invariant = 1  # no clock and no random identifier in the file
    out = io.BytesIO()
    document = BaseDocTemplate(
        out, pagesize=A4, leftMargin=MARGIN, rightMargin=MARGIN, topMargin=22 * mm, bottomMargin=20 * mm,
        title="mammoscan report", author="mammoscan", subject=NOTICE, invariant=1, pageCompression=1,
    )  # fmt: skip
    frame = Frame(MARGIN, 20 * mm, WIDTH, A4[1] - 42 * mm, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
    document.addPageTemplates(PageTemplate(frames=[frame]))
    story: list[Flowable] = [*_first_page(result, context)]
    for prediction in result.images:
        story += [PageBreak(), *_image_page(prediction, context)]
    story += _closing(context)
    document.build(story, canvasmaker=_numbered(result))
    return out.getvalue()


# --------------------------------------------------------------------------- every page


def _numbered(result: StudyResult) -> type[Canvas]:
    """A canvas that knows the number of pages and writes whose report this is on each of them."""
    patient, study = result.patient, result.study
    identity = fonts.marked_up(
        f"Patient ID: {patient.patient_id or 'unknown'}    Accession: {study.accession_number or 'unknown'}"
    )
    name = fonts.marked_up(person(patient))

    class Numbered(Canvas):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.pages: list[dict[str, Any]] = []

        def showPage(self) -> None:
            self.pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, page in enumerate(self.pages, 1):
                self.__dict__.update(page)
                _page_furniture(self, identity, name, study.study_instance_uid, number, len(self.pages))
                super().showPage()
            super().save()

    return Numbered


def _page_furniture(canvas: Canvas, identity: str, name: str, uid: str, number: int, pages: int) -> None:
    for markup, y in ((f"<b>{identity}</b>", A4[1] - 11 * mm), (name, A4[1] - 15.5 * mm)):
        paragraph = Paragraph(markup, _SMALL)
        _, height = paragraph.wrap(WIDTH, 20)
        paragraph.drawOn(canvas, MARGIN, y - height + 9)
    canvas.setFont(fonts.PLAIN, 6.5)
    canvas.drawRightString(A4[0] - MARGIN, A4[1] - 11 * mm, "mammoscan: research and second reading only")
    canvas.setStrokeColor(colors.grey)
    canvas.line(MARGIN, A4[1] - 18 * mm, A4[0] - MARGIN, A4[1] - 18 * mm)
    canvas.line(MARGIN, 16 * mm, A4[0] - MARGIN, 16 * mm)
    canvas.drawString(MARGIN, 12 * mm, NOTICE)
    canvas.drawString(MARGIN, 8.5 * mm, f"Study {uid}")
    canvas.drawRightString(A4[0] - MARGIN, 8.5 * mm, f"page {number} of {pages}")


# --------------------------------------------------------------------------- first page


def person(patient: Patient) -> str:
    """A person name as people read it: 'Family, Given (other scripts)' (PS3.5 6.2.1)."""
    groups = []
    for group in patient.name.split("="):
        family, *rest = [part.strip() for part in group.split("^")]
        given = " ".join(part for part in rest if part)
        if text := ", ".join(part for part in (family, given) if part):
            groups.append(text)
    return f"{groups[0]} ({'; '.join(groups[1:])})" if len(groups) > 1 else (groups[0] if groups else "name unknown")


def _first_page(result: StudyResult, context: ReportContext) -> list[Flowable]:
    patient, study = result.patient, result.study
    age = f"{result.age.years:.4g} years ({result.age.source.value})" if result.age else "unknown"
    facts = (
        ("Patient name", person(patient)),
        ("Patient ID", patient.patient_id or "unknown"),
        ("Birth date", day(patient.birth_date)),
        ("Sex", patient.sex.value),
        ("Age at study", age),
        ("Accession number", study.accession_number or "unknown"),
        ("Study date", day(study.study_date)),
        ("Study description", study.study_description or "unknown"),
        ("Referring physician", study.referring_physician_name.replace("^", " ").strip() or "unknown"),
    )
    story: list[Flowable] = [
        Paragraph("Mammography analysis", _TITLE),
        Paragraph(NOTICE, _WARNING),
        _table([(fonts.marked_up(k), fonts.marked_up(v)) for k, v in facts], (38 * mm, WIDTH - 38 * mm), head=False),
        Paragraph("Result", _HEAD),
        *_result(result, context),
        Paragraph("Images", _HEAD),
        _images_table(result, context),
    ]
    if result.skipped:
        story += [
            Paragraph("Files of this study that were not analysed, by rule", _HEAD),
            _table(
                [("file", "reason"), *((fonts.marked_up(s.file.relative), s.reason.meaning) for s in result.skipped)],
                (WIDTH * 0.5, WIDTH * 0.5),
            ),
        ]
    return story


def _result(result: StudyResult, context: ReportContext) -> list[Flowable]:
    if result.malignancy is None:
        return [Paragraph("No image of this study could be analysed: nothing is said about it.", _BODY)]
    rows = [
        ("", "highest malignancy score (0 to 1)", f"operating point {context.threshold:.3f} ({context.threshold_name})")
    ]
    for name, score in (
        *(
            (f"{_SIDES[b.laterality]} breast, {b.images} image{'s' * (b.images > 1)}", b.malignancy)
            for b in result.breasts
        ),
        ("study", result.malignancy),
    ):
        rows.append((name, f"<b>{score:.3f}</b>", "at or above" if score >= context.threshold else "below"))
    return [
        _table(rows, (60 * mm, 55 * mm, WIDTH - 115 * mm)),
        Spacer(1, 2 * mm),
        Paragraph(
            "The score ranks regions by how much they look like the malignant lesions of the training data. It is no "
            "probability of disease for this patient, and a score below the operating point excludes nothing.",
            _SMALL,
        ),
    ]


def _images_table(result: StudyResult, context: ReportContext) -> Table:
    rows = [("image", "outcome", "density (source)", "score", "findings")]
    for p in result.images:
        above = sum(f.above_threshold for f in p.findings)
        rows.append(
            (view_name(p.header), "analysed", density(p), f"{p.scores.malignancy:.3f}",
             f"{above} at or above {context.threshold:.2f}, {len(p.findings) - above} below")
        )  # fmt: skip
    for f in result.failed:
        name = view_name(f.header) if f.header else f.file.relative
        rows.append((fonts.marked_up(name), f"<b>failed</b>: {f.reason.meaning}", "", "", ""))
    return _table(rows, (30 * mm, 45 * mm, 42 * mm, 18 * mm, WIDTH - 135 * mm))


# --------------------------------------------------------------------------- one image


def _image_page(p: Prediction, context: ReportContext) -> list[Flowable]:
    h = p.header
    spacing = (
        f"{h.spacing.column_mm:.4g} x {h.spacing.row_mm:.4g} mm ({h.spacing.source.value})" if h.spacing else "unknown"
    )
    area = p.image_features.breast_area_mm2
    facts = (
        f"<b>Density</b> {density(p)}; dense tissue {p.image_features.percent_density:.0f} % (estimated from the pixels)",
        f"<b>Breast area</b> {f'{area / 100:.1f} cm²' if area is not None else 'unknown'}; <b>pixel spacing</b> {spacing}",
        f"<b>Maker</b> {fonts.marked_up(h.manufacturer or 'unknown')}; <b>flags</b> {', '.join(f.value for f in p.flags) or 'none'}",
        f"<b>SOP Instance UID</b> {h.sop_instance_uid}",
    )
    pictures = figures.four_pictures(p, side=700)
    cell_width, cell_height = WIDTH / 4 - 2 * mm, 72 * mm
    cells = [[_picture(x, cell_width, cell_height) for x in pictures],
             [Paragraph(t, _SMALL) for t in figures.TITLES]]  # fmt: skip
    grid = Table(cells, colWidths=[WIDTH / 4] * 4, hAlign="LEFT")
    grid.setStyle(TableStyle([("LEFTPADDING", (0, 0), (-1, -1), 0), ("VALIGN", (0, 0), (-1, -1), "BOTTOM")]))
    legend = "red: at or above the operating point; blue: below; yellow: thresholded seeds; colours: Grad-CAM heat"
    return [
        Paragraph(f"{view_name(h)}: malignancy score {p.scores.malignancy:.3f}", _HEAD),
        *(Paragraph(line, _SMALL) for line in facts),
        Spacer(1, 3 * mm),
        grid,
        Paragraph(legend, _SMALL),
        Paragraph(f"Findings ({p.candidates} candidate regions classified)", _HEAD),
        _findings_table(p.findings) if p.findings else Paragraph("No region is reported.", _BODY),
    ]


def _findings_table(found: tuple[Finding, ...]) -> Table:
    rows = [
        ("no.", "kind", "centre x, y (px)", "area (mm²)", "normal / benign / malignant", "score", "tracking identifier")
    ]
    for f in found:
        area = f"{f.region.area_mm2:.0f}" if f.region.area_mm2 is not None else "unknown"
        kind = f.region.kind.value + (f" ({f.region.spots} spots)" if f.region.spots else "")
        s = f.scores
        score = f"{s.malignancy:.3f}" if not f.above_threshold else f"<b>{s.malignancy:.3f}</b>"
        rows.append(
            (str(f.number), kind, f"{f.region.centre[0]:.0f}, {f.region.centre[1]:.0f}", area,
             f"{s.normal:.2f} / {s.benign:.2f} / {s.malignant:.2f}", score, f.tracking_id)
        )  # fmt: skip
    return _table(rows, (9 * mm, 38 * mm, 27 * mm, 18 * mm, 38 * mm, 14 * mm, WIDTH - 144 * mm))


def _picture(pixels: NDArray[np.uint8], width: float, height: float) -> Image:
    good, jpeg = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not good:
        raise RuntimeError("a picture could not be encoded")
    h, w = pixels.shape[:2]
    scale = min(width / w, height / h)
    return Image(io.BytesIO(jpeg.tobytes()), w * scale, h * scale)


# --------------------------------------------------------------------------- last part


def _closing(context: ReportContext) -> list[Flowable]:
    model = context.model
    rows = [
        ("model", f"{model.name} {model.version}"),
        ("weights (SHA-256)", model.sha256),
        ("licence of the weights", model.licence),
        ("limits", "<br/>".join(fonts.marked_up(text) for text in model.limits)),
        ("software", f"mammoscan {context.software_version}"),
        ("configuration digest", context.config_digest),
        ("report created", f"{day(context.created[0])} {context.created[1][:2]}:{context.created[1][2:4]}"),
    ]
    return [
        KeepTogether(
            [Paragraph("Model, limits and provenance", _HEAD), _table(rows, (40 * mm, WIDTH - 40 * mm), head=False)]
        )
    ]


# --------------------------------------------------------------------------- words


def view_name(header: Any) -> str:
    """'left MLO', with modifiers; unknown shows as such."""
    view = header.view.value if header.view.value != "unknown" else "view unknown"
    return " ".join((_SIDES[header.laterality], view, *header.view_modifiers))


def density(p: Prediction) -> str:
    """Density with its source, an estimate marked as such."""
    if p.density.source is DensitySource.NONE:
        return "unknown"
    kind = "estimate from the pixels" if p.density.source is DensitySource.ESTIMATE else p.density.source.value
    return f"{p.density.density.value} ({kind})"


def day(text: str) -> str:
    """A DICOM date as YYYY-MM-DD."""
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 else "unknown"


def _table(rows: list[tuple[str, ...]], widths: tuple[float, ...], *, head: bool = True) -> Table:
    cells = [
        [
            Paragraph(f"<b>{c}</b>" if (head and i == 0) or (not head and j == 0) else c, _SMALL)
            for j, c in enumerate(row)
        ]
        for i, row in enumerate(rows)
    ]
    table = Table(cells, colWidths=widths, repeatRows=1 if head else 0, hAlign="LEFT")
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ]
    if head:
        style.append(("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#eef2f5")))
    table.setStyle(TableStyle(style))
    return table
