"""What lies beside mammograms in a real archive, and must be skipped or fail by rule."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from mammoscan.core.domain import Laterality, View
from mammoscan.synthetic.dicom import (
    FOR_PROCESSING,
    IMPLEMENTATION,
    Shown,
    Subject,
    Vendor,
    code,
    file_bytes,
    mammogram_dataset,
    set_pixels,
    uid,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray

_CT = UID("1.2.840.10008.5.1.4.1.1.2")
_TOMOSYNTHESIS = UID("1.2.840.10008.5.1.4.1.1.13.1.3")
_COMPREHENSIVE_SR = UID("1.2.840.10008.5.1.4.1.1.88.33")
_DICOMDIR = UID("1.2.840.10008.1.3.10")
_PATIENT_AND_STUDY = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "StudyDescription",
)


def files(images: Several[FileDataset], duplicate: bytes) -> Iterator[tuple[str, bytes]]:
    """Path below the archive and content of every awkward file.

    images: the archive's mammograms, in order. duplicate: a whole file that lies there already.
    """
    yield "northwind/study-1/again/copy of L-CC.dcm", duplicate
    yield "harbour/ct/slice-001.dcm", file_bytes(ct_slice())
    yield "harbour/tomo/L-CC-tomo.dcm", file_bytes(tomosynthesis(images[0]))
    yield "harbour/raw/L-CC-raw.dcm", file_bytes(for_processing())
    yield "inbox/truncated.dcm", truncated(images[1])
    yield "inbox/report.dcm", file_bytes(density_report(images[0], "129717001"))
    yield "inbox/empty.dcm", b""
    yield "inbox/notes.txt", b"These studies are synthetic. No patient is behind them.\n"
    yield "DICOMDIR", file_bytes(dicomdir())


def ct_slice() -> FileDataset:
    """A CT slice of a disc of water."""
    ds = _object(_CT, "CT", Subject("DEMO-0100", "Demo^Frida", study_key="100"))
    ds.ImageType, ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = (
        ["ORIGINAL", "PRIMARY", "AXIAL"],
        uid("for", "ct"),
        "",
    )
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ["-64", "-64", "0"], ["1", "0", "0", "0", "1", "0"]
    ds.PixelSpacing, ds.SliceThickness, ds.KVP, ds.AcquisitionNumber = ["1", "1"], "5", "120", 1
    ds.PatientPosition = "HFS"
    ds.PhotometricInterpretation, ds.RescaleIntercept, ds.RescaleSlope = "MONOCHROME2", "-1024", "1"
    y, x = np.mgrid[-64:64, -64:64]
    set_pixels(ds, np.where(np.hypot(x, y) < 50, 1024, 24), Shown(bits=12), ExplicitVRLittleEndian)
    return ds


def tomosynthesis(image: FileDataset) -> FileDataset:
    """A small stack under the Breast Tomosynthesis SOP class, in the study of a mammogram."""
    ds = _object(_TOMOSYNTHESIS, "MG", None, image)
    frames = np.tile(np.arange(512, dtype="<u2").reshape(16, 32), (5, 1, 1))
    ds.ImageType, ds.PhotometricInterpretation = (
        ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"],
        "MONOCHROME2",
    )
    set_pixels(ds, frames[0], Shown(bits=12), ExplicitVRLittleEndian)
    ds.NumberOfFrames, ds.PixelData = len(frames), frames.tobytes()
    return ds


def for_processing() -> FileDataset:
    """A raw detector image: exponential in the thickness, bright where nothing attenuates."""
    y, x = np.mgrid[0:450, 0:360]
    thickness = np.sqrt(np.clip(1.0 - (x / 240.0) ** 2 - ((y - 225) / 180.0) ** 2, 0.0, None))
    raw: NDArray[Any] = np.rint(14000.0 * np.exp(-2.5 * thickness)).astype("<u2")
    return mammogram_dataset(
        raw,
        laterality=Laterality.LEFT,
        view=View.CC,
        subject=Subject("DEMO-0101", "Demo^Greta", age="052Y", study_key="101"),
        vendor=Vendor("Harbour Demo Systems", "Lantern 3", "HB7"),
        shown=Shown("MONOCHROME1", bits=14),
        spacing_mm=0.54,
        sop_class=FOR_PROCESSING,
    )


def truncated(image: FileDataset) -> bytes:
    """Another instance of a mammogram's series whose transfer broke off in its pixels."""
    ds = copy.deepcopy(image)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("truncated", image.SOPInstanceUID)
    ds.InstanceNumber = 99
    content = file_bytes(ds)
    return content[: len(content) * 6 // 10]


def density_report(image: FileDataset, composition: str) -> FileDataset:
    """A structured report in the study of a mammogram that states the breast composition (CID 6000)."""
    ds = _object(_COMPREHENSIVE_SR, "SR", None, image)
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    ds.PerformedProcedureCodeSequence = Sequence()
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([code("18748-4", "LN", "Diagnostic imaging report")])
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "CODE"
    item.ConceptNameCodeSequence = Sequence([code("129715009", "SCT", "Breast composition")])
    item.ConceptCodeSequence = Sequence([code(composition, "SCT", "Scattered fibroglandular densities")])
    ds.ContentSequence = Sequence([item])
    return ds


def dicomdir() -> FileDataset:
    """An index without records."""
    ds = _object(_DICOMDIR, "", Subject("", ""))
    for element in list(ds):
        del ds[element.tag]
    ds.FileSetID = "DEMO"
    ds.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    ds.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    ds.FileSetConsistencyFlag, ds.DirectoryRecordSequence = 0, Sequence()
    return ds


def _object(sop_class: UID, modality: str, subject: Subject | None, image: FileDataset | None = None) -> FileDataset:
    """A new object for a subject, or in the study of an image."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION, "MAMMOSCAN_DEMO"
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    if image is not None:
        for keyword in _PATIENT_AND_STUDY:
            if keyword in image:
                ds[keyword] = copy.deepcopy(image[keyword])
    elif subject is not None:
        ds.SpecificCharacterSet, ds.PatientName, ds.PatientID = (
            subject.character_set,
            subject.name,
            subject.patient_id,
        )
        ds.PatientBirthDate, ds.PatientSex = subject.birth_date, subject.sex
        ds.StudyInstanceUID, ds.StudyDate, ds.StudyTime = subject.study_uid, subject.date, subject.time
        ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = "", "", subject.study_key
    study = str(ds.StudyInstanceUID)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, uid("neighbour", sop_class, study)
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = uid("series", sop_class, study), 50, 1
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = modality, "Demo Neighbours", "Demo"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.ContentDate, ds.ContentTime = "20250310", "110000"
    return ds
