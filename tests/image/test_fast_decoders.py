"""The fast ways to read JPEG Lossless and JPEG 2000: exact, and silent wherever they are not sure."""

import os
import struct
from collections import Counter

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLossless

from mammoscan.image import jpeg2000, lossless, pixels
from mammoscan.image.codestream import Coding, codestream
from mammoscan.synthetic import jpeg_lossless
from tests.image import damaged
from tests.image.test_pixels import _dataset

PREDICTORS = range(1, 8)


def _encoded(values, bits, predictor=1):
    return imagecodecs.jpeg8_encode(values, lossless=True, predictor=predictor, bitspersample=bits)


def _values(content):
    return lossless.values(codestream(content))


def _lossless_dataset(content, values, bits, *, signed=False):
    ds = _dataset(np.zeros_like(values, int), bits=bits)
    ds.file_meta.TransferSyntaxUID = JPEGLossless
    ds.PixelData = encapsulate([content])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.PixelRepresentation = int(signed)
    return ds


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("bits", range(2, 17))
def test_whole_streams_are_read_exactly(bits, predictor):
    most = (1 << bits) - 1
    steps = most * np.abs(7 - np.arange(47 * 61).reshape(47, 61) // 122 % 14) / 7  # of two rows each, down and up
    grain = np.random.default_rng(bits).normal(0, 3, steps.shape)
    values = np.clip(np.round(steps + grain), 0, most).astype(np.uint8 if bits <= 8 else np.uint16)
    read = _values(_encoded(values, bits, predictor))
    assert read.dtype == values.dtype
    assert np.array_equal(read, values)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (700, 801)])
@pytest.mark.parametrize("bits", [8, 12])
def test_every_shape_is_read_by_both_encoders(bits, shape):
    values = damaged.picture(bits, 1, *shape)
    for content in (jpeg_lossless.encode(values, bits), _encoded(values, bits)):
        assert np.array_equal(_values(content), values)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_numbers_are_those_of_the_other_decoders(bits, signed, monkeypatch):
    values = damaged.picture(bits, 2)
    ds = _lossless_dataset(_encoded(values, bits, 4), values, bits, signed=signed)
    fast = pixels.decode(ds, *values.shape)
    monkeypatch.setattr(pixels, "_FAST", {})
    assert np.array_equal(fast, pixels.decode(ds, *values.shape))
    if signed:
        assert np.array_equal(fast.view(np.int16), np.where(values >> (bits - 1), values - 2.0**bits, values))


def test_other_decoders_are_asked_nothing_where_the_fast_one_is_sure(monkeypatch):
    values = damaged.picture(12, 3)
    ds = _lossless_dataset(_encoded(values, 12), values, 12)
    monkeypatch.setattr(pixels, "get_decoder", None)
    assert np.array_equal(pixels.decode(ds, *values.shape), values)


@pytest.mark.parametrize("first", [0, 40000, 65535])
@pytest.mark.parametrize("code", [b"\xf0", b"\x10"])
def test_a_black_pixel_of_16_bits_may_come_first_alone(first, code):
    """Its difference from half the range is that by which codes are known that the stream does not have."""
    values = damaged.picture(16, 6) // 64
    values[0, 0] = first
    content = _encoded(values, 16)
    assert np.array_equal(_values(content), values)
    begin = lossless.plain_scan(content).begin
    changed = content[:begin] + bytes([content[begin] ^ code[0]]) + content[begin + 1 :]
    read = _values(changed)
    assert read is None or np.array_equal(read, damaged.by_gdcm(changed, 16))
    values[9, 9] = values[9, 8] ^ 32768
    assert _values(_encoded(values, 16)) is None


def _point_transform(values):
    """A stream of values without their lowest bit, which is said in the scan."""
    content = _encoded(values >> 1, 11)
    frame, scan = content.index(b"\xff\xc3"), content.index(b"\xff\xda")
    assert (content[frame + 4], content[scan + 9]) == (11, 0)
    return content[: frame + 4] + b"\x0c" + content[frame + 5 : scan + 9] + b"\x01" + content[scan + 10 :]


def _restart_intervals(values):
    """A stream that says that it has no restart intervals."""
    content = _encoded(values, 12)
    scan = content.index(b"\xff\xda")
    return content[:scan] + struct.pack(">HHH", 0xFFDD, 4, 0) + content[scan:]


@pytest.mark.parametrize(("made", "kept"), [(_point_transform, 0xFFFE), (_restart_intervals, 0xFFFF)])
def test_what_is_not_plain_is_left_to_the_other_decoders(made, kept):
    values = damaged.picture(12, 4)
    content = made(values)
    assert _values(content) is None
    assert np.array_equal(pixels.decode(_lossless_dataset(content, values, 12), *values.shape), values & kept)


def test_values_beyond_their_precision_are_left_to_the_other_decoders():
    values = damaged.picture(12, 5)
    content = _encoded(values, 12)
    at = content.index(b"\xff\xc3") + 4
    assert _values(content[:at] + b"\x0b" + content[at + 1 :]) is None


def test_a_version_of_jfif_that_there_is_not_is_left_to_the_other_decoders():
    """gdcm ends the process that asks it."""
    content = _encoded(damaged.picture(12, 9), 12)
    at = content.index(b"JFIF\0") + 5
    assert content[at] == 1
    assert _values(content[:at] + b"\x10" + content[at + 1 :]) is None


@pytest.mark.parametrize("number", [1233, 1417, 2961, 3329, 3624])
def test_bits_that_are_no_code_are_not_made_good_by_zeros_behind_the_end(number):
    """What libjpeg makes up here is as long as what it lost: the counts of bits alone would be right."""
    _, content = damaged.stream(number, Coding.LOSSLESS)
    assert damaged.usable(codestream(content), Coding.LOSSLESS)
    assert _values(content) is None


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("bits", damaged.BITS)
def test_jpeg_2000_is_read_as_by_the_other_decoders(bits, lossy, monkeypatch):
    values = damaged.picture(bits, 7)
    options = {"reversible": False, "level": 40} if lossy else {"reversible": True}
    content = imagecodecs.jpeg2k_encode(values, codecformat="J2K", bitspersample=bits, **options)
    fast = jpeg2000.values(codestream(content))
    assert fast.dtype == values.dtype
    assert np.array_equal(fast, damaged.by_gdcm(content, bits, Coding.JPEG_2000))
    assert lossy or np.array_equal(fast, values)


def test_jpeg_2000_of_signed_values_is_left_to_the_other_decoders():
    content = imagecodecs.jpeg2k_encode(damaged.picture(12, 8), codecformat="J2K", reversible=True, bitspersample=12)
    assert content[42] == 11
    assert jpeg2000.values(codestream(content[:42] + b"\x8b" + content[43:])) is None


def _held_to_gdcm(streams, coding, count):
    assert len(streams) == count
    assert {s["kind"] for s in streams} == {kind.__name__ for kind in damaged.KINDS[coding]}
    # The fast decoders end no process. gdcm does: it knows no JPEG Lossless of less than 8 bits, which then is rightly read.
    assert [s for s in streams if "died" in s and "fast" not in s] == []
    read = [s for s in streams if s["fast"] == "read" and not ("died" in s and s["precision"] < 8)]
    assert [s for s in read if s.get("gdcm") != "read" or not s["same"]] == []
    whole = Counter(s["fast"] for s in streams if s["kind"] == "none")
    assert whole["read"] > 0.9 * whole.total()  # not where the code of zero is long
    assert sum(s["fast"] == "read" for s in streams) > 0.1 * count


@pytest.mark.parametrize("coding", damaged.KINDS)
def test_damaged_streams_are_never_read_where_gdcm_refuses(coding, tmp_path):
    _held_to_gdcm(damaged.tried(tmp_path, coding, 0, 600), coding, 600)


@pytest.mark.slow
@pytest.mark.timeout(2 * 3600)
@pytest.mark.parametrize("coding", damaged.KINDS)
def test_damaged_streams_by_the_ten_thousand_are_never_read_where_gdcm_refuses(coding, tmp_path):
    """``STORM_FIRST`` and ``STORM_MUTANTS`` choose others, and how many."""
    first, count = int(os.environ.get("STORM_FIRST", "10000")), int(os.environ.get("STORM_MUTANTS", "20000"))
    streams = damaged.tried(tmp_path, coding, first, count)
    print(Counter((s["fast"], s.get("gdcm", "died")) for s in streams))
    print(Counter(s["last words"].strip().splitlines()[-1] for s in streams if "died" in s))
    _held_to_gdcm(streams, coding, count)
