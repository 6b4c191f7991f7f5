"""Chinese, Japanese and Korean text in a PDF: Noto Sans CJK, cut down to the characters that a text has.

The font comes with the package ``manimgx-fonts-cjk`` as a collection of variable fonts with cubic
outlines (CFF2). reportlab embeds TrueType only, so the few glyphs that are needed are taken out,
set to the regular weight and given quadratic outlines by fontTools.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont, newTable
from fontTools.varLib.instancer import instantiateVariableFont
from reportlab.lib.fonts import addMapping
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase import ttfonts as reportlab_ttfonts

PACKAGE, FILE = "manimgx_fonts_cjk", "NotoSansCJK-VF.otf.ttc"
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
    """The code points that a face has."""
    return frozenset(_open(face).getBestCmap())


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
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError("manimgx-fonts-cjk, whose font the reports use, is not installed")
    # Without a new time stamp the same text gives the same bytes.
    return TTFont(Path(spec.origin).parent / FILE, fontNumber=int(face), lazy=True, recalcTimestamp=False)


def _true_type(face: Face, text: str, name: str) -> bytes:
    font = _open(face)
    for tag in _UNUSED:
        if tag in font:
            del font[tag]
    options = Options(notdef_outline=True, layout_features=[], name_IDs=[1, 2, 4, 6])
    subsetter = Subsetter(options)
    subsetter.populate(text=text)
    subsetter.subset(font)
    font = instantiateVariableFont(font, {"wght": REGULAR})
    _quadratic(font)
    for record in font["name"].names:
        if record.nameID == 6:  # PostScript name, by which readers tell embedded fonts apart
            record.string = name
    out = BytesIO()
    font.save(out)
    return out.getvalue()


def _quadratic(font: TTFont) -> None:
    """Replace cubic outlines (CFF2) by TrueType ones (glyf)."""
    glyphs = font.getGlyphSet()
    order = font.getGlyphOrder()
    table = newTable("glyf")
    table.glyphOrder, table.glyphs = order, {}
    for glyph in order:
        pen = TTGlyphPen(None)
        glyphs[glyph].draw(Cu2QuPen(pen, LARGEST_ERROR, reverse_direction=True))
        table.glyphs[glyph] = pen.glyph()
    del font["CFF2"]
    font["loca"], font["glyf"] = newTable("loca"), table
    maximum = font["maxp"]
    maximum.tableVersion = 0x00010000
    for field in ("maxZones", "maxTwilightPoints", "maxStorage", "maxFunctionDefs", "maxInstructionDefs",
                  "maxStackElements", "maxSizeOfInstructions", "maxComponentElements"):  # fmt: skip
        setattr(maximum, field, 1 if field == "maxZones" else 0)
    font["post"].formatType = 3.0
    font["head"].glyphDataFormat = 0
    font.sfntVersion = "\000\001\000\000"
