"""The facts of a header, and the rules that decide what happens to its file."""

from __future__ import annotations

import io
import logging
import re
import warnings
import zlib
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from mammoscan import codes, density
from mammoscan.domain import (
    Age,
    AgeSource,
    Failed,
    Flag,
    Header,
    Laterality,
    Patient,
    Sex,
    Skipped,
    SourceFile,
    Spacing,
    SpacingSource,
    StudyFacts,
    View,
)
from mammoscan.errors import InputError, Reason, Stage

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)

FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"
TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DICOMDIR_STORAGE = "1.2.840.10008.1.3.10"
DEFLATED = "1.2.840.10008.1.2.1.99"
_STRUCTURED_REPORT = "1.2.840.10008.5.1.4.1.1.88."
_PIXEL_CLASSES = (FOR_PRESENTATION, FOR_PROCESSING, SECONDARY_CAPTURE)

OLDEST = 120  # years
CONFLICT_YEARS = 1.0
LARGEST_MAGNIFICATION = 1.5  # larger ones are magnification views, not the few per cent of a normal stand
SMALLEST_SIDE = 256  # pixels; scorecards and icons are smaller, no mammogram is
MOST_INFLATED = 512 * 1024 * 1024  # bytes a deflated file may become


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the header stage, as the README lists it."""

    reason: Reason
    looks_at: str
    default: str
    switch: str = ""


RULES = (
    Rule(Reason.DICOMDIR, "Media Storage Directory SOP class", "skipped"),
    Rule(Reason.DENSITY_SOURCE, "SR of Modality SR that states a breast composition (129715009)", "skipped, its density used"),
    Rule(Reason.OTHER_MODALITY, "Modality (0008,0060) other than MG", "skipped"),
    Rule(Reason.NOT_AN_IMAGE, "SR, presentation state, segmentation: no pixels of a breast", "skipped"),
    Rule(Reason.TOMOSYNTHESIS, "Breast Tomosynthesis SOP class", "skipped"),
    Rule(Reason.SPECIMEN, "view 127457009 tissue specimen from breast", "skipped"),
    Rule(Reason.MULTIFRAME, "NumberOfFrames over 1", "skipped"),
    Rule(Reason.SCORECARD, f"colour, or a side under {SMALLEST_SIDE} pixels, or ImageType LOCALIZER", "skipped"),
    Rule(Reason.FOR_PROCESSING, "For Processing SOP class or PresentationIntentType", "skipped", "--include for-processing"),
    Rule(Reason.MAGNIFICATION, f"modifier 399163009, or EstimatedRadiographicMagnificationFactor over {LARGEST_MAGNIFICATION}",
         "skipped", "--include magnification"),
    Rule(Reason.SPOT, "modifier 399055006, or a PaddleDescription with 'SPOT'", "skipped", "--include spot"),
    Rule(Reason.IMPLANT, "BreastImplantPresent YES, or modifier 399209000", "analysed, flagged", "--exclude implant"),
    Rule(Reason.PARTIAL_VIEW, "PartialView YES", "analysed, flagged", "--exclude partial"),
    Rule(Reason.SECONDARY_CAPTURE, "Secondary Capture with Modality MG (film scans)", "analysed, flagged", "--exclude secondary-capture"),
)  # fmt: skip
# What --include and --exclude call the reasons.
SWITCHES = {
    Reason.FOR_PROCESSING: "for-processing",
    Reason.MAGNIFICATION: "magnification",
    Reason.SPOT: "spot",
    Reason.IMPLANT: "implant",
    Reason.PARTIAL_VIEW: "partial",
    Reason.SECONDARY_CAPTURE: "secondary-capture",
}


def read_header(
    file: SourceFile, *, include: tuple[str, ...], settle_seconds: float, now: float
) -> Header | Skipped | Failed:
    """Read a file's header and decide by rule. Never raises for a bad file.

    include: switchable rules that are off. settle_seconds, now: a file changed less than this many
    seconds before ``now`` (seconds since the epoch) counts as still being written.
    """
    if file.size == 0:
        return Skipped(file, Stage.HEADER, Reason.EMPTY_FILE)
    if now - file.mtime_ns / 1e9 < settle_seconds:
        return Failed(file, Stage.HEADER, Reason.STILL_WRITTEN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns about values that are checked here
            ds = read_dataset(file)
            result = classify(ds, file)
        status = file.path.stat()
    except InputError as error:
        if error.reason is Reason.NOT_DICOM:
            return Skipped(file, Stage.HEADER, error.reason, error.detail)
        return Failed(file, Stage.HEADER, error.reason, error.detail)
    except OSError as error:
        return Failed(file, Stage.HEADER, Reason.UNREADABLE, error.strerror or type(error).__name__)
    except RecursionError:
        return Failed(file, Stage.HEADER, Reason.BROKEN_HEADER, "sequences nested too deeply")
    except Exception as error:
        return Failed(file, Stage.HEADER, Reason.BROKEN_HEADER, type(error).__name__)
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        return Failed(file, Stage.HEADER, Reason.STILL_WRITTEN)
    return apply_rules(result, include) if isinstance(result, Header) else result


def read_dataset(file: SourceFile) -> Dataset:
    """The header without pixels; a structured report whole.

    Raises
    ------
    InputError
        ``NOT_DICOM`` or ``BROKEN_HEADER``.
    """
    with file.path.open("rb") as stream:
        start = stream.read(132)
        stream.seek(0)
        has_magic = start[128:132] == b"DICM"
        if not has_magic and not _plausible_start(start):
            raise InputError(Reason.NOT_DICOM)
        try:
            if has_magic and _is_deflated(stream):
                return _read_deflated(stream)
            ds = pydicom.dcmread(stream, stop_before_pixels=True, force=not has_magic)
        except InvalidDicomError as error:
            raise InputError(Reason.NOT_DICOM) from error
        except EOFError as error:
            raise InputError(Reason.BROKEN_HEADER, "ends within the header") from error
    if len(ds) == 0:
        raise InputError(Reason.BROKEN_HEADER if has_magic else Reason.NOT_DICOM, "no attributes")
    if not has_magic and not ds.get("SOPClassUID"):
        raise InputError(Reason.NOT_DICOM)
    return ds


def _plausible_start(start: bytes) -> bool:
    """Whether bytes without the DICM mark begin like a data set: group 0002 or 0008, small element."""
    return len(start) >= 8 and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3] == 0


def _is_deflated(stream: io.BufferedReader) -> bool:
    meta = pydicom.filereader.read_preamble(stream, force=False)
    del meta
    information = pydicom.filereader._read_file_meta_info(stream)
    stream.seek(0)
    return str(information.get("TransferSyntaxUID", "")) == DEFLATED


def _read_deflated(stream: io.BufferedReader) -> Dataset:
    """A deflated file, inflated to a bound, so that a small file cannot fill the memory."""
    pydicom.filereader.read_preamble(stream, force=False)
    meta = pydicom.filereader._read_file_meta_info(stream)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(stream.read(), MOST_INFLATED)
    except zlib.error as error:
        raise InputError(Reason.BROKEN_HEADER, "the deflated part is damaged") from error
    if inflater.unconsumed_tail:
        raise InputError(Reason.BROKEN_HEADER, f"inflates to more than {MOST_INFLATED} bytes")
    ds = pydicom.filereader.read_dataset(
        io.BytesIO(content), is_implicit_VR=False, is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag == 0x7FE00010,
    )  # fmt: skip
    ds.file_meta = meta
    return ds


def classify(ds: Dataset, file: SourceFile) -> Header | Skipped | Failed:
    """Tell mammograms from everything else.

    Raises
    ------
    InputError
        ``MISSING_UID`` when a mammogram cannot be identified.
    """
    sop_class = _text(ds, "SOPClassUID")
    meta = getattr(ds, "file_meta", None)
    if sop_class == DICOMDIR_STORAGE or str(getattr(meta, "MediaStorageSOPClassUID", "")) == DICOMDIR_STORAGE:
        return Skipped(file, Stage.HEADER, Reason.DICOMDIR)
    study, instance = _text(ds, "StudyInstanceUID"), _text(ds, "SOPInstanceUID")
    modality = _text(ds, "Modality").upper()

    def skipped(reason: Reason, detail: str = "", densities: tuple[Any, ...] = ()) -> Skipped:
        return Skipped(file, Stage.HEADER, reason, detail, _valid(study), _valid(instance), densities)

    if sop_class.startswith(_STRUCTURED_REPORT) or modality == "SR":
        found = density.reported_densities(ds)
        return skipped(Reason.DENSITY_SOURCE if found else Reason.NOT_AN_IMAGE, "", found)
    if sop_class.startswith(TOMOSYNTHESIS):
        return skipped(Reason.TOMOSYNTHESIS)
    if modality != "MG":
        return skipped(Reason.OTHER_MODALITY, f"Modality {modality}" if modality else "no Modality")
    for name, uid in (("SOPClassUID", sop_class), ("SOPInstanceUID", instance), ("StudyInstanceUID", study)):
        if not _valid(uid):
            raise InputError(Reason.MISSING_UID, f"{name} is {'missing' if not uid else 'invalid'}")
    if sop_class not in _PIXEL_CLASSES:
        return skipped(Reason.NOT_AN_IMAGE, UID(sop_class).name if UID(sop_class).name != sop_class else "")
    return parse_header(ds, file)


def apply_rules(header: Header, include: tuple[str, ...]) -> Header | Skipped:
    """Skip an image by its rule, unless ``include`` switches the rule off."""
    for reason in _reasons(header):
        if SWITCHES.get(reason) not in include:
            return Skipped(
                header.file, Stage.HEADER, reason, "", header.study.study_instance_uid, header.sop_instance_uid
            )
    return header


def _reasons(header: Header) -> tuple[Reason, ...]:
    flags = set(header.flags)
    switchable = (
        (Flag.FOR_PROCESSING, Reason.FOR_PROCESSING),
        (Flag.MAGNIFICATION, Reason.MAGNIFICATION),
        (Flag.SPOT, Reason.SPOT),
        (Flag.IMPLANT, Reason.IMPLANT),
        (Flag.PARTIAL_VIEW, Reason.PARTIAL_VIEW),
        (Flag.SECONDARY_CAPTURE, Reason.SECONDARY_CAPTURE),
    )
    first = (header.skip,) if header.skip is not None else ()
    return first + tuple(reason for flag, reason in switchable if flag in flags)


def parse_header(ds: Dataset, file: SourceFile) -> Header:
    """The facts of a mammogram. Pure: nothing is read but ``ds``. Unknown stays unknown.

    ``skip`` holds the rule that no switch can turn off, if one is met.
    """
    flags: list[Flag] = []
    age, age_string = parse_age(ds, flags)
    laterality = parse_laterality(ds, flags)
    view, modifiers, specimen = parse_view(ds, flags)
    magnification = _number(ds, "EstimatedRadiographicMagnificationFactor")
    implant = _yes_no(ds, "BreastImplantPresent")
    partial = _yes_no(ds, "PartialView")
    burned_in = _yes_no(ds, "BurnedInAnnotation")
    lossy = {"01": True, "00": False}.get(_text(ds, "LossyImageCompression"))
    sop_class = _text(ds, "SOPClassUID")
    intent = _text(ds, "PresentationIntentType").upper()
    spacing = parse_spacing(ds, magnification)
    for flag, present in (
        (Flag.SPACING_UNKNOWN, spacing is None),
        (Flag.SECONDARY_CAPTURE, sop_class == SECONDARY_CAPTURE),
        (Flag.BURNED_IN_ANNOTATION, burned_in),
        (Flag.IMPLANT, implant or "implant displaced" in modifiers),
        (Flag.PARTIAL_VIEW, partial),
        (Flag.MAGNIFICATION, "magnification" in modifiers or (magnification or 0) > LARGEST_MAGNIFICATION),
        (Flag.SPOT, "spot compression" in modifiers or "SPOT" in _text(ds, "PaddleDescription").upper()),
        (Flag.FOR_PROCESSING, sop_class == FOR_PROCESSING or intent == "FOR PROCESSING"),
        (Flag.LOSSY, lossy),
    ):
        if present:
            flags.append(flag)
    rows, columns = _integer(ds, "Rows") or 0, _integer(ds, "Columns") or 0
    header = Header(
        file=file,
        sop_class_uid=sop_class,
        sop_instance_uid=_text(ds, "SOPInstanceUID"),
        series_instance_uid=_text(ds, "SeriesInstanceUID"),
        transfer_syntax_uid=str(getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", "")),
        modality=_text(ds, "Modality").upper(),
        series_number=_integer(ds, "SeriesNumber"),
        instance_number=_integer(ds, "InstanceNumber"),
        patient=Patient(
            patient_id=_text(ds, "PatientID"),
            name=_text(ds, "PatientName"),
            issuer=_text(ds, "IssuerOfPatientID"),
            birth_date=_date(ds, "PatientBirthDate"),
            sex={"F": Sex.FEMALE, "M": Sex.MALE, "O": Sex.OTHER}.get(_text(ds, "PatientSex").upper(), Sex.UNKNOWN),
            age_string=age_string,
        ),
        study=StudyFacts(
            study_instance_uid=_text(ds, "StudyInstanceUID"),
            study_date=_date(ds, "StudyDate"),
            study_time=_time(ds, "StudyTime"),
            accession_number=_text(ds, "AccessionNumber"),
            study_id=_text(ds, "StudyID"),
            study_description=_text(ds, "StudyDescription"),
            referring_physician_name=_text(ds, "ReferringPhysicianName"),
            timezone_offset=_text(ds, "TimezoneOffsetFromUTC"),
        ),
        age=age,
        laterality=laterality,
        view=view,
        view_modifiers=modifiers,
        density=density.private_density(ds, laterality),
        manufacturer=_text(ds, "Manufacturer"),
        manufacturer_model=_text(ds, "ManufacturerModelName"),
        spacing=spacing,
        presentation_intent=intent,
        photometric=_text(ds, "PhotometricInterpretation").upper(),
        rows=rows,
        columns=columns,
        bits_stored=_integer(ds, "BitsStored") or 0,
        patient_orientation=_orientation(ds),
        content_date=_date(ds, "ContentDate"),
        content_time=_time(ds, "ContentTime"),
        acquisition_date=_date(ds, "AcquisitionDate"),
        implant=implant,
        partial_view=partial,
        magnification=magnification,
        burned_in=burned_in,
        lossy=lossy,
        flags=tuple(dict.fromkeys(flags)),
        skip=None,
    )
    image_type = [str(v).upper() for v in _many(ds, "ImageType")]
    if specimen:
        return replace(header, skip=Reason.SPECIMEN)
    if (_integer(ds, "NumberOfFrames") or 1) > 1:
        return replace(header, skip=Reason.MULTIFRAME)
    # A missing ImageType says nothing; only what is stated makes a localizer.
    if (
        (_integer(ds, "SamplesPerPixel") or 1) > 1
        or 0 < min(rows, columns) < SMALLEST_SIDE
        or "LOCALIZER" in image_type
    ):
        return replace(header, skip=Reason.SCORECARD)
    return header


def parse_age(ds: Dataset, flags: list[Flag]) -> tuple[Age | None, str]:
    """Age from PatientAge (0010,1010), else whole years between dates; and PatientAge if it is valid.

    Strict: three digits and D, W, M or Y (PS3.5 6.2 AS); 000Y, 999Y and over 120 years are unknown.
    """
    text = _text(ds, "PatientAge")
    stated: Age | None = None
    if text:
        match = re.fullmatch(r"(\d{3})([DWMY])", text)
        years = int(match[1]) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}[match[2]] if match else 0.0
        if match and 0 < years <= OLDEST:
            stated = Age(years, AgeSource.PATIENT_AGE)
        else:
            flags.append(Flag.AGE_INVALID)
    born = _as_date(_date(ds, "PatientBirthDate"))
    counted: Age | None = None
    for keyword, source in (
        ("StudyDate", AgeSource.BIRTH_AND_STUDY_DATE),
        ("AcquisitionDate", AgeSource.BIRTH_AND_ACQUISITION_DATE),
        ("ContentDate", AgeSource.BIRTH_AND_CONTENT_DATE),
    ):
        then = _as_date(_date(ds, keyword))
        if born is not None and then is not None:
            whole = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
            if 0 < whole <= OLDEST:
                counted = Age(float(whole), source)
            break
    if stated and counted and abs(stated.years - counted.years) > CONFLICT_YEARS:
        flags.append(Flag.AGE_CONFLICT)
    return stated or counted, text if stated else ""


def parse_laterality(ds: Dataset, flags: list[Flag]) -> Laterality:
    """ImageLaterality, else FrameLaterality of the functional groups, else Laterality.

    Two sources that contradict each other leave the side unknown: a wrong side is worse than none.
    """
    said = []
    for text in (_text(ds, "ImageLaterality"), *_frame_lateralities(ds), _text(ds, "Laterality")):
        if text.upper() in {"L", "R", "B"}:
            said.append(Laterality(text.upper()))
    if len(set(said)) > 1:
        flags.append(Flag.LATERALITY_CONFLICT)
        return Laterality.UNKNOWN
    return said[0] if said else Laterality.UNKNOWN


def parse_view(ds: Dataset, flags: list[Flag]) -> tuple[View, tuple[str, ...], bool]:
    """View of ViewCodeSequence item 0 (CID 4014, SCT or SRT), else ViewPosition; its modifiers
    (CID 4015, inside that item); and whether it is a specimen.
    """
    coded, modifiers, specimen = View.UNKNOWN, [], False
    sequence = ds.get("ViewCodeSequence") or _shared(ds, "ViewCodeSequence")
    if sequence:
        code = codes.value(sequence[0])
        coded, specimen = codes.VIEWS.get(code, View.UNKNOWN), code in codes.SPECIMEN
        for item in sequence[0].get("ViewModifierCodeSequence") or ():
            known = codes.MODIFIERS.get(codes.value(item))
            modifiers.append(known or str(item.get("CodeMeaning", "")).strip().lower())
    position = _text(ds, "ViewPosition").upper()
    named = View(position) if position in View.__members__ and position != "UNKNOWN" else View.UNKNOWN
    if View.UNKNOWN not in {coded, named} and coded is not named:
        flags.append(Flag.VIEW_CONFLICT)
    return (coded if coded is not View.UNKNOWN else named), tuple(m for m in modifiers if m), specimen


def parse_spacing(ds: Dataset, magnification: float | None) -> Spacing | None:
    """Pixel spacing in the breast: PixelSpacing (0028,0030), else ImagerPixelSpacing (0018,1164)
    divided by the magnification factor where that is known (PS3.3 C.8.11.7, 10.7.1.3).
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            row, column = (float(v) for v in _many(ds, keyword))
        except (TypeError, ValueError):
            continue
        if not (0.005 < row < 5 and 0.005 < column < 5):
            continue
        if keyword == "PixelSpacing":
            return Spacing(row, column, SpacingSource.PIXEL_SPACING)
        if magnification is not None and magnification >= 1:
            return Spacing(row / magnification, column / magnification, SpacingSource.IMAGER_CORRECTED)
        return Spacing(row, column, SpacingSource.IMAGER)
    return None


# --------------------------------------------------------------------------- values, strictly


def _text(ds: Dataset, keyword: str) -> str:
    """A value as stripped text, '' where it is missing; several values: the first."""
    value = ds.get(keyword)
    if value is None:
        return ""
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        value = value[0] if len(value) else ""
    return str(value).replace("\x00", "").strip()


def _many(ds: Dataset, keyword: str) -> list[Any]:
    value = ds.get(keyword)
    if value is None or isinstance(value, str):
        return [value] if value else []
    return list(value) if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]


def _number(ds: Dataset, keyword: str) -> float | None:
    try:
        found = float(_text(ds, keyword))
    except ValueError:
        return None
    return found if found == found and abs(found) < float("inf") else None


def _integer(ds: Dataset, keyword: str) -> int | None:
    try:
        return int(_text(ds, keyword))
    except ValueError:
        return None


def _yes_no(ds: Dataset, keyword: str) -> bool | None:
    return {"YES": True, "NO": False}.get(_text(ds, keyword).upper())


def _date(ds: Dataset, keyword: str) -> str:
    text = _text(ds, keyword).replace("-", "").replace(".", "")
    return text if _as_date(text) is not None else ""


def _as_date(text: str) -> date | None:
    if not re.fullmatch(r"\d{8}", text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _time(ds: Dataset, keyword: str) -> str:
    text = _text(ds, keyword)
    return text if re.fullmatch(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", text) else ""


def _orientation(ds: Dataset) -> tuple[str, ...]:
    found = tuple(str(v).strip().upper() for v in _many(ds, "PatientOrientation"))
    return found if len(found) == 2 and all(re.fullmatch(r"[ALRPHF]{1,3}", v) for v in found) else ()


def _shared(ds: Dataset, keyword: str) -> Any:
    groups = ds.get("SharedFunctionalGroupsSequence")
    if groups:
        for name in ("XRay3DFrameTypeSequence", "FrameAnatomySequence", "ViewCodeSequence"):
            inner = groups[0].get(name)
            if name == keyword and inner:
                return inner
            if inner and inner[0].get(keyword):
                return inner[0].get(keyword)
    return None


def _frame_lateralities(ds: Dataset) -> list[str]:
    out: list[str] = []
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in ds.get(keyword) or ():
            out.extend(_text(item, "FrameLaterality") for item in group.get("FrameAnatomySequence") or ())
    return out


def _valid(uid: str) -> str:
    """The UID if it is valid (PS3.5 9.1), else ''."""
    return uid if re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", uid) and len(uid) <= 64 else ""
