"""Lookup tables as writers store them."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mammoscan.core.domain import Flag
from mammoscan.core.errors import InputError, Reason
from mammoscan.image import display

RAMP = tuple(range(4096))


def _dataset(entries=RAMP, descriptor=(4096, 0, 12), *, keyword="VOILUTSequence", vr="OW", signed=False, little=True):
    """A data set with a table, as it is read back from a file."""
    order = "<" if little else ">"
    item = Dataset()
    item.add_new("LUTDescriptor", "US", list(descriptor))
    if entries is not None:
        data = np.asarray(entries, f"{order}u2").tobytes() if vr == "OW" else list(entries)
        item.add_new("LUTData", vr, data)
    ds = Dataset()
    ds.BitsStored, ds.PixelRepresentation = 12, int(signed)
    setattr(ds, keyword, Sequence([item]))
    return ds


def _reread(ds, syntax):
    buffer = io.BytesIO()
    pydicom.dcmwrite(
        buffer, ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian
    )
    buffer.seek(0)
    return pydicom.filereader.read_dataset(buffer, syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)


@pytest.mark.parametrize("vr", ["OW", "US"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_table_is_read_in_the_byte_order_of_its_file(syntax, vr):
    ds = _reread(_dataset(vr=vr, little=syntax != ExplicitVRBigEndian), syntax)
    shown = display.display_of(ds)
    assert shown.voi_lut.entries == RAMP
    assert (shown.voi_lut.first, shown.voi_lut.bits, shown.flags) == (0, 12, ())


@pytest.mark.parametrize("count", [255, 256])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_entries_of_8_bits_lie_two_in_a_word(syntax, count):
    octets = np.arange(count + count % 2, dtype=np.uint8)
    words = octets[0::2].astype(np.uint16) | (octets[1::2].astype(np.uint16) << 8)
    ds = _reread(_dataset(words, (count, 0, 8), little=syntax != ExplicitVRBigEndian), syntax)
    shown = display.display_of(ds)
    assert shown.voi_lut.entries == tuple(range(count))
    assert shown.voi_lut.bits == 8


@pytest.mark.parametrize(("stated", "top", "bits"), [(16, 4095, 12), (16, 1023, 10), (10, 4095, 12), (0, 4095, 12)])
def test_a_depth_that_the_entries_contradict_is_theirs_and_flagged(stated, top, bits):
    ds = _dataset(np.linspace(0, top, 4096).round().astype(int), (4096, 0, stated))
    shown = display.display_of(ds)
    assert shown.voi_lut.bits == bits
    assert shown.flags == (Flag.LUT_INVALID,)


@pytest.mark.parametrize(("stated", "top"), [(16, 65535), (16, 40000), (16, 20000), (12, 3000), (8, 20)])
def test_a_table_that_leaves_some_of_its_depth_unused_keeps_it(stated, top):
    shown = display.display_of(_dataset(np.linspace(0, top, 4096).round().astype(int), (4096, 0, stated)))
    assert (shown.voi_lut.bits, shown.flags) == (stated, ())


def test_a_count_of_zero_is_65536():
    shown = display.display_of(_dataset(range(65536), (0, 0, 16)))
    assert len(shown.voi_lut.entries) == 65536


@pytest.mark.parametrize("signed", [False, True])
def test_the_first_value_has_the_sign_of_what_goes_into_the_table(signed):
    shown = display.display_of(_dataset(descriptor=(4096, 65536 - 2048, 12), signed=signed))
    assert shown.voi_lut.first == (-2048 if signed else 63488)
    ds = _dataset(descriptor=(4096, 65536 - 1024, 12))
    ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
    assert display.display_of(ds).voi_lut.first == -1024


@pytest.mark.parametrize("entries", [None, (), RAMP[:4000], RAMP[:2048]])
def test_a_damaged_voi_table_makes_way_for_the_window_and_is_flagged(entries):
    ds = _dataset(entries)
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    shown = display.display_of(ds)
    assert (shown.voi_lut, shown.window, shown.flags) == (None, (2048.0, 4096.0), (Flag.LUT_INVALID,))


def test_the_first_usable_of_several_tables_is_taken():
    ds, other = _dataset(None), _dataset()
    ds.VOILUTSequence = Sequence([*ds.VOILUTSequence, *other.VOILUTSequence])
    assert display.display_of(ds).voi_lut.entries == RAMP


def test_a_damaged_modality_table_is_refused_unless_a_rescale_stands_beside_it():
    ds = _dataset(None, keyword="ModalityLUTSequence")
    with pytest.raises(InputError) as caught:
        display.display_of(ds)
    assert caught.value.reason is Reason.BROKEN_HEADER
    ds.RescaleSlope, ds.RescaleIntercept = "2", "0"
    assert display.display_of(ds).linear == (2.0, 0.0)


def _read(**values):
    """Decimal strings as they are written, valid or not."""
    raw = b"".join(
        pydicom.tag.Tag(k).group.to_bytes(2, "little")
        + pydicom.tag.Tag(k).element.to_bytes(2, "little")
        + b"DS"
        + len(v).to_bytes(2, "little")
        + v.encode()
        for k, v in sorted(values.items(), key=lambda kv: pydicom.tag.Tag(kv[0]))
    )
    return pydicom.filereader.read_dataset(io.BytesIO(raw), is_implicit_VR=False, is_little_endian=True)


@pytest.mark.parametrize(("centre", "width"), [("2048,0", "4096,0"), ("2048", "4096,50"), ("2048,0000", "4096")])
def test_a_decimal_comma_is_read_and_flagged(centre, width):
    shown = display.display_of(_read(WindowCenter=centre, WindowWidth=width))
    assert shown.window == (float(centre.replace(",", ".")), float(width.replace(",", ".")))
    assert shown.flags == (Flag.WINDOW_INVALID,)


@pytest.mark.parametrize("centre", ["2,048", "about 2048", "nan", "1e400", "2048;0"])
def test_a_window_that_is_no_number_is_flagged_and_not_used(centre):
    shown = display.display_of(_read(WindowCenter=centre, WindowWidth="4096"))
    assert (shown.window, shown.flags) == (None, (Flag.WINDOW_INVALID,))


def test_a_second_window_stands_in_for_a_wrong_first():
    shown = display.display_of(_read(WindowCenter="x\\100", WindowWidth="0\\50"))
    assert (shown.window, shown.flags) == ((100.0, 50.0), ())


def test_a_rescale_with_a_comma_is_read_and_flagged():
    shown = display.display_of(_read(RescaleIntercept="-5,5", RescaleSlope="2,0"))
    assert (shown.linear, shown.flags) == ((2.0, -5.5), (Flag.RESCALE_INVALID,))


@pytest.mark.parametrize("slope", ["0", "one", "1,000"])
def test_where_the_rescale_cannot_be_read_the_window_means_nothing(slope):
    shown = display.display_of(_read(RescaleIntercept="0", RescaleSlope=slope, WindowCenter="2048", WindowWidth="4096"))
    assert (shown.linear, shown.window, shown.flags) == ((1.0, 0.0), None, (Flag.RESCALE_INVALID,))
