"""From a stored image to one float32 image in display sense: bright tissue, padding masked."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from mammoscan import dicomfile
from mammoscan.domain import Flag, Header, Image
from mammoscan.errors import InputError, Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

log = logging.getLogger(__name__)

HTJ2K = pydicom.uid.UID("1.2.840.10008.1.2.4.203")
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
# For each transfer syntax the decoders to ask, the fastest that decodes exactly first.
DECODERS: dict[str, tuple[str, ...]] = {
    RLELossless: ("pylibjpeg", "pydicom"),
    JPEGLSLossless: ("pyjpegls", "gdcm", "pylibjpeg"),
    JPEGLSNearLossless: ("pyjpegls", "gdcm", "pylibjpeg"),
    JPEGLossless: ("gdcm", "pylibjpeg"),
    JPEGLosslessSV1: ("gdcm", "pylibjpeg"),
    JPEG2000Lossless: ("gdcm", "pylibjpeg"),
    JPEG2000: ("gdcm", "pylibjpeg"),
    HTJ2KLossless: ("pylibjpeg",),
    HTJ2KLosslessRPCL: ("pylibjpeg",),
    HTJ2K: ("pylibjpeg",),
    JPEGBaseline8Bit: ("pylibjpeg", "gdcm", "pillow"),
    JPEGExtended12Bit: ("pylibjpeg", "gdcm"),
}
_JPEG_END = b"\xff\xd9"  # EOI of JPEG and JPEG-LS, EOC of JPEG 2000: the same two bytes


def read_image(header: Header, *, max_pixels: int) -> Image:
    """Read, check and decode the file of a header.

    Raises
    ------
    InputError
        With the coded reason: no, short, unsupported or undecodable pixels, or too many.
    """
    if header.rows * header.columns > max_pixels:
        raise InputError(Reason.TOO_LARGE, f"{header.columns} x {header.rows}")
    if not header.rows or not header.columns:
        raise InputError(Reason.NO_PIXELS, "Rows or Columns missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = _read(header, max_pixels)
            if "Rows" not in ds:
                # The header pass read it: pydicom drops everything when the file ends within PixelData.
                raise InputError(Reason.TRUNCATED, "ends within the pixel data")
            return display_image(ds, header)
    except OSError as error:
        raise InputError(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
    except RecursionError as error:
        raise InputError(Reason.BROKEN_HEADER, "sequences nested too deeply") from error
    except (EOFError, pydicom.errors.InvalidDicomError) as error:
        raise InputError(Reason.TRUNCATED, "ends within an attribute") from error


def display_image(ds: Dataset, header: Header) -> Image:
    """One display-sense image of a data set with pixels.

    Order: modality LUT or rescale, VOI LUT or window, inversion of MONOCHROME1 (PS3.3 C.11.1, C.11.2,
    PS3.4 N.2). All steps act on stored values alone, so one table of all stored values does them.

    Raises
    ------
    InputError
        As ``read_image``.
    """
    if (ds.get("SamplesPerPixel") or 1) != 1 or header.photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise InputError(Reason.UNSUPPORTED_PIXELS, header.photometric or "no PhotometricInterpretation")
    allocated, stored = int(ds.get("BitsAllocated") or 0), int(ds.get("BitsStored") or 0)
    if allocated not in {8, 16} or not 0 < stored <= allocated:
        raise InputError(Reason.UNSUPPORTED_PIXELS, f"{stored} bits in {allocated}")
    values = decode(ds, header.rows, header.columns)
    signed = ds.get("PixelRepresentation") == 1
    index, levels = _index(values, stored, signed)
    padding = padding_mask(index, levels, ds)
    used = np.bincount(index[~padding].ravel(), minlength=len(levels)) > 0
    flags: list[Flag] = []
    table = display_table(levels, used, ds, flags)
    pixels = table[index]
    pixels[padding] = 0.0
    return Image(header, pixels, padding, tuple(flags))


def decode(ds: Dataset, rows: int, columns: int) -> NDArray[Any]:
    """Stored values (rows, columns), by the fastest decoder of the transfer syntax that works.

    Raises
    ------
    InputError
        ``NO_PIXELS``, ``TRUNCATED``, ``UNSUPPORTED_SYNTAX`` or ``DECODE_FAILED``.
    """
    if "PixelData" not in ds or not ds.PixelData:
        raise InputError(Reason.NO_PIXELS)
    syntax = ds.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if syntax in NATIVE:
        expected = rows * columns * (int(ds.BitsAllocated) // 8)
        if len(ds.PixelData) < expected:
            raise InputError(Reason.TRUNCATED, f"{len(ds.PixelData)} of {expected} bytes")
        kind = np.dtype(f"u{int(ds.BitsAllocated) // 8}").newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")
        array = np.frombuffer(ds.PixelData, kind, count=rows * columns).reshape(rows, columns)
        return array.astype(kind.newbyteorder("="), copy=False)
    if syntax not in DECODERS:
        raise InputError(Reason.UNSUPPORTED_SYNTAX, str(syntax))
    _check_whole(ds, str(syntax))
    decoder = get_decoder(syntax)
    errors = []
    for plugin in (p for p in DECODERS[syntax] if p in decoder.available_plugins):
        try:
            array, _ = decoder.as_array(ds, index=0, raw=True, decoding_plugin=plugin)
        except BaseException as error:
            # A decoder written in Rust that trips over its input raises PanicException, which is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            errors.append(f"{plugin}: {type(error).__name__}")
            continue
        if array.shape == (rows, columns):
            return array
        errors.append(f"{plugin}: {array.shape}")
    if not errors:
        raise InputError(Reason.UNSUPPORTED_SYNTAX, f"{syntax}: {', '.join(decoder.missing_dependencies)}")
    raise InputError(Reason.DECODE_FAILED, "; ".join(errors))


def _check_whole(ds: Dataset, syntax: str) -> None:
    """A codestream must have its end mark: some decoders fill what is missing with grey."""
    try:
        frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    except (ValueError, StopIteration, EOFError) as error:
        raise InputError(Reason.TRUNCATED, "the encapsulated pixel data is damaged") from error
    if syntax == RLELossless:
        return
    if _JPEG_END not in frame[-16:]:
        raise InputError(Reason.TRUNCATED, "the compressed image has no end mark")


def _index(values: NDArray[Any], stored: int, signed: bool) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Values as indices into the table of all ``2**stored`` stored values, and that table.

    Bits above BitsStored are no part of the value (PS3.5 8.1.1) and are cut off.
    """
    bits = values.view(np.uint16 if values.dtype.itemsize == 2 else np.uint8) & ((1 << stored) - 1)
    levels = np.arange(1 << stored, dtype=np.float64)
    if signed:
        levels = np.where(levels >= (1 << (stored - 1)), levels - (1 << stored), levels)
    return bits.astype(np.uint16), levels


def padding_mask(index: NDArray[np.uint16], levels: NDArray[np.float64], ds: Dataset) -> NDArray[np.bool_]:
    """Where the pixels are padding: PixelPaddingValue to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    value, limit = ds.get("PixelPaddingValue"), ds.get("PixelPaddingRangeLimit")
    if value is None or value == "":
        return np.zeros(index.shape, bool)
    ends = (_stored(int(value), levels), _stored(int(limit if limit not in (None, "") else value), levels))
    is_padding = (levels >= min(ends)) & (levels <= max(ends))
    mask = is_padding[index]
    # A padding value that swallows the picture was written wrongly: rather show everything.
    return np.zeros(index.shape, bool) if mask.all() else mask


def _stored(value: int, levels: NDArray[np.float64]) -> float:
    """A padding value in the range of the stored values, whatever VR it was written with."""
    size = len(levels)
    return float(value - size) if levels.min() < 0 and value > levels.max() else float(value)


def display_table(
    levels: NDArray[np.float64], used: NDArray[np.bool_], ds: Dataset, flags: list[Flag]
) -> NDArray[np.float32]:
    """Display value, 0 to 1, of every stored value. used: bool, which of them occur outside padding."""
    modality = modality_values(levels, ds)
    if ds.get("PresentationIntentType") == "FOR PROCESSING" or str(ds.get("SOPClassUID")) == (
        "1.2.840.10008.5.1.4.1.1.1.2.1"
    ):
        # Raw detector values fall exponentially with thickness: log and inversion make a picture.
        display = stretch(-np.log(np.maximum(modality - modality[used].min(initial=0.0), 0.0) + 1.0), used)
    else:
        windowed = voi_values(modality, ds, flags)
        display = stretch(modality, used) if windowed is None else windowed
    if ds.get("PhotometricInterpretation") == "MONOCHROME1":
        display = 1.0 - display
    return np.clip(display, 0.0, 1.0).astype(np.float32)


def modality_values(levels: NDArray[np.float64], ds: Dataset) -> NDArray[np.float64]:
    """Modality LUT, or slope and intercept (PS3.3 C.11.1)."""
    sequence = ds.get("ModalityLUTSequence")
    if sequence:
        data, first = _lut(sequence[0])
        return data[np.clip(levels - first, 0, len(data) - 1).astype(np.intp)]
    slope, intercept = _float(ds.get("RescaleSlope")), _float(ds.get("RescaleIntercept"))
    return levels * (1.0 if slope is None or slope == 0 else slope) + (intercept or 0.0)


def voi_values(values: NDArray[np.float64], ds: Dataset, flags: list[Flag]) -> NDArray[np.float64] | None:
    """VOI LUT, else the first usable window, 0 to 1; None where there is neither (PS3.3 C.11.2)."""
    sequence = ds.get("VOILUTSequence")
    if sequence:
        data, first = _lut(sequence[0])
        top = max(1.0, float(2 ** _lut_bits(sequence[0], data) - 1))
        return np.asarray(data[np.clip(np.floor(values) - first, 0, len(data) - 1).astype(np.intp)] / top)
    centres, widths = _floats(ds.get("WindowCenter")), _floats(ds.get("WindowWidth"))
    if not centres and not widths:
        return None
    function = str(ds.get("VOILUTFunction") or "LINEAR").upper()
    for centre, width in zip(centres, widths, strict=False):
        if width >= 1.0 or (width > 0 and function != "LINEAR"):
            return window(values, centre, width, function)
    flags.append(Flag.WINDOW_INVALID)
    return None


def window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Window to 0 to 1: LINEAR (C.11.2.1.2.1), SIGMOID (C.11.2.1.3.1), LINEAR_EXACT (C.11.2.1.3.2)."""
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width <= 1.0:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def stretch(values: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The values that occur, stretched to 0 to 1: what is shown where the file says nothing."""
    occurring = values[used]
    if occurring.size == 0 or occurring.max() == occurring.min():
        return np.zeros_like(values)
    return np.asarray((values - occurring.min()) / (occurring.max() - occurring.min()))


def _lut(item: Dataset) -> tuple[NDArray[np.float64], float]:
    count, first, _ = (int(v) for v in item.LUTDescriptor)
    raw = item["LUTData"]
    data = np.frombuffer(raw.value, "<u2") if isinstance(raw.value, bytes) else np.atleast_1d(np.asarray(raw.value))
    count = count or 65536
    if len(data) < count:
        raise InputError(Reason.BROKEN_HEADER, "a lookup table is shorter than its descriptor")
    # Entries: signed first values come as US in a file with signed pixels.
    return data[:count].astype(np.float64) % 65536, float(first)


def _lut_bits(item: Dataset, data: NDArray[np.float64]) -> int:
    stated = int(item.LUTDescriptor[2])
    return max(stated, int(np.ceil(np.log2(max(2.0, data.max() + 1)))))


def _float(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


def _floats(value: Any) -> list[float]:
    if value is None:
        return []
    several = value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
    return [f for f in (_float(v) for v in several) if f is not None]


def _read(header: Header, max_pixels: int) -> Dataset:
    path = header.file.path
    if header.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        return _read_deflated(header, 4 * max_pixels)
    with path.open("rb") as stream:
        start = stream.read(132)
    return pydicom.dcmread(path, force=start[128:132] != b"DICM")


def _read_deflated(header: Header, most: int) -> Dataset:
    """A deflated file, inflated to at most ``most`` bytes."""
    with header.file.path.open("rb") as stream:
        pydicom.filereader.read_preamble(stream, force=False)
        meta = pydicom.filereader._read_file_meta_info(stream)
        try:
            content, more = dicomfile.inflate(stream.read(), most)
        except zlib.error as error:
            raise InputError(Reason.TRUNCATED, "the deflated part is damaged") from error
    if more:
        raise InputError(Reason.TOO_LARGE, f"inflates to more than {most} bytes")
    ds = pydicom.filereader.read_dataset(io.BytesIO(content), is_implicit_VR=False, is_little_endian=True)
    ds.file_meta = meta
    return ds
