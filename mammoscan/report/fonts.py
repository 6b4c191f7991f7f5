"""Fonts for every name: DejaVu Sans (it ships with matplotlib), and Adobe's CID fonts for East Asian text.

DejaVu Sans is embedded and covers Latin, Cyrillic, Greek, Armenian, Georgian, Hebrew and Arabic. The
CID fonts (ISO 32000-1 9.7.5.2, predefined CMaps) are named but not embedded: a viewer sets them in an
East Asian font of its own, as Acrobat, browsers and poppler do. Scripts that neither has (Thai,
Devanagari, ...) show as ``MISSING``, never as a wrong letter.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from arabic_reshaper import ArabicReshaper
from bidi import get_display
from reportlab.lib.fonts import addMapping
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont

PLAIN, BOLD = "DejaVuSans", "DejaVuSans-Bold"
JAPANESE, CHINESE, KOREAN = "HeiseiKakuGo-W5", "STSong-Light", "HYGothic-Medium"
MISSING = "\u25af"  # an upright box: a character that no font here has

# What the predefined CMaps of each CID font map at least, as Python's codecs of the same sets.
_REPERTOIRES = {JAPANESE: ("cp932", "euc_jp"), CHINESE: ("gbk",), KOREAN: ("cp949",)}
_RIGHT_TO_LEFT = {"R", "AL", "AN"}
# Vowel marks stay, and no ligature but lam-alef, which the script demands.
_SHAPER = ArabicReshaper(configuration={"delete_harakat": False, "ARABIC LIGATURE ALLAH": False})


@cache
def register() -> frozenset[int]:
    """Make the fonts known to reportlab, once a process; the code points that DejaVu Sans has."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise RuntimeError("matplotlib, whose fonts the reports use, is not installed")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    plain = TTFont(PLAIN, str(folder / "DejaVuSans.ttf"))
    bold = TTFont(BOLD, str(folder / "DejaVuSans-Bold.ttf"))
    pdfmetrics.registerFont(plain)
    pdfmetrics.registerFont(bold)
    pdfmetrics.registerFontFamily(PLAIN, normal=PLAIN, bold=BOLD, italic=PLAIN, boldItalic=BOLD)
    for name in (JAPANESE, CHINESE, KOREAN):
        pdfmetrics.registerFont(UnicodeCIDFont(name))
        for weight in (0, 1):  # there is one weight: bold text keeps it
            addMapping(name, weight, 0, name)
    return frozenset(plain.face.charToGlyph) & frozenset(bold.face.charToGlyph)


def marked_up(text: str) -> str:
    """Text as reportlab markup: special characters escaped, each run in a font that has its characters.

    Right-to-left text comes out in the order it is seen (Unicode bidirectional algorithm, UAX #9),
    Arabic letters in their joined forms, since reportlab sets glyphs one after the other.
    """
    present = register()
    shown = "".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text))
    if any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in shown):
        shown = get_display(_SHAPER.reshape(shown), base_dir="L")
    fonts = _east_asian_fonts(shown)
    out = []
    for font, run in groupby(((_font_of(c, fonts, present), c) for c in shown), key=lambda pair: pair[0]):
        content = "".join(c for _, c in run)
        if font is None:
            out.append(MISSING * len(content))
        elif font == PLAIN:
            out.append(escape(content))
        else:
            out.append(f'<font name="{font}">{escape(content)}</font>')
    return "".join(out)


def _font_of(character: str, east_asian: tuple[str, ...], present: frozenset[int]) -> str | None:
    if not _is_east_asian(character):
        return PLAIN if ord(character) in present else None
    # The CMaps are in UCS-2: nothing beyond the basic plane.
    return next((f for f in east_asian if ord(character) < 0x10000 and _has(f, character)), None)


def _is_east_asian(character: str) -> bool:
    return ord(character) > 0x2E7F and unicodedata.east_asian_width(character) in "WFH"


def _has(font: str, text: str) -> bool:
    return any(_encodes(codec, text) for codec in _REPERTOIRES[font])


def _encodes(codec: str, text: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _east_asian_fonts(text: str) -> tuple[str, ...]:
    """Fonts to try, likeliest first: kana make a text Japanese, hangul Korean, and han that Shift JIS
    lacks Chinese; other han look right in the Japanese font.
    """
    names = [unicodedata.name(c, "") for c in text]
    if any(n.startswith(("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")) for n in names):
        return (JAPANESE, CHINESE, KOREAN)
    if any(n.startswith("HANGUL") for n in names):
        return (KOREAN, JAPANESE, CHINESE)
    if _encodes("shift_jis", "".join(c for c in text if _is_east_asian(c) and ord(c) < 0x10000)):
        return (JAPANESE, CHINESE, KOREAN)
    return (CHINESE, JAPANESE, KOREAN)
