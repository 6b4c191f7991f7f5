"""Fonts for every name: DejaVu Sans (it ships with matplotlib), and Adobe's CID fonts for East Asian text."""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import escape

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont

PLAIN, BOLD = "DejaVuSans", "DejaVuSans-Bold"
JAPANESE, CHINESE, KOREAN = "HeiseiKakuGo-W5", "STSong-Light", "HYGothic-Medium"


@cache
def register() -> None:
    """Make the fonts known to reportlab, once a process."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise RuntimeError("matplotlib, whose fonts the reports use, is not installed")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont(PLAIN, str(folder / "DejaVuSans.ttf")))
    pdfmetrics.registerFont(TTFont(BOLD, str(folder / "DejaVuSans-Bold.ttf")))
    pdfmetrics.registerFontFamily(PLAIN, normal=PLAIN, bold=BOLD, italic=PLAIN, boldItalic=BOLD)
    for name in (JAPANESE, CHINESE, KOREAN):
        pdfmetrics.registerFont(UnicodeCIDFont(name))


def marked_up(text: str) -> str:
    """Text as reportlab markup: special characters escaped, East Asian runs in a font that has them."""
    east = _east_asian_font(text)
    out, run, run_font = [], "", ""
    for character in text:
        font = east if _is_east_asian(character) else ""
        if font != run_font and run:
            out.append(_wrapped(run, run_font))
            run = ""
        run_font = font
        run += character
    out.append(_wrapped(run, run_font))
    return "".join(out)


def _wrapped(run: str, font: str) -> str:
    content = escape("".join(c if c.isprintable() else " " for c in run))
    return f'<font name="{font}">{content}</font>' if font else content


def _is_east_asian(character: str) -> bool:
    return ord(character) > 0x2E7F and unicodedata.east_asian_width(character) in "WFH"


def _east_asian_font(text: str) -> str:
    """Kana make a text Japanese, hangul Korean; han alone is set in the Japanese font if it has the glyph."""
    names = [unicodedata.name(c, "") for c in text]
    if any(n.startswith(("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")) for n in names):
        return JAPANESE
    if any(n.startswith("HANGUL") for n in names):
        return KOREAN
    try:
        "".join(c for c in text if _is_east_asian(c)).encode("shift_jis")
    except UnicodeEncodeError:
        return CHINESE
    return JAPANESE
