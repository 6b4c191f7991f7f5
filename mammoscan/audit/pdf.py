"""The audit as a PDF: a first page in plain words, figures, galleries, all metrics."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import (
    Image,
    KeepTogether,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from mammoscan import NOTICE
from mammoscan.audit import figures, words
from mammoscan.audit.gallery import Card, Gallery
from mammoscan.audit.links import link_to
from mammoscan.audit.measure import reaches
from mammoscan.audit.story import Audit
from mammoscan.audit.subgroups import FACTORS
from mammoscan.report import fonts

WIDTH = A4[0] - 36 * mm - 12  # points; the frame keeps 6 free on each side
BLACK = "#1b1b1b"


def render(audit: Audit, drawn: Mapping[str, Figure], galleries: Sequence[Gallery], out: Path) -> bytes:
    """PDF bytes; the same audit gives the same bytes. ``drawn``: figures by title; links are relative to ``out``."""
    fonts.register()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer, pagesize=A4, leftMargin=18 * mm, rightMargin=18 * mm, topMargin=16 * mm, bottomMargin=18 * mm,
        title=f"Audit of {audit.joined.results.name}", author="mammoscan", invariant=1,
    )  # fmt: skip
    story: list[Any] = [
        _text(f"Audit of {audit.joined.results.name}", 18, bold=True, after=4),
        _text(
            f"Labels: {audit.config.labels.name}, joined by {audit.joined.key.value}. "
            f"Model: {audit.joined.results.model[:16] or 'not stated'}.",
            8.5, grey=True, after=3,
        ),
        _text(NOTICE, 8.5, bold=True, after=10),
        *(_sentence(text, first=i == 0) for i, text in enumerate(words.summary(audit))),
        Spacer(1, 5 * mm),
        _text("How to read this", 11, bold=True, after=3),
        *(_text("• " + c, 8.5, grey=True, after=2) for c in words.caveats(audit)),
        PageBreak(),
        _text("Figures", 14, bold=True, after=6),
        *_figures(drawn),
    ]  # fmt: skip
    for gallery in galleries:
        story += _gallery(gallery, audit, out)
    if audit.comparisons:
        story += _comparisons(audit)
    story += [PageBreak(), _text("All metrics", 14, bold=True, after=6), *_metrics(audit)]
    if audit.groups:
        story += _subgroups(audit)
    document.build(story, onFirstPage=_footer, onLaterPages=_footer)
    return buffer.getvalue()


def _sentence(text: str, *, first: bool) -> Paragraph:
    bad = words.alarming(text)
    return _text(text, 12 if first else 10, bold=first or bad, colour="#b3261e" if bad else BLACK, after=5)


def _text(
    text: str, size: float, *, bold: bool = False, grey: bool = False, colour: str = BLACK, after: float = 0
) -> Paragraph:
    style = ParagraphStyle(
        "text", fontName=fonts.BOLD if bold else fonts.PLAIN, fontSize=size, leading=size * 1.35, spaceAfter=after,
        textColor=colors.HexColor("#595959" if grey else colour), splitLongWords=True,
    )  # fmt: skip
    return Paragraph(fonts.marked_up(text), style)


def _footer(canvas: Any, document: Any) -> None:
    canvas.saveState()
    canvas.setFont(fonts.PLAIN, 6)
    canvas.setFillGray(0.35)
    canvas.drawString(18 * mm, 10 * mm, NOTICE)
    canvas.drawRightString(A4[0] - 18 * mm, 10 * mm, f"page {document.page}")
    canvas.restoreState()


def _figures(drawn: Mapping[str, Figure]) -> list[Any]:
    out: list[Any] = []
    pair: list[Any] = []
    for title, figure in drawn.items():
        wide = title.startswith("Subgroups")
        wanted = WIDTH if wide else WIDTH / 2 - 2 * mm
        width, height = figure.get_size_inches()
        high = wanted * height / width
        if high > 215 * mm:  # a forest of many groups still has to fit on one page
            wanted, high = wanted * 215 * mm / high, 215 * mm
        block = [_text(title, 9, bold=True, after=2), Image(io.BytesIO(figures.png(figure)), wanted, high)]
        if wide:
            out += [_row(pair)] if pair else []
            pair = []
            out.append(KeepTogether(block))
        else:
            pair.append(block)
            if len(pair) == 2:
                out.append(_row(pair))
                pair = []
    return out + ([_row(pair)] if pair else [])


def _row(blocks: list[Any]) -> Table:
    cells = [*blocks, *([""] * (2 - len(blocks)))]
    table = Table([cells], colWidths=[WIDTH / 2] * 2)
    table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)]))
    return table


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float]) -> Table:
    total = sum(widths)
    data = [[_text(h, 7, bold=True) for h in head], *([_text(c, 7) for c in row] for row in rows)]
    table = Table(data, colWidths=[WIDTH * w / total for w in widths], repeatRows=1, hAlign="LEFT")
    table.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.3, colors.HexColor("#dddddd")),
                ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#f3f3f3")),
                ("TOPPADDING", (0, 0), (-1, -1), 1.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
            ]
        )
    )
    return table


def _metrics(audit: Audit) -> list[Any]:
    out: list[Any] = []
    for level in (audit.primary, *(a for a in audit.levels if a is not audit.primary)):
        n, positives = len(level.cases.truth), int(level.cases.truth.sum())
        for threshold in ("", *(t.name for t in level.thresholds)):
            where = f", {threshold}" if threshold else ", over all thresholds"
            title = f"{level.cases.level.capitalize()} level{where}: {n:,} cases, {positives:,} positive"
            rows = [
                (m.label, words.number(m), words.cases_of(m), m.unit, m.interval.method if m.interval else "")
                for m in level.measures
                if m.threshold_name == threshold
            ]
            head = ("metric", "value (95 % interval)", "cases", "unit", "interval by")
            grid = _grid(head, rows, (36, 28, 19, 22, 24))
            out += [Spacer(1, 3 * mm), KeepTogether([_text(title, 9, bold=True, after=3), grid])]
    if audit.froc:
        froc_rows = [
            (m.label, words.number(m), f"{words.cases_of(m)} lesions; {m.n:,} images", m.note.partition("; ")[2])
            for m in audit.froc
        ]
        grid = _grid(("metric", "value (95 % interval)", "number", "note"), froc_rows, (38, 28, 30, 30))
        out += [Spacer(1, 3 * mm), KeepTogether([_text("Free response", 9, bold=True, after=3), grid])]
    if found := reaches(audit.primary.cases):
        lines_at = [
            (f"{100 * r.wanted:.0f} %", f"{r.threshold:.4g}", f"{100 * r.sensitivity:.1f} %",
             f"{100 * r.specificity:.1f} %" if r.specificity == r.specificity else "undefined", f"{r.flagged:,}")
            for r in found
        ]  # fmt: skip
        title = (
            f"What threshold would give a sensitivity? ({audit.primary.cases.level} level; optimistic for other cases)"
        )
        grid = _grid(("wanted", "threshold", "sensitivity", "specificity", "flagged"), lines_at, (20, 20, 20, 20, 20))
        out += [Spacer(1, 3 * mm), KeepTogether([_text(title, 9, bold=True, after=3), grid])]
    for name, how, report in audit.classes:
        lines = [
            (r.name, words.three(r.precision), words.three(r.recall), words.three(r.f1), f"{r.support:,}")
            for r in (*report.rows, report.macro, report.weighted)
        ]
        title = f"Classes, {name} level, by {how}: accuracy {words.three(report.accuracy)}"
        grid = _grid(("class", "precision", "recall", "F1", "support"), lines, (30, 20, 20, 20, 20))
        out += [Spacer(1, 3 * mm), KeepTogether([_text(title, 9, bold=True, after=3), grid])]
    return out


def _subgroups(audit: Audit) -> list[Any]:
    labels = {f.name: f.label for f in FACTORS}
    rows = []
    for g in audit.groups:
        if g.level != audit.primary.cases.level:
            continue
        value = f"not given ({g.refused})" if g.value is None else f"{g.value:.3f}"
        if g.value is not None and g.interval:
            value += f" ({g.interval.lower:.3f} to {g.interval.upper:.3f})"
        rows.append(
            (
                labels[g.factor],
                g.group,
                words.NAMES.get(g.metric, g.metric),
                value,
                f"{g.positives}/{g.n}{' small' if g.small else ''}",
            )
        )
    tests = [
        (
            labels[d.factor],
            words.NAMES.get(d.metric, d.metric),
            f"{d.statistic:.2f}",
            str(d.freedom),
            f"{d.p:.3g}" + " (small groups: unreliable)" * d.small,
        )
        for d in audit.differences
        if d.level == audit.primary.cases.level and d.p == d.p
    ]
    out: list[Any] = [
        Spacer(1, 5 * mm),
        _text(f"Subgroups ({audit.primary.cases.level} level; others in metrics.json)", 11, bold=True, after=3),
        _grid(("by", "group", "metric", "value (95 % interval)", "positives/cases"), rows, (22, 22, 18, 36, 18)),
    ]
    if tests:
        out += [
            Spacer(1, 3 * mm),
            _text(
                "Test that the groups are alike (Wald on log odds, over patients; not corrected for many tests)",
                9,
                bold=True,
                after=3,
            ),
            _grid(("by", "metric", "chi-squared", "degrees of freedom", "p"), tests, (28, 20, 18, 20, 34)),
        ]
    return out


def _comparisons(audit: Audit) -> list[Any]:
    rows = []
    for c in audit.comparisons:
        auc = f"not given: {c.refused}"
        if c.auc is not None:
            i = c.auc.interval
            auc = f"{c.auc.auc:.3f} against {c.auc.baseline:.3f}, difference {c.auc.difference:+.3f} ({i.lower:+.3f} to {i.upper:+.3f}), p = {c.auc.p:.3g}"
        test = ""
        if c.mcnemar is not None:
            test = words.mcnemar(c.mcnemar)
        rows.append((c.level, f"{c.positives}/{c.n}", auc, test, str(len(c.changed))))
    head = ("level", "positives/cases", "AUC, paired DeLong", "decisions, McNemar", "changed")
    name = audit.baseline.name if audit.baseline else ""
    return [
        Spacer(1, 4 * mm),
        _text(f"Against the baseline {name}", 12, bold=True, after=4),
        _grid(head, rows, (12, 20, 42, 36, 12)),
        _text(words.both_thresholds(audit), 7.5, grey=True, after=4),
        *_changed(audit),
    ]


def _changed(audit: Audit) -> list[Any]:
    comparison = words.shown_comparison(audit)
    if comparison is None or not comparison.changed:
        return []
    found = words.changed(audit, comparison)
    lines = [_text("• " + words.changed_line(c), 8, after=1) for c in found[: words.MOST_CHANGED]]
    title = f"Changed sides, {comparison.level} level: {len(lines):,} of {len(found):,} (all levels: changed.csv)"
    return [_text(title, 9, bold=True, after=3), *lines]


def _gallery(gallery: Gallery, audit: Audit, out: Path) -> list[Any]:
    shown = f"{len(gallery.cards)} of {gallery.total:,}" if gallery.total else "none"
    title = _text(f"{gallery.title}: {shown}", 12, bold=True, after=2)
    if not gallery.cards:
        return [Spacer(1, 4 * mm), title]
    key = _text(
        "Green: malignant lesions, blue: benign ones. Orange: marks, thick where flagged.", 7.5, grey=True, after=4
    )
    head = [title, key] if any(card.picture for card in gallery.cards) else [title]
    cells = [_card(card, audit, out) for card in gallery.cards]
    rows = [cells[i : i + 4] + [""] * (4 - len(cells[i : i + 4])) for i in range(0, len(cells), 4)]
    table = Table(rows, colWidths=[WIDTH / 4] * 4)
    table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 2)]))
    return [Spacer(1, 4 * mm), KeepTogether([*head, table])]


def _card(card: Card, audit: Audit, out: Path) -> list[Any]:
    below = [
        _text(f"score {card.score:.3f}, truth {card.truth}", 7, bold=True),
        _text(card.who, 6.5),
        _text(card.image, 6.5, grey=True),
    ]
    if card.report:
        target = escape(link_to(audit, card.report, out), quote=True)
        style = ParagraphStyle(
            "link", fontName=fonts.PLAIN, fontSize=6.5, leading=9, textColor=colors.HexColor("#005a8d")
        )
        below.append(Paragraph(f'<a href="{target}">report of the study</a>', style))
    if card.picture is None:
        return [_text(card.missing, 6.5, grey=True), *below]
    image = Image(io.BytesIO(card.picture))
    scale = min((WIDTH / 4 - 5 * mm) / image.imageWidth, 62 * mm / image.imageHeight)
    image.drawWidth, image.drawHeight = image.imageWidth * scale, image.imageHeight * scale
    return [image, *below]
