"""Styles, sizes and tables of the PDF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Paragraph, Table, TableStyle

from mammoscan.report import fonts

if TYPE_CHECKING:
    from collections.abc import Sequence

MARGIN = 15 * mm
WIDTH = A4[0] - 2 * MARGIN
RULE = colors.HexColor("#9aa5ad")
_ALARM = colors.HexColor("#7a1500")
BODY = ParagraphStyle("body", fontName=fonts.PLAIN, fontSize=8.5, leading=11)
SMALL = ParagraphStyle(
    "small", parent=BODY, fontSize=7.5, leading=9.6, bulletFontName=fonts.PLAIN, bulletFontSize=7.5, leftIndent=0
)
BULLET = ParagraphStyle("bullet", parent=SMALL, leftIndent=9, spaceAfter=2)
HEAD = ParagraphStyle("head", parent=BODY, fontName=fonts.BOLD, fontSize=10.5, leading=14, spaceBefore=7, spaceAfter=3)
HEAD.keepWithNext = 1
TITLE = ParagraphStyle("title", parent=BODY, fontName=fonts.BOLD, fontSize=15, leading=19)
WARNING = ParagraphStyle(
    "warning",
    parent=BODY,
    fontName=fonts.BOLD,
    fontSize=9,
    leading=12,
    leftIndent=6,
    rightIndent=6,
    spaceBefore=9,
    spaceAfter=12,
    textColor=_ALARM,
    backColor=colors.HexColor("#fdf1ee"),
    borderColor=colors.HexColor("#c23b1e"),
    borderWidth=1,
    borderPadding=5,
)


def table(rows: Sequence[Sequence[str]], widths: Sequence[float], *, head: bool = True) -> Table:
    """A table of markup; the first row is a head that is repeated on every page, unless told otherwise."""
    cells = [
        [Paragraph(f"<b>{cell}</b>" if head and index == 0 else cell, SMALL) for cell in row]
        for index, row in enumerate(rows)
    ]
    out = Table(cells, colWidths=widths, repeatRows=1 if head else 0, hAlign="LEFT")
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3),
    ]
    if head:
        style.append(("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e9eef2")))
    out.setStyle(TableStyle(style))
    return out


def day(text: str) -> str:
    """A DICOM date as YYYY-MM-DD; 'unknown' if empty."""
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdigit() else "unknown"


def one_line(text: str, most: int) -> str:
    """At most so many characters, an ellipsis for the rest."""
    return text if len(text) <= most else text[: most - 1] + "\u2026"
