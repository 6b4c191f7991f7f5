"""One study's results to whole files: what a worker process does when a study is complete."""

from __future__ import annotations

import hashlib
import io
import logging
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pydicom

from mammoscan.core import faults, kinds, store
from mammoscan.core.domain import Flag, Prediction, StudyResult
from mammoscan.core.errors import InputError, Reason
from mammoscan.image import display
from mammoscan.image.analyse import drawn
from mammoscan.model import findings, priors
from mammoscan.report import gsps, pdf, pdf_dicom, sc, seg, sr_cad, sr_tid1500
from mammoscan.report.tables import rows_of_study
from mammoscan.review import study as review
from mammoscan.run import codec, deidentify, patients, previews, tablerows
from mammoscan.run.ledger import Output

if TYPE_CHECKING:
    from pathlib import Path

    from mammoscan.core.domain import Failed, Header, ReportContext
    from mammoscan.image.display import Display
    from mammoscan.model.scores import Score
    from mammoscan.run.patients import Person
    from mammoscan.run.plan import StudyPlan
    from mammoscan.run.tasks import Settings

log = logging.getLogger(__name__)

REPORT = "report.pdf"  # for people, always written


@dataclass(frozen=True, slots=True)
class Published:
    """What was written: the files, the study's table rows (``tablerows.packed``), findings above the operating point.

    visit: what is kept of the study to compare others with; claims: a digest of what it says of earlier ones.
    """

    outputs: tuple[Output, ...]
    rows: bytes
    above: int
    created: tuple[str, str]
    seconds: float
    visit: bytes = b""
    claims: str = ""


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A study whose reports could not be written: the kind of the error, its frames are in the log."""

    detail: str


@dataclass(frozen=True, slots=True)
class ToReport:
    """An image of a study to be reported.

    header: as it is written. result: as the state file keeps it, or the failure. source: the header as the archive has
    it, None where the file is not there any more. picture: where its preview was written.
    """

    header: Header
    result: bytes | Failed
    source: Header | None
    picture: Path


@dataclass(frozen=True, slots=True)
class Job:
    """A study to be reported; everything is small, so that another machine can do it.

    plan: as it is written. breast: the model's score of a breast, if it has one, with the study's clinical data put in.
    person: whose study it is. others: what is kept of the other studies under the same identifier. clinical: what the report
    says of those data, names and values.
    """

    plan: StudyPlan
    images: tuple[ToReport, ...]
    breast: Score | None
    settings: Settings
    context: ReportContext
    write: tuple[str, ...]
    out: Path
    person: Person = patients.NOBODY
    others: tuple[bytes, ...] = ()
    clinical: tuple[tuple[str, str], ...] = ()


def study_result(
    plan: StudyPlan, images: tuple[Prediction, ...], failures: tuple[Failed, ...], breast_score: Score | None
) -> StudyResult:
    """A study's result from its images' (in the order of the plan). breast_score: the model's, if it has one."""
    first = plan.headers[0]
    numbered = findings.number(images)
    age = next((h.age for h in plan.headers if h.age is not None), None)
    breasts = findings.breasts(numbered, age, breast_score)
    return StudyResult(
        patient=first.patient,
        study=first.study,
        age=age,
        images=numbered,
        failed=failures,
        # What mammoscan wrote about the study itself, come back from a PACS, is no news about it.
        skipped=tuple(s for s in plan.skipped if s.reason is not Reason.OUTPUT),
        breasts=breasts,
        malignancy=max((b.malignancy for b in breasts), default=None),
    )


def rendered(result: StudyResult, context: ReportContext, write: tuple[str, ...]) -> dict[str, bytes]:
    """Every file of a study by its name: the PDF, the DICOM objects of the kinds to write, and its review page."""
    with warnings.catch_warnings():
        # pydicom warns of UIDs that are not valid: they are the source's, are flagged and must be referred to as they are.
        warnings.filterwarnings("ignore", "Invalid value for VR UI|The value length", UserWarning)
        return _rendered(result, context, write)


def _rendered(result: StudyResult, context: ReportContext, write: tuple[str, ...]) -> dict[str, bytes]:
    report = pdf.render(result, context)
    files = {REPORT: report}
    if "cad-sr" in write:
        files[kinds.BY_NAME["cad-sr"].file] = sr_cad.render(result, context)
    if "tid1500" in write:
        files |= sr_tid1500.render(result, context)
    if "tid1500-below" in write:
        files |= sr_tid1500.render_below(result, context)
    if "pdf" in write:
        files |= pdf_dicom.render(result, context, report)
    if "gsps" in write:
        files |= gsps.render(result, context, _displays(result))
    if "seg" in write:
        files |= seg.render(result, context)
    if "sc" in write:
        files |= sc.render(result, context)
    if kinds.REVIEW in write:
        files |= review.render(result, context, tuple(files))
    return files


def _displays(result: StudyResult) -> dict[str, Display]:
    """How the images with marks are displayed, by SOPInstanceUID."""
    out = {}
    for prediction in result.images:
        header = prediction.header
        if any(f.above_threshold for f in prediction.findings) and Flag.SOURCE_GONE not in prediction.flags:
            try:
                # Pseudonyms say nothing about the instance in the file.
                source = replace(header, sop_instance_uid="") if result.deidentified else header
                shown = display.read_display(source)
                out[header.sop_instance_uid] = deidentify.display(shown) if result.deidentified else shown
            except (InputError, OSError):
                # Gone since it was analysed: the next run sees that too and does the study again.
                log.warning("no presentation state for %s: it can no longer be read", header.file.relative)
    return out


def result_of(job: Job) -> StudyResult:
    """The result of a study from what is kept of its images.

    Raises
    ------
    InputError, OSError
        When a picture is lost and cannot be drawn again.
    """
    images = tuple(_prediction(image, job.settings) for image in job.images if isinstance(image.result, bytes))
    failures = tuple(image.result for image in job.images if not isinstance(image.result, bytes))
    found = study_result(job.plan, images, (*job.plan.failed, *failures), job.breast)
    return replace(found, deidentified=job.settings.anonymous, clinical=job.clinical)


def _prediction(image: ToReport, settings: Settings) -> Prediction:
    assert isinstance(image.result, bytes)
    scored = codec.decode_scored(image.result, image.header)
    if image.source is None:
        geometry = scored.geometry
        flagged = replace(scored, flags=(*scored.flags, Flag.SOURCE_GONE))
        return Prediction.of(flagged, previews.missing(geometry.source_width, geometry.source_height))
    preview = previews.read(image.picture)
    if preview is None or (settings.review and not preview.large):
        preview = drawn(
            image.source, settings.analysis, settings.crop, anonymous=settings.anonymous, large=settings.review
        )
        previews.write(image.picture, preview)
    return Prediction.of(scored, preview)


def publish(job: Job) -> Published:
    """Render and write every report of a study; each file appears whole or not at all.

    Raises
    ------
    InputError, OSError
        When a picture is lost and cannot be drawn again, or a file cannot be written.
    """
    began = time.perf_counter()
    context = job.context
    alone = result_of(job)
    visit = patients.Visit(job.person, priors.known(alone, context))
    said = patients.said_of(visit, job.others)
    result = replace(alone, earlier=said)
    below = store.study_folder(result.study.study_instance_uid)
    outputs = []
    for name, content in rendered(result, context, job.write).items():
        store.write_if_changed(job.out / below / name, content)
        uids = _uids(content) if name.endswith(".dcm") else ()
        outputs.append(Output(f"{below}/{name}", hashlib.sha256(content).hexdigest(), *uids))
    rows = tablerows.packed(rows_of_study(result, context, below))
    above = sum(finding.above_threshold for image in result.images for finding in image.findings)
    seconds = time.perf_counter() - began
    return Published(tuple(outputs), rows, above, context.created, seconds, patients.packed(visit), priors.digest(said))


def _uids(content: bytes) -> tuple[str, str, str]:
    """SOP class, instance and series of an object, so that nobody has to open it to send it."""
    names = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"]
    ds = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=list(names))
    sop_class, instance, series = (str(ds[name].value) for name in names)
    return sop_class, instance, series


def attempt(job: Job) -> Published | Unpublished:
    """``publish``, where one study's fault costs that study.

    Raises
    ------
    OSError
        For the machine's faults, which the next study would meet as well (disk full, storage gone).
    """
    try:
        return publish(job)
    except Exception as error:
        if faults.of_the_machine(error):
            raise
        log.exception("the report of study %s", job.plan.study_instance_uid)
        return Unpublished(error.code if isinstance(error, InputError) else type(error).__name__)
