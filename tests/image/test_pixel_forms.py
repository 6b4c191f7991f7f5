"""Pixel data in the forms that the field sends: shifted, swapped, mislabelled, padded, cut and raw."""

import io
import os
import struct

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mammoscan.core.domain import Flag
from mammoscan.core.errors import InputError, Reason
from mammoscan.image import display, pixels, polarity
from mammoscan.synthetic.dicom import FOR_PROCESSING, file_bytes
from tests.image.test_pixels import _dataset, _display, _header, _reason, _stored

COMPRESSED = (RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)
WINDOW = {"window": ((2048, 4096),)}


def _plain(bits=12, **options):
    return _display(_dataset(_stored(bits), bits=bits, **{**WINDOW, **options})).pixels


def _read(folder, content):
    return pixels.read_image(_header(folder, content), max_pixels=10**8)


def _frame(ds):
    return next(generate_frames(ds.PixelData, number_of_frames=1))


def _big_endian(ds, vr):
    """The bytes of a file in Explicit VR Big Endian, its pixels written with a VR."""
    order = ">u2" if ds.BitsAllocated == 16 else "u1"
    values = np.frombuffer(ds.PixelData, "<u2" if ds.BitsAllocated == 16 else "u1").astype(order).tobytes()
    if ds.BitsAllocated == 8 and vr == "OW":
        values = np.frombuffer(values, "<u2").astype(">u2").tobytes()
    ds.PixelData = values
    ds["PixelData"].VR = vr
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    return pydicom.dataset.Dataset(ds)  # written as asked, not as it was made


def _write_big_endian(ds, vr):
    meta = ds.file_meta
    out = _big_endian(ds, vr)
    out.file_meta = meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, out, implicit_vr=False, little_endian=False, enforce_file_format=True)
    return buffer.getvalue()


# ------------------------------------------------------------------ how values lie in their bits


@pytest.mark.parametrize(("bits", "vr"), [(12, "OW"), (8, "OW"), (8, "OB")])
def test_big_endian_words_are_swapped_and_bytes_are_not(bits, vr, tmp_path):
    image = _read(tmp_path, _write_big_endian(_dataset(_stored(bits), bits=bits, **WINDOW), vr))
    assert np.array_equal(image.pixels, _plain(bits))
    assert image.flags == ()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [12, 15])
def test_values_that_are_shifted_up_are_shifted_down(high, signed):
    options = {"signed": signed, "window": ((0 if signed else 2048, 4096),)}
    values = _stored(12, signed)
    ds = _dataset(values, **options)
    ds.PixelData = (values.astype("<i4") << (high - 11)).astype("<i2" if signed else "<u2").tobytes()
    ds.HighBit = high
    image = _display(ds)
    assert np.array_equal(image.pixels, _display(_dataset(values, **options)).pixels)
    assert image.flags == ()


@pytest.mark.parametrize("signed", [False, True])
def test_a_high_bit_that_the_values_contradict_is_not_believed(signed):
    options = {"signed": signed, "window": ((0 if signed else 2048, 4096),)}
    ds = _dataset(_stored(12, signed), **options)
    ds.HighBit = 15
    image = _display(ds)
    assert np.array_equal(image.pixels, _display(_dataset(_stored(12, signed), **options)).pixels)
    assert image.flags == (Flag.PIXEL_FORMAT,)


@pytest.mark.parametrize("high", [0, 10, 16, 255])
def test_an_impossible_high_bit_is_refused_by_name(high):
    ds = _dataset(_stored())
    ds.HighBit = high
    with pytest.raises(InputError, match=f"HighBit {high}") as caught:
        _display(ds)
    assert caught.value.reason is Reason.UNSUPPORTED_PIXELS


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *COMPRESSED])
def test_without_a_pixel_representation_values_are_unsigned_and_that_is_flagged(syntax, tmp_path):
    ds = _dataset(_stored(), transfer_syntax=syntax, **WINDOW)
    del ds.PixelRepresentation
    image = _read(tmp_path, file_bytes(ds))
    assert np.array_equal(image.pixels, _plain())
    assert image.flags == (Flag.PIXEL_FORMAT,)


# ------------------------------------------------------------------ fragments and codestreams


@pytest.mark.parametrize("zeros", [1, 2, 64, 10_001])
@pytest.mark.parametrize("syntax", COMPRESSED[1:])
def test_zeros_behind_the_end_mark_are_padding(syntax, zeros):
    ds = _dataset(_stored(), transfer_syntax=syntax, **WINDOW)
    ds.PixelData = encapsulate([_frame(ds) + b"\0" * zeros])
    assert np.array_equal(_display(ds).pixels, _plain())


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_missing_sequence_delimiter_costs_nothing(syntax, tmp_path):
    content = file_bytes(_dataset(_stored(), transfer_syntax=syntax, **WINDOW))
    assert content.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    image = _read(tmp_path, content[:-8])
    assert np.array_equal(image.pixels, _plain())


@pytest.mark.parametrize("table", [None, b"", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\1\2\3"])
@pytest.mark.parametrize("pieces", [1, 2, 5])
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_fragments_are_joined_whatever_the_offset_table_says(syntax, pieces, table):
    ds = _dataset(_stored(), transfer_syntax=syntax, **WINDOW)
    frame = _frame(ds)
    step = -(-len(frame) // pieces)
    parts = [frame[i : i + step] for i in range(0, len(frame), step)]
    items = ([table] if table is not None else []) + parts
    ds.PixelData = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(i)) + i for i in items)
    assert np.array_equal(_display(ds).pixels, _plain())


@pytest.mark.parametrize("claimed", [ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_syntax_that_the_pixels_contradict_is_not_believed(syntax, claimed, tmp_path):
    ds = _dataset(_stored(), transfer_syntax=syntax, **WINDOW)
    ds.file_meta.TransferSyntaxUID = claimed
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, implicit_vr=False, little_endian=True, enforce_file_format=False)
    image = _read(tmp_path, buffer.getvalue())
    assert np.array_equal(image.pixels, _plain())
    assert image.flags == (() if claimed == syntax else (Flag.SYNTAX_CONTRADICTED,))


@pytest.mark.parametrize("fragmented", [False, True])
def test_plain_values_under_a_compressed_syntax_are_read(fragmented, tmp_path):
    ds = _dataset(_stored(), **WINDOW)
    if fragmented:
        ds.PixelData = encapsulate([ds.PixelData])
        ds["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, implicit_vr=False, little_endian=True)
    plain, compressed = (b"UI" + struct.pack("<H", 20 + 2 * n) + u.encode() + b"\0" * (1 - n)
                         for n, u in enumerate((ExplicitVRLittleEndian, JPEGLosslessSV1)))  # fmt: skip
    assert plain in buffer.getvalue()
    image = _read(tmp_path, buffer.getvalue().replace(plain, compressed))
    assert np.array_equal(image.pixels, _plain())
    assert image.flags == (Flag.SYNTAX_CONTRADICTED,)


@pytest.mark.parametrize(
    ("claimed", "written"),
    [(ImplicitVRLittleEndian, ExplicitVRLittleEndian), (ExplicitVRLittleEndian, ImplicitVRLittleEndian)],
)
def test_implicit_and_explicit_vr_are_told_apart(claimed, written, tmp_path):
    ds = _dataset(_stored(), transfer_syntax=written, **WINDOW)
    ds.file_meta.TransferSyntaxUID = claimed
    buffer = io.BytesIO()
    implicit = written == ImplicitVRLittleEndian
    whole = io.BytesIO()
    pydicom.dcmwrite(buffer, pydicom.dataset.Dataset(ds), implicit_vr=implicit, little_endian=True)
    pydicom.filewriter.write_file_meta_info(whole, ds.file_meta)
    image = _read(tmp_path, b"\0" * 128 + b"DICM" + whole.getvalue() + buffer.getvalue())
    assert np.array_equal(image.pixels, _plain())
    assert image.flags == (Flag.SYNTAX_CONTRADICTED,)


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_codestream_that_is_really_cut_is_refused_also_with_zeros_behind(syntax, share):
    ds = _dataset(_stored(), transfer_syntax=syntax)
    frame = _frame(ds)
    ds.PixelData = encapsulate([frame[: int(len(frame) * share)] + b"\0" * 64])
    with pytest.raises(InputError) as caught:
        _display(ds)
    assert caught.value.reason in {Reason.TRUNCATED, Reason.DECODE_FAILED}
    if syntax != RLELossless:
        assert caught.value.reason is Reason.TRUNCATED


def test_an_image_of_another_size_than_its_header_says_is_refused_by_name():
    ds = _dataset(_stored(), transfer_syntax=JPEGLSLossless)
    ds.Rows -= 10
    with pytest.raises(InputError, match="320 x 300, not 320 x 290") as caught:
        _display(ds)
    assert caught.value.reason is Reason.DECODE_FAILED


# ------------------------------------------------------------------ padding


def _film(air=0):
    """Tissue of 1 to 4000 that falls off to the air, 12 bits; air: its value."""
    y, x = np.mgrid[:300, :240]
    inside = 1 - (x / 150) ** 2 - ((y - 150) / 120) ** 2
    values = np.where(inside > 0, 200 + 3000 * np.sqrt(np.clip(inside, 0, None)), 0)
    texture = np.random.default_rng(3).integers(0, 200, values.shape)
    values = np.where(inside > 0.05, values + texture, values * np.clip(inside, 0, 0.05) / 0.05)
    return np.where(values < 1, air, values).astype(np.int64)


@pytest.mark.parametrize("window", [(), ((2048, 4096),)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_air_that_is_declared_changes_no_pixel(signed, photometric, window):
    values = _film() if photometric == "MONOCHROME2" else 4095 - _film()
    air = 0 if photometric == "MONOCHROME2" else 4095
    if signed:
        values, air = values - 2048, air - 2048
        window = tuple((c - 2048, w) for c, w in window)
    options = {"signed": signed, "photometric": photometric, "window": window}
    one, other = (_display(_dataset(values, padding=p, **options)) for p in (None, air))
    assert np.array_equal(one.pixels, other.pixels)
    assert other.padding.any()
    assert other.padding_is_air
    assert not other.left_out.any()


@pytest.mark.parametrize("value", [4096, 65535, 32768])
def test_padding_beyond_the_stored_bits_is_found(value):
    ds = _dataset(_film(), padding=value, **WINDOW)
    stored = np.where(_film() == 0, value, _film())
    ds.PixelData = stored.astype("<u2").tobytes()
    image = _display(ds)
    assert np.array_equal(image.padding, _film() == 0)
    assert np.array_equal(image.pixels, _display(_dataset(_film(), **WINDOW)).pixels)


@pytest.mark.parametrize("written", [-2048, 65536 - 2048, 2048])
@pytest.mark.parametrize("vr", ["SS", "US"])
def test_padding_of_the_other_signedness_is_found(written, vr):
    if (written < 0) != (vr == "SS") and abs(written) > 32767:
        pytest.skip("no value of this VR")
    ds = _dataset(np.where(_film() == 0, -2048, _film() - 2000), signed=True, window=((48, 4096),))
    ds.add_new("PixelPaddingValue", vr, written if vr == "SS" and written < 32768 else written % 65536)
    assert np.array_equal(_display(ds).padding, _film() == 0)


def test_padding_is_minus_one_in_unsigned_pixels():
    ds = _dataset(_film(), **WINDOW)
    ds.PixelData = np.where(_film() == 0, 65535, _film()).astype("<u2").tobytes()
    ds.add_new("PixelPaddingValue", "SS", -1)
    assert np.array_equal(_display(ds).padding, _film() == 0)


def test_a_range_that_ends_beyond_the_stored_bits_is_found():
    ds = _dataset(_film(), **WINDOW)
    ds.PixelData = np.where(_film() == 0, 65000, _film()).astype("<u2").tobytes()
    ds.add_new("PixelPaddingValue", "US", 65535)
    ds.add_new("PixelPaddingRangeLimit", "US", 4096)
    assert np.array_equal(_display(ds).padding, _film() == 0)


def test_what_is_painted_over_the_picture_is_neither_shown_nor_stretched():
    painted = _film()
    painted[:, 200:] = 4095
    image = _display(_dataset(painted, padding=4095))
    assert np.array_equal(image.left_out, painted == 4095)
    assert image.pixels[~image.padding].max() == 1.0
    assert not image.pixels[image.padding].any()


# ------------------------------------------------------------------ raw images


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("relationship", ["LIN", "LOG", "SQRT", ""])
def test_raw_images_are_the_right_way_up(relationship, sign, photometric, stated):
    if not stated and photometric == "MONOCHROME1" and sign == -1:
        pytest.skip("low values are to be shown white and are not: a contradiction")
    thickness = _film() / 4095.0  # 0 in air
    intensity = np.exp(-3 * thickness)
    signal = {"LOG": 1 - thickness, "SQRT": np.sqrt(intensity)}.get(relationship, intensity)
    values = np.round(4000 * (signal if sign > 0 else 1 - signal)).astype(np.int64)
    ds = _dataset(values, photometric=photometric, sop_class=FOR_PROCESSING)
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = relationship, sign
    if not stated:
        del ds.PixelIntensityRelationshipSign
    image = _display(ds)
    assert np.corrcoef(image.pixels.ravel(), thickness.ravel())[0, 1] > 0.8
    assert polarity.upright(image).flags == ()


def test_a_raw_image_that_contradicts_its_sign_is_turned_over_and_flagged():
    ds = _dataset(_film(), sop_class=FOR_PROCESSING)
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1
    image = polarity.upright(_display(ds))
    assert image.flags == (Flag.INVERTED,)
    assert np.corrcoef(image.pixels.ravel(), _film().ravel())[0, 1] > 0.8


# ------------------------------------------------------------------ which way round


def _shown(values, **options):
    return polarity.upright(_display(_dataset(values, **{**WINDOW, **options})))


def test_dense_tissue_up_to_every_edge_is_not_turned_over():
    rng = np.random.default_rng(5)
    for smooth in (2, 8, 20):
        texture = np.asarray(_blurred(rng.normal(0, 1, (300, 300)), smooth))
        for spread in (60, 150, 300):
            crop = np.clip(3000 + spread * texture / texture.std(), 0, 4095).astype(np.int64)
            assert _shown(crop).flags == ()
            assert _shown(4095 - crop, photometric="MONOCHROME1").flags == ()


def _blurred(values, sigma):
    return cv2.GaussianBlur(values.astype(np.float32), (0, 0), sigma)


@pytest.mark.parametrize("padding", [None, 4095])
def test_an_inverted_film_is_turned_over_whether_its_air_is_declared_or_not(padding):
    image = _shown(4095 - _film(), padding=padding)
    assert image.flags == (Flag.INVERTED,)
    assert np.allclose(image.pixels, _display(_dataset(_film(), **WINDOW)).pixels, atol=0.001)


@pytest.mark.parametrize("air", [0, 4095])
def test_a_film_whose_air_was_painted_over_is_not_turned(air):
    image = _shown(np.where(_film() == 0, air, _film()), padding=air)
    assert image.flags == ()


# ------------------------------------------------------------------ the file that was planned


def _other(folder, ds, header):
    """The file with other content, size and time as they were."""
    content = file_bytes(ds)
    assert len(content) == header.file.size
    path = folder / "image.dcm"
    path.write_bytes(content)
    os.utime(path, ns=(header.file.mtime_ns, header.file.mtime_ns))


def test_another_instance_in_the_place_of_the_planned_one_is_failed_as_changed(tmp_path):
    header = _header(tmp_path, file_bytes(_dataset(_stored(), **WINDOW)))
    _other(tmp_path, _dataset(_stored()[::-1].copy(), **WINDOW, series=2), header)
    assert _reason(header) is Reason.CHANGED
    with pytest.raises(InputError) as caught:
        display.read_display(header)
    assert caught.value.reason is Reason.CHANGED


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_was_written_to_is_failed_as_changed(change, tmp_path):
    header = _header(tmp_path, file_bytes(_dataset(_stored(), **WINDOW)))
    path = tmp_path / "image.dcm"
    if change == "size":
        path.write_bytes(path.read_bytes() + b"\0\0")
        os.utime(path, ns=(header.file.mtime_ns, header.file.mtime_ns))
    else:
        os.utime(path, ns=(0, header.file.mtime_ns + 10**9))
    assert _reason(header) is Reason.CHANGED


def test_a_file_that_changes_while_it_is_read_is_failed_as_changed(tmp_path, monkeypatch):
    header = _header(tmp_path, file_bytes(_dataset(_stored(), **WINDOW)))

    def meanwhile(*arguments, **options):
        os.utime(tmp_path / "image.dcm", ns=(0, header.file.mtime_ns + 10**9))
        raise InputError(Reason.TRUNCATED)

    monkeypatch.setattr(pixels, "_display_image", meanwhile)
    assert _reason(header) is Reason.CHANGED


def test_what_tells_of_the_moment_is_tried_again_by_the_next_run():
    assert {r for r in Reason if r.passing} == {Reason.CHANGED, Reason.UNREADABLE, Reason.STILL_WRITTEN}
