"""The rules that decide by a file's header what is analysed: the one table of them.

A rule's row holds its code, what it looks at, its switch and its reason. ``errors.Reason`` takes code, meaning and
remedy from here, ``config`` and the command line the switches, ``header`` the order in which the rules count, the
the manual its table. A switchable rule flags the images that are analysed in spite of it; the flag is called as its code.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_MAGNIFICATION = 1.5  # larger ones are magnification views, not the few per cent of a normal stand
SMALLEST_SIDE = 256  # pixels; scorecards and icons are smaller, no mammogram is


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the header stage.

    code: stable, written to ``files.csv``. switch: what --include and --exclude call it, '' where nothing switches it
    off. analysed: whether its images are analysed where nothing is chosen.
    """

    code: str
    meaning: str
    looks_at: str
    switch: str = ""
    analysed: bool = False
    remedy: str = "nothing to do"
    used: str = ""  # what a skipped file is used for nevertheless

    @property
    def option(self) -> str:
        """The option that changes what is done by default, '' where there is none."""
        return f"--{'exclude' if self.analysed else 'include'} {self.switch}" if self.switch else ""

    @property
    def by_default(self) -> str:
        """What becomes of its images where nothing is chosen."""
        return "analysed, flagged" if self.analysed else f"skipped{self.used}"

    @property
    def reason(self) -> tuple[str, str, str]:
        """Code, meaning and remedy, as ``errors.Reason`` holds them."""
        if not self.switch:
            return self.code, self.meaning, self.remedy
        run = "run without" if self.analysed else "run with"
        otherwise = "" if self.remedy == "nothing to do" else f"{self.remedy}, or "
        return self.code, self.meaning, f"{otherwise}{run} {self.option} to analyse it"


DICOMDIR = Rule("dicomdir", "a DICOMDIR: an index, not an image", "Media Storage Directory SOP class")
OUTPUT = Rule(
    "own-output",
    "a result that mammoscan wrote",
    "Manufacturer (0008,0070) mammoscan and a SOP class that it writes",
)
DENSITY_SOURCE = Rule(
    "density-source",
    "a structured report read for its breast density only",
    "SR of Modality SR that states a breast composition (129715009)",
    used=", its density used",
)
OTHER_MODALITY = Rule(
    "other-modality",
    "not a mammography image",
    "Modality (0008,0060) other than MG, or none, and no mammography SOP class",
)
NOT_AN_IMAGE = Rule(
    "not-an-image",
    "a mammography object without pixels of its own (report, presentation state, segmentation)",
    "SR, presentation state, segmentation: no pixels of a breast",
)
TOMOSYNTHESIS = Rule(
    "tomosynthesis",
    "breast tomosynthesis",
    "Breast Tomosynthesis and Breast Projection SOP classes",
    remedy="analyse the 2D or synthetic 2D view",
)
SPECIMEN = Rule("specimen", "specimen radiograph", "view 127457009 tissue specimen from breast")
MULTIFRAME = Rule("multiframe", "more than one frame", "NumberOfFrames over 1", remedy="store single-frame images")
SCORECARD = Rule(
    "scorecard",
    "a scorecard, localiser or other non-screening picture in the study",
    f"colour, or a side under {SMALLEST_SIDE} pixels, or ImageType LOCALIZER, or SeriesDescription 'scorecard', "
    "'ROI mask', 'cropped image' or 'dose report', or a Secondary Capture with BurnedInAnnotation YES and neither side "
    "nor view",
)
FOR_PROCESSING = Rule(
    "for-processing",
    "raw image (FOR PROCESSING)",
    "For Processing SOP class or PresentationIntentType",
    switch="for-processing",
    remedy="store FOR PRESENTATION images",
)
CONTRAST = Rule(
    "contrast-subtraction",
    "subtracted, recombined or high-energy image of a contrast-enhanced study",
    "ImageType SUBTRACTION, RECOMBINED or HIGH_ENERGY, or DerivationCodeSequence 113062, or "
    "AcquisitionDeviceProcessingCode GEMS_CESM, or a series, protocol or processing named 'subtract...', "
    "'recombin...' or 'high energy'. Low-energy images are mammograms and analysed",
    switch="contrast",
)
STEREOTACTIC = Rule(
    "stereotactic-view",
    "picture for a stereotactic localisation or biopsy",
    "ImageType STEREO..., PREFIRE..., POSTFIRE... or TOMO_SCOUT, or a modifier, ViewPosition, PaddleDescription or "
    "PositionerType with 'stereo', a PaddleDescription with 'biopsy', a ManufacturerModelName of a prone biopsy table "
    "(Affirm Prone, MultiCare, Mammotest, StereoLoc), or a view's name with 'stereo', 'prefire' or 'postfire'",
    switch="stereotactic",
)
MAGNIFICATION = Rule(
    "magnification-view",
    "magnification view",
    "modifier 399163009 in the view or beside it, or EstimatedRadiographicMagnificationFactor or "
    f"DistanceSourceToDetector / DistanceSourceToPatient over {LARGEST_MAGNIFICATION}, or a PaddleDescription, "
    "ViewPosition or view's name with 'MAG', or ViewPosition M and a view (MCC)",
    switch="magnification",
)
SPOT = Rule(
    "spot-view",
    "spot compression view",
    "modifier 399055006 in the view or beside it, or a PaddleDescription, ViewPosition or view's name with 'SPOT' or "
    "'SPT', or ViewPosition S and a view (SCC)",
    switch="spot",
)
IMPLANT = Rule(
    "implant",
    "breast implant in view",
    "BreastImplantPresent YES, or modifier 399209000",
    switch="implant",
    analysed=True,
)
PARTIAL_VIEW = Rule("partial-view", "partial view of the breast", "PartialView YES", switch="partial", analysed=True)
SECONDARY_CAPTURE = Rule(
    "secondary-capture",
    "a secondary capture with Modality MG",
    "Secondary Capture with Modality MG (film scans)",
    switch="secondary-capture",
    analysed=True,
)

# In their order: the first that an image meets decides.
RULES = (
    DICOMDIR, OUTPUT, DENSITY_SOURCE, OTHER_MODALITY, NOT_AN_IMAGE, TOMOSYNTHESIS, SPECIMEN, MULTIFRAME, SCORECARD,
    FOR_PROCESSING, CONTRAST, STEREOTACTIC, MAGNIFICATION, SPOT, IMPLANT, PARTIAL_VIEW, SECONDARY_CAPTURE,
)  # fmt: skip
SWITCHABLE = tuple(rule for rule in RULES if rule.switch)
SWITCHES = tuple(rule.switch for rule in SWITCHABLE)
# Switches of the rules whose images are analysed by default. Sorted: a configuration's digest counts the order.
ANALYSED = tuple(sorted(rule.switch for rule in SWITCHABLE if rule.analysed))
