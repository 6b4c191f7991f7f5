"""One study's results to whole files: what a worker process does when a study is complete."""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mammoscan.core import faults, kinds, store
from mammoscan.core.domain import StudyResult
from mammoscan.core.errors import InputError, Reason
from mammoscan.image import display
from mammoscan.model import findings
from mammoscan.report import gsps, pdf, pdf_dicom, sc, seg, sr_cad, sr_tid1500, tables
from mammoscan.run import deidentify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mammoscan.core.domain import Failed, Prediction, ReportContext
    from mammoscan.image.display import Display
    from mammoscan.model.scores import Score
    from mammoscan.run.ledger import Rows
    from mammoscan.run.plan import StudyPlan

log = logging.getLogger(__name__)

REPORT = "report.pdf"  # for people, always written


@dataclass(frozen=True, slots=True)
class Published:
    """What was written: path below the output folder to SHA-256, and the study's table rows."""

    outputs: Mapping[str, str]
    rows: Rows
    created: tuple[str, str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A study whose reports could not be written: the kind of the error, its frames are in the log."""

    detail: str


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
    """Every file of a study by its name: the PDF and the DICOM objects of the kinds to write."""
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
        files[kinds.BY_NAME["tid1500"].file] = sr_tid1500.render(result, context)
    if "pdf" in write:
        files |= pdf_dicom.render(result, context, report)
    if "gsps" in write:
        files |= gsps.render(result, context, _displays(result))
    if "seg" in write:
        files |= seg.render(result, context)
    if "sc" in write:
        files |= sc.render(result, context)
    return files


def _displays(result: StudyResult) -> dict[str, Display]:
    """How the images with marks are displayed, by SOPInstanceUID."""
    out = {}
    for prediction in result.images:
        header = prediction.header
        if any(f.above_threshold for f in prediction.findings):
            try:
                # Pseudonyms say nothing about the instance in the file.
                source = replace(header, sop_instance_uid="") if result.deidentified else header
                shown = display.read_display(source)
                out[header.sop_instance_uid] = deidentify.display(shown) if result.deidentified else shown
            except (InputError, OSError):
                # Gone since it was analysed: the next run sees that too and does the study again.
                log.warning("no presentation state for %s: it can no longer be read", header.file.relative)
    return out


def publish(result: StudyResult, context: ReportContext, out: Path, write: tuple[str, ...]) -> Published:
    """Render and write every report of a study; each file appears whole or not at all."""
    began = time.perf_counter()
    below = store.study_folder(result.study.study_instance_uid)
    outputs: dict[str, str] = {}
    for name, content in rendered(result, context, write).items():
        store.write_if_changed(out / below / name, content)
        outputs[f"{below}/{name}"] = hashlib.sha256(content).hexdigest()
    rows = tables.rows_of_study(result, context, below)
    return Published(outputs, rows, context.created, time.perf_counter() - began)


def attempt(result: StudyResult, context: ReportContext, out: Path, write: tuple[str, ...]) -> Published | Unpublished:
    """``publish``, where one study's fault costs that study.

    Raises
    ------
    OSError
        For the machine's faults, which the next study would meet as well (disk full, storage gone).
    """
    try:
        return publish(result, context, out, write)
    except Exception as error:
        if faults.of_the_machine(error):
            raise
        log.exception("the report of study %s", result.study.study_instance_uid)
        return Unpublished(type(error).__name__)
