"""The facts of a header, and the rules that decide what happens to its file."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydicom.uid import UID

from mammoscan import codes, density
from mammoscan.dicomfile import read_header_dataset
from mammoscan.domain import (
    Age,
    AgeSource,
    DensityReading,
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
from mammoscan.report.kinds import KINDS
from mammoscan.values import (
    as_date,
    as_number,
    date_text,
    integer,
    items,
    number,
    text,
    texts,
    time_text,
    valid_uid,
    yes_no,
)

if TYPE_CHECKING:
    from pydicom import Dataset

FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"
TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DICOMDIR_STORAGE = "1.2.840.10008.1.3.10"
_STRUCTURED_REPORT = "1.2.840.10008.5.1.4.1.1.88."
PROJECTIONS = ("1.2.840.10008.5.1.4.1.1.13.1.4", "1.2.840.10008.5.1.4.1.1.13.1.5")
# Single-frame, multi-frame 8 and 16 bits (frames are counted later); their 1-bit and colour forms are no mammograms.
SECONDARY_CAPTURES = (SECONDARY_CAPTURE, SECONDARY_CAPTURE + ".2", SECONDARY_CAPTURE + ".3")
# Computed radiography and general digital X-ray, with Modality MG: how mammograms were stored before, and by plates.
_COMPUTED, _DIGITAL, _DIGITAL_RAW = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1", "1.1", "1.1.1"))
_RAW_CLASSES = (FOR_PROCESSING, _DIGITAL_RAW)
_PIXEL_CLASSES = (FOR_PRESENTATION, FOR_PROCESSING, *SECONDARY_CAPTURES, _COMPUTED, _DIGITAL, _DIGITAL_RAW)
_OWN_CLASSES = frozenset(kind.sop_class_uid for kind in KINDS)
_SCORECARD_NAMES = re.compile(r"score ?card|roi mask|cropped image|dose report", re.IGNORECASE)

OLDEST = 120  # years
CONFLICT_YEARS = 1.0
LARGEST_MAGNIFICATION = 1.5  # larger ones are magnification views, not the few per cent of a normal stand
SMALLEST_SPACING, LARGEST_SPACING = 0.005, 5.0  # millimetres; others are no spacing of a mammogram
SMALLEST_SIDE = 256  # pixels; scorecards and icons are smaller, no mammogram is


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the header stage, as the README lists it."""

    reason: Reason
    looks_at: str
    default: str
    switch: str = ""


RULES = (
    Rule(Reason.DICOMDIR, "Media Storage Directory SOP class", "skipped"),
    Rule(Reason.OUTPUT, "Manufacturer (0008,0070) mammoscan and a SOP class that it writes", "skipped"),
    Rule(Reason.DENSITY_SOURCE, "SR of Modality SR that states a breast composition (129715009)", "skipped, its density used"),
    Rule(Reason.OTHER_MODALITY, "Modality (0008,0060) other than MG, or none and no mammography SOP class", "skipped"),
    Rule(Reason.NOT_AN_IMAGE, "SR, presentation state, segmentation: no pixels of a breast", "skipped"),
    Rule(Reason.TOMOSYNTHESIS, "Breast Tomosynthesis and Breast Projection SOP classes", "skipped"),
    Rule(Reason.SPECIMEN, "view 127457009 tissue specimen from breast", "skipped"),
    Rule(Reason.MULTIFRAME, "NumberOfFrames over 1", "skipped"),
    Rule(Reason.SCORECARD, f"colour, or a side under {SMALLEST_SIDE} pixels, or ImageType LOCALIZER, or SeriesDescription "
         "'scorecard', 'ROI mask', 'cropped image' or 'dose report', or a Secondary Capture with BurnedInAnnotation YES "
         "and neither side nor view", "skipped"),
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
    # A time in the future is another machine's clock: close to now it says nothing, far off it can't be waited for.
    if abs(now - file.mtime_ns / 1e9) < settle_seconds:
        return Skipped(file, Stage.HEADER, Reason.STILL_WRITTEN)
    if file.size == 0:
        return Skipped(file, Stage.HEADER, Reason.EMPTY_FILE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns about values that are checked here
            ds = read_header_dataset(file)
            result = classify(ds, file)
        status = file.path.stat()
    except InputError as error:
        if error.reason is Reason.NOT_DICOM:
            return Skipped(file, Stage.HEADER, error.reason, error.detail)
        return Failed(file, Stage.HEADER, error.reason, error.detail)
    except OSError as error:
        return Failed(file, Stage.HEADER, Reason.UNREADABLE, error.strerror or type(error).__name__)
    except EOFError:
        return Failed(file, Stage.HEADER, Reason.BROKEN_HEADER, "ends within the header")
    except RecursionError:
        return Failed(file, Stage.HEADER, Reason.BROKEN_HEADER, "sequences nested too deeply")
    except Exception as error:
        return Failed(file, Stage.HEADER, Reason.BROKEN_HEADER, type(error).__name__)
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        return Skipped(file, Stage.HEADER, Reason.STILL_WRITTEN)
    return apply_rules(result, include) if isinstance(result, Header) else result


def classify(ds: Dataset, file: SourceFile) -> Header | Skipped | Failed:
    """Tell mammograms from everything else.

    Raises
    ------
    InputError
        ``MISSING_UID`` when a mammogram cannot be identified.
    """
    sop_class = text(ds, "SOPClassUID")
    meta = getattr(ds, "file_meta", None)
    if sop_class == DICOMDIR_STORAGE or str(getattr(meta, "MediaStorageSOPClassUID", "")) == DICOMDIR_STORAGE:
        return Skipped(file, Stage.HEADER, Reason.DICOMDIR)
    study, instance = text(ds, "StudyInstanceUID"), text(ds, "SOPInstanceUID")
    modality = text(ds, "Modality").upper()
    own = text(ds, "Manufacturer") == "mammoscan" and sop_class in _OWN_CLASSES

    def skipped(reason: Reason, detail: str = "", densities: tuple[DensityReading, ...] = ()) -> Skipped:
        patient = (text(ds, "PatientID"), text(ds, "IssuerOfPatientID")) if densities else ("", "")
        return Skipped(file, Stage.HEADER, reason, detail, valid_uid(study), valid_uid(instance), densities, patient)

    if own:
        return skipped(Reason.OUTPUT)
    if sop_class.startswith(_STRUCTURED_REPORT) or modality == "SR":
        found = density.reported_densities(ds)
        return skipped(Reason.DENSITY_SOURCE if found else Reason.NOT_AN_IMAGE, "", found)
    if sop_class == TOMOSYNTHESIS or sop_class in PROJECTIONS:
        return skipped(Reason.TOMOSYNTHESIS)
    if modality != "MG" and (modality or sop_class not in {FOR_PRESENTATION, FOR_PROCESSING}):
        return skipped(Reason.OTHER_MODALITY, f"Modality {modality}" if modality else "no Modality")
    series = text(ds, "SeriesInstanceUID")
    for name, uid in (
        ("SOPClassUID", sop_class), ("SOPInstanceUID", instance), ("StudyInstanceUID", study), ("SeriesInstanceUID", series)
    ):  # fmt: skip
        if not valid_uid(uid):
            raise InputError(Reason.MISSING_UID, f"{name} is {'missing' if not uid else 'invalid'}")
    if sop_class not in _PIXEL_CLASSES:
        known = UID(sop_class).name
        return skipped(Reason.NOT_AN_IMAGE, known if known != sop_class else "")
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
    magnification = number(ds, "EstimatedRadiographicMagnificationFactor")
    implant = yes_no(ds, "BreastImplantPresent")
    partial = yes_no(ds, "PartialView")
    burned_in = yes_no(ds, "BurnedInAnnotation")
    lossy = {"01": True, "00": False}.get(text(ds, "LossyImageCompression"))
    sop_class = text(ds, "SOPClassUID")
    intent = text(ds, "PresentationIntentType").upper()
    spacing = parse_spacing(ds, magnification)
    for flag, present in (
        (Flag.SPACING_UNKNOWN, spacing is None),
        (Flag.SECONDARY_CAPTURE, sop_class in SECONDARY_CAPTURES),
        (Flag.BURNED_IN_ANNOTATION, burned_in),
        (Flag.IMPLANT, implant or "implant displaced" in modifiers),
        (Flag.PARTIAL_VIEW, partial),
        (Flag.MAGNIFICATION, "magnification" in modifiers or (magnification or 0) > LARGEST_MAGNIFICATION),
        (Flag.SPOT, "spot compression" in modifiers or "SPOT" in text(ds, "PaddleDescription").upper()),
        (Flag.FOR_PROCESSING, sop_class in _RAW_CLASSES or intent == "FOR PROCESSING"),
        (Flag.LOSSY, lossy),
    ):
        if present:
            flags.append(flag)
    rows, columns = integer(ds, "Rows") or 0, integer(ds, "Columns") or 0
    header = Header(
        file=file,
        sop_class_uid=sop_class,
        sop_instance_uid=text(ds, "SOPInstanceUID"),
        series_instance_uid=text(ds, "SeriesInstanceUID"),
        transfer_syntax_uid=str(getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", "")),
        modality=text(ds, "Modality").upper(),
        series_number=integer(ds, "SeriesNumber"),
        instance_number=integer(ds, "InstanceNumber"),
        patient=Patient(
            patient_id=text(ds, "PatientID"),
            name=text(ds, "PatientName"),
            issuer=text(ds, "IssuerOfPatientID"),
            birth_date=date_text(ds, "PatientBirthDate"),
            sex={"F": Sex.FEMALE, "M": Sex.MALE, "O": Sex.OTHER}.get(text(ds, "PatientSex").upper(), Sex.UNKNOWN),
            age_string=age_string,
        ),
        study=StudyFacts(
            study_instance_uid=text(ds, "StudyInstanceUID"),
            study_date=date_text(ds, "StudyDate"),
            study_time=time_text(ds, "StudyTime"),
            accession_number=text(ds, "AccessionNumber"),
            study_id=text(ds, "StudyID"),
            study_description=text(ds, "StudyDescription"),
            referring_physician_name=text(ds, "ReferringPhysicianName"),
            timezone_offset=text(ds, "TimezoneOffsetFromUTC"),
        ),
        age=age,
        laterality=laterality,
        view=view,
        view_modifiers=modifiers,
        density=density.private_density(ds, laterality),
        manufacturer=text(ds, "Manufacturer"),
        manufacturer_model=text(ds, "ManufacturerModelName"),
        spacing=spacing,
        presentation_intent=intent,
        photometric=text(ds, "PhotometricInterpretation").upper(),
        rows=rows,
        columns=columns,
        bits_stored=integer(ds, "BitsStored") or 0,
        patient_orientation=_orientation(ds),
        content_date=date_text(ds, "ContentDate"),
        content_time=time_text(ds, "ContentTime"),
        acquisition_date=date_text(ds, "AcquisitionDate"),
        implant=implant,
        partial_view=partial,
        magnification=magnification,
        burned_in=burned_in,
        lossy=lossy,
        flags=tuple(dict.fromkeys(flags)),
        skip=None,
    )
    if specimen:
        return replace(header, skip=Reason.SPECIMEN)
    if (integer(ds, "NumberOfFrames") or 1) > 1:
        return replace(header, skip=Reason.MULTIFRAME)
    return replace(header, skip=Reason.SCORECARD) if _is_scorecard(ds, header) else header


def _is_scorecard(ds: Dataset, header: Header) -> bool:
    """Whether the picture is no mammogram: a table of results, a localizer, a mask, an icon.

    Only what is stated counts: a missing ImageType or side alone says nothing, since film scans
    come as Secondary Captures with few attributes.
    """
    small = 0 < min(header.rows, header.columns) < SMALLEST_SIDE
    colour = (integer(ds, "SamplesPerPixel") or 1) > 1
    localizer = "LOCALIZER" in (v.upper() for v in texts(ds, "ImageType"))
    named = _SCORECARD_NAMES.search(text(ds, "SeriesDescription")) is not None
    nameless = header.laterality is Laterality.UNKNOWN and header.view is View.UNKNOWN
    written_on = header.sop_class_uid in SECONDARY_CAPTURES and nameless and header.burned_in is True
    return small or colour or localizer or named or written_on


def parse_age(ds: Dataset, flags: list[Flag]) -> tuple[Age | None, str]:
    """Age from PatientAge (0010,1010), else whole years between dates; and PatientAge if it is valid.

    Strict: three digits and D, W, M or Y (PS3.5 6.2 AS); 000Y, 999Y and over 120 years are unknown.
    """
    written = text(ds, "PatientAge")
    stated: Age | None = None
    if written:
        match = re.fullmatch(r"(\d{3})([DWMY])", written, re.ASCII)
        years = int(match[1]) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}[match[2]] if match else 0.0
        if 0 < years <= OLDEST:
            stated = Age(years, AgeSource.PATIENT_AGE)
        else:
            flags.append(Flag.AGE_INVALID)
    counted: Age | None = None
    born = as_date(date_text(ds, "PatientBirthDate"))
    for keyword, source in (
        ("StudyDate", AgeSource.BIRTH_AND_STUDY_DATE),
        ("AcquisitionDate", AgeSource.BIRTH_AND_ACQUISITION_DATE),
        ("ContentDate", AgeSource.BIRTH_AND_CONTENT_DATE),
    ):
        then = as_date(date_text(ds, keyword))
        if born is not None and then is not None:
            whole = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
            if 0 < whole <= OLDEST:
                counted = Age(float(whole), source)
            else:
                flags.append(Flag.AGE_INVALID)
            break
    if stated and counted and abs(stated.years - counted.years) > CONFLICT_YEARS:
        flags.append(Flag.AGE_CONFLICT)
    return stated or counted, written if stated else ""


def parse_laterality(ds: Dataset, flags: list[Flag]) -> Laterality:
    """ImageLaterality, else FrameLaterality of the functional groups, else Laterality.

    Two sources that contradict each other leave the side unknown: a wrong side is worse than none.
    """
    said = []
    for written in (text(ds, "ImageLaterality"), *_frame_lateralities(ds), text(ds, "Laterality")):
        if written.upper() in {"L", "R", "B"}:
            said.append(Laterality(written.upper()))
    if len(set(said)) > 1:
        flags.append(Flag.LATERALITY_CONFLICT)
        return Laterality.UNKNOWN
    return said[0] if said else Laterality.UNKNOWN


def parse_view(ds: Dataset, flags: list[Flag]) -> tuple[View, tuple[str, ...], bool]:
    """View of ViewCodeSequence item 0 (CID 4014, SCT or SRT), else ViewPosition; its modifiers
    (CID 4015, inside that item); and whether it is a specimen.
    """
    coded, modifiers, specimen = View.UNKNOWN, [], False
    sequence = items(ds, "ViewCodeSequence") or _shared_views(ds)
    if sequence:
        code = codes.value(sequence[0])
        coded, specimen = codes.VIEWS.get(code, View.UNKNOWN), code in codes.SPECIMEN
        for item in items(sequence[0], "ViewModifierCodeSequence"):
            known = codes.MODIFIERS.get(codes.value(item))
            modifiers.append(known or text(item, "CodeMeaning").lower())
    position = text(ds, "ViewPosition").upper()
    named = View(position) if position in View.__members__ and position != "UNKNOWN" else View.UNKNOWN
    if View.UNKNOWN not in {coded, named} and coded is not named:
        flags.append(Flag.VIEW_CONFLICT)
    return (coded if coded is not View.UNKNOWN else named), tuple(m for m in modifiers if m), specimen


def parse_spacing(ds: Dataset, magnification: float | None) -> Spacing | None:
    """Pixel spacing in the breast (PS3.3 10.7.1.3, C.8.11.7), in millimetres.

    PixelSpacing (0028,0030), else ImagerPixelSpacing (0018,1164) divided by the magnification factor
    where that is known. A PixelSpacing that repeats ImagerPixelSpacing and states no
    PixelSpacingCalibrationType (0028,0A02) was not corrected, so it counts as the latter.
    """
    patient, imager = _pair(ds, "PixelSpacing"), _pair(ds, "ImagerPixelSpacing")
    if patient is not None and (patient != imager or text(ds, "PixelSpacingCalibrationType")):
        return Spacing(*patient, SpacingSource.PIXEL_SPACING)
    if imager is None:
        return None
    if magnification is not None and magnification >= 1:
        return Spacing(imager[0] / magnification, imager[1] / magnification, SpacingSource.IMAGER_CORRECTED)
    return Spacing(*imager, SpacingSource.IMAGER)


# --------------------------------------------------------------------------- parts


def _pair(ds: Dataset, keyword: str) -> tuple[float, float] | None:
    """Two plausible spacings in millimetres: between rows, between columns."""
    found = [as_number(v) for v in texts(ds, keyword)]
    if len(found) != 2 or any(v is None or not SMALLEST_SPACING < v < LARGEST_SPACING for v in found):
        return None
    row, column = found
    assert row is not None
    assert column is not None
    return row, column


def _orientation(ds: Dataset) -> tuple[str, ...]:
    found = tuple(v.upper() for v in texts(ds, "PatientOrientation"))
    return found if len(found) == 2 and all(re.fullmatch(r"[ALRPHF]{1,3}", v) for v in found) else ()


def _shared_views(ds: Dataset) -> list[Dataset]:
    """View codes of the shared functional groups, where multi-frame objects keep them."""
    return [view for group in items(ds, "SharedFunctionalGroupsSequence") for view in items(group, "ViewCodeSequence")]


def _frame_lateralities(ds: Dataset) -> list[str]:
    return [
        text(anatomy, "FrameLaterality")
        for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in items(ds, keyword)
        for anatomy in items(group, "FrameAnatomySequence")
    ]
