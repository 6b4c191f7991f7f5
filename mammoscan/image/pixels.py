"""From a stored image to one float32 image in display sense: bright tissue, padding masked."""

from __future__ import annotations

import struct
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mammoscan.archive.dicomfile import open_dataset
from mammoscan.archive.identity import unchanged
from mammoscan.core.domain import Flag, Header, Image
from mammoscan.core.errors import InputError, Reason
from mammoscan.core.values import integer, text
from mammoscan.image import jpeg2000, lossless
from mammoscan.image.codestream import Codestream, Coding, Element, codestream, element_of, image_bytes, read_element
from mammoscan.image.display import display_of
from mammoscan.image.halved import halved
from mammoscan.image.polarity import border_is_air, shrunk
from mammoscan.image.stored import Format, padding, stored_values

if TYPE_CHECKING:
    from typing import BinaryIO

    from numpy.typing import NDArray
    from pydicom import Dataset

    from mammoscan.image.display import Display
    from mammoscan.image.luts import Lut
    from mammoscan.image.stored import Stored

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
UNCOMPRESSED = pydicom.uid.UID("1.2.840.10008.1.2.1.98")  # in fragments (PS3.5 A.4.11)
# Decoders that are faster than all others, and say nothing where they are not sure.
_FAST = {Coding.LOSSLESS: lossless.values, Coding.JPEG_2000: jpeg2000.values}
# For each coding the decoders to ask then, the fastest that decodes exactly first.
_DECODERS = {
    Coding.RLE: ("pylibjpeg", "pydicom"),
    Coding.JPEG_LS: ("pyjpegls", "gdcm", "pylibjpeg"),
    Coding.LOSSLESS: ("gdcm", "pylibjpeg"),
    Coding.JPEG_2000: ("gdcm", "pylibjpeg"),
    Coding.HIGH_THROUGHPUT: ("pylibjpeg",),
    Coding.BASELINE: ("pylibjpeg", "gdcm", "pillow"),
    Coding.EXTENDED: ("pylibjpeg", "gdcm"),
}
DECODERS: dict[str, tuple[str, ...]] = {s: plugins for c, plugins in _DECODERS.items() for s in c.syntaxes}
_BEFORE_PIXELS = 32 * 1024 * 1024  # bytes; longer elements between header and pixels are not looked at
_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"
_FIRST_PIXELS = 0x7FE00008  # Float Pixel Data, of which there are no mammograms, comes before Pixel Data
# Air that is declared as padding is air: as dark as the darkest of the rest, but for this much of the display range.
_AIR_GAP = 0.04
_AIR_SHARE = 0.001  # of the other pixels, which are darkest
# Padding farther below the values than this share of their span was painted in and stretches nothing.
_PAINTED_IN = 0.5


def read_image(header: Header, *, max_pixels: int, half: bool = False) -> Image:
    """Read, check and decode the file of a header.

    half: whether half the resolution will do. It is taken where what is shown for a stored value hangs on that value alone,
    and no value stands for padding.

    Raises
    ------
    InputError
        With the coded reason: changed since its header was read, no, short, unsupported or undecodable
        pixels, or too many.
    """
    if header.rows * header.columns > max_pixels:
        raise InputError(Reason.TOO_LARGE, f"{header.columns} x {header.rows}")
    if not header.rows or not header.columns:
        raise InputError(Reason.NO_PIXELS, "Rows or Columns missing")
    try:
        with (
            warnings.catch_warnings(),
            header.file.path.open("rb") as stream,
            unchanged(stream, header) as check,
        ):
            warnings.simplefilter("ignore")
            opened = open_dataset(stream, header.file.size, most_inflated=4 * max_pixels)
            check(opened.ds)
            element = _pixel_element(opened.ds, opened.stream)
            flags = [*_contradicted(opened.ds)]
            return _display_image(opened.ds, element, header, flags, half=half)
    except OSError as error:
        raise InputError(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
    except RecursionError as error:
        raise InputError(Reason.BROKEN_HEADER, "sequences nested too deeply") from error
    except pydicom.errors.BytesLengthException as error:
        raise InputError(Reason.BROKEN_HEADER, "a value has a length that its VR does not allow") from error
    except (EOFError, struct.error, pydicom.errors.InvalidDicomError) as error:
        raise InputError(Reason.TRUNCATED, "ends within an attribute") from error


def _pixel_element(ds: Dataset, stream: BinaryIO) -> Element | None:
    """The pixel data behind a header, at whose end the stream stands. None where there is none."""
    implicit, little = _encoding(ds)
    read_dataset(stream, implicit, little, stop_when=lambda tag, _vr, _length: tag >= _FIRST_PIXELS,
                 defer_size=_BEFORE_PIXELS)  # fmt: skip
    return read_element(stream, little=little)


def _encoding(ds: Dataset) -> tuple[bool, bool]:
    """(implicit VR, little endian) as a data set was read."""
    implicit, little = ds.original_encoding
    return bool(implicit), little is not False


def display_image(ds: Dataset, header: Header) -> Image:
    """One display-sense image of a data set with pixels.

    Order: modality LUT or rescale, VOI LUT or window, inversion of MONOCHROME1 (PS3.3 C.11.1, C.11.2,
    PS3.4 N.2). All steps act on stored values alone, so one table of all stored values does them.

    Raises
    ------
    InputError
        As ``read_image``.
    """
    return _display_image(ds, element_of(ds), header, [])


def _contradicted(ds: Dataset) -> tuple[Flag, ...]:
    """Whether a data set was found in another encoding than its transfer syntax says."""
    syntax = ds.file_meta.get("TransferSyntaxUID", "")
    stated = (syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
    return (Flag.SYNTAX_CONTRADICTED,) if syntax and _encoding(ds) != stated else ()


def _display_image(
    ds: Dataset, element: Element | None, header: Header, flags: list[Flag], *, half: bool = False
) -> Image:
    if (integer(ds, "SamplesPerPixel") or 1) != 1 or header.photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise InputError(Reason.UNSUPPORTED_PIXELS, header.photometric or "no PhotometricInterpretation")
    form = _format(ds, flags)
    step = 1
    if half and _may_be_halved(ds, form):
        picture, form, step = _half_decoded(ds, element, header, form, flags)
    else:
        picture, form = _decode(ds, element, header.rows, header.columns, form, flags)
    values = stored_values(picture, form, flags)
    is_padding, is_level = padding(values, ds, form)
    counts = values.by_level(~is_padding)
    # Padding beyond what can be stored was painted in; what its lower bits say is no value.
    padded = values.by_level(is_padding & is_level) > 0
    table = display_table(values, counts > 0, padded, ds, flags)
    # What is declared as padding may be the air itself: it is shown and measured as if it were not declared.
    air = bool(padded.any()) and is_air(table, counts, padded)
    shown = table[values.level]
    if not air:
        shown[is_padding] = 0.0
    mask = values.shown(is_padding.view(np.uint8)).view(bool) if is_padding.any() else np.zeros(picture.shape, bool)
    return Image(header, values.shown(shown), mask, tuple(dict.fromkeys(flags)), padding_is_air=air, step=step)


def _may_be_halved(ds: Dataset, form: Format) -> bool:
    """Whether a value that is mixed of its neighbours' is shown as such: by a window or a table, and is never padding."""
    if form.signed or form.shift or "PixelPaddingValue" in ds or _is_raw(ds):
        return False
    try:
        shown = display_of(ds)
    except InputError:
        return False  # it is told where the values are drawn
    return shown.voi_lut is not None or shown.window is not None


def _half_decoded(
    ds: Dataset, element: Element | None, header: Header, form: Format, flags: list[Flag]
) -> tuple[NDArray[Any], Format, int]:
    """Stored values at half the resolution, how they lie, and 2: the source's pixels for one; all of them, and 1, where bits
    are set that belong to no value.
    """
    low = _low_band(ds, element, header, form)
    if low is not None:
        return low.astype(f"u{form.allocated // 8}", copy=False), form, 2
    picture, form = _decode(ds, element, header.rows, header.columns, form, flags)
    if form.shift or int(picture.max()) >= 1 << form.stored:
        return picture, form, 1
    return halved(picture, form.stored), form, 2


def _low_band(ds: Dataset, element: Element | None, header: Header, form: Format) -> NDArray[Any] | None:
    """What a lossless JPEG 2000 image holds at half the resolution; None where the whole has to be decoded."""
    syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
    if element is None or syntax not in Coding.JPEG_2000.syntaxes:
        return None
    content, whole = image_bytes(element)
    found = codestream(content, whole=whole)
    if found is None or not found.whole or found.coding is not Coding.JPEG_2000:
        return None
    as_stated = (found.rows, found.columns, found.precision) == (header.rows, header.columns, form.stored)
    return jpeg2000.low_band(found) if as_stated else None


def _format(ds: Dataset, flags: list[Flag]) -> Format:
    allocated, stored = integer(ds, "BitsAllocated") or 0, integer(ds, "BitsStored") or 0
    if allocated not in {8, 16} or not 0 < stored <= allocated:
        raise InputError(Reason.UNSUPPORTED_PIXELS, f"{stored} bits in {allocated}")
    high = integer(ds, "HighBit")
    high = stored - 1 if high is None else high
    if not stored <= high + 1 <= allocated:
        raise InputError(Reason.UNSUPPORTED_PIXELS, f"HighBit {high} for {stored} bits in {allocated}")
    representation = integer(ds, "PixelRepresentation")
    if representation not in {0, 1}:
        flags.append(Flag.PIXEL_FORMAT)
    return Format(allocated, stored, high, representation == 1)


def decode(ds: Dataset, rows: int, columns: int) -> NDArray[Any]:
    """Stored values (rows, columns) as they are allocated, unsigned, by the fastest decoder that works.

    Raises
    ------
    InputError
        ``NO_PIXELS``, ``TRUNCATED``, ``UNSUPPORTED_PIXELS``, ``UNSUPPORTED_SYNTAX`` or ``DECODE_FAILED``.
    """
    return _decode(ds, element_of(ds), rows, columns, _format(ds, []), [])[0]


def _decode(
    ds: Dataset, element: Element | None, rows: int, columns: int, form: Format, flags: list[Flag]
) -> tuple[NDArray[Any], Format]:
    """Stored values by what the pixel data is, whatever the transfer syntax says; and how they lie in what they are in."""
    if element is None or not element.value:
        raise InputError(Reason.NO_PIXELS)
    syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
    if syntax and syntax not in {*NATIVE, UNCOMPRESSED, *DECODERS}:
        raise InputError(Reason.UNSUPPORTED_SYNTAX, syntax)
    expected = rows * columns * (form.allocated // 8)
    content, whole = image_bytes(element)
    found = None if len(content) in {expected, expected + 1} else codestream(content, whole=whole)
    if found is not None:
        if syntax not in found.coding.syntaxes:
            flags.append(Flag.SYNTAX_CONTRADICTED)
        return _decompressed(found, syntax, rows, columns, form)
    if len(content) < expected:
        raise InputError(Reason.TRUNCATED, f"{len(content)} of {expected} bytes")
    compressed = syntax in DECODERS
    if compressed and len(content) > expected + 1:
        raise InputError(Reason.DECODE_FAILED, "neither a compressed image that is known nor plain values")
    if compressed:
        flags.append(Flag.SYNTAX_CONTRADICTED)
    # Fragments are little endian always (PS3.5 A.4).
    little = _encoding(ds)[1] if not syntax else syntax != ExplicitVRBigEndian
    little |= element.fragmented or compressed
    return _native(content, rows, columns, form.allocated, little=little, words=element.vr == "OW"), form


def _native(
    content: bytes, rows: int, columns: int, allocated: int, *, little: bool, words: bool
) -> NDArray[np.unsignedinteger[Any]]:
    """Plain values. words: whether bytes were written as words of 16 bits (PS3.5 8.1.1, 8.2, A.3)."""
    if allocated == 8 and words and not little:
        swapped = np.frombuffer(content + b"\0" * (len(content) % 2), ">u2").astype("<u2")
        return swapped.view(np.uint8)[: rows * columns].reshape(rows, columns)
    kind = np.dtype(f"{'<' if little else '>'}u{allocated // 8}")
    array = np.frombuffer(content, kind, count=rows * columns).reshape(rows, columns)
    return array.astype(kind.newbyteorder("="), copy=False)


def _decompressed(
    found: Codestream, syntax: str, rows: int, columns: int, form: Format
) -> tuple[NDArray[np.unsignedinteger[Any]], Format]:
    """Values of a codestream, in what the header says is allocated for them."""
    if not found.whole:
        # Some decoders fill what is missing with grey.
        raise InputError(Reason.TRUNCATED, "the compressed image has no end")
    if found.components != 1:
        raise InputError(Reason.UNSUPPORTED_PIXELS, f"a compressed image of {found.components} colours")
    if found.rows and (found.rows, found.columns) != (rows, columns):
        raise InputError(
            Reason.DECODE_FAILED, f"a compressed image of {found.columns} x {found.rows}, not {columns} x {rows}"
        )
    if found.precision > form.allocated:
        raise InputError(Reason.DECODE_FAILED, f"a compressed image of {found.precision} bits, not {form.allocated}")
    plain = _FAST[found.coding](found) if found.coding in _FAST else None
    if plain is not None:
        # The plugins' numbers have their sign in all bits, too.
        values = _sign_extended(plain, found.precision) if form.signed else plain
    else:
        values = _by_plugins(found, syntax, rows, columns, form).view(
            f"u{1 if found.precision in range(1, 9) else form.allocated // 8}"
        )
    values = values.astype(f"u{form.allocated // 8}", copy=False)
    if not found.precision:
        return values, form
    if form.signed and found.precision < form.stored:
        values = _sign_extended(values, found.precision)
    # A coder is given values as numbers: they are shifted only where it was told of more bits than are stored.
    return values, form if found.precision > form.stored else replace(form, high=form.stored - 1)


def _sign_extended(values: NDArray[np.unsignedinteger[Any]], bits: int) -> NDArray[np.unsignedinteger[Any]]:
    """The highest of some bits repeated in all bits above."""
    above = 8 * values.dtype.itemsize - bits
    return ((values << above).view(f"i{values.dtype.itemsize}") >> above).view(values.dtype)


def _by_plugins(found: Codestream, syntax: str, rows: int, columns: int, form: Format) -> NDArray[Any]:
    """The array of the first decoder that works."""
    under = syntax if syntax in found.coding.syntaxes else found.coding.syntaxes[0]
    decoder = get_decoder(under)
    options: Any = {
        "rows": rows,
        "columns": columns,
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "photometric_interpretation": "MONOCHROME2",
        "pixel_keyword": "PixelData",
        "bits_allocated": 8 if found.precision in range(1, 9) else form.allocated,
        "bits_stored": found.precision or form.stored,
        "pixel_representation": int(form.signed),
    }
    errors = []
    for plugin in (p for p in DECODERS[under] if p in decoder.available_plugins):
        try:
            array, _ = decoder.as_array(
                encapsulate([found.content]), index=0, raw=True, decoding_plugin=plugin, **options
            )
        except BaseException as error:
            # A decoder written in Rust that trips over its input raises PanicException, which is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            errors.append(f"{plugin}: {type(error).__name__}")
            continue
        if array.shape == (rows, columns):
            return np.ascontiguousarray(array)
        errors.append(f"{plugin}: {array.shape}")
    if not errors:
        raise InputError(Reason.UNSUPPORTED_SYNTAX, f"{under}: {', '.join(decoder.missing_dependencies)}")
    raise InputError(Reason.DECODE_FAILED, "; ".join(errors))


def is_air(table: NDArray[np.float32], counts: NDArray[np.intp], padded: NDArray[np.bool_]) -> bool:
    """Whether padding is air: no brighter than the darkest of the other pixels, and next to it.

    table: display values. counts: how many pixels outside padding have each. padded: bool, which occur in padding.
    """
    air = float(table[padded].max())
    order = np.argsort(table, kind="stable")
    below = np.cumsum(counts[order])
    darkest = float(table[order[np.searchsorted(below, _AIR_SHARE * below[-1], side="right")]])
    return -_AIR_GAP < air - darkest <= 1e-6


def display_table(
    values: Stored, used: NDArray[np.bool_], padded: NDArray[np.bool_], ds: Dataset, flags: list[Flag]
) -> NDArray[np.float32]:
    """Display value, 0 to 1, of every level.

    values: the levels, and the picture for raw images of which the header does not say which way round they are.
    used, padded: bool, which levels occur outside and within padding.
    """
    shown = display_of(ds)
    flags.extend(shown.flags)
    modality = modality_values(values.levels, shown)
    inverted = ds.get("PhotometricInterpretation") == "MONOCHROME1"
    windowed = voi_values(modality, shown)
    if _is_raw(ds):
        display = _raw_display(modality, used, padded, ds, values)
    elif windowed is None:
        display = _stretched(-modality if inverted else modality, used, padded)
    else:
        display = 1.0 - windowed if inverted else windowed
    return np.clip(display, 0.0, 1.0).astype(np.float32)


def _is_raw(ds: Dataset) -> bool:
    return text(ds, "PresentationIntentType") == "FOR PROCESSING" or text(ds, "SOPClassUID") == _FOR_PROCESSING


def _raw_display(
    modality: NDArray[np.float64],
    used: NDArray[np.bool_],
    padded: NDArray[np.bool_],
    ds: Dataset,
    values: Stored,
) -> NDArray[np.float64]:
    """A picture of raw values: tissue bright by PixelIntensityRelationship and its sign (PS3.3 C.8.11.3.1.2).

    They say how values follow from the intensity of the rays, so PhotometricInterpretation adds nothing, but where
    the sign is missing: then low values are tissue if they are to be shown white; else the picture decides.
    """
    stated = integer(ds, "PixelIntensityRelationshipSign")
    logarithmic = text(ds, "PixelIntensityRelationship").upper() == "LOG"
    if stated in {-1, 1}:
        sign = stated
    elif ds.get("PhotometricInterpretation") == "MONOCHROME1":
        sign = 1
    else:
        # Judged without the logarithm, which spreads what is next to nothing.
        low_is_white = _stretched(-modality, used, padded).astype(np.float32)
        sign = -1 if border_is_air(shrunk(values.shown(low_is_white[values.level]))) else 1
    return _stretched(_attenuation(modality, sign, logarithmic=logarithmic), used, padded)


def _attenuation(modality: NDArray[np.float64], sign: int, *, logarithmic: bool) -> NDArray[np.float64]:
    """What rises with what the rays lost on their way. sign: 1 where higher values are more intensity, -1 where less."""
    if logarithmic:
        return -sign * modality
    # Intensity falls exponentially with thickness. It is counted from the lowest that can be stored.
    intensity = modality if sign > 0 else modality.max() - modality
    return -np.log(np.maximum(intensity - min(0.0, float(intensity.min())), 0.0) + 1.0)


def modality_values(levels: NDArray[np.float64], shown: Display) -> NDArray[np.float64]:
    """Modality LUT, or slope and intercept (PS3.3 C.11.1)."""
    if shown.modality_lut is not None:
        return _looked_up(levels, shown.modality_lut)
    slope, intercept = shown.linear
    return levels * slope + intercept


def voi_values(values: NDArray[np.float64], shown: Display) -> NDArray[np.float64] | None:
    """VOI LUT, else the window, 0 to 1; None where there is neither (PS3.3 C.11.2)."""
    if shown.voi_lut is not None:
        return _looked_up(np.floor(values), shown.voi_lut) / float(2**shown.voi_lut.bits - 1)
    if shown.window is None:
        return None
    return window(values, *shown.window, shown.function or "LINEAR")


def _looked_up(values: NDArray[np.float64], lut: Lut) -> NDArray[np.float64]:
    entries = np.asarray(lut.entries, np.float64)
    return entries[np.clip(values - lut.first, 0, len(entries) - 1).astype(np.intp)]


def window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Window to 0 to 1: LINEAR (C.11.2.1.2.1), SIGMOID (C.11.2.1.3.1), LINEAR_EXACT (C.11.2.1.3.2)."""
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width <= 1.0:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _stretched(values: NDArray[np.float64], used: NDArray[np.bool_], padded: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Stretched over the values that occur, air included where it is declared as padding."""
    if not (padded.any() and used.any()):
        return stretch(values, used)
    low, high = float(values[used].min()), float(values[used].max())
    air = float(values[padded].max())
    near = air <= low and low - float(values[padded].min()) <= _PAINTED_IN * (high - low)
    return stretch(values, used | padded if near else used)


def stretch(values: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The values that occur, stretched to 0 to 1: what is shown where the file says nothing."""
    occurring = values[used]
    if occurring.size == 0 or occurring.max() == occurring.min():
        return np.zeros_like(values)
    return np.asarray((values - occurring.min()) / (occurring.max() - occurring.min()))
