"""The report for people: one PDF a study."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from reportlab import rl_config
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
)

from mammoscan import NOTICE
from mammoscan.core.domain import DensitySource, Laterality
from mammoscan.report import earlier_words, fonts, pdf_image, pdf_views
from mammoscan.report.fonts import marked_up
from mammoscan.report.pdf_parts import (
    BODY,
    BULLET,
    HEAD,
    MARGIN,
    RULE,
    SMALL,
    TITLE,
    WARNING,
    WIDTH,
    day,
    one_line,
    table,
)
from mammoscan.report.pdf_words import DENSITY_SOURCES, SEXES, SIDES, cost, density, person, view_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mammoscan.core.domain import ReportContext, StudyResult
    from mammoscan.core.errors import Reason

TOP, BOTTOM = 24 * mm, 20 * mm
HOW_TO_READ = (
    "The malignancy score (0 to 1) ranks regions by how much they look like the malignant lesions of the training "
    "data. It is not this patient's probability of cancer.",
    "A score below the operating point, or no finding at all, does not exclude disease.",
    "Positions are (column, row) in pixels of the stored source image, from the corner of its top left pixel. Sizes "
    "in mm are measured in the plane that the stated pixel spacing refers to; without a spacing they are unknown.",
    "Grad-CAM shows which parts of a region's crop spoke for malignancy, relative to the strongest part of that crop; "
    "colours cannot be compared between findings and are no outline of a lesion.",
    "The tracking identifier names the same finding in the structured reports and in findings.csv.",
)

DEIDENTIFIED = (
    "De-identified: the patient ID is a pseudonym, UIDs and file names are replaced, all dates (that of this report too) "
    "are moved earlier by the same number of days, and pictures show the breast alone."
)


def render(result: StudyResult, context: ReportContext) -> bytes:
    """The PDF's bytes (A4); the same for the same result and context, whatever the clock says."""
    fonts.register()
    # Pictures and fonts are binary: text-safe encoding would only make the file a quarter larger.
    rl_config.useA85 = 0
    out = io.BytesIO()
    document = BaseDocTemplate(
        out,
        pagesize=A4,
        title="mammoscan report",
        author=f"mammoscan {context.software_version}",
        subject=NOTICE,
        invariant=1,  # no clock and no random identifier in the file
        pageCompression=1,
        lang="en",
    )
    frame = Frame(
        MARGIN, BOTTOM, WIDTH, A4[1] - TOP - BOTTOM, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0
    )
    document.addPageTemplates(PageTemplate(frames=[frame]))
    story = _first_page(result, context)
    for prediction in result.images:
        story += [PageBreak(), *pdf_image.page(prediction, context, result.earlier)]
    story += _closing(result, context)
    document.build(story, canvasmaker=_numbered(result, context))
    return out.getvalue()


# --------------------------------------------------------------------------- every page


def _numbered(result: StudyResult, context: ReportContext) -> type[Canvas]:
    """A canvas that knows the number of pages and writes whose report this is on each of them."""
    date, time = context.created

    class Numbered(Canvas):  # type: ignore[misc]  # reportlab has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.setDateFormatter(lambda *_: f"D:{date}{time[:6]}")
            self.pages: list[dict[str, Any]] = []

        def showPage(self) -> None:
            self.pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, page in enumerate(self.pages, 1):
                self.__dict__.update(page)
                _page_furniture(self, result, f"page {number} of {len(self.pages)}")
                super().showPage()
            super().save()

    return Numbered


def _page_furniture(canvas: Canvas, result: StudyResult, page: str) -> None:
    """Identity above, notice, study and page number below."""
    patient, study = result.patient, result.study
    top = A4[1] - 9 * mm
    identity = (
        f"<b>Patient ID:</b> {marked_up(patient.patient_id or 'unknown')}&nbsp;&nbsp; "
        f"<b>Accession number:</b> {marked_up(study.accession_number or 'unknown')}"
    )
    _line(canvas, identity, top, WIDTH)
    _line(canvas, marked_up(one_line(person(patient), 90)), top - 4.2 * mm, WIDTH - 60 * mm)
    canvas.setFont(fonts.PLAIN, 7)
    canvas.drawRightString(A4[0] - MARGIN, top - 4.2 * mm, f"study date {day(study.study_date)}")
    canvas.setStrokeColor(RULE)
    canvas.setLineWidth(0.5)
    canvas.line(MARGIN, A4[1] - 18.5 * mm, A4[0] - MARGIN, A4[1] - 18.5 * mm)
    canvas.line(MARGIN, 16 * mm, A4[0] - MARGIN, 16 * mm)
    canvas.setFont(fonts.BOLD, 6.5)
    canvas.drawString(MARGIN, 12.3 * mm, NOTICE)
    canvas.setFont(fonts.PLAIN, 6.5)
    canvas.drawString(MARGIN, 8.7 * mm, f"StudyInstanceUID {study.study_instance_uid}")
    canvas.drawRightString(A4[0] - MARGIN, 8.7 * mm, page)


def _line(canvas: Canvas, markup: str, baseline: float, width: float) -> None:
    paragraph = Paragraph(markup, SMALL)
    paragraph.wrap(width, A4[1])
    # The first line's baseline lies one ascent below the paragraph's top.
    paragraph.drawOn(canvas, MARGIN, baseline - paragraph.height + SMALL.fontSize)


# --------------------------------------------------------------------------- first page


def _first_page(result: StudyResult, context: ReportContext) -> list[Flowable]:
    story: list[Flowable] = [
        Paragraph("Mammography analysis", TITLE),
        Paragraph(NOTICE, WARNING),
        *([Paragraph(DEIDENTIFIED, SMALL)] if result.deidentified else []),
        _facts(result),
        Paragraph("Result", HEAD),
        *_result(result, context),
        *_clinical(result),
        *(pdf_views.views(result, context) if result.images else []),
        *_earlier(result),
        Paragraph(f"Images of this study: {_counts(result)}", HEAD),
        _images_table(result, context),
    ]
    if result.failed:
        story += [
            Paragraph("Failed: these images should have been analysed and could not be", HEAD),
            _reasons_table(
                (f"{view_name(f.header)}; {f.file.relative}" if f.header else f.file.relative, f.reason, f.detail)
                for f in result.failed
            ),
        ]
    if result.skipped:
        story += [
            Paragraph("Skipped: files of this study that the rules leave out", HEAD),
            _reasons_table((s.file.relative, s.reason, s.detail) for s in result.skipped),
        ]
    return story


def _facts(result: StudyResult) -> Flowable:
    patient, study = result.patient, result.study
    age = f"{result.age.years:.4g} years (from {result.age.source.value})" if result.age else "unknown"
    left = (
        ("Patient name", person(patient)),
        ("Patient ID", patient.patient_id or "unknown"),
        ("Birth date", day(patient.birth_date)),
        ("Sex", SEXES[patient.sex]),
        ("Age at study", age),
    )
    right = (
        ("Accession number", study.accession_number or "unknown"),
        ("Study date", day(study.study_date)),
        ("Study description", study.study_description or "unknown"),
        ("Study ID", study.study_id or "unknown"),
        ("Referring", person(study.referring_physician_name)),
    )
    rows = [
        (f"<b>{a}</b>", marked_up(b), f"<b>{c}</b>", marked_up(d)) for (a, b), (c, d) in zip(left, right, strict=True)
    ]
    if any(fonts.MISSING in cell for row in rows for cell in row):
        rows.append(("", f"{fonts.MISSING} stands for a character that this report has no font for", "", ""))
    half = WIDTH / 2
    return table(rows, (27 * mm, half - 27 * mm, 32 * mm, half - 32 * mm), head=False)


def _counts(result: StudyResult) -> str:
    return f"{len(result.images)} analysed, {len(result.failed)} failed, {len(result.skipped)} files skipped"


def _result(result: StudyResult, context: ReportContext) -> list[Flowable]:
    if result.malignancy is None:
        return [Paragraph("<b>No image of this study could be analysed: nothing is said about it.</b>", BODY)]
    rows = [
        (
            "",
            "images",
            "density",
            "malignancy score (0 to 1)",
            f"against the operating point {context.breast_threshold:.3f}",
        )
    ]
    for breast in result.breasts:
        side = SIDES[breast.laterality]
        rows.append(
            (
                f"{side} breast" if breast.laterality is not Laterality.UNKNOWN else side,
                str(breast.images),
                marked_up(_densities(result, breast.laterality)),
                f"<b>{breast.malignancy:.3f}</b>",
                _against(breast.malignancy, context),
            )
        )
    rows.append(
        (
            "<b>study</b>",
            str(len(result.images)),
            "",
            f"<b>{result.malignancy:.3f}</b>",
            _against(result.malignancy, context),
        )
    )
    story: list[Flowable] = [table(rows, (30 * mm, 15 * mm, 50 * mm, 40 * mm, WIDTH - 135 * mm)), Spacer(1, 1.5 * mm)]
    if result.failed:
        story.append(
            Paragraph(
                f"<b>Incomplete: {len(result.failed)} of the study's images failed and have no part in this.</b>", BODY
            )
        )
    story.append(Paragraph(_operating_point(context), SMALL))
    return story


def _earlier(result: StudyResult) -> list[Flowable]:
    """Scores and densities of earlier studies of the same patient, or why there are none."""
    earlier = result.earlier
    if earlier is None:
        return []
    if not earlier.studies:
        return [Paragraph(earlier_words.none(earlier), SMALL)]
    today = {breast.laterality: breast.malignancy for breast in result.breasts}
    sides = (Laterality.RIGHT, Laterality.LEFT)
    rows: list[tuple[str, ...]] = [
        ("earlier study", "right: score", "change since", "density", "left: score", "change since", "density")
    ]
    for study in earlier.studies:
        then = {breast.laterality: breast for breast in study.breasts}
        cells = [day(study.study_date) + ("" if study.same_model else " *")]
        for side in sides:
            breast = then.get(side)
            known = breast is not None and side in today and study.same_model
            cells += [
                f"{breast.malignancy:.3f}" if breast else "not analysed",
                f"{today[side] - breast.malignancy:+.3f}" if breast is not None and known else "",
                f"{breast.density or 'unknown'}{' (estimate)' if breast.density and breast.estimated else ''}"
                if breast
                else "",
            ]
        rows.append(tuple(cells))
    notes = [
        earlier_words.more(earlier),
        "" if all(s.same_model for s in earlier.studies) else f"* {earlier_words.OTHER_MODEL}.",
        "Earlier studies are those with the same patient ID and issuer whose facts do not contradict. A change of a score is no "
        "finding: other images alone move it. What was seen before is said with each image.",
    ]
    return [
        Paragraph("Earlier studies of this patient", HEAD),
        table(rows, [x * mm for x in (28, 23, 22, 30, 23, 22, 32)]),
        Paragraph(" ".join(note for note in notes if note), SMALL),
    ]


def _clinical(result: StudyResult) -> list[Flowable]:
    """What the user's own table said of the patient, where the breasts' scores used it."""
    if not result.clinical or result.malignancy is None:
        return []
    rows = [("clinical data that the breasts' scores used", "as the table has it")]
    rows += [(marked_up(name), marked_up(value)) for name, value in result.clinical]
    return [Spacer(1, 1.5 * mm), table(rows, (80 * mm, WIDTH - 80 * mm))]


def _against(score: float, context: ReportContext) -> str:
    return "<b>at or above</b>" if score >= context.breast_threshold else "below"


def _operating_point(context: ReportContext) -> str:
    """What the operating point means, in words."""
    name = context.threshold_name
    kind, _, value = name.rpartition("-")
    if kind == "sensitivity":
        origin = f"was set to find {float(value):.0%} of the breasts with cancer in the model's own cross-validation"
    elif kind == "specificity":
        origin = (
            f"was set to pass {float(value):.0%} of the breasts without a lesion in the model's own cross-validation"
        )
    else:
        origin = "was chosen by whoever ran the analysis" if name.startswith("threshold ") else "comes with the model"
    return (
        f"The operating point {context.breast_threshold:.3f} ({marked_up(name)}) {origin}. What it costs: "
        f"{marked_up(cost(context.cost))}. How it does on other archives must be measured there. The score is no probability of cancer for this patient, and a score below "
        "the operating point excludes nothing."
    )


def _densities(result: StudyResult, side: Laterality) -> str:
    """The densities of a breast's images, each with its source: 'b (estimate from the pixels, no reading)'."""
    found = {p.density.source: set[str]() for p in result.images if p.header.laterality is side}
    for p in result.images:
        if p.header.laterality is side:
            found[p.density.source].add(p.density.density.value)
    if set(found) <= {DensitySource.NONE}:
        return "unknown"
    return "; ".join(
        f"{', '.join(sorted(values))} ({DENSITY_SOURCES[source]})"
        for source, values in found.items()
        if source is not DensitySource.NONE
    )


def _images_table(result: StudyResult, context: ReportContext) -> Flowable:
    rows = [
        (
            "image",
            "file",
            "density (source)",
            f"score (operating point {context.threshold:.3f})",
            f"findings (operating point {context.finding_threshold:.3f})",
        )
    ]
    for p in result.images:
        above = sum(f.above_threshold for f in p.findings)
        rows.append(
            (
                marked_up(view_name(p.header)),
                marked_up(p.header.file.relative),
                marked_up(density(p)),
                f"{p.scores.malignancy:.3f}",
                f"{above} at or above, {len(p.findings) - above} below",
            )
        )
    if not result.images:
        rows.append(("none analysed", "", "", "", ""))
    return table(rows, (30 * mm, 48 * mm, 38 * mm, 22 * mm, WIDTH - 138 * mm))


def _reasons_table(entries: Iterable[tuple[str, Reason, str]]) -> Flowable:
    rows = [("image or file", "code", "what happened", "what to do")]
    rows += [
        (
            marked_up(name),
            reason.code,
            marked_up(f"{reason.meaning}: {detail}" if detail else reason.meaning),
            marked_up(reason.remedy),
        )
        for name, reason, detail in entries
    ]
    return table(rows, (48 * mm, 30 * mm, 56 * mm, WIDTH - 134 * mm))


# --------------------------------------------------------------------------- last part


def _closing(result: StudyResult, context: ReportContext) -> list[Flowable]:
    model, (date, time) = context.model, context.created
    rows = [
        ("Model", marked_up(f"{model.name} {model.version}")),
        ("Model (SHA-256)", model.sha256),
        ("Precision", f"computed in {context.precision}"),
        ("Limits", "<br/>".join(marked_up(text) for text in model.limits) or "unknown"),
        ("Licence of the weights", marked_up(model.licence or "unknown")),
        ("Software", f"mammoscan {marked_up(context.software_version)}"),
        ("Configuration digest", context.config_digest),
        ("Report created", f"{day(date)} {time[:2]}:{time[2:4]}:{time[4:6]}"),
    ]
    compared = [earlier_words.HOW] if result.earlier and result.earlier.studies else []
    return [
        CondPageBreak(110 * mm),
        Paragraph("Model, limits and provenance", HEAD),
        table([(f"<b>{name}</b>", value) for name, value in rows], (40 * mm, WIDTH - 40 * mm), head=False),
        Paragraph("How to read this report", HEAD),
        *(
            Paragraph(marked_up(text), BULLET, bulletText="\u2022")
            for text in (HOW_TO_READ[0], *model.scoring, *HOW_TO_READ[1:], *compared)
        ),
    ]
