"""Fonts for every name: DejaVu Sans (it ships with matplotlib), and Noto Sans CJK for East Asian text.

Both are embedded. DejaVu Sans covers Latin, Cyrillic, Greek, Armenian, Georgian, Hebrew and Arabic.
Scripts that neither has (Thai, Devanagari, ...) show as ``MISSING``, never as a wrong letter, and so does East Asian text
where the machine has no Noto Sans CJK (``fontfiles``).
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
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from mammoscan.report import east_asian
from mammoscan.report.east_asian import Face
from mammoscan.report.fontfiles import is_east_asian

PLAIN, BOLD = "DejaVuSans", "DejaVuSans-Bold"
MISSING = "\u25af"  # an upright box: a character that no font here has

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
    faces = _faces(shown)
    kinds = [(_font_of(c, faces, present), c) for c in shown]
    out = []
    for font, run in groupby(kinds, key=lambda pair: pair[0]):
        content = "".join(c for _, c in run)
        if font is None:
            out.append(MISSING * len(content))
        elif isinstance(font, Face):
            name = east_asian.register(font, "".join(sorted({c for f, c in kinds if f is font})))
            out.append(f'<font name="{name}">{escape(content)}</font>')
        else:
            out.append(escape(content))
    return "".join(out)


def _font_of(character: str, faces: tuple[Face, ...], present: frozenset[int]) -> Face | str | None:
    if not is_east_asian(character):
        return PLAIN if ord(character) in present else None
    return next((f for f in faces if ord(character) in east_asian.characters(f)), None)


def _faces(text: str) -> tuple[Face, ...]:
    """Faces to try, likeliest first: kana make a text Japanese, hangul Korean, and han that Shift JIS
    lacks Chinese; other han look right in the Japanese face.
    """
    names = [unicodedata.name(c, "") for c in text]
    if any(n.startswith(("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")) for n in names):
        return (Face.JAPANESE, Face.CHINESE, Face.KOREAN)
    if any(n.startswith("HANGUL") for n in names):
        return (Face.KOREAN, Face.JAPANESE, Face.CHINESE)
    try:
        "".join(filter(is_east_asian, text)).encode("shift_jis")
    except UnicodeEncodeError:
        return (Face.CHINESE, Face.JAPANESE, Face.KOREAN)
    return (Face.JAPANESE, Face.CHINESE, Face.KOREAN)
