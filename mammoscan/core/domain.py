"""Every type that travels, in the order it travels.

``SourceFile`` -> ``Header`` -> ``Image`` (pixels) -> ``Prepared`` (crop, masks, geometry) ->
``Segmented`` (regions) -> ``Analysed`` (numbers, crops; full pixels end here) -> ``Scored`` (scores) ->
``Prediction`` (and the picture) -> ``StudyResult`` -> ``RunSummary``. Off the line: ``Skipped`` or ``Failed``.

All are frozen. Coordinates named ``*_source`` or held by ``Region`` are (column, row) = (x, y) in
pixels of the **source image**, with (0, 0) the top left corner of the top left pixel
(PS3.3 C.10.5.1.2), so the centre of that pixel is (0.5, 0.5). Unknown is ``None`` or ``UNKNOWN``,
never a default.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoscan.core.errors import Reason, Stage

# --------------------------------------------------------------------------- terms of the standard


class Laterality(str, Enum):
    """Image Laterality (0020,0062)."""

    LEFT = "L"
    RIGHT = "R"
    BOTH = "B"
    UNKNOWN = "unknown"


class View(str, Enum):
    """Mammography views, the short terms of PS3.16 CID 4014 and ViewPosition (0018,5101)."""

    CC = "CC"
    MLO = "MLO"
    ML = "ML"
    LM = "LM"
    LMO = "LMO"
    FB = "FB"
    SIO = "SIO"
    ISO = "ISO"
    XCC = "XCC"
    XCCL = "XCCL"
    XCCM = "XCCM"
    AT = "AT"
    UNKNOWN = "unknown"

    @property
    def shows_pectoral_muscle(self) -> bool:
        """Whether the view is oblique or lateral, with the pectoral muscle in the upper corner."""
        return self in {View.MLO, View.ML, View.LMO, View.SIO, View.LM}


class Density(str, Enum):
    """Breast composition: BI-RADS 5th edition a to d (PS3.16 CID 6000)."""

    A = "a"
    B = "b"
    C = "c"
    D = "d"
    UNKNOWN = "unknown"


class DensitySource(str, Enum):
    """Where a density came from, strongest first; an estimate is never passed off as a reading."""

    TABLE = "user-table"
    REPORT = "structured-report"
    PRIVATE = "private-attribute"
    ESTIMATE = "pixel-estimate"
    NONE = "none"


class Sex(str, Enum):
    """Patient's Sex (0010,0040)."""

    FEMALE = "F"
    MALE = "M"
    OTHER = "O"
    UNKNOWN = "unknown"


class AgeSource(str, Enum):
    """Where an age came from."""

    PATIENT_AGE = "PatientAge"
    BIRTH_AND_STUDY_DATE = "PatientBirthDate+StudyDate"
    BIRTH_AND_ACQUISITION_DATE = "PatientBirthDate+AcquisitionDate"
    BIRTH_AND_CONTENT_DATE = "PatientBirthDate+ContentDate"
    TABLE = "table"  # given by the user


class SpacingSource(str, Enum):
    """Where the pixel spacing came from (PS3.3 10.7.1.3, C.8.11.7)."""

    PIXEL_SPACING = "PixelSpacing"
    IMAGER = "ImagerPixelSpacing"
    IMAGER_CORRECTED = "ImagerPixelSpacing/EstimatedRadiographicMagnificationFactor"
    IMAGER_BY_DISTANCES = "ImagerPixelSpacing*DistanceSourceToPatient/DistanceSourceToDetector"
    NOMINAL = "NominalScannedPixelSpacing"  # of a digitised film
    TABLE = "table"  # given by the user


class RegionKind(str, Enum):
    """Which branch of the segmentation proposed a region."""

    MASS = "mass-like"
    CALCIFICATION = "calcification-cluster"


class Flag(str, Enum):
    """What is worth knowing about an image that is analysed nevertheless; written to ``images.csv``."""

    AGE_CONFLICT = "age-conflict"
    AGE_INVALID = "age-invalid"
    LATERALITY_CONFLICT = "laterality-conflict"
    VIEW_CONFLICT = "view-conflict"
    SPACING_UNKNOWN = "spacing-unknown"
    SECONDARY_CAPTURE = "secondary-capture"
    BURNED_IN_ANNOTATION = "burned-in-annotation"
    IMPLANT = "implant"
    PARTIAL_VIEW = "partial-view"
    CONTRAST = "contrast-subtraction"
    STEREOTACTIC = "stereotactic-view"
    MAGNIFICATION = "magnification-view"
    SPOT = "spot-view"
    FOR_PROCESSING = "for-processing"
    UID_INVALID = "uid-invalid"  # unique and kept as it stands, but no UID of the standard
    VALUE_TOO_LONG = "value-too-long"  # cut in the DICOM objects to what they hold; whole in tables and PDF
    TEXT_REPLACED = "text-replaced"  # characters that cannot be read, or that no object may hold
    DATE_INVALID = "date-invalid"  # StudyDate, StudyTime or PatientBirthDate is stated and cannot be read
    NUMBER_FORMAT = "number-format"  # a decimal comma, read as a point
    MODALITY_CONFLICT = "modality-conflict"  # a mammography SOP class with a Modality other than MG
    LOSSY = "lossy-compression"
    LOW_RESOLUTION = "low-resolution"  # too coarse for calcifications
    PECTORAL_NOT_FOUND = "pectoral-not-found"
    WINDOW_INVALID = "window-invalid"
    RESCALE_INVALID = "rescale-invalid"
    LUT_INVALID = "lut-invalid"  # a lookup table is damaged or contradicts its descriptor
    SYNTAX_CONTRADICTED = "transfer-syntax-contradicted"  # read by what the pixel data is
    PIXEL_FORMAT = "pixel-format-assumed"  # PixelRepresentation is missing, or HighBit contradicts the values
    SOURCE_GONE = "source-gone"  # the file is not in the archive any more: no picture of it can be shown
    INVERTED = "inverted-pixels"  # air was white; analysed the other way round


class Seen(str, Enum):
    """What the comparison with an earlier study says of a finding."""

    BEFORE = "seen-before"
    NEW = "new"
    NOT_COMPARABLE = "not-comparable"


class NotCompared(str, Enum):
    """Why nothing is said about a finding."""

    SIDE_OR_VIEW = "side-or-view-unknown"
    VIEW_MISSING = "view-missing"
    SPECIAL_VIEW = "special-view"
    ORIENTATION = "orientation-differs"
    NIPPLE = "nipple-not-found"
    EARLIER_NIPPLE = "earlier-nipple-not-found"
    RESOLUTION = "resolution-too-low"
    MODEL = "other-model"

    @property
    def meaning(self) -> str:
        return _NOT_COMPARED[self]


_NOT_COMPARED = {
    NotCompared.SIDE_OR_VIEW: "side or view of the image are not known",
    NotCompared.VIEW_MISSING: "the earlier study has no analysed image of this side and view",
    NotCompared.SPECIAL_VIEW: "one of the two images shows part of the breast, or shows it in another way",
    NotCompared.ORIENTATION: "the two images lie differently",
    NotCompared.NIPPLE: "the place of the nipple was not found",
    NotCompared.EARLIER_NIPPLE: "the place of the nipple was not found in the earlier image",
    NotCompared.RESOLUTION: "one of the two images is too coarse for calcifications",
    NotCompared.MODEL: "the earlier study was analysed by another model or with other settings",
}


class NoEarlier(str, Enum):
    """Why no earlier study is named."""

    NONE = "none"
    NO_PATIENT = "patient-unknown"
    NO_DATE = "date-unknown"
    UNCERTAIN = "not-certain"

    @property
    def meaning(self) -> str:
        return _NO_EARLIER[self]


_NO_EARLIER = {
    NoEarlier.NONE: "these results hold no earlier study of this patient",
    NoEarlier.NO_PATIENT: "the patient's identifier is not known: no earlier study is looked for",
    NoEarlier.NO_DATE: "the study's date is not known: no earlier study is looked for",
    NoEarlier.UNCERTAIN: "there are studies under this patient's identifier of which it is not certain that they are of one person",
}


# --------------------------------------------------------------------------- files and headers


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file below the archive's root, as the directory walk saw it.

    relative: POSIX path below the root, what tables and logs show.
    size: bytes. mtime_ns: nanoseconds since the epoch.
    """

    path: Path
    relative: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Patient:
    """The patient module as the source has it; '' where the source has nothing.

    name: Patient's Name as one decoded string with ``^`` and ``=`` (PS3.5 6.2.1).
    """

    patient_id: str
    name: str
    issuer: str
    birth_date: str
    sex: Sex
    age_string: str  # PatientAge only if valid, else ''


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """The general study module as the source has it; '' where the source has nothing."""

    study_instance_uid: str
    study_date: str  # YYYYMMDD, '' where missing or invalid
    study_time: str  # HHMMSS[.F], '' where missing or invalid
    accession_number: str
    study_id: str
    study_description: str
    referring_physician_name: str
    timezone_offset: str


@dataclass(frozen=True, slots=True)
class Age:
    """Age at the study in years (fractions for months, weeks and days)."""

    years: float
    source: AgeSource


@dataclass(frozen=True, slots=True)
class Spacing:
    """Centre-to-centre pixel spacing in the breast plane, in millimetres."""

    row_mm: float  # between rows: vertical
    column_mm: float  # between columns: horizontal
    source: SpacingSource


@dataclass(frozen=True, slots=True)
class DensityReading:
    """A breast composition, for one side or both, with where it came from."""

    density: Density
    source: DensitySource
    laterality: Laterality


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of one mammogram's header. Built by ``header.parse_header``."""

    file: SourceFile
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    series_number: int | None
    instance_number: int | None
    patient: Patient
    study: StudyFacts
    age: Age | None
    laterality: Laterality
    view: View
    view_modifiers: tuple[str, ...]  # CID 4015 code meanings in lower case, e.g. 'spot compression'
    density: DensityReading | None  # from this file's own (private) attributes only
    manufacturer: str
    manufacturer_model: str
    spacing: Spacing | None
    presentation_intent: str  # 'FOR PRESENTATION', 'FOR PROCESSING' or ''
    photometric: str
    rows: int
    columns: int
    bits_stored: int
    patient_orientation: tuple[str, ...]  # () or (row direction, column direction)
    content_date: str
    content_time: str
    acquisition_date: str
    implant: bool | None
    partial_view: bool | None
    magnification: float | None
    burned_in: bool | None
    lossy: bool | None
    flags: tuple[Flag, ...]
    # The first skip rule that the image meets, which the configuration may switch off.
    skip: Reason | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not analysed, by rule."""

    file: SourceFile
    stage: Stage
    reason: Reason
    detail: str = ""
    study_instance_uid: str = ""
    sop_instance_uid: str = ""
    densities: tuple[DensityReading, ...] = ()  # what an SR of the study said, reason DENSITY_SOURCE
    patient: tuple[str, str] = ("", "")  # whom that SR is about: PatientID and IssuerOfPatientID


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that should have been analysed and could not be."""

    file: SourceFile
    stage: Stage
    reason: Reason
    detail: str = ""
    study_instance_uid: str = ""
    sop_instance_uid: str = ""
    header: Header | None = None  # where the failure came after the header


# --------------------------------------------------------------------------- pixels to regions


@dataclass(frozen=True, slots=True)
class Image:
    """One image in display sense.

    pixels: float32 (rows, columns), 0 (black) to 1 (white); tissue is bright.
    padding: bool (rows, columns), True where the pixel is padding; pixels are 0 there, unless it is air.
    flags: those that only the pixels showed.
    padding_is_air: the air itself was declared as padding: pixels are there what they would be otherwise.
    step: source pixels from one pixel to the next, in both directions: more than 1 where a lower resolution was decoded.
    Pixel (0, 0) then stands around the source's first pixel, not around the middle of the first step x step of them.
    """

    header: Header
    pixels: NDArray[np.float32]
    padding: NDArray[np.bool_]
    flags: tuple[Flag, ...] = ()
    padding_is_air: bool = False
    step: int = 1

    @property
    def source_shape(self) -> tuple[int, int]:
        """(rows, columns) of the source."""
        rows, columns = self.pixels.shape
        return (rows, columns) if self.step == 1 else (self.header.rows, self.header.columns)

    @property
    def left_out(self) -> NDArray[np.bool_]:
        """The padding that is no part of the picture."""
        return np.zeros_like(self.padding) if self.padding_is_air else self.padding


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a working image came from its source: flip, crop, then resize.

    The working image has the chest wall on its left. ``flipped`` says that columns were mirrored
    (first); ``x0, y0`` is the crop's top left corner in the (flipped) source; ``scale_x, scale_y``
    are working pixels per source pixel; ``width, height`` the working size in pixels.
    ``mm`` is the size of a working pixel in millimetres, ``mm_known`` whether it was measured from
    the header (else it was estimated by a stated rule and is for scales only, never reported).
    """

    source_width: int
    source_height: int
    flipped: bool
    x0: float
    y0: float
    scale_x: float
    scale_y: float
    width: int
    height: int
    mm: float
    mm_known: bool

    def to_source(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map working (x, y) points of shape (n, 2) to source pixels (corner convention)."""
        out = np.asarray(points, dtype=np.float64) / (self.scale_x, self.scale_y) + (self.x0, self.y0)
        if self.flipped:
            out[:, 0] = self.source_width - out[:, 0]
        return out

    def to_working(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map source (x, y) points of shape (n, 2) to working pixels (corner convention)."""
        out = np.array(points, dtype=np.float64)
        if self.flipped:
            out[:, 0] = self.source_width - out[:, 0]
        return (out - (self.x0, self.y0)) * (self.scale_x, self.scale_y)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The breast, cropped, oriented and normalised.

    pixels: float32 (height, width) at the working scale, 0 to 1, denoised and contrast-normalised.
    plain: float32 (height, width), the same crop without denoising and normalisation.
    fine: float32 at ``fine_geometry`` (finest scale used, for calcifications and crops).
    breast: bool (height, width), True in breast without labels, plates and muscle.
    pectoral: bool (height, width), True in pectoral muscle (all False on views without it).
    removed: bool (height, width), True in labels, plates and muscle that were taken out.
    """

    header: Header
    geometry: Geometry
    pixels: NDArray[np.float32]
    plain: NDArray[np.float32]
    breast: NDArray[np.bool_]
    pectoral: NDArray[np.bool_]
    removed: NDArray[np.bool_]
    fine_geometry: Geometry
    fine: NDArray[np.float32]
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A suspicious region, in source image pixels.

    contour: float64 (n, 2), open polygon, n >= 3. box: (x0, y0, x1, y1). centre: (x, y).
    area_px: source pixels. area_mm2: None where the spacing is unknown.
    saliency: the segmentation's own ranking, higher first; not a probability.
    spots: number of separate spots in a calcification cluster, 0 for masses.
    """

    kind: RegionKind
    contour: NDArray[np.float64]
    box: tuple[float, float, float, float]
    centre: tuple[float, float]
    area_px: float
    area_mm2: float | None
    saliency: float
    spots: int = 0


@dataclass(frozen=True, slots=True)
class Segmented:
    """A prepared image with its candidate regions, most salient first."""

    prepared: Prepared
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Measures of a whole image; ``None`` where the spacing is unknown."""

    breast_area_mm2: float | None
    percent_density: float  # 0 to 100 %
    density: Density  # estimated from the pixels


@dataclass(frozen=True, slots=True)
class Preview:
    """A small rendering for figures: uint8 (h, w), in source orientation (not flipped or cropped).

    dense: bool (h, w), the pixels that percent density counts (second picture). scale: preview pixels per
    source pixel (one number: the aspect is kept). large: a larger picture of the same as JPEG, for the review page;
    b'' where none was asked for.
    """

    pixels: NDArray[np.uint8]
    dense: NDArray[np.bool_]
    scale: float
    large: bytes = b""


@dataclass(frozen=True, slots=True)
class Analysed:
    """One image after the array stages: what leaves the worker process.

    features: float64 (n regions, len(features.REGION_FEATURES)), nan where undefined.
    crops: uint8 (n regions, side, side), grey, with context, as ``model.classify`` wants them. tiles: uint8
    (2, side, side), the whole breast's upper and lower half.
    preview: None where it was written to a file where it was drawn. nipple: (x, y) in source pixels, None where it was
    not found.
    seconds: wall seconds by stage name.
    """

    header: Header
    geometry: Geometry
    regions: tuple[Region, ...]
    features: NDArray[np.float64]
    image_features: ImageFeatures
    crops: NDArray[np.uint8]
    tiles: NDArray[np.uint8]
    preview: Preview | None
    flags: tuple[Flag, ...]
    seconds: tuple[tuple[str, float], ...]
    nipple: tuple[float, float] | None = None


# --------------------------------------------------------------------------- scores and results


@dataclass(frozen=True, slots=True)
class Scores:
    """Class probabilities (sum 1) and the calibrated malignancy score (0 to 1)."""

    normal: float
    benign: float
    malignant: float
    malignancy: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A region that is reported, with its scores and identity.

    number: 1.. within the study, stable order. tracking_id and tracking_uid are the same in every
    output. features: as named by ``features.REGION_FEATURES``. heat: float32 (h, w) Grad-CAM over
    the crop's box ``heat_box`` (source pixels), in source orientation, 0 to 1; None where it was not
    computed. lesion_kind: what it is if it is a lesion (``model.terms.KINDS``), an estimate; '' where the
    model makes none.
    """

    number: int
    tracking_id: str
    tracking_uid: str
    region: Region
    scores: Scores
    above_threshold: bool
    features: NDArray[np.float64]
    heat: NDArray[np.float32] | None
    heat_box: tuple[float, float, float, float] | None
    lesion_kind: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """One image with its scores. ``density`` is the best known, with its source; ``tissue`` the model's estimate
    in mini-MIAS's terms (F, G or D), '' where it makes none. ``nipple``: (x, y) in source pixels, None where it was not found.
    """

    header: Header
    geometry: Geometry
    image_features: ImageFeatures
    density: DensityReading
    scores: Scores
    findings: tuple[Finding, ...]
    candidates: int  # regions classified, of which the findings are kept
    flags: tuple[Flag, ...]
    seconds: tuple[tuple[str, float], ...]
    tissue: str = ""
    nipple: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Scored):
    """One image with its scores and its picture, as it is reported."""

    preview: Preview

    @classmethod
    def of(cls, scored: Scored, preview: Preview) -> Prediction:
        """A result with the picture that belongs to it."""
        return cls(**{field.name: getattr(scored, field.name) for field in fields(scored)}, preview=preview)


@dataclass(frozen=True, slots=True)
class BreastResult:
    """One side of a study, scored from its images (and the age, where the model takes it)."""

    laterality: Laterality
    images: int
    malignancy: float


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """Within which two findings of one kind, in images of one side and view, count as being at one place.

    Lengths are in mm where the spacing of both images is known. Where it is not, a breast counts as ``depth`` mm deep from the
    nipple to the chest wall. distance: by which two distances from the nipple may differ; apart: that two places, each seen
    from its nipple, may lie apart; line: nearer to the line through the nipple no half of the breast is told; sizes: how many
    times greater one diameter may be than the other.
    """

    depth: float = 100.0
    distance: float = 15.0
    apart: float = 25.0
    line: float = 10.0
    sizes: float = 3.0


LIMITS = PlaceLimits()


@dataclass(frozen=True, slots=True)
class EarlierBreast:
    """A breast in an earlier study. density: a to d, 'b/c' where images differ, '' where it is not known."""

    laterality: Laterality
    malignancy: float
    density: str
    estimated: bool  # from the pixels: no reading

    @property
    def density_shown(self) -> str:
        """The density with ~ before an estimate, as tables and lists have it."""
        return f"~{self.density}" if self.density and self.estimated else self.density


@dataclass(frozen=True, slots=True)
class EarlierStudy:
    """An earlier study of the same patient among the results. same_model: whether its scores may be compared with today's."""

    study_instance_uid: str
    study_date: str  # YYYYMMDD
    malignancy: float
    breasts: tuple[EarlierBreast, ...]
    same_model: bool


@dataclass(frozen=True, slots=True)
class Counterpart:
    """The finding of the earlier study that lies in the place of one of today's.

    apart: between the two, from the nipple each; in mm where both spacings are known, else in depths of the breast.
    """

    number: int
    tracking_id: str
    tracking_uid: str
    malignancy: float
    above_threshold: bool
    apart: float
    apart_mm: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """What is said about a finding. why: where it is not comparable. then: where it was seen before."""

    tracking_uid: str
    seen: Seen
    why: NotCompared | None = None
    then: Counterpart | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """Earlier studies of the same patient, the latest first; findings are compared with that one alone.

    none: why there is no such study. more: how many there are beside those listed.
    """

    none: NoEarlier | None
    studies: tuple[EarlierStudy, ...] = ()
    more: int = 0
    findings: tuple[Compared, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.studies) == (self.none is not None):
            raise ValueError("either an earlier study, or why there is none")

    def of(self, tracking_uid: str) -> Compared | None:
        """What is said about a finding, None without an earlier study."""
        return next((found for found in self.findings if found.tracking_uid == tracking_uid), None)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A study with at least one image that was, or should have been, analysed.

    patient, study: from the first header in (series, instance, UID) order.
    malignancy: None where no image could be analysed.
    deidentified: whether all names, dates and UIDs here are pseudonyms (``deidentify``).
    earlier: what is known of earlier studies; None where none were looked for.
    clinical: what of the user's own data went into the breasts' scores, names and values as reports show them.
    """

    patient: Patient
    study: StudyFacts
    age: Age | None
    images: tuple[Prediction, ...]
    failed: tuple[Failed, ...]
    skipped: tuple[Skipped, ...]
    breasts: tuple[BreastResult, ...]
    malignancy: float | None
    deidentified: bool = False
    earlier: Earlier | None = None
    clinical: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.images and not any(f.header for f in self.failed):
            raise ValueError("a study result needs at least one image, analysed or failed")


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model made a score. sha256: of its description, which holds the hashes of its weights."""

    name: str
    version: str
    sha256: str
    limits: tuple[str, ...]  # sentences for the reports
    licence: str
    scoring: tuple[str, ...]  # how its scores of findings, images and breasts come about: sentences for the reports


@dataclass(frozen=True, slots=True)
class Cost:
    """What an operating point costs: shares, 0 to 1, of the sick at or above it and of the healthy below it.

    None: the model's description does not say. cancers, healthy: how many were counted, 0 for not stated.
    """

    sensitivity: float | None = None
    specificity: float | None = None
    cancers: int = 0
    healthy: int = 0


@dataclass(frozen=True, slots=True)
class PointCost:
    """What an operating point costs by image and by breast; counted_on: on what that was counted, '' if not stated."""

    image: Cost = Cost()
    breast: Cost = Cost()
    counted_on: str = ""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """At and above which malignancy score (0 to 1) an image, a breast and a finding are called suspicious.

    cost: what that costs; nothing is known of a threshold of the user's own.
    """

    name: str
    image: float
    breast: float
    finding: float
    cost: PointCost = PointCost()


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What a report needs beyond the result; nothing here depends on the clock of the machine
    that renders: ``created`` is (YYYYMMDD, HHMMSS) and is kept in the ledger, so that the same
    result always renders to the same bytes.
    """

    software_version: str
    model: ModelIdentity
    config_digest: str
    created: tuple[str, str]
    threshold: float  # operating point on an image's malignancy score
    breast_threshold: float  # on a breast's and a study's
    finding_threshold: float  # on a finding's
    threshold_name: str
    cost: PointCost = PointCost()  # of the operating point; nothing is known of a threshold of the user's own
    precision: str = "float32"  # what the network computed in


@dataclass(frozen=True, slots=True)
class SuspiciousStudy:
    """A study to be read first. Scores from 0 to 1, None of a breast without one. report: its PDF, below the results."""

    study_instance_uid: str
    malignancy: float
    malignancy_left: float | None
    malignancy_right: float | None
    above_threshold: bool
    report: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Counts of a run: what its exit status and its last words are made from (``verdict``)."""

    files: int
    analysed: int
    skipped: int
    failed: int
    unchanged: int  # images whose results of an earlier run stand
    studies: int
    findings: int
    seconds: float
    stage_seconds: tuple[tuple[str, float], ...]
    sent: int = 0  # objects times destinations, now
    unsent: int = 0  # those still queued
    gone: int = 0  # files that were not seen any more, whose results are kept; not counted in ``files``
    waiting: int = 0  # files that are still being written: neither failed nor skipped, left for the next run
    failures: tuple[tuple[str, int], ...] = ()  # codes of what failed with their counts, the most frequent first
    skips: tuple[tuple[str, int], ...] = ()  # of what was skipped by rule
    removed: int = 0  # files of earlier reports that are no results any more
    withdrawn: int = 0  # studies whose results were withdrawn now, since the archive contradicts them
    operating_point: str = ""  # its name and what it costs, in words
    most_suspicious: tuple[SuspiciousStudy, ...] = ()  # of the folder, the highest score first
