"""From stored values to display sense."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    HTJ2K,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mammoscan.archive import discover
from mammoscan.core.domain import Flag, Header, Laterality, View
from mammoscan.core.errors import InputError, Reason
from mammoscan.image import pixels
from mammoscan.synthetic.dicom import Shown, Subject, file_bytes, mammogram_dataset
from tests import headers

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
COMPRESSED = (RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)


def _stored(bits=12, signed=False, side=300):
    rng = np.random.default_rng(bits)
    low = -(1 << (bits - 1)) if signed else 0
    return rng.integers(low, low + (1 << bits), (side, side + 20))


def _dataset(values, **options):
    shown = Shown(**{k: options.pop(k) for k in list(options) if k in Shown.__dataclass_fields__})
    return mammogram_dataset(
        values,
        laterality=Laterality.LEFT,
        view=View.CC,
        subject=Subject("DEMO", age="050Y"),
        shown=shown,
        spacing_mm=0.1,
        **options,
    )


def _display(ds):
    header = SimpleNamespace(rows=ds.Rows, columns=ds.Columns, photometric=ds.PhotometricInterpretation)
    return pixels.display_image(ds, header)


def _header(folder: Path, content: bytes) -> Header:
    (folder / "image.dcm").write_bytes(content)
    (header,) = headers.read(discover.walk(folder, out=None))
    assert isinstance(header, Header), header
    return header


def _reason(header, max_pixels=10**8):
    with pytest.raises(InputError) as caught:
        pixels.read_image(header, max_pixels=max_pixels)
    return caught.value.reason


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_syntax_decodes_bit_exactly(syntax, bits, tmp_path):
    values = _stored(bits)
    header = _header(tmp_path, file_bytes(_dataset(values, bits=bits, transfer_syntax=syntax, window=())))
    image = pixels.read_image(header, max_pixels=10**8)
    assert image.pixels.dtype == np.float32
    # Without a window the values that occur are stretched, so every stored value can be told again.
    span = values.max() - values.min()
    assert np.array_equal(np.rint(image.pixels * span).astype(int) + values.min(), values)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *COMPRESSED])
@pytest.mark.parametrize("plugin_index", [0, 1])
def test_every_decoder_that_is_asked_gives_the_same_values(syntax, plugin_index):
    ds = _dataset(_stored(), transfer_syntax=syntax)
    if syntax == ExplicitVRLittleEndian:
        assert np.array_equal(pixels.decode(ds, ds.Rows, ds.Columns), _stored())
        return
    plugin = pixels.DECODERS[syntax][plugin_index]
    decoder = pixels.get_decoder(syntax)
    assert plugin in decoder.available_plugins
    array, _ = decoder.as_array(ds, index=0, raw=True, decoding_plugin=plugin)
    assert np.array_equal(array, _stored())


@pytest.mark.parametrize("syntax", [*NATIVE[:2], *COMPRESSED])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_truncated_file_fails_in_every_syntax(syntax, share, tmp_path):
    content = file_bytes(_dataset(_stored(), transfer_syntax=syntax))
    assert _reason(_header(tmp_path, content[: int(len(content) * share)])) in {
        Reason.TRUNCATED,
        Reason.NO_PIXELS,
    }


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_a_codestream_cut_within_whole_fragments_fails(syntax):
    ds = _dataset(_stored(), transfer_syntax=syntax)
    frame = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])
    with pytest.raises(InputError) as caught:
        _display(ds)
    assert caught.value.reason in {Reason.TRUNCATED, Reason.DECODE_FAILED}


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_high_throughput_jpeg_2000_decodes_bit_exactly_and_fails_when_cut(syntax, bits):
    encode = pytest.importorskip("imagecodecs", reason="no encoder of HTJ2K").htj2k_encode
    values = _stored(bits)
    ds = _dataset(values, bits=bits)
    frame = encode(values.astype(np.uint8 if bits == 8 else np.uint16), reversible=True)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = pydicom.encaps.encapsulate([frame])
    assert np.array_equal(pixels.decode(ds, ds.Rows, ds.Columns), values)
    ds.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])
    with pytest.raises(InputError) as caught:
        _display(ds)
    assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize("vr", [b"SL", b"FD"])
def test_a_value_whose_length_its_vr_does_not_allow_is_a_broken_header(vr, tmp_path):
    """A damaged VR: a slope of two characters, read as numbers of four or eight bytes."""
    content = file_bytes(_dataset(_stored(), rescale=(1, 0)))
    whole = b"\x28\x00\x53\x10DS\x02\x00"
    assert content.count(whole) == 1
    header = _header(tmp_path, content.replace(whole, whole.replace(b"DS", vr)))
    assert _reason(header) is Reason.BROKEN_HEADER


@pytest.mark.parametrize("syntax", [*NATIVE[:2], JPEGLosslessSV1])
def test_a_file_that_ends_in_the_head_of_an_element_is_truncated(syntax, tmp_path):
    content = file_bytes(_dataset(_stored(), transfer_syntax=syntax))
    begin = content.index(b"\xe0\x7f\x10\x00")
    for end in range(begin + 1, begin + 12):
        assert _reason(_header(tmp_path, content[:end])) in {Reason.TRUNCATED, Reason.NO_PIXELS}, end - begin


def test_a_decoder_that_panics_costs_the_file_alone():
    """The second RLE segment begins too early: pylibjpeg's decoder is Rust, whose panics are no Exception."""
    ds = _dataset(_stored(), transfer_syntax=RLELossless)
    frame = bytearray(next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)))
    frame[8:12] = (int.from_bytes(frame[8:12], "little") - 3000).to_bytes(4, "little")
    ds.PixelData = pydicom.encaps.encapsulate([bytes(frame)])
    with pytest.raises(InputError) as caught:
        _display(ds)
    assert caught.value.reason is Reason.DECODE_FAILED


def test_too_many_pixels_are_refused_before_reading(tmp_path):
    assert _reason(_header(tmp_path, file_bytes(_dataset(_stored()))), max_pixels=1000) is Reason.TOO_LARGE


def test_a_deflated_file_is_not_inflated_beyond_its_bound(tmp_path):
    ds = _dataset(np.zeros((300, 300), int), transfer_syntax=DeflatedExplicitVRLittleEndian)
    ds.add_new(0x00091001, "OB", b"\0" * 2_000_000)
    assert _reason(_header(tmp_path, file_bytes(ds)), max_pixels=100_000) is Reason.TOO_LARGE


def test_no_pixel_data_is_said_so(tmp_path):
    ds = _dataset(_stored())
    del ds.PixelData
    assert _reason(_header(tmp_path, file_bytes(ds))) is Reason.NO_PIXELS


def test_an_unknown_transfer_syntax_is_said_so():
    ds = _dataset(_stored())
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    with pytest.raises(InputError) as caught:
        _display(ds)
    assert caught.value.reason is Reason.UNSUPPORTED_SYNTAX


def test_monochrome1_is_inverted_after_windowing():
    options = {"window": ((1000, 800),), "function": "LINEAR"}
    plain = _display(_dataset(_stored(), **options)).pixels
    inverted = _display(_dataset(_stored(), photometric="MONOCHROME1", **options)).pixels
    assert np.allclose(inverted, 1 - plain)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@given(centre=st.floats(-5000, 5000), width=st.floats(1.0, 10000))
@settings(max_examples=50, deadline=None)
def test_a_window_is_monotone_and_stays_in_range(function, centre, width):
    out = pixels.window(np.arange(-8192.0, 8192.0), centre, width, function)
    assert (np.diff(out) >= 0).all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_window_centre_and_ends_follow_the_standard():
    # PS3.3 C.11.2.1.2.1: c=2048, w=4096 maps 0 to 0 and 4095 to 1.
    assert np.allclose(pixels.window(np.array([0.0, 4095.0]), 2048, 4096, "LINEAR"), [0, 1])
    assert np.allclose(pixels.window(np.array([0.0, 2048.0, 4096.0]), 2048, 4096, "LINEAR_EXACT"), [0, 0.5, 1])
    assert np.allclose(pixels.window(np.array([2048.0, 3072.0]), 2048, 4096, "SIGMOID"), [0.5, 1 / (1 + np.exp(-1))])


def test_the_first_of_several_windows_is_used():
    first = _display(_dataset(_stored(), window=((1000, 800),))).pixels
    assert np.array_equal(_display(_dataset(_stored(), window=((1000, 800), (3000, 100)))).pixels, first)


def test_a_window_of_width_zero_falls_back_to_the_full_range_and_is_flagged():
    image = _display(_dataset(_stored(), window=((1000, 0),)))
    assert image.flags == (Flag.WINDOW_INVALID,)
    assert np.array_equal(image.pixels, _display(_dataset(_stored())).pixels)


@given(
    bits=st.integers(8, 16),
    signed=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    window=st.sampled_from([(), ((100.0, 300.0),)]),
    padded=st.booleans(),
    slope=st.sampled_from([0.5, 1.0, 2.0]),
)
@settings(max_examples=60, deadline=None)
def test_display_values_stay_in_range_and_padding_is_zero(bits, signed, photometric, window, padded, slope):
    values = _stored(bits, signed, side=40)
    padding = int(values[0, 0]) if padded else None
    ds = _dataset(
        values,
        bits=bits,
        signed=signed,
        photometric=photometric,
        window=window,
        padding=padding,
        rescale=(slope, -7.0),
    )
    image = _display(ds)
    assert image.pixels.shape == values.shape
    assert image.pixels.dtype == np.float32
    assert np.isfinite(image.pixels).all()
    assert image.pixels.min() >= 0
    assert image.pixels.max() <= 1
    assert np.array_equal(image.padding, values == padding if padded else np.zeros(values.shape, bool))
    assert (image.pixels[image.padding] == 0).all()


def test_a_padding_range_is_masked_from_end_to_end():
    ds = _dataset(_stored(), padding=100)
    ds.add_new("PixelPaddingRangeLimit", "US", 50)
    assert np.array_equal(_display(ds).padding, (_stored() >= 50) & (_stored() <= 100))


def test_bits_above_bits_stored_are_ignored():
    clean = _dataset(_stored(), window=((2048, 4096),))
    junk = _dataset(_stored(), window=((2048, 4096),))
    junk.PixelData = (np.frombuffer(junk.PixelData, "<u2") | 0xA000).tobytes()
    assert np.array_equal(_display(junk).pixels, _display(clean).pixels)


def test_a_voi_lut_goes_before_the_window():
    lut = tuple(65535 - 16 * v for v in range(4096))
    image = _display(_dataset(_stored(), lut=lut, window=((1, 2),)))
    assert np.allclose(image.pixels, (65535 - 16 * _stored()) / 65535, atol=1e-6)


def test_colour_is_refused():
    ds = _dataset(_stored())
    ds.PhotometricInterpretation = "RGB"
    with pytest.raises(InputError) as caught:
        _display(ds)
    assert caught.value.reason is Reason.UNSUPPORTED_PIXELS


def test_for_processing_is_logged_and_inverted():
    ds = _dataset(_stored(14), bits=14, sop_class="1.2.840.10008.5.1.4.1.1.1.2.1")
    image = _display(ds).pixels
    order = np.argsort(_stored(14).ravel())
    assert (np.diff(image.ravel()[order]) <= 0).all(), "the more light arrives, the darker the tissue"
