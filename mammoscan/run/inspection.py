"""One file looked at closely: what ``mammoscan inspect`` shows."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mammoscan import NOTICE
from mammoscan.archive import clinical
from mammoscan.archive import header as headers
from mammoscan.core.clinical import shown
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Failed, Finding, Header, OperatingPoint, Prediction, Skipped, SourceFile
from mammoscan.core.errors import ExitCode, Reason
from mammoscan.image import nipple
from mammoscan.image.analyse import analyse
from mammoscan.model import bundle as bundles
from mammoscan.model import engine, findings
from mammoscan.report import figures
from mammoscan.report import pdf_words as words
from mammoscan.run.config import RunConfig
from mammoscan.run.plan import PlannedImage
from mammoscan.run.score import Scorer

if TYPE_CHECKING:
    from pathlib import Path

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found: (name, value) facts for people, the same for programs, the five pictures as PNG bytes, the status."""

    facts: Facts
    document: dict[str, object]
    picture: bytes | None
    exit_code: ExitCode


@dataclass(frozen=True, slots=True)
class Told:
    """What a table of clinical data said of the patient, what was said of the table, and the breast's score with it.

    malignancy: from this image alone, the age and these data.
    """

    values: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    malignancy: float


def inspect(path: Path, analysis: AnalysisConfig, model: Path | None, clinical_csv: Path | None = None) -> Inspection:
    """Read, decide and, where the rules allow it, analyse and classify one file.

    clinical_csv: of the columns that the model takes.
    """
    status = path.stat()
    file = SourceFile(path.resolve(), path.name, status.st_size, status.st_mtime_ns)
    found = headers.read_header(file, include=analysis.include, settle_seconds=0.0, now=time.time())
    if not isinstance(found, Header):
        return Inspection(_decision(found), _document(path, found, _status(found)), None, _status(found))
    facts = header_facts(found)
    engine.needed()
    bundle = bundles.load(model)
    table = clinical.read_clinical_table(clinical_csv, bundle.columns) if bundle.columns or clinical_csv else None
    analysed = analyse(found, analysis, bundle.crop, bundle.ranking, bundle.outlines)
    if isinstance(analysed, Failed):
        said = _document(path, analysed, ExitCode.SOME_FAILED, header=found)
        return Inspection((*facts, *_decision(analysed)), said, None, ExitCode.SOME_FAILED)
    config = RunConfig(archive=path.parent, out=path.parent, analysis=analysis, model=model)
    point = bundle.point(analysis.point)
    with contextlib.closing(Scorer(bundle, config, point.finding)) as scorer:
        scorer.add(PlannedImage(found, found, "", found.density), analysed)
        ((_, scored),) = scorer.finish()
    assert analysed.preview is not None
    prediction = Prediction.of(scored, analysed.preview)
    told = None
    if table is not None and bundle.breast is not None:
        met = table.meeting([found.patient.patient_id])
        values = met.find(found)
        (breast,) = findings.breasts((prediction,), found.age, bundle.breast.told(values))
        told = Told(shown(values), met.notes, breast.malignancy)
    panel = figures.inspect_panel(prediction, point.image)
    good, png = cv2.imencode(".png", panel[:, :, ::-1])
    if not good:
        raise RuntimeError("the pictures could not be encoded as PNG")
    return Inspection(
        (
            *facts,
            ("decision", "analysed"),
            *prediction_facts(prediction, point),
            *(_told_facts(told, point) if told else ()),
        ),
        _document(path, prediction, ExitCode.ALL_ANALYSED, header=found, point=point, told=told),
        np.asarray(png).tobytes(),
        ExitCode.ALL_ANALYSED,
    )


def header_facts(header: Header) -> Facts:
    """The header's facts as a person reads them; unknown shows as such."""
    spacing = header.spacing
    age = header.age
    return (
        ("PatientID", header.patient.patient_id or "unknown"),
        ("PatientName", header.patient.name or "unknown"),
        ("PatientSex", header.patient.sex.value),
        ("age", f"{age.years:.4g} years ({age.source.value})" if age else "unknown"),
        ("StudyDate", header.study.study_date or "unknown"),
        ("AccessionNumber", header.study.accession_number or "unknown"),
        ("StudyInstanceUID", header.study.study_instance_uid),
        ("SOPInstanceUID", header.sop_instance_uid),
        ("SOPClassUID", header.sop_class_uid),
        ("TransferSyntaxUID", header.transfer_syntax_uid),
        ("laterality", header.laterality.value),
        ("view", " + ".join((header.view.value, *header.view_modifiers))),
        ("density in the file", header.density.density.value if header.density else "unknown"),
        ("manufacturer", " ".join(p for p in (header.manufacturer, header.manufacturer_model) if p) or "unknown"),
        (
            "pixel spacing",
            f"{spacing.row_mm:.4g} x {spacing.column_mm:.4g} mm ({spacing.source.value})" if spacing else "unknown",
        ),
        ("presentation intent", header.presentation_intent or "unknown"),
        ("implant", _yes_no(header.implant)),
        ("partial view", _yes_no(header.partial_view)),
        ("size", f"{header.columns} x {header.rows} pixels, {header.bits_stored} bits, {header.photometric}"),
        ("flags", ", ".join(f.value for f in header.flags) or "none"),
    )


def prediction_facts(prediction: Prediction, point: OperatingPoint) -> Facts:
    """Scores and findings as a person reads them."""
    facts = [
        ("density", f"{prediction.density.density.value} ({prediction.density.source.value})"),
        ("percent density", f"{prediction.image_features.percent_density:.1f} %"),
        ("candidate regions", str(prediction.candidates)),
        ("image malignancy score", f"{prediction.scores.malignancy:.3f} (0 to 1)"),
        ("operating point", f"{point.name}: {point.image:.3f}"),
        ("what it costs", words.cost(point.cost)),
        ("image flags", ", ".join(f.value for f in prediction.flags) or "none"),
    ]
    for finding in prediction.findings:
        x, y = finding.region.centre
        area = finding.region.area_mm2
        facts.append(
            (
                f"finding {finding.number}",
                f"{finding.region.kind.value} at ({x:.0f}, {y:.0f}) px, "
                f"{f'{area:.0f} mm2' if area is not None else 'area unknown'}, "
                f"malignancy {finding.scores.malignancy:.3f}, "
                f"{'above' if finding.above_threshold else 'below'} the operating point",
            )
        )
    return tuple(facts)


def _told_facts(told: Told, point: OperatingPoint) -> Facts:
    return (
        *told.values,
        *((clinical.OPTION, note) for note in told.notes),
        (
            "breast malignancy score",
            f"{told.malignancy:.3f} (0 to 1) from this image, the age and the clinical data; operating point {point.breast:.3f}",
        ),
    )


def _document(
    path: Path, result: Prediction | Skipped | Failed, status: ExitCode, *, header: Header | None = None,
    point: OperatingPoint | None = None, told: Told | None = None,
) -> dict[str, object]:  # fmt: skip
    """What ``inspect --json`` prints: the manual's ``inspect.schema.json`` describes it."""
    decisions = {Prediction: "analysed", Skipped: "skipped", Failed: "failed"}
    reason = None if isinstance(result, Prediction) else result.reason
    return {
        "path": str(path),
        "decision": decisions[type(result)],
        "code": reason.code if reason else "",
        "meaning": reason.meaning if reason else "",
        "detail": "" if isinstance(result, Prediction) else result.detail,
        "remedy": reason.remedy if reason else "",
        "densities_stated": [
            {"laterality": d.laterality.value, "density": d.density.value} for d in getattr(result, "densities", ())
        ],
        "header": _header_document(header) if header else None,
        "image": _image_document(result) if isinstance(result, Prediction) else None,
        "findings": [_finding_document(f, result) for f in result.findings] if isinstance(result, Prediction) else [],
        "operating_point": {
            "name": point.name, "image": point.image, "finding": point.finding, "cost": words.cost(point.cost)
        } if point else None,
        "clinical": {
            "values": dict(told.values), "notes": list(told.notes), "breast_malignancy": told.malignancy
        } if told else None,
        "exit_status": int(status),
        "notice": NOTICE,
    }  # fmt: skip


def _header_document(header: Header) -> dict[str, object]:
    spacing, age = header.spacing, header.age
    return {
        "patient_id": header.patient.patient_id,
        "patient_name": header.patient.name,
        "sex": header.patient.sex.value,
        "age_years": age.years if age else None,
        "study_date": header.study.study_date,
        "accession_number": header.study.accession_number,
        "study_instance_uid": header.study.study_instance_uid,
        "series_instance_uid": header.series_instance_uid,
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "laterality": header.laterality.value,
        "view": header.view.value,
        "view_modifiers": list(header.view_modifiers),
        "manufacturer": header.manufacturer,
        "manufacturer_model": header.manufacturer_model,
        "spacing_mm": [spacing.row_mm, spacing.column_mm] if spacing else None,
        "spacing_source": spacing.source.value if spacing else None,
        "presentation_intent": header.presentation_intent,
        "implant": header.implant,
        "partial_view": header.partial_view,
        "rows": header.rows,
        "columns": header.columns,
        "bits_stored": header.bits_stored,
        "photometric_interpretation": header.photometric,
        "flags": [flag.value for flag in header.flags],
    }


def _image_document(prediction: Prediction) -> dict[str, object]:
    return {
        "malignancy": prediction.scores.malignancy,
        "density": prediction.density.density.value,
        "density_source": prediction.density.source.value,
        "percent_density": prediction.image_features.percent_density,
        "candidates": prediction.candidates,
        "nipple_px": list(prediction.nipple) if prediction.nipple else None,
        "flags": [flag.value for flag in prediction.flags],
    }


def _finding_document(finding: Finding, prediction: Prediction) -> dict[str, object]:
    region = finding.region
    return {
        "number": finding.number,
        "kind": region.kind.value,
        "lesion_kind_estimate": finding.lesion_kind,
        "centre_px": [float(value) for value in region.centre],
        "box_px": [float(value) for value in region.box],
        "contour_px": [[float(x), float(y)] for x, y in region.contour],
        "area_mm2": region.area_mm2,
        "nipple_distance_mm": nipple.distance_mm(prediction, finding),
        "half": nipple.half(prediction, finding),
        "malignancy": finding.scores.malignancy,
        "above_threshold": bool(finding.above_threshold),
    }


def _decision(result: Skipped | Failed) -> Facts:
    word = "skipped" if isinstance(result, Skipped) else "failed"
    reason = result.reason
    detail = f" ({result.detail})" if result.detail else ""
    densities = ", ".join(f"{d.laterality.value}: {d.density.value}" for d in getattr(result, "densities", ()))
    return (
        ("decision", f"{word}: {reason.code}: {reason.meaning}{detail}"),
        ("remedy", reason.remedy),
        *((("breast density stated", densities),) if densities else ()),
    )


def _status(result: Skipped | Failed) -> ExitCode:
    if isinstance(result, Failed) or result.reason in {Reason.NOT_DICOM, Reason.ARCHIVE, Reason.EMPTY_FILE}:
        return ExitCode.NOTHING_ANALYSED
    return ExitCode.ALL_ANALYSED


def _yes_no(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"
