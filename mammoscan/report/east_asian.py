"""Chinese, Japanese and Korean text in a PDF: Noto Sans CJK, cut down to the characters that a text has.

The font is a collection with cubic outlines, of one weight (CFF, as Debian has it) or variable (CFF2). reportlab embeds
TrueType only, so the few glyphs that are needed are taken out, set to the regular weight and given quadratic outlines
by fontTools.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from functools import cache
from io import BytesIO

from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont, newTable
from fontTools.varLib.instancer import instantiateVariableFont
from reportlab.lib.fonts import addMapping
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase import ttfonts as reportlab_ttfonts

from mammoscan.report.fontfiles import east_asian_font

REGULAR = 400  # wght
LARGEST_ERROR = 1.0  # font units (1,000 an em) by which a quadratic curve may miss the cubic one
# Needed by none but layout engines, and by vertical text.
_UNUSED = ("BASE", "DSIG", "GDEF", "GPOS", "GSUB", "MVAR", "STAT", "VORG", "VVAR", "vhea", "vmtx")


class Face(IntEnum):
    """A face of the collection, by the language whose shapes of Han characters it has."""

    JAPANESE = 0
    KOREAN = 1
    CHINESE = 2  # simplified


@cache
def characters(face: Face) -> frozenset[int]:
    """The code points that a face has; none where there is no font."""
    return frozenset(_open(face).getBestCmap()) if east_asian_font() is not None else frozenset()


@cache
def register(face: Face, text: str) -> str:
    """Make a font of the characters of ``text`` known to reportlab; its name, the same every time."""
    used = "".join(sorted(set(text)))
    name = f"NotoSansCJK-{face.name.title()}-{hashlib.sha256(used.encode()).hexdigest()[:12]}"
    if name not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(reportlab_ttfonts.TTFont(name, BytesIO(_true_type(face, used, name))))
        for bold in (0, 1):  # there is one weight: bold text keeps it
            addMapping(name, bold, 0, name)
    return name


def _open(face: Face) -> TTFont:
    path = east_asian_font()
    assert path is not None  # asked by those who found a character of it
    # Without a new time stamp the same text gives the same bytes.
    return TTFont(path, fontNumber=int(face), lazy=True, recalcTimestamp=False)


def _true_type(face: Face, text: str, name: str) -> bytes:
    font = _open(face)
    for tag in _UNUSED:
        if tag in font:
            del font[tag]
    options = Options(notdef_outline=True, layout_features=[], name_IDs=[1, 2, 4, 6])
    subsetter = Subsetter(options)
    subsetter.populate(text=text)
    subsetter.subset(font)
    if "fvar" in font:
        font = instantiateVariableFont(font, {"wght": REGULAR})
    _quadratic(font)
    for record in font["name"].names:
        if record.nameID == 6:  # PostScript name, by which readers tell embedded fonts apart
            record.string = name
    out = BytesIO()
    font.save(out)
    return out.getvalue()


def _quadratic(font: TTFont) -> None:
    """Replace cubic outlines (CFF, CFF2) by TrueType ones (glyf)."""
    glyphs = font.getGlyphSet()
    order = font.getGlyphOrder()
    table = newTable("glyf")
    table.glyphOrder, table.glyphs = order, {}
    for glyph in order:
        pen = TTGlyphPen(None)
        glyphs[glyph].draw(Cu2QuPen(pen, LARGEST_ERROR, reverse_direction=True))
        table.glyphs[glyph] = pen.glyph()
    del font["CFF2" if "CFF2" in font else "CFF "]
    font["loca"], font["glyf"] = newTable("loca"), table
    maximum = font["maxp"]
    maximum.tableVersion = 0x00010000
    for field in ("maxZones", "maxTwilightPoints", "maxStorage", "maxFunctionDefs", "maxInstructionDefs",
                  "maxStackElements", "maxSizeOfInstructions", "maxComponentElements"):  # fmt: skip
        setattr(maximum, field, 1 if field == "maxZones" else 0)
    font["post"].formatType = 3.0
    font["head"].glyphDataFormat = 0
    font.sfntVersion = "\000\001\000\000"
