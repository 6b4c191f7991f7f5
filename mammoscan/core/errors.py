"""Every way an input can end other than analysed, and every error a user can meet.

A reason's *code* is stable: it is written to ``files.csv`` and documented in the manual.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from mammoscan.core import rules


class Stage(str, Enum):
    """Stages of the data flow, in their order."""

    DISCOVER = "discover"
    HEADER = "header"
    PIXELS = "pixels"
    PREPROCESS = "preprocess"
    SEGMENT = "segment"
    FEATURES = "features"
    CLASSIFY = "classify"
    REPORT = "report"


class Reason(Enum):
    """Coded reasons: the value is the stable code; with what it means and what to do. Those of rules stand with the rules."""

    meaning: str
    remedy: str

    def __new__(cls, code: str, meaning: str, remedy: str) -> Reason:
        """A reason is told, kept and found again by its code alone."""
        reason = object.__new__(cls)
        reason._value_ = code
        reason.meaning, reason.remedy = meaning, remedy
        return reason

    # discover
    NOT_DICOM = ("not-dicom", "not a DICOM file", "nothing to do; move it out of the archive if it should not be there")
    ARCHIVE = (
        "archive-not-unpacked",
        "an archive of files (zip, gzip, tar and the like); what it holds was not looked at",
        "unpack it below the archive's folder and run again, or move it away",
    )
    UNREADABLE = (
        "unreadable",
        "the file or folder could not be read",
        "check permissions and the storage, then run again",
    )
    STILL_WRITTEN = (
        "still-being-written",
        "the file changed while it was read or is younger than the settle time",
        "run again when the transfer has ended",
    )
    LINK_LOOP = (
        "link-loop",
        "a symbolic link that leads back to a folder already visited, or nowhere",
        "nothing to do; remove the link if it is a mistake",
    )
    EMPTY_FILE = ("empty-file", "the file holds no bytes", "send the image again")
    DICOMDIR = rules.DICOMDIR.reason
    DUPLICATE = ("duplicate", "the same SOP instance with the same content is already listed", "nothing to do")
    CONFLICTING_UID = (
        "conflicting-uid",
        "two different contents carry the same SOPInstanceUID",
        "find out which is right; neither was analysed",
    )
    OUTPUT = rules.OUTPUT.reason
    GONE = (
        "gone",
        "not seen in the archive any more; what an earlier run found in it is kept",
        "nothing to do; bring the file back to have it looked at again",
    )
    # header
    BROKEN_HEADER = ("broken-header", "the DICOM header cannot be parsed", "send the file again from its source")
    MIXED_PATIENTS = (
        "mixed-patients",
        "one StudyInstanceUID carries two different patient identifiers",
        "find out whose images these are; none of the study was analysed",
    )
    MISSING_UID = (
        "missing-uid",
        "a UID of the instance, its series, study or SOP class is missing or no UID at all",
        "send the file again from its source",
    )
    AMBIGUOUS_ID = (
        "ambiguous-identifier",
        "an identifier that has one value holds several, or one that no result could carry unchanged",
        "correct it at its source; results would name another patient or study",
    )
    MISSING_ID = (
        "missing-identifier",
        "an image without PatientID, in a study whose other images have one",
        "add the PatientID at its source; the study's other images were analysed",
    )
    OTHER_MODALITY = rules.OTHER_MODALITY.reason
    NOT_AN_IMAGE = rules.NOT_AN_IMAGE.reason
    DENSITY_SOURCE = rules.DENSITY_SOURCE.reason
    TOMOSYNTHESIS = rules.TOMOSYNTHESIS.reason
    FOR_PROCESSING = rules.FOR_PROCESSING.reason
    CONTRAST = rules.CONTRAST.reason
    STEREOTACTIC = rules.STEREOTACTIC.reason
    MAGNIFICATION = rules.MAGNIFICATION.reason
    SPOT = rules.SPOT.reason
    IMPLANT = rules.IMPLANT.reason
    PARTIAL_VIEW = rules.PARTIAL_VIEW.reason
    SPECIMEN = rules.SPECIMEN.reason
    SECONDARY_CAPTURE = rules.SECONDARY_CAPTURE.reason
    SCORECARD = rules.SCORECARD.reason
    MULTIFRAME = rules.MULTIFRAME.reason
    # pixels
    CHANGED = (
        "changed",
        "the file changed after its header was read",
        "run again: the next run takes up what lies there then",
    )
    NO_PIXELS = ("no-pixels", "the file holds no pixel data", "send the file again from its source")
    TRUNCATED = ("truncated", "fewer pixel bytes than the header announces", "send the file again from its source")
    DECODE_FAILED = (
        "decode-failed",
        "the pixel data cannot be decoded",
        "send the file again, or convert it with dcmdjpeg",
    )
    DECODER_CRASH = ("decoder-crash", "decoding this file killed its process", "send the file again from its source")
    UNSUPPORTED_SYNTAX = (
        "unsupported-transfer-syntax",
        "no decoder for this transfer syntax",
        "convert the file to Explicit VR Little Endian",
    )
    UNSUPPORTED_PIXELS = ("unsupported-pixels", "colour or otherwise unusable pixels", "store the monochrome original")
    TOO_LARGE = (
        "too-large",
        "the header announces more pixels than --max-pixels allows",
        "raise --max-pixels if the file is genuine",
    )
    # preprocess and later
    NO_BREAST = (
        "no-breast",
        "no breast was found in the image",
        "look at the image; it may be blank or not a mammogram",
    )
    REPORT_FAILED = (
        "report-failed",
        "the study's reports could not be written",
        "look into the log file; the next run tries the report again",
    )
    INTERNAL = ("internal-error", "an error inside mammoscan", "please report it with the log file")

    @classmethod
    def of(cls, code: str) -> Reason:
        """The reason with a code.

        Raises
        ------
        ValueError
            When there is none.
        """
        return cls(code)  # type: ignore[call-arg]  # looked up by its value, not made

    @property
    def code(self) -> str:
        return str(self.value)

    @property
    def passing(self) -> bool:
        """Whether it tells of the moment, not of the file: the next run tries again without being asked."""
        return self in {Reason.UNREADABLE, Reason.STILL_WRITTEN, Reason.CHANGED}


class ExitCode(int, Enum):
    """Exit statuses of the command line, documented in the README."""

    ALL_ANALYSED = 0
    SOME_FAILED = 1
    USAGE = 2
    NOTHING_ANALYSED = 3
    LOCKED = 4
    UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130


class MammoscanError(Exception):
    """Base of all errors that a user can meet: what happened, where, and what to do."""

    code = "error"

    def __init__(self, message: str, *, path: Path | str | None = None, remedy: str = "") -> None:
        self.message = message
        self.path = path
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path is not None else ""
        what_to_do = f" ({self.remedy})" if self.remedy else ""
        return f"{where}{self.message}{what_to_do}"


class UsageError(MammoscanError):
    """Options or arguments that do not fit together (exit status 2)."""

    code = "usage"


class MachineError(MammoscanError):
    """The machine refuses: disk full, read-only, no locks, a damaged state file (exit status 2)."""

    code = "machine"


class LockedError(MammoscanError):
    """Another run holds the output folder, or another program its state file (exit status 4)."""

    code = "locked"


class ModelError(MammoscanError):
    """A model bundle that is missing, wrong, truncated or incompatible."""

    code = "model"


class LabelError(MammoscanError):
    """Ground truth or training labels that cannot be used, with their row."""

    code = "labels"


class InputError(MammoscanError):
    """One input file that cannot be analysed, with its coded reason.

    Raised by the stages; caught once per image in the pipeline.
    """

    def __init__(self, reason: Reason, detail: str = "", *, path: Path | str | None = None) -> None:
        self.reason = reason
        self.detail = detail
        self.code = reason.code
        message = f"{reason.meaning}: {detail}" if detail else reason.meaning
        super().__init__(message, path=path, remedy=reason.remedy)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries; the default would replay the formatted message.
        return (_rebuild_input_error, (self.reason, self.detail, self.path))


def _rebuild_input_error(reason: Reason, detail: str, path: Path | str | None) -> InputError:
    return InputError(reason, detail, path=path)
