"""What both structured reports share: codes, items, the header copied from the source, evidence."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    DateContentItem,
    ImageContentItem,
    NumContentItem,
    ScoordContentItem,
    TextContentItem,
    TimeContentItem,
    UIDRefContentItem,
)
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from mammoscan.core import implementation
from mammoscan.core.domain import Sex
from mammoscan.core.values import held

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mammoscan.core.domain import Header, ReportContext, StudyResult

PERCENT = Code("%", "UCUM", "Percent")
NO_UNIT = Code("1", "UCUM", "no units")
ZERO_TO_ONE = Code(
    "{0:1}", "UCUM", "range: 0:1"
)  # an annotation of UCUM: read as 0.84 {0:1}, where "1" reads as 0.84 1
MM2 = Code("mm2", "UCUM", "Square millimeter")

__all__ = [
    "MM2",
    "NO_UNIT",
    "PERCENT",
    "ZERO_TO_ONE",
    "add",
    "algorithm",
    "by_reference",
    "code",
    "container",
    "date",
    "dcm",
    "document",
    "headers_of",
    "image",
    "num",
    "outcome",
    "scoord",
    "sct",
    "text",
    "time",
    "to_bytes",
    "uidref",
]  # fmt: skip


def dcm(value: str, meaning: str) -> Code:
    """A code of the DICOM controlled terminology."""
    return Code(value, "DCM", meaning)


def sct(value: str, meaning: str) -> Code:
    """A SNOMED CT code."""
    return Code(value, "SCT", meaning)


DEIDENTIFICATION = (
    dcm("113100", "Basic Application Confidentiality Profile"),
    dcm("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    dcm("113108", "Retain Patient Characteristics Option"),
)


def _plain(item: Dataset) -> Dataset:
    # highdicom's items refuse children by reference; as plain data sets they take any.
    ds = Dataset()
    ds.update({element.tag: element for element in item})
    return ds


def container(name: Code, relationship: str | None = None, **options: Any) -> Dataset:
    """A CONTAINER item."""
    return _plain(ContainerContentItem(name, relationship_type=relationship, **options))


def code(name: Code, value: Code, relationship: str) -> Dataset:
    """A CODE item."""
    return _plain(CodeContentItem(name, value, relationship_type=relationship))


def text(name: Code, value: str, relationship: str) -> Dataset:
    """A TEXT item."""
    return _plain(TextContentItem(name, value, relationship_type=relationship))


def num(name: Code, value: float, unit: Code, relationship: str) -> Dataset:
    """A NUM item."""
    return _plain(NumContentItem(name, value, unit, relationship_type=relationship))


def uidref(name: Code, value: str, relationship: str) -> Dataset:
    """A UIDREF item."""
    return _plain(UIDRefContentItem(name, value, relationship_type=relationship))


def date(name: Code, value: str, relationship: str) -> Dataset:
    """A DATE item of a DICOM date (YYYYMMDD)."""
    from pydicom.valuerep import DA

    return _plain(DateContentItem(name, DA(value), relationship_type=relationship))


def time(name: Code, value: str, relationship: str) -> Dataset:
    """A TIME item of a DICOM time."""
    from pydicom.valuerep import TM

    return _plain(TimeContentItem(name, TM(value), relationship_type=relationship))


def image(header: Header, relationship: str) -> Dataset:
    """An IMAGE item without a concept name (TID 4020 row 1 has none)."""
    item = _plain(
        ImageContentItem(
            sct("260753009", "Source"),
            header.sop_class_uid,
            header.sop_instance_uid,
            relationship_type=relationship,
        )
    )
    del item.ConceptNameCodeSequence
    return item


def scoord(name: Code, kind: str, points: np.ndarray[Any, Any], relationship: str) -> Dataset:
    """An SCOORD item; points (n, 2) are (column, row) in the source image."""
    return _plain(ScoordContentItem(name, kind, np.asarray(points, float), relationship_type=relationship))


def by_reference(relationship: str, path: Iterable[int]) -> Dataset:
    """An item that refers to another by its position in the tree."""
    ds = Dataset()
    ds.RelationshipType = relationship
    ds.ReferencedContentItemIdentifier = list(path)
    return ds


def add(parent: Dataset, *items: Dataset) -> Dataset:
    """Append children."""
    existing = list(parent.ContentSequence) if "ContentSequence" in parent else []
    Dataset.__setattr__(parent, "ContentSequence", Sequence(existing + list(items)))
    return parent


def algorithm(context: ReportContext, relationship: str = "HAS PROPERTIES") -> list[Dataset]:
    """TID 4019: name and version of the algorithm."""
    return [
        text(dcm("111001", "Algorithm Name"), context.model.name, relationship),
        text(dcm("111003", "Algorithm Version"), version(context), relationship),
    ]


def version(context: ReportContext) -> str:
    """Model version and hash, what it computed in, and the software's version."""
    model = f"{context.model.version} ({context.model.sha256[:12]})"
    return f"{model}, {context.precision}, mammoscan {context.software_version}"


def headers_of(result: StudyResult) -> list[Header]:
    """Headers of all images of a study, analysed first, then failed."""
    return [p.header for p in result.images] + [f.header for f in result.failed if f.header is not None]


def outcome(result: StudyResult) -> Code:
    """Whether all, some or none of the images could be analysed, and whether a finding is shown (PS3.16 CID 6047)."""
    if not result.images:
        return dcm("111245", "No algorithms succeeded; without findings")
    shown = any(f.above_threshold for p in result.images for f in p.findings)
    if len(headers_of(result)) > len(result.images):
        return (
            dcm("111244", "Not all algorithms succeeded; with findings")
            if shown
            else dcm("111243", "Not all algorithms succeeded; without findings")
        )
    return (
        dcm("111242", "All algorithms succeeded; with findings")
        if shown
        else dcm("111241", "All algorithms succeeded; without findings")
    )


def study_attributes(ds: Dataset, result: StudyResult) -> None:
    """Patient and study modules, copied from the source; Type 2 attributes that it lacks stay empty.

    Texts come as their VRs hold them: an object with longer ones is refused by those it is for.
    """
    patient, study = result.patient, result.study
    ds.PatientName = held(patient.name, "PN")
    ds.PatientID = held(patient.patient_id, "LO")
    if patient.issuer:
        ds.IssuerOfPatientID = held(patient.issuer, "LO")
    ds.PatientBirthDate = patient.birth_date
    ds.PatientSex = patient.sex.value if patient.sex is not Sex.UNKNOWN else ""
    if patient.age_string:
        ds.PatientAge = patient.age_string
    ds.StudyInstanceUID = study.study_instance_uid
    ds.StudyDate = study.study_date
    ds.StudyTime = study.study_time
    ds.AccessionNumber = held(study.accession_number, "SH")
    ds.StudyID = held(study.study_id, "SH")
    ds.ReferringPhysicianName = held(study.referring_physician_name, "PN")
    if study.study_description:
        ds.StudyDescription = held(study.study_description, "LO")
    if study.timezone_offset:
        ds.TimezoneOffsetFromUTC = study.timezone_offset
    if result.deidentified:
        _deidentification(ds)


def _deidentification(ds: Dataset) -> None:
    """What was done to the identities (PS3.3 C.7.1.1, PS3.15 E.1.1, PS3.16 CID 7050)."""
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = ["mammoscan: keyed pseudonyms", "dates moved by patient", "ages to 90 years"]
    ds.DeidentificationMethodCodeSequence = Sequence()
    for value in DEIDENTIFICATION:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value.value, "DCM", value.meaning
        ds.DeidentificationMethodCodeSequence.append(item)
    ds.LongitudinalTemporalInformationModified = "MODIFIED"


def equipment_attributes(ds: Dataset, context: ReportContext) -> None:
    """General and enhanced equipment: the program and its versions; it has no serial number of its own."""
    ds.Manufacturer = implementation.MANUFACTURER
    ds.ManufacturerModelName = context.model.name
    ds.DeviceSerialNumber = context.model.sha256[:16]
    ds.SoftwareVersions = [f"mammoscan {context.software_version}", f"model {context.model.version}"]


def document(
    sop_class: str, uid: str, series_uid: str, number: int, description: str, result: StudyResult,
    context: ReportContext, *, headers: list[Header] | None = None,
) -> Dataset:  # fmt: skip
    """The data set of a report without its content. headers: of the images that it is about; by default all."""
    ds = Dataset()
    study_attributes(ds, result)
    equipment_attributes(ds, context)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, uid
    ds.Modality = "SR"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = series_uid, number, 1
    ds.SeriesDescription = description
    ds.ReferencedPerformedProcedureStepSequence = Sequence([])
    ds.PerformedProcedureCodeSequence = Sequence([])
    ds.ContentDate = ds.InstanceCreationDate = context.created[0]
    ds.ContentTime = ds.InstanceCreationTime = context.created[1]
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.CurrentRequestedProcedureEvidenceSequence = evidence(headers_of(result) if headers is None else headers, result)
    return ds


def evidence(headers: list[Header], result: StudyResult) -> Sequence:
    """Every referenced image, by study and series (PS3.3 C.17.2.2); viewers refuse an SR without it."""
    series: dict[str, list[Dataset]] = {}
    for header in headers:
        reference = Dataset()
        reference.ReferencedSOPClassUID = header.sop_class_uid
        reference.ReferencedSOPInstanceUID = header.sop_instance_uid
        series.setdefault(header.series_instance_uid, []).append(reference)
    study = Dataset()
    study.StudyInstanceUID = result.study.study_instance_uid
    study.ReferencedSeriesSequence = Sequence()
    for uid, references in series.items():
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedSOPSequence = Sequence(references)
        study.ReferencedSeriesSequence.append(item)
    return Sequence([study])


# Single-byte sets that validators and old viewers know, before UTF-8 (PS3.3 C.12.1.1.2).
_CHARACTER_SETS = (("", "ascii"), ("ISO_IR 100", "latin_1"), ("ISO_IR 101", "iso8859_2"), ("ISO_IR 144", "iso8859_5"),
                   ("ISO_IR 126", "iso8859_7"), ("ISO_IR 138", "iso8859_8"), ("ISO_IR 127", "iso8859_6"))  # fmt: skip
_TEXT = {"SH", "LO", "ST", "LT", "UC", "UT", "PN"}


def character_set(ds: Dataset) -> str:
    """The narrowest SpecificCharacterSet that holds every text of a data set; '' for plain ASCII."""
    everything = "".join(str(element.value) for element in ds.iterall() if element.VR in _TEXT and element.value)
    for name, codec in _CHARACTER_SETS:
        try:
            everything.encode(codec)
        except UnicodeEncodeError:
            continue
        return name
    return "ISO_IR 192"


def to_bytes(ds: Dataset) -> bytes:
    """A PS3.10 file, the same bytes for the same data set."""
    if name := character_set(ds):
        ds.SpecificCharacterSet = name
    elif "SpecificCharacterSet" in ds:
        del ds.SpecificCharacterSet
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(implementation.CLASS_UID)
    meta.ImplementationVersionName = implementation.VERSION_NAME
    plain = Dataset()
    plain.update({element.tag: element for element in ds if element.tag.group != 2})
    file = FileDataset("", plain, file_meta=meta, preamble=b"\0" * 128)
    out = io.BytesIO()
    file.save_as(out, enforce_file_format=True, overwrite=True)
    return out.getvalue()
