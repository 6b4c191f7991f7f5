"""The whole files that the mutants are made of: a phantom in every transfer syntax that is read."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pydicom
from pydicom import uid as u
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from mammoscan.core.domain import Density, Laterality, RegionKind, View
from mammoscan.synthetic import jpeg_lossless, phantom
from mammoscan.synthetic.dicom import Shown, Subject, code, mammogram_dataset

HEIGHT, WIDTH = 320, 256
NATIVE = (
    u.ImplicitVRLittleEndian, u.ExplicitVRLittleEndian, u.ExplicitVRBigEndian, u.DeflatedExplicitVRLittleEndian,
)  # fmt: skip
BITS = {u.JPEGBaseline8Bit: 8}  # others: 12
SYNTAXES = (
    *NATIVE, u.RLELossless, u.JPEGBaseline8Bit, u.JPEGExtended12Bit, u.JPEGLossless, u.JPEGLosslessSV1,
    u.JPEGLSLossless, u.JPEGLSNearLossless, u.JPEG2000Lossless, u.JPEG2000, u.HTJ2KLossless, u.HTJ2KLosslessRPCL, u.HTJ2K,
)  # fmt: skip
# A breast is analysed, at the cost of the whole way; of its grain alone only the reading is tried, at a hundredth of it.
SIDES, VIEWS = (Laterality.LEFT, Laterality.RIGHT), (View.CC, View.MLO)
PICTURES = ("breast", "grain")


@functools.cache
def _pixels(picture: str, bits: int, which: int) -> np.ndarray:
    side, view = SIDES[which % 2], VIEWS[which // 2]
    lesion = phantom.Lesion(RegionKind.MASS, malignant=True, radius_mm=9.0)
    spec = phantom.Spec(side, view, Density.B, (lesion,), height=HEIGHT, width=WIDTH, bits=bits, patient=which)
    pixels, _ = phantom.render(spec, which)
    if picture == "grain":
        pixels = (1 << (bits - 2)) + pixels % (1 << (bits - 7))
    return pixels


def _codestream(syntax: str, pixels: np.ndarray, bits: int) -> bytes:
    import imagecodecs as codecs

    if syntax == u.JPEGBaseline8Bit:
        return codecs.jpeg8_encode(pixels, level=92)
    if syntax == u.JPEGExtended12Bit:
        return codecs.jpeg8_encode(pixels, level=92, bitspersample=12)
    if syntax == u.JPEGLossless:
        return codecs.jpeg8_encode(pixels, lossless=True, predictor=4, bitspersample=bits)
    if syntax == u.JPEGLosslessSV1:
        return jpeg_lossless.encode(pixels, bits)
    if syntax == u.JPEGLSLossless:
        return codecs.jpegls_encode(pixels)
    if syntax == u.JPEGLSNearLossless:
        return codecs.jpegls_encode(pixels, level=2)
    if syntax == u.JPEG2000Lossless:
        return codecs.jpeg2k_encode(pixels, codecformat="J2K", reversible=True, bitspersample=bits)
    if syntax == u.JPEG2000:
        return codecs.jpeg2k_encode(pixels, codecformat="J2K", level=45, reversible=False, bitspersample=bits)
    return codecs.htj2k_encode(pixels, reversible=syntax != u.HTJ2K)


@functools.cache
def _template(syntax: str, picture: str, which: int) -> pydicom.FileDataset:
    bits = BITS.get(syntax, 12)
    pixels = _pixels(picture, bits, which)
    if bits == 8:
        pixels = pixels.astype(np.uint8)
    shown = Shown(
        bits=bits,
        window=((1 << (bits - 1), 1 << bits),) if which != 2 else (),
        lut=tuple(np.linspace(0, 65535, 1 << bits).astype(int).tolist()) if which == 2 else (),
        padding=0 if which == 3 else None,
    )
    ds = mammogram_dataset(
        pixels.astype(int), laterality=SIDES[which % 2], view=VIEWS[which // 2], subject=Subject("BASE", "Base^Betty"),
        shown=shown, spacing_mm=243 / HEIGHT,
        transfer_syntax=u.RLELossless if syntax == u.RLELossless else u.ExplicitVRLittleEndian,
    )  # fmt: skip
    ds.RequestAttributesSequence = Sequence([_request()])
    ds.add_new(0x00091001, "OB", bytes(range(64)))
    ds.file_meta.TransferSyntaxUID = u.UID(syntax)
    if syntax in NATIVE:
        if syntax == u.ExplicitVRBigEndian:
            ds["PixelData"].value = pixels.astype(">u2" if bits > 8 else "u1").tobytes()
    elif syntax != u.RLELossless:
        ds.PixelData = encapsulate([_codestream(syntax, pixels, bits)])
        ds["PixelData"].VR = "OB"
        lossy = syntax in {u.JPEGBaseline8Bit, u.JPEGExtended12Bit, u.JPEGLSNearLossless, u.JPEG2000, u.HTJ2K}
        ds.LossyImageCompression = "01" if lossy else "00"
    return ds


def _request() -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.RequestedProcedureID = "REQ"
    item.RequestedProcedureCodeSequence = Sequence([code("24623002", "SCT", "Screening mammography")])
    return item


def base(syntax: str, picture: str, which: int) -> pydicom.FileDataset:
    """A data set of one's own. which: 0 to 3, of side, view and how it is displayed."""
    return copy.deepcopy(_template(syntax, picture, which))
