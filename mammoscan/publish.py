"""One study's results to whole files: what a worker process does when a study is complete."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan import findings, store
from mammoscan.domain import StudyResult
from mammoscan.report import pdf, sr_cad, sr_tid1500, tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mammoscan.domain import Failed, Prediction, ReportContext
    from mammoscan.ledger import Rows
    from mammoscan.plan import StudyPlan

# File name below a study's folder, and what makes its bytes.
KINDS = {
    "mammography-cad-sr.dcm": sr_cad.render,
    "tid1500-sr.dcm": sr_tid1500.render,
    "report.pdf": pdf.render,
}


@dataclass(frozen=True, slots=True)
class Published:
    """What was written: path below the output folder to SHA-256, and the study's table rows."""

    outputs: Mapping[str, str]
    rows: Rows
    created: tuple[str, str]
    seconds: float


def study_result(plan: StudyPlan, images: tuple[Prediction, ...], failures: tuple[Failed, ...]) -> StudyResult:
    """A study's result from its images' (in the order of the plan)."""
    first = plan.headers[0]
    numbered = findings.number(images)
    return StudyResult(
        patient=first.patient,
        study=first.study,
        age=next((h.age for h in plan.headers if h.age is not None), None),
        images=numbered,
        failed=failures,
        skipped=plan.skipped,
        breasts=findings.breasts(numbered),
        malignancy=max((p.scores.malignancy for p in numbered), default=None),
    )


def folder(study_instance_uid: str) -> str:
    """The study's folder below the output folder, as a POSIX path."""
    return f"studies/{store.safe_name(study_instance_uid)}"


def publish(result: StudyResult, context: ReportContext, out: Path) -> Published:
    """Render and write every report of a study; each file appears whole or not at all."""
    began = time.perf_counter()
    below = folder(result.study.study_instance_uid)
    outputs: dict[str, str] = {}
    for name, render in KINDS.items():
        content = render(result, context)
        store.write_if_changed(out / below / name, content)
        outputs[f"{below}/{name}"] = hashlib.sha256(content).hexdigest()
    rows = tables.rows_of_study(result, context, below)
    return Published(outputs, rows, context.created, time.perf_counter() - began)
