"""How a stored image is meant to be displayed: its modality and VOI transformations.

The pixels are drawn with them, and presentation states carry them. They are read from the source when they are
needed, since a lookup table of 65,536 entries is nothing to carry along with every header.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan.archive.dicomfile import open_dataset
from mammoscan.archive.identity import unchanged
from mammoscan.core.domain import Flag
from mammoscan.core.errors import InputError, Reason
from mammoscan.core.values import as_number, integer, items, text, texts
from mammoscan.image.luts import Lut, read_lut

if TYPE_CHECKING:
    from pydicom import Dataset

    from mammoscan.core.domain import Header

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# A decimal comma; three digits behind it could as well be thousands.
_COMMA = re.compile(r"[+-]?\d+,(\d{1,2}|\d{4,})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Display:
    """Stored values to values of interest. Nothing is assumed: what the image lacks or states wrongly is None.

    rescale: slope, intercept and type. window: centre and width; function '' where it isn't stated.
    linear: slope and intercept that values are drawn with, 1 and 0 where the image has none.
    flags: what was stated wrongly.
    """

    rescale: tuple[float, float, str] | None = None
    modality_lut: Lut | None = None
    window: tuple[float, float] | None = None
    function: str = ""
    voi_lut: Lut | None = None
    linear: tuple[float, float] = (1.0, 0.0)
    flags: tuple[Flag, ...] = ()


def read_display(header: Header) -> Display:
    """Read an image's display transformations.

    Raises
    ------
    InputError, OSError
        When the file can no longer be read, or is no longer the one whose header was read.
    """
    with warnings.catch_warnings(), header.file.path.open("rb") as stream, unchanged(stream, header) as check:
        warnings.simplefilter("ignore")  # values are checked here
        ds = open_dataset(stream, header.file.size).ds
        check(ds)
        return display_of(ds)


def display_of(ds: Dataset) -> Display:
    """The display transformations of a header: a VOI LUT before a window, the first usable one (PS3.3 C.11.2.1).

    Raises
    ------
    InputError
        ``BROKEN_HEADER`` when the modality LUT is damaged and nothing stands in for it.
    """
    flags: list[Flag] = []
    rescale, linear, readable = _rescale(ds, flags)
    signed = integer(ds, "PixelRepresentation") == 1
    modality_lut = _modality_lut(ds, flags, lowest=-1.0 if signed else 0.0, instead=rescale is not None)
    if modality_lut is None:
        bits = integer(ds, "BitsStored") or 16
        ends = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
        lowest = min(linear[0] * end + linear[1] for end in ends)
    else:
        lowest = 0.0
        readable = True
    voi_lut = window = None
    function = text(ds, "VOILUTFunction").upper()
    if readable:  # else values of interest cannot be told
        voi_lut = _first_lut(ds, "VOILUTSequence", flags, lowest)
        window = None if voi_lut else _window(ds, function, flags)
    return Display(
        rescale=None if modality_lut else rescale,
        modality_lut=modality_lut,
        window=window,
        function=function if window and function in FUNCTIONS else "",
        voi_lut=voi_lut,
        linear=(1.0, 0.0) if modality_lut else linear,
        flags=tuple(dict.fromkeys(flags)),
    )


def _rescale(ds: Dataset, flags: list[Flag]) -> tuple[tuple[float, float, str] | None, tuple[float, float], bool]:
    """Slope, intercept and type where both are stated; what values are drawn with; whether that could be read."""
    (slope, slope_wrong), (intercept, intercept_wrong) = (_decimal(ds, k) for k in ("RescaleSlope", "RescaleIntercept"))
    slope_wrong |= slope == 0
    if slope_wrong or intercept_wrong:
        flags.append(Flag.RESCALE_INVALID)
    readable = not ((slope_wrong and not slope) or (intercept_wrong and intercept is None))
    if not readable:
        return None, (1.0, 0.0), False
    linear = (1.0 if slope is None else slope, intercept or 0.0)
    stated = slope is not None and intercept is not None
    return (*linear, text(ds, "RescaleType") or "US") if stated else None, linear, True


def _modality_lut(ds: Dataset, flags: list[Flag], *, lowest: float, instead: bool) -> Lut | None:
    found = _first_lut(ds, "ModalityLUTSequence", flags, lowest)
    if found is None and items(ds, "ModalityLUTSequence") and not instead:
        raise InputError(Reason.BROKEN_HEADER, "the modality lookup table is missing or shorter than its descriptor")
    return found


def _first_lut(ds: Dataset, keyword: str, flags: list[Flag], lowest: float) -> Lut | None:
    """The first usable table of a sequence."""
    tables = [read_lut(item, lowest=lowest) for item in items(ds, keyword)]
    found = next((table for table in tables if table is not None), None)
    if tables and (tables[0] is None or not tables[0].as_stated):
        flags.append(Flag.LUT_INVALID)
    return found


def _window(ds: Dataset, function: str, flags: list[Flag]) -> tuple[float, float] | None:
    """The first usable window (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
    centres, widths = texts(ds, "WindowCenter"), texts(ds, "WindowWidth")
    if not any((*centres, *widths)):
        return None
    exact = function in {"LINEAR_EXACT", "SIGMOID"}
    for centre, width in zip(map(_number, centres), map(_number, widths), strict=False):
        (c, c_comma), (w, w_comma) = centre, width
        if c is not None and w is not None and (w >= 1.0 or (exact and w > 0)):
            if c_comma or w_comma:
                flags.append(Flag.WINDOW_INVALID)
            return c, w
    flags.append(Flag.WINDOW_INVALID)
    return None


def _decimal(ds: Dataset, keyword: str) -> tuple[float | None, bool]:
    """A number, and whether something is written that is none of the standard."""
    written = text(ds, keyword)
    value, comma = _number(written)
    return value, bool(written) and (comma or value is None)


def _number(written: str) -> tuple[float | None, bool]:
    """A decimal string (PS3.5 6.2 DS), and whether it was one only with its comma read as a point."""
    comma = "," in written
    return None if comma and not _COMMA.fullmatch(written) else as_number(written), comma
