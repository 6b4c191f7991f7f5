"""The facts of a header, and the rules that decide what happens to its file."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from pydicom.uid import UID

from mammoscan.archive import density
from mammoscan.archive.dicomfile import read_header_dataset
from mammoscan.core import codes, rules
from mammoscan.core.domain import (
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
from mammoscan.core.errors import InputError, Reason, Stage
from mammoscan.core.implementation import MANUFACTURER
from mammoscan.core.kinds import KINDS
from mammoscan.core.values import (
    as_date,
    as_number,
    date_text,
    held,
    integer,
    items,
    number,
    offset_text,
    text,
    texts,
    time_text,
    usable_uid,
    valid_uid,
    whole,
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
_MAMMOGRAPHY = {FOR_PRESENTATION, FOR_PROCESSING}  # whatever their Modality says
_PIXEL_CLASSES = (FOR_PRESENTATION, FOR_PROCESSING, *SECONDARY_CAPTURES, _COMPUTED, _DIGITAL, _DIGITAL_RAW)
_OWN_CLASSES = frozenset(kind.sop_class_uid for kind in KINDS)
_SCORECARD_NAMES = re.compile(r"score ?card|roi mask|cropped image|dose report", re.IGNORECASE)

OLDEST = 120  # years
CONFLICT_YEARS = 1.0
SMALLEST_SPACING, LARGEST_SPACING = 0.005, 5.0  # millimetres; others are no spacing of a mammogram
MOST_DISTANT = 5.0  # times as far from the source as the breast: no detector is
# Views of CID 4014 and their modifiers of CID 4015 as the ACR's quality manual abbreviates them: SCC, MMLO, CCID.
_ABBREVIATED = re.compile(r"([SM]{0,2})(XCCL|XCCM|XCC|CC|MLO|ML|LMO|LM|FB|SIO|ISO|AT)(RL|RM|RI|RS|ID|NP|AC|IMF|AX)?")
_VIEW_WORDS = re.compile(r"(?<![A-Z])[LR]?(XCCL|XCCM|XCC|CC|MLO|ML|LMO|LM|FB|SIO|ISO)(?![A-Z])")
_SPOT = re.compile(r"SPOT|SPT")
_MAGNIFIED = re.compile(r"(?<![A-Z])MAG(?=NIF|VIEW|SPOT|SPT|PAD|[^A-Z]|$)|(SPT|SPOT)[ _-]?MAG")
# A mammogram made after a biopsy, with the marker that was left, is an ordinary one.
_STEREO = re.compile(r"(?<!POST[ _-])STEREO|PRE[_-]?FIRE|POST[_-]?FIRE")
_BIOPSY_PADDLE = re.compile(r"BIOPS|(?<![A-Z])BX(?![A-Z])")
_CONTRAST = re.compile(r"SUBTRACT|RECOMBIN|HIGH[ _-]?ENERGY")
_CONTRAST_TYPES = {"SUBTRACTION", "SUBTRACTED", "RECOMBINED", "HIGH_ENERGY"}
_BIOPSY_TABLES = re.compile(r"AFFIRM PRONE|MULTI-?CARE|MAMMOTEST|STEREOLOC")
# Where the name of one view stands, if it doesn't tell of the whole examination.
_NAMES = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription", "AcquisitionProtocolName")
_MOST_WORDS = 3  # of a name without a view: longer ones tell of an examination


def read_header(
    file: SourceFile, *, include: tuple[str, ...] | None, settle_seconds: float, now: float
) -> Header | Skipped | Failed:
    """Read a file's header and decide by rule. Never raises for a bad file.

    include: switchable rules that are off; None leaves all rules about images to the caller (``apply_rules``). settle_seconds, now: a file changed less than this many
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
        if error.reason in {Reason.NOT_DICOM, Reason.ARCHIVE}:
            return Skipped(file, Stage.HEADER, error.reason, error.detail)
        return Failed(file, Stage.HEADER, error.reason, error.detail)
    except OSError as error:
        if error.errno is None:  # pydicom's own, of items that are none
            return Failed(file, Stage.HEADER, Reason.BROKEN_HEADER, "a sequence that cannot be read")
        return Failed(file, Stage.HEADER, Reason.UNREADABLE, error.strerror or type(error).__name__)
    except EOFError:
        return Failed(file, Stage.HEADER, Reason.BROKEN_HEADER, "ends within the header")
    except RecursionError:
        return Failed(file, Stage.HEADER, Reason.BROKEN_HEADER, "sequences nested too deeply")
    except Exception as error:
        return Failed(file, Stage.HEADER, Reason.BROKEN_HEADER, type(error).__name__)
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        return Skipped(file, Stage.HEADER, Reason.STILL_WRITTEN)
    return apply_rules(result, include) if isinstance(result, Header) and include is not None else result


def classify(ds: Dataset, file: SourceFile) -> Header | Skipped | Failed:
    """Tell mammograms from everything else; one that cannot be identified is ``Failed``."""
    sop_class = text(ds, "SOPClassUID")
    meta = getattr(ds, "file_meta", None)
    if DICOMDIR_STORAGE in {sop_class, text(meta, "MediaStorageSOPClassUID") if meta else ""}:
        return Skipped(file, Stage.HEADER, Reason.DICOMDIR)
    study, instance = whole(ds, "StudyInstanceUID").text, whole(ds, "SOPInstanceUID").text
    modality = text(ds, "Modality").upper()
    own = text(ds, "Manufacturer") == MANUFACTURER and sop_class in _OWN_CLASSES

    def skipped(reason: Reason, detail: str = "", densities: tuple[DensityReading, ...] = ()) -> Skipped:
        patient = (whole(ds, "PatientID").text, whole(ds, "IssuerOfPatientID").text) if densities else ("", "")
        return Skipped(file, Stage.HEADER, reason, detail, usable_uid(study), usable_uid(instance), densities, patient)

    if own:
        return skipped(Reason.OUTPUT)
    if sop_class.startswith(_STRUCTURED_REPORT) or modality == "SR":
        found = density.reported_densities(ds)
        return skipped(Reason.DENSITY_SOURCE if found else Reason.NOT_AN_IMAGE, "", found)
    if sop_class == TOMOSYNTHESIS or sop_class in PROJECTIONS:
        return skipped(Reason.TOMOSYNTHESIS)
    if modality != "MG" and sop_class not in _MAMMOGRAPHY:
        return skipped(Reason.OTHER_MODALITY, f"Modality {modality}" if modality else "no Modality")
    problem = _identity_problem(ds)
    if problem is not None:
        return Failed(file, Stage.HEADER, *problem, usable_uid(study), usable_uid(instance))
    if sop_class not in _PIXEL_CLASSES:
        known = UID(sop_class).name
        return skipped(Reason.NOT_AN_IMAGE, known if known != sop_class else "")
    return parse_header(ds, file)


def _identity_problem(ds: Dataset) -> tuple[Reason, str] | None:
    """Why nobody can say which instance and whose this is, if so.

    A UID that is not valid but unique does (``usable_uid``). Of an identifier of the patient no character may be lost
    or changed: it would be that of somebody else.
    """
    for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        uid = whole(ds, name).text
        if "\\" in uid:
            return Reason.AMBIGUOUS_ID, f"{name} holds several values"
        if not (valid_uid(uid) if name == "SOPClassUID" else usable_uid(uid)):
            return Reason.MISSING_UID, f"{name} is {'missing' if not uid else 'no UID'}"
    for name in ("PatientID", "IssuerOfPatientID"):
        found = whole(ds, name)
        if "\\" in found.text:
            return Reason.AMBIGUOUS_ID, f"{name} holds a backslash, which parts values"
        if found.changed:
            return Reason.AMBIGUOUS_ID, f"{name} holds characters that cannot be read or written"
        if held(found.text, "LO") != found.text:
            return Reason.AMBIGUOUS_ID, f"{name} has {len(found.text)} characters, of which 64 could be written"
    return None


_SWITCHED = tuple((Flag(rule.code), rule) for rule in rules.SWITCHABLE)


def apply_rules(header: Header, include: tuple[str, ...]) -> Header | Skipped:
    """Skip an image by its rule, unless ``include`` switches the rule off."""
    met = (rule for flag, rule in _SWITCHED if flag in header.flags and rule.switch not in include)
    reason = header.skip or next((Reason.of(rule.code) for rule in met), None)
    if reason is None:
        return header
    return Skipped(header.file, Stage.HEADER, reason, "", header.study.study_instance_uid, header.sop_instance_uid)


def parse_header(ds: Dataset, file: SourceFile) -> Header:
    """The facts of a mammogram. Pure: nothing is read but ``ds``. Unknown stays unknown.

    ``skip`` holds the rule that no switch can turn off, if one is met.
    """
    flags: list[Flag] = []
    age, age_string = parse_age(ds, flags)
    laterality = parse_laterality(ds, flags)
    view, modifiers, specimen = parse_view(ds, flags)
    magnification, by = parse_magnification(ds)
    implant = yes_no(ds, "BreastImplantPresent")
    partial = yes_no(ds, "PartialView")
    burned_in = yes_no(ds, "BurnedInAnnotation")
    lossy = {"01": True, "00": False}.get(text(ds, "LossyImageCompression"))
    sop_class, modality = text(ds, "SOPClassUID"), text(ds, "Modality").upper()
    uids = [whole(ds, name).text for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
    intent = text(ds, "PresentationIntentType").upper()
    spacing = parse_spacing(ds, magnification, by)
    kinds = parse_kinds(ds, modifiers)
    for flag, present in (
        (Flag.SPACING_UNKNOWN, spacing is None),
        (Flag.SECONDARY_CAPTURE, sop_class in SECONDARY_CAPTURES),
        (Flag.BURNED_IN_ANNOTATION, burned_in),
        (Flag.IMPLANT, implant or "implant displaced" in modifiers),
        (Flag.PARTIAL_VIEW, partial),
        *((flag, flag in kinds) for flag in (Flag.CONTRAST, Flag.STEREOTACTIC, Flag.MAGNIFICATION, Flag.SPOT)),
        (Flag.FOR_PROCESSING, sop_class in _RAW_CLASSES or intent == "FOR PROCESSING"),
        (Flag.LOSSY, lossy),
        (Flag.MODALITY_CONFLICT, modality not in {"", "MG"}),
        (Flag.UID_INVALID, not all(valid_uid(uid) for uid in uids)),
        (Flag.NUMBER_FORMAT, any("," in text(ds, keyword) for keyword in _MEASURES)),
        (Flag.DATE_INVALID, _unread_dates(ds)),
    ):
        if present:
            flags.append(flag)
    rows, columns = (max(0, integer(ds, keyword) or 0) for keyword in ("Rows", "Columns"))

    def line(keyword: str, vr: str) -> str:
        return _line(ds, keyword, vr, flags)

    header = Header(
        file=file,
        sop_class_uid=sop_class,
        sop_instance_uid=uids[0],
        series_instance_uid=uids[1],
        transfer_syntax_uid=text(meta, "TransferSyntaxUID") if (meta := getattr(ds, "file_meta", None)) else "",
        modality=modality,
        series_number=integer(ds, "SeriesNumber"),
        instance_number=integer(ds, "InstanceNumber"),
        patient=Patient(
            patient_id=line("PatientID", "LO"),
            name=line("PatientName", "PN"),
            issuer=line("IssuerOfPatientID", "LO"),
            birth_date=date_text(ds, "PatientBirthDate"),
            sex={"F": Sex.FEMALE, "M": Sex.MALE, "O": Sex.OTHER}.get(text(ds, "PatientSex").upper(), Sex.UNKNOWN),
            age_string=age_string,
        ),
        study=StudyFacts(
            study_instance_uid=uids[2],
            study_date=date_text(ds, "StudyDate"),
            study_time=time_text(ds, "StudyTime"),
            accession_number=line("AccessionNumber", "SH"),
            study_id=line("StudyID", "SH"),
            study_description=line("StudyDescription", "LO"),
            referring_physician_name=line("ReferringPhysicianName", "PN"),
            timezone_offset=offset_text(ds, "TimezoneOffsetFromUTC"),
        ),
        age=age,
        laterality=laterality,
        view=view,
        view_modifiers=modifiers,
        density=density.private_density(ds, laterality),
        manufacturer=line("Manufacturer", "LO"),
        manufacturer_model=line("ManufacturerModelName", "LO"),
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
        flags=tuple(dict.fromkeys(flags)),  # last: reading the texts adds some
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
    small = 0 < min(header.rows, header.columns) < rules.SMALLEST_SIDE
    colour = (integer(ds, "SamplesPerPixel") or 1) > 1
    localizer = "LOCALIZER" in (v.upper() for v in texts(ds, "ImageType"))
    named = _SCORECARD_NAMES.search(whole(ds, "SeriesDescription").text) is not None
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
    """View of ViewCodeSequence item 0 (CID 4014, SCT or SRT), else ViewPosition; its modifiers (CID 4015, inside the
    items of that sequence, or, where older writers put them, beside it); and whether it is a specimen.
    """
    sequence = items(ds, "ViewCodeSequence") or _shared_views(ds)
    code = codes.value(sequence[0]) if sequence else ""
    coded = codes.VIEWS.get(code, View.UNKNOWN)
    coded_modifiers = [m for place in (*sequence, ds) for m in items(place, "ViewModifierCodeSequence")]
    modifiers = [codes.MODIFIERS.get(codes.value(m)) or whole(m, "CodeMeaning").text.lower() for m in coded_modifiers]
    named, abbreviated = _view_position(whole(ds, "ViewPosition").text.upper())
    if View.UNKNOWN not in {coded, named} and coded is not named:
        flags.append(Flag.VIEW_CONFLICT)
    found = tuple(dict.fromkeys(m for m in (*modifiers, *abbreviated) if m))
    return (coded if coded is not View.UNKNOWN else named), found, code in codes.SPECIMEN


def _view_position(position: str) -> tuple[View, tuple[str, ...]]:
    """View and modifiers of a ViewPosition (0018,5101), which may hold the ACR's abbreviations (PS3.16 CID 4015)."""
    if position in View.__members__ and position != "UNKNOWN":
        return View(position), ()
    match = _ABBREVIATED.fullmatch(position)
    if match is None:
        return View.UNKNOWN, ()
    before, view, after = match.group(1, 2, 3)
    return View(view), tuple(codes.ABBREVIATED_MODIFIERS[part] for part in (*before, after) if part)


def parse_kinds(ds: Dataset, modifiers: tuple[str, ...]) -> set[Flag]:
    """Which kinds of pictures that are no screening views this is, by every place where makers say so.

    What a table of modifiers, a paddle or ViewPosition says is about this picture. The name of a series or protocol
    counts only where it names one view or is short, since it may tell of the whole examination.
    """
    types = {value.upper() for value in texts(ds, "ImageType")}
    names = [whole(ds, keyword).text.upper() for keyword in _NAMES]
    said = " ".join(modifiers).upper()
    position, paddle = (whole(ds, keyword).text.upper() for keyword in ("ViewPosition", "PaddleDescription"))
    own = " | ".join((said, position, paddle, *filter(_names_one_view, names)))
    stereo = (*types, own, whole(ds, "PositionerType").text.upper())
    table = _BIOPSY_TABLES.search(whole(ds, "ManufacturerModelName").text.upper()) or _BIOPSY_PADDLE.search(paddle)
    factors = (number(ds, "EstimatedRadiographicMagnificationFactor"), _by_distances(ds))
    magnified = any(factor is not None and factor > rules.LARGEST_MAGNIFICATION for factor in factors)
    found = (
        (Flag.CONTRAST, _is_contrast(ds, types, names)),
        (Flag.STEREOTACTIC, table or "TOMO_SCOUT" in types or any(_STEREO.search(place) for place in stereo)),
        (Flag.MAGNIFICATION, magnified or _MAGNIFIED.search(own)),
        (Flag.SPOT, _SPOT.search(own)),
    )
    return {flag for flag, met in found if met}


def _names_one_view(name: str) -> bool:
    views = set(_VIEW_WORDS.findall(name))
    return len(views) == 1 or (not views and len(name.split()) <= _MOST_WORDS)


def _is_contrast(ds: Dataset, types: set[str], names: list[str]) -> bool:
    """Whether a contrast-enhanced picture shows something else than a mammogram (PS3.3 C.8.11.7.1.4).

    A contrast agent alone says nothing: the low-energy image of the pair is an ordinary mammogram.
    """
    derived = any(codes.dcm_value(item) == "113062" for item in items(ds, "DerivationCodeSequence"))
    if types & _CONTRAST_TYPES or derived or "GEMS_CESM" in text(ds, "AcquisitionDeviceProcessingCode").upper():
        return True
    low = "LOW_ENERGY" in types
    return not low and any(_CONTRAST.search(name) and "LOW" not in name for name in names)


def parse_magnification(ds: Dataset) -> tuple[float | None, SpacingSource]:
    """The stated magnification, else that of the distances (PS3.3 C.8.11.7); and the source of a spacing by it."""
    stated = number(ds, "EstimatedRadiographicMagnificationFactor")
    if stated is not None and stated >= 1:
        return stated, SpacingSource.IMAGER_CORRECTED
    return _by_distances(ds), SpacingSource.IMAGER_BY_DISTANCES


def _by_distances(ds: Dataset) -> float | None:
    """Distance from the source to the detector over that to the breast's support; None where it can't be."""
    far, near = number(ds, "DistanceSourceToDetector"), number(ds, "DistanceSourceToPatient")
    if far is None or not near or not 1 <= far / near <= MOST_DISTANT:
        return None
    return far / near


def parse_spacing(ds: Dataset, magnification: float | None, by: SpacingSource) -> Spacing | None:
    """Pixel spacing in the breast (PS3.3 10.7.1.3, C.8.11.7), in millimetres.

    PixelSpacing (0028,0030), else ImagerPixelSpacing (0018,1164) divided by the magnification where that is known
    (``parse_magnification``), else NominalScannedPixelSpacing (0018,2010) of a digitised film, which lay close to the
    breast. A PixelSpacing that repeats ImagerPixelSpacing and states no PixelSpacingCalibrationType (0028,0A02) was
    not corrected, so it counts as the latter.
    """
    patient, imager = _pair(ds, "PixelSpacing"), _pair(ds, "ImagerPixelSpacing")
    if patient is not None and (patient != imager or text(ds, "PixelSpacingCalibrationType")):
        return Spacing(*patient, SpacingSource.PIXEL_SPACING)
    if imager is None:
        nominal = _pair(ds, "NominalScannedPixelSpacing")
        return nominal and Spacing(*nominal, SpacingSource.NOMINAL)
    if magnification is not None:
        return Spacing(imager[0] / magnification, imager[1] / magnification, by)
    return Spacing(*imager, SpacingSource.IMAGER)


# --------------------------------------------------------------------------- parts

# Numbers that are looked at and may come with a decimal comma.
_MEASURES = (
    "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "EstimatedRadiographicMagnificationFactor",
    "DistanceSourceToDetector", "DistanceSourceToPatient",
)  # fmt: skip


def _line(ds: Dataset, keyword: str, vr: str, flags: list[Flag]) -> str:
    """A text, whole; flagged where objects hold less of it, or where it is not what its bytes say."""
    found = whole(ds, keyword)
    if found.changed or not found.certain or "\\" in found.text:
        flags.append(Flag.TEXT_REPLACED)
    parted = found.text.replace("\\", "/")
    if held(parted, vr) != parted:
        flags.append(Flag.VALUE_TOO_LONG)
    return found.text


def _unread_dates(ds: Dataset) -> bool:
    """Whether the study's date or time is stated and cannot be read."""
    return any(
        text(ds, keyword) and not read(ds, keyword)
        for keyword, read in (("StudyDate", date_text), ("StudyTime", time_text), ("PatientBirthDate", date_text))
    )


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
