"""Where the font of Chinese, Japanese and Korean text comes from. Only what a machine has is asked; nothing heavy is loaded."""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path

FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
# Of Debian and most others, one weight; else the variable one. Both hold the same faces in the same order.
NAMES = ("NotoSansCJK-Regular.ttc", "NotoSansCJK-VF.ttc", "NotoSansCJK-VF.otf.ttc")
PACKAGE, FILE = "manimgx_fonts_cjk", "NotoSansCJK-VF.otf.ttc"  # of the extra
LACKING = (
    "no font for names in Chinese, Japanese or Korean script: their characters show as boxes in the PDFs, and are whole in "
    "tables and objects; install the system's Noto Sans CJK (Debian: apt-get install fonts-noto-cjk), and run again "
    "into a new folder for PDFs with them"
)


@cache
def east_asian_font() -> Path | None:
    """Noto Sans CJK: of the system's package, else of the extra ``cjk``; None where neither is there."""
    for name in NAMES:
        for folder in FOLDERS:
            if found := sorted(folder.rglob(name)):
                return found[0]
    spec = find_spec(PACKAGE)
    return Path(spec.origin).parent / FILE if spec is not None and spec.origin else None


def is_east_asian(character: str) -> bool:
    """Whether a character is of a script that this font is for."""
    return ord(character) > 0x2E7F and unicodedata.east_asian_width(character) in "WFH"


def lacks_font(text: str) -> bool:
    """Whether a text has characters that cannot be set on this machine for want of that font."""
    return any(map(is_east_asian, text)) and east_asian_font() is None
