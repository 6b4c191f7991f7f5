"""Values of a data set, strictly and fast: what is not valid is unknown, never guessed.

Most attributes of a header are plain ASCII. They are read from the undecoded bytes, since turning
each into an object of its own costs more than all the rest of a header pass; everything else (text
in other character sets, sequences) goes through pydicom.
"""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

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
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", re.ASCII)
_DATE = re.compile(r"(\d{4})([.-]?)(\d{2})\2(\d{2})", re.ASCII)
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)


@cache
def _entry(keyword: str) -> tuple[BaseTag, str]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(f"no such attribute: {keyword}")
    return Tag(tag), dictionary_VR(tag)


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
    """A decimal string as a number; None for anything else, ``nan`` and ``inf`` included."""
    return float(written) if _DECIMAL.fullmatch(written) else None


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
    return plain if as_date(plain) is not None else ""


def as_date(written: str) -> date | None:
    """YYYYMMDD as a date."""
    if len(written) != 8 or not (written.isascii() and written.isdecimal()):
        return None
    try:
        return date(int(written[:4]), int(written[4:6]), int(written[6:]))
    except ValueError:
        return None


def time_text(ds: Dataset, keyword: str) -> str:
    """A time as HH[MM[SS[.F]]] (PS3.5 6.2 TM), '' where it is missing or invalid."""
    found = text(ds, keyword)
    return found if _TIME.fullmatch(found) else ""


def valid_uid(uid: str) -> str:
    """The UID if it is valid (PS3.5 9.1), else ''."""
    return uid if len(uid) <= 64 and _UID.fullmatch(uid) else ""
