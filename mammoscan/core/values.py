"""Values of a data set, strictly and fast: what is not valid is unknown, never guessed.

Most attributes of a header are plain ASCII. They are read from the undecoded bytes, since turning
each into an object of its own costs more than all the rest of a header pass; everything else (text
in other character sets, sequences) goes through pydicom.
"""

from __future__ import annotations

import re
import warnings
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

if TYPE_CHECKING:
    from pydicom import Dataset

_PLAIN = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI"})
_ESCAPE = b"\x1b"  # code extensions (PS3.5 6.1.2.5): ASCII bytes that are not ASCII text
_INTEGER = re.compile(r"[+-]?\d{1,12}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3])(:?)(?:([0-5]\d)(?:\2([0-5]\d)(\.\d{1,6})?)?)?", re.ASCII)
_OFFSET = re.compile(r"([+-])(0\d|1[0-4]):?([0-5]\d)", re.ASCII)
_DATE = re.compile(r"(\d{4})([.-]?)(\d{2})\2(\d{2})", re.ASCII)
# Dummy dates (9999-12-31) say that nothing is known; dciodvfy takes a DA that begins with 3 to 9 for broken.
_YEARS = range(1000, 3000)
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)
# What writers take for a UID: leading zeros, hexadecimal digits, a UUID as it is written elsewhere.
_ODD_UID = re.compile(r"[0-9A-Fa-f]+([.-]+[0-9A-Fa-f]+)*\.?", re.ASCII)
_LONGEST_UID = 128  # twice what is valid
_SHORTEST_UID = 8  # of those that are not valid: shorter ones are placeholders
# Control characters and separators of lines and paragraphs: PS3.5 6.1.3 allows none of them in SH, LO and PN.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# What turns the direction of the text behind it, byte order marks and tags: nothing of it is seen, much is changed.
_INVISIBLE = re.compile("[\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_NAME_DELIMITERS = {ord("^"), ord("=")}  # each ends a code extension (PS3.5 6.1.2.5.3)
_UNREADABLE = "\ufffd"
LONGEST = {"SH": 16, "LO": 64, "PN": 64}  # characters (PS3.5 6.2); of a person's name in each of its groups


# The tags that are asked for, by number. A data set is a dictionary, which finds the very same object without asking
# whether two are equal; pydicom's tags answer that slowly.
TAGS: dict[int, BaseTag] = {}


@cache
def _entry(keyword: str) -> tuple[BaseTag, str]:
    number = tag_for_keyword(keyword)
    if number is None:
        raise KeyError(f"no such attribute: {keyword}")
    return TAGS.setdefault(number, Tag(number)), dictionary_VR(number)


def texts(ds: Dataset, keyword: str) -> list[str]:
    """All values of an attribute as stripped text; [] where it is missing or empty."""
    tag, vr = _entry(keyword)
    element: Any = ds.get_item(tag)  # annotated without None and without raw elements
    if element is None:
        return []
    if isinstance(element, RawDataElement):
        raw = element.value
        if raw is not None:
            if not raw:
                return []
            vr = element.VR or vr
            if vr in _PLAIN and raw.isascii() and _ESCAPE not in raw:
                return [part.strip() for part in raw.decode("ascii").replace("\x00", "").split("\\")]
            if vr == "US" and len(raw) == 2:
                return [str(int.from_bytes(raw, "little" if element.is_little_endian else "big"))]
    value: Any = ds[tag].value
    if value is None or value == "":
        return []
    several = value if isinstance(value, (list, MultiValue)) else [value]
    return ["" if v is None else str(v).replace("\x00", "").strip() for v in several]


class Line(NamedTuple):
    """A value of text. changed: characters were replaced. certain: the data set declares how its bytes are read."""

    text: str
    changed: bool = False
    certain: bool = True


def whole(ds: Dataset, keyword: str) -> Line:
    """The one value of an attribute of text as one line.

    A backslash parts values (PS3.5 6.4); in an attribute that has one value it is part of that value all the same,
    and the value is kept whole. Control characters become blanks. Bytes that the declared character set doesn't hold
    become U+FFFD; where none is declared, UTF-8 is read if that is what they are, else ISO 8859-1.
    """
    tag, vr = _entry(keyword)
    element: Any = ds.get_item(tag)
    if element is None or element.value is None:
        return Line("")
    certain = True
    if isinstance(element.value, bytes):
        written, certain = _decoded(element.value, ds, element.VR if element.VR in LONGEST else vr)
    else:
        value = ds[tag].value
        several = value if isinstance(value, (list, MultiValue)) else [value]
        written = "\\".join("" if v is None else str(v) for v in several)
    written = written.strip("\0 \t\r\n\f\v")
    found = one_line(written)
    return Line(found, found != written or _UNREADABLE in found, certain)


def one_line(written: str) -> str:
    """Text without what no line of text holds: control characters become blanks, lone surrogates U+FFFD."""
    if written.isprintable():  # none of them is
        return written.strip()
    return _SURROGATES.sub(_UNREADABLE, _INVISIBLE.sub("", _CONTROLS.sub(" ", written))).strip()


def _decoded(raw: bytes, ds: Dataset, vr: str) -> tuple[str, bool]:
    """Bytes as text, and whether the data set declares how they are read."""
    if raw.isascii() and _ESCAPE not in raw:
        return raw.decode("ascii"), True
    declared = texts(ds, "SpecificCharacterSet")
    return decoded(raw, declared, vr), any(declared) or _ESCAPE in raw


def decoded(raw: bytes, declared: list[str], vr: str) -> str:
    """Bytes as text. declared: values of SpecificCharacterSet; without any, UTF-8 or else ISO 8859-1 is read."""
    if not any(declared) and _ESCAPE not in raw:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("iso8859")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be read shows in the text
        return decode_bytes(raw, convert_encodings(declared), _NAME_DELIMITERS if vr == "PN" else set())


def held(written: str, vr: str) -> str:
    """What an attribute of VR SH, LO or PN can hold of a text, as one value (PS3.5 6.2).

    Too long a text is cut. A backslash, which would part the value, becomes a slash; in SH, which holds
    identifiers, nothing is left of such a text: another identifier would be worse than none.
    """
    if vr == "SH" and "\\" in written:
        return ""
    plain = written.replace("\\", "/")
    if vr == "PN":
        return "=".join(_group(group) for group in plain.split("=")[:3]).rstrip("=")
    return plain[: LONGEST[vr]].rstrip()


def _group(group: str) -> str:
    """One group of a person's name: 64 characters, five components (PS3.5 6.2.1)."""
    *first, last = group.split("^", 4)
    return "^".join((*first, last.replace("^", " ")))[: LONGEST["PN"]].rstrip()


def text(ds: Dataset, keyword: str) -> str:
    """The first value of an attribute as stripped text, '' where it is missing."""
    found = texts(ds, keyword)
    return found[0] if found else ""


def items(ds: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; [] where it is missing or is no sequence."""
    tag, _ = _entry(keyword)
    if tag not in ds:
        return []
    value: Any = ds[tag].value
    return list(value) if isinstance(value, Sequence) else []


def number(ds: Dataset, keyword: str) -> float | None:
    """A finite decimal number (PS3.5 6.2 DS), None where it is missing or invalid."""
    return as_number(text(ds, keyword))


def as_number(written: str) -> float | None:
    """A decimal string as a number; None for anything else, ``nan`` and ``inf`` included.

    A decimal comma, which is not valid but can mean nothing else, is read as a point.
    """
    return float(written.replace(",", ".")) if _DECIMAL.fullmatch(written) else None


def integer(ds: Dataset, keyword: str) -> int | None:
    """An integer (PS3.5 6.2 IS, US), None where it is missing or invalid."""
    found = text(ds, keyword)
    return int(found) if _INTEGER.fullmatch(found) else None


def yes_no(ds: Dataset, keyword: str) -> bool | None:
    """YES or NO, None for anything else."""
    return {"YES": True, "NO": False}.get(text(ds, keyword).upper())


def date_text(ds: Dataset, keyword: str) -> str:
    """A date as YYYYMMDD, '' where it is missing or no day of the calendar.

    The forms of ACR-NEMA (``YYYY.MM.DD``) and of careless writers (``YYYY-MM-DD``) are read too.
    """
    match = _DATE.fullmatch(text(ds, keyword))
    plain = match[1] + match[3] + match[4] if match else ""
    found = as_date(plain)
    return plain if found is not None and found.year in _YEARS else ""


def as_date(written: str) -> date | None:
    """YYYYMMDD as a date."""
    if len(written) != 8 or not (written.isascii() and written.isdecimal()):
        return None
    try:
        return date(int(written[:4]), int(written[4:6]), int(written[6:]))
    except ValueError:
        return None


def time_text(ds: Dataset, keyword: str) -> str:
    """A time as HH[MM[SS[.F]]] (PS3.5 6.2 TM), '' where it is missing or invalid.

    The form of ACR-NEMA (``HH:MM:SS.F``) is read too.
    """
    match = _TIME.fullmatch(text(ds, keyword))
    return "".join(part or "" for part in match.group(1, 3, 4, 5)) if match else ""


def offset_text(ds: Dataset, keyword: str) -> str:
    """An offset from UTC as +HHMM or -HHMM (PS3.3 C.12.1.1.8), '' where it is missing or invalid."""
    match = _OFFSET.fullmatch(text(ds, keyword))
    return "".join(match.groups()) if match else ""


def valid_uid(uid: str) -> str:
    """The UID if it is valid (PS3.5 9.1), else ''."""
    return uid if len(uid) <= 64 and _UID.fullmatch(uid) else ""


def usable_uid(uid: str) -> str:
    """The UID if it is valid, or if it is not but names one thing all the same; else ''.

    Leading zeros, hexadecimal digits and too many of them break PS3.5 9.1. Their sources go on writing them, and
    every system that holds the images knows them by these very characters.
    """
    odd = _SHORTEST_UID <= len(uid) <= _LONGEST_UID and _ODD_UID.fullmatch(uid) and re.search("[1-9A-Fa-f]", uid)
    return uid if valid_uid(uid) or odd else ""
