"""Any array as a valid mammography DICOM object (PS3.3 A.27, A.26), deterministic to the byte."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from mammoscan.core.codes import VIEW_CODES
from mammoscan.core.domain import Laterality, View
from mammoscan.synthetic import jpeg_lossless

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOR_PRESENTATION = UID("1.2.840.10008.5.1.4.1.1.1.2")
FOR_PROCESSING = UID("1.2.840.10008.5.1.4.1.1.1.2.1")
SECONDARY_CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7")
IMPLEMENTATION = UID("2.25.318287046218935201478312006452163948771")
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


@dataclass(frozen=True, slots=True)
class Subject:
    """Patient and study as they are written; '' leaves a Type 2 value empty.

    age: 'nnnY', or '' for no PatientAge. date, time: of the study and everything in it.
    """

    patient_id: str
    name: str = ""
    birth_date: str = ""
    age: str = ""
    sex: str = "F"
    study_key: str = "1"
    date: str = "20250310"
    time: str = "101500"
    accession: str = ""
    character_set: str = "ISO_IR 192"

    @property
    def study_uid(self) -> UID:
        """The study's UID, from patient and study key alone."""
        return uid("study", self.patient_id, self.study_key)


@dataclass(frozen=True, slots=True)
class Vendor:
    """A pretended manufacturer (fictional)."""

    name: str = "Demo Imaging"
    model: str = "Synthetica 1"
    station: str = "DEMO1"


@dataclass(frozen=True, slots=True)
class Shown:
    """How stored values become a picture.

    window: (centre, width) pairs. function: LINEAR, LINEAR_EXACT, SIGMOID, or '' to leave it out.
    lut: entries of a VOI LUT over all stored values, 16 bits each. rescale: (slope, intercept).
    padding: PixelPaddingValue. Pixels given to ``mammogram_dataset`` are stored values already.
    """

    photometric: str = "MONOCHROME2"
    bits: int = 12
    signed: bool = False
    window: tuple[tuple[float, float], ...] = ()
    function: str = ""
    lut: tuple[int, ...] = ()
    rescale: tuple[float, float] = (1.0, 0.0)
    padding: int | None = None


def uid(*parts: str) -> UID:
    """A UID that depends on the parts alone."""
    return generate_uid(prefix="2.25.", entropy_srcs=["mammoscan-synthetic", *parts])


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded entry (PS3.3 8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def mammogram_dataset(
    pixels: NDArray[Any],
    *,
    laterality: Laterality,
    view: View,
    subject: Subject,
    vendor: Vendor | None = None,
    shown: Shown | None = None,
    spacing_mm: float | None = None,
    transfer_syntax: str = ExplicitVRLittleEndian,
    sop_class: str = FOR_PRESENTATION,
    instance: int = 1,
    series: int = 1,
) -> FileDataset:
    """A mammography object around stored values.

    Parameters
    ----------
    pixels
        Stored values (rows, columns), integers that fit ``shown.bits``.
    spacing_mm
        ImagerPixelSpacing; None leaves it out, which is valid for a Secondary Capture only.
    transfer_syntax
        Any of the little endian native ones, RLE, JPEG Lossless SV1, JPEG-LS or JPEG 2000 Lossless.
    sop_class
        For Presentation, For Processing, or Secondary Capture (a digitised film).

    Raises
    ------
    ValueError
        Where the pixels do not fit their bits, or the syntax cannot be written.
    """
    vendor, shown = vendor or Vendor(), shown or Shown()
    ds = _base(subject, sop_class, vendor, series, instance, f"{laterality.value}{view.value}")
    capture, processing = sop_class == SECONDARY_CAPTURE, sop_class == FOR_PROCESSING
    ds.Modality = "MG"
    ds.SeriesDescription = f"{laterality.value} {view.value}"
    if capture:
        ds.ConversionType = "DF"
    else:
        _acquisition(ds, processing=processing)
    ds.ImageType = ["DERIVED", "SECONDARY"] if capture else ["ORIGINAL" if processing else "DERIVED", "PRIMARY"]
    ds.PatientOrientation = _orientation(laterality, view)
    if laterality in {Laterality.LEFT, Laterality.RIGHT, Laterality.BOTH}:
        ds.ImageLaterality = laterality.value
    if view is not View.UNKNOWN:
        ds.ViewPosition = view.value
    if view in VIEW_CODES:
        item = code(VIEW_CODES[view][0], "SCT", VIEW_CODES[view][1])
        if not capture:
            item.ViewModifierCodeSequence = Sequence()  # Type 2 in the mammography module
        ds.ViewCodeSequence = Sequence([item])
    if spacing_mm is not None:
        ds.ImagerPixelSpacing = [f"{spacing_mm:.6g}"] * 2
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    _display(ds, shown, plain=capture)
    set_pixels(ds, pixels, shown, transfer_syntax)
    return ds


def _base(subject: Subject, sop_class: str, vendor: Vendor, series: int, instance: int, what: str) -> FileDataset:
    """Patient, study, series, equipment and SOP common modules."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION, "MAMMOSCAN_DEMO"
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = subject.character_set
    ds.SOPClassUID = UID(sop_class)
    ds.StudyInstanceUID = subject.study_uid
    ds.SeriesInstanceUID = uid("series", subject.study_uid, str(series), what, sop_class)
    ds.SOPInstanceUID = uid("instance", ds.SeriesInstanceUID, str(instance))
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientName, ds.PatientID = subject.name, subject.patient_id
    ds.PatientBirthDate, ds.PatientSex = subject.birth_date, subject.sex
    if subject.age:
        ds.PatientAge = subject.age
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = subject.date
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = subject.time
    ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = subject.accession, "", subject.study_key
    ds.StudyDescription = "Synthetic mammography"
    ds.Manufacturer, ds.ManufacturerModelName, ds.StationName = vendor.name, vendor.model, vendor.station
    ds.DeviceSerialNumber, ds.SoftwareVersions = "0001", "1.0"
    ds.SeriesNumber, ds.InstanceNumber = series, instance
    return ds


def _acquisition(ds: FileDataset, *, processing: bool) -> None:
    """DX and mammography modules (PS3.3 C.8.11)."""
    ds.PresentationIntentType = "FOR PROCESSING" if processing else "FOR PRESENTATION"
    ds.OrganExposed, ds.PositionerType = "BREAST", "MAMMOGRAPHIC"
    ds.AnatomicRegionSequence = Sequence([code("76752008", "SCT", "Breast")])
    ds.AcquisitionContextSequence = Sequence()
    ds.DetectorType = "DIRECT"
    ds.DetectorConfiguration = "AREA"
    ds.BreastImplantPresent, ds.PartialView = "NO", "NO"
    ds.KVP, ds.Exposure = "29", "80"
    ds.PositionerPrimaryAngle = "0"
    ds.CompressionForce, ds.BodyPartThickness = "95", "52"
    ds.EstimatedRadiographicMagnificationFactor = "1"


def _orientation(laterality: Laterality, view: View) -> list[str]:
    """Row and column direction (PS3.3 C.7.6.1.1.1): chest wall left for the left breast."""
    row = "A" if laterality is Laterality.LEFT else "P"
    if view is View.CC:
        return [row, "R" if laterality is Laterality.LEFT else "L"]
    return [row, "F" if view is not View.MLO else ("FR" if laterality is Laterality.LEFT else "FL")]


def _display(ds: FileDataset, shown: Shown, *, plain: bool) -> None:
    """Photometric interpretation, rescale, VOI, padding."""
    ds.PhotometricInterpretation = shown.photometric
    if not plain:
        ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1
        if shown.photometric == "MONOCHROME1":
            ds.PixelIntensityRelationshipSign = -1
        ds.PresentationLUTShape = "INVERSE" if shown.photometric == "MONOCHROME1" else "IDENTITY"
        ds.RescaleSlope, ds.RescaleIntercept = (f"{v:g}" for v in shown.rescale)
        ds.RescaleType = "US"
    if shown.window:
        ds.WindowCenter = [f"{c:g}" for c, _ in shown.window]
        ds.WindowWidth = [f"{w:g}" for _, w in shown.window]
        if shown.function:
            ds.VOILUTFunction = shown.function
    if shown.lut:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [len(shown.lut) % 65536, 0, 16])
        item.add_new("LUTData", "OW", np.asarray(shown.lut, "<u2").tobytes())
        ds.VOILUTSequence = Sequence([item])
    if shown.padding is not None:
        ds.add_new("PixelPaddingValue", "SS" if shown.signed else "US", shown.padding)


def set_pixels(ds: FileDataset, pixels: NDArray[Any], shown: Shown, transfer_syntax: str) -> None:
    """Write stored values into a data set in a transfer syntax.

    Raises
    ------
    ValueError
        Where the pixels do not fit their bits, or the syntax cannot be written.
    """
    low, high = (-(1 << (shown.bits - 1)), (1 << (shown.bits - 1)) - 1) if shown.signed else (0, (1 << shown.bits) - 1)
    if pixels.ndim != 2 or pixels.min() < low or pixels.max() > high:
        raise ValueError(f"pixels do not fit {shown.bits} bits")
    allocated = 8 if shown.bits <= 8 else 16
    stored = np.ascontiguousarray(pixels, dtype=f"<{'i' if shown.signed else 'u'}{allocated // 8}")
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, allocated, shown.bits, shown.bits - 1
    ds.PixelRepresentation = int(shown.signed)
    syntax = UID(transfer_syntax)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax in _NATIVE:
        content = stored.tobytes()
        ds.add_new("PixelData", "OW" if allocated == 16 else "OB", content + b"\0" * (len(content) % 2))
        ds["PixelData"].VR = "OW"
    elif syntax == JPEGLosslessSV1:
        # The coder works on unsigned samples: a signed value goes through its bit pattern.
        unsigned = stored.view(f"<u{allocated // 8}") & ((1 << shown.bits) - 1)
        ds.PixelData = encapsulate([jpeg_lossless.encode(unsigned, shown.bits)])
        ds["PixelData"].VR = "OB"
    elif syntax in {RLELossless, JPEGLSLossless, JPEG2000Lossless}:
        keep = ds.SOPInstanceUID
        plugin = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}[syntax]
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax, stored, encoding_plugin=plugin, generate_instance_uid=False)
        ds.SOPInstanceUID = keep
    else:
        raise ValueError(f"cannot write transfer syntax {syntax}")


def file_bytes(ds: FileDataset) -> bytes:
    """A data set as the bytes of a DICOM file (PS3.10 7)."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that are odd on purpose
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()
