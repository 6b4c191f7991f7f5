"""One study on the review page: its pictures, and a script with everything that is said about it. Pure.

The pictures are those that were analysed, upright and in display sense. Marks are given in pixels of the source image,
which the page lays over the picture whatever its size is.
"""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mammoscan import NOTICE
from mammoscan.core import kinds, store
from mammoscan.core.domain import DensitySource, Laterality, Sex
from mammoscan.image import nipple
from mammoscan.image.features import FEATURE_DOCS
from mammoscan.model.terms import KINDS
from mammoscan.report import earlier_words, figures, pdf_image
from mammoscan.report.pdf_parts import day
from mammoscan.report.pdf_words import SEXES, SIDES, cost, density, person, view_name
from mammoscan.review import scripts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mammoscan.core.domain import BreastResult, Earlier, Finding, Prediction, ReportContext, StudyResult
    from mammoscan.core.errors import Reason

FORMAT = 1  # of the script: a page of another format says so
SCRIPT = "review.js"
_PLACES = 1  # decimals of a position in source pixels
_STEPS = 255  # of a heat map
# Shades of the dense tissue that is counted, as in the report (its second picture): colour and opacity.
_SHADE = (*figures.DENSE, 110)
UNKNOWN = "unknown"


def render(result: StudyResult, context: ReportContext, others: tuple[str, ...]) -> dict[str, bytes]:
    """The files of a study's page by name. others: names of the study's other files, to be linked."""
    files: dict[str, bytes] = {}
    images = []
    for number, prediction in enumerate(result.images, 1):
        name = f"review-{number:02d}.jpg" if prediction.preview.large else ""  # none where the image is gone
        if name:
            files[name] = prediction.preview.large
        images.append(_image(prediction, number, context, name, result.earlier))
    content = {
        "format": FORMAT,
        "notice": NOTICE,
        "uid": result.study.study_instance_uid,
        "folder": store.study_folder(result.study.study_instance_uid).partition("/")[2],
        "patient": result.patient.patient_id,
        "accession": result.study.accession_number,
        "date": day(result.study.study_date) if result.study.study_date else "",
        "age": None if result.age is None else round(result.age.years, 1),
        "deidentified": result.deidentified,
        "facts": _facts(result),
        "score": _score(result.malignancy),
        "above": None if result.malignancy is None else result.malignancy >= context.breast_threshold,
        "point": {
            "name": context.threshold_name,
            "breast": context.breast_threshold,
            "image": context.threshold,
            "finding": context.finding_threshold,
            "cost": cost(context.cost),
        },
        "model": {
            "name": f"{context.model.name} {context.model.version}",
            "sha256": context.model.sha256,
            "limits": list(context.model.limits),
            "scoring": list(context.model.scoring),
            "config": context.config_digest,
            "software": context.software_version,
        },
        "created": f"{day(context.created[0])} {context.created[1][:2]}:{context.created[1][2:4]}",
        "breasts": [_breast(breast, result, context) for breast in result.breasts],
        "earlier": _earlier(result.earlier),
        "features": [
            [
                name.removeprefix("feature_").removesuffix(f"_{unit.replace('²', '2')}").replace("_", " "),
                "" if unit == "1" else unit,
                formula,
            ]
            for name, (unit, formula, _) in FEATURE_DOCS.items()
        ],
        "images": images,
        "failed": _reasons(
            (f"{view_name(f.header)}; {f.file.relative}" if f.header else f.file.relative, f.reason, f.detail)
            for f in result.failed
        ),
        "skipped": _reasons((s.file.relative, s.reason, s.detail) for s in result.skipped),
        "files": [[name, _title(name)] for name in sorted(others)],
    }
    return {SCRIPT: scripts.call("study", content), **files}


def _shaded(mask: NDArray[np.bool_]) -> str:
    """A mask (h, w) as the address of a PNG picture of one colour that lets through what lies below.

    Some kilobytes, which stand in the script: a file of their own would cost more than they hold.
    """
    picture = Image.fromarray(mask.astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, *_SHADE[:3]])
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True, bits=1, transparency=bytes([0, _SHADE[3]]))
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def _title(name: str) -> str:
    """What a file of the study is, in words."""
    if name == "report.pdf":
        return "Report (PDF)"
    for kind in kinds.KINDS:
        before, _, after = kind.file.replace("NN", "*").replace("-S.", "-*.").partition("*")
        if name.startswith(before) and name.endswith(after):
            return kind.title.partition(",")[0]
    return name


# --------------------------------------------------------------------------- facts


def _facts(result: StudyResult) -> list[list[str]]:
    """Name, value and source of what the header says about patient and study."""
    patient, study, age = result.patient, result.study, result.age
    rows = [
        ("Patient name", person(patient) if patient.name else UNKNOWN, "PatientName (0010,0010)"),
        ("Patient ID", patient.patient_id or UNKNOWN, "PatientID (0010,0020)"),
        ("Birth date", day(patient.birth_date), "PatientBirthDate (0010,0030)"),
        ("Sex", SEXES[patient.sex], "PatientSex (0010,0040)" if patient.sex is not Sex.UNKNOWN else ""),
        ("Age at study", f"{age.years:.4g} years" if age else UNKNOWN, age.source.value if age else ""),
        ("Study date", day(study.study_date), "StudyDate (0008,0020)"),
        ("Accession number", study.accession_number or UNKNOWN, "AccessionNumber (0008,0050)"),
        ("Study description", study.study_description or UNKNOWN, "StudyDescription (0008,1030)"),
        ("Study ID", study.study_id or UNKNOWN, "StudyID (0020,0010)"),
        ("Referring", person(study.referring_physician_name), "ReferringPhysicianName (0008,0090)"),
    ]
    return [[name, value, "" if value == UNKNOWN else source] for name, value, source in rows]


def _breast(breast: BreastResult, result: StudyResult, context: ReportContext) -> dict[str, Any]:
    found = dict.fromkeys(density(p) for p in result.images if p.header.laterality is breast.laterality)
    return {
        "side": breast.laterality.value,
        "title": f"{SIDES[breast.laterality]} breast"
        if breast.laterality is not Laterality.UNKNOWN
        else "side unknown",
        "images": breast.images,
        "score": _score(breast.malignancy),
        "above": breast.malignancy >= context.breast_threshold,
        "density": "; ".join(found),
    }


def _reasons(entries: Iterable[tuple[str, Reason, str]]) -> list[dict[str, str]]:
    return [
        {"name": name, "code": reason.code, "meaning": reason.meaning, "detail": detail, "remedy": reason.remedy}
        for name, reason, detail in entries
    ]


# --------------------------------------------------------------------------- images and findings


def _earlier(earlier: Earlier | None) -> dict[str, Any]:
    """What is known of earlier studies, the latest first."""
    if earlier is None:
        return {"none": "", "studies": [], "more": "", "how": ""}
    return {
        "none": earlier_words.none(earlier),
        "studies": [
            {
                "date": day(study.study_date),
                "folder": store.study_folder(study.study_instance_uid).partition("/")[2],
                "score": _score(study.malignancy),
                "same": study.same_model,
                "note": "" if study.same_model else earlier_words.OTHER_MODEL,
                "breasts": {
                    b.laterality.value: {"score": _score(b.malignancy), "density": b.density_shown}
                    for b in study.breasts
                },
            }
            for study in earlier.studies
        ],
        "more": earlier_words.more(earlier),
        "how": earlier_words.HOW if earlier.studies else "",
    }


def _image(p: Prediction, number: int, context: ReportContext, picture: str, earlier: Earlier | None) -> dict[str, Any]:
    h, measures = p.header, p.image_features
    maker = " ".join(part for part in (h.manufacturer, h.manufacturer_model) if part) or UNKNOWN
    area = measures.breast_area_mm2
    spacing = h.spacing
    heated = {f.tracking_uid for f in figures.heated(p.findings)}
    facts = [
        ["File", h.file.relative, "path below the archive"],
        ["SOPInstanceUID", h.sop_instance_uid, ""],
        ["Stored size", f"{h.columns} x {h.rows} px", "Columns, Rows"],
        ["Pixel spacing", f"{spacing.column_mm:.4g} x {spacing.row_mm:.4g} mm" if spacing else UNKNOWN,
         spacing.source.value if spacing else ""],
        ["Density", density(p), ""],
        ["Dense tissue", f"{measures.percent_density:.0f} % of the breast by area", "estimated from the pixels"],
        ["Breast area", UNKNOWN if area is None else f"{area / 100:.1f} cm²", ""],
        ["Maker", maker, "Manufacturer, ManufacturerModelName"],
        ["Intent", h.presentation_intent or UNKNOWN, "PresentationIntentType"],
        ["Candidates", f"{p.candidates} regions classified, {len(p.findings)} reported", ""],
    ]  # fmt: skip
    return {
        "number": number,
        "uid": h.sop_instance_uid,
        "path": h.file.relative,
        "side": h.laterality.value,
        "view": h.view.value,
        "title": view_name(h),
        "width": h.columns,
        "height": h.rows,
        "wall": "right" if p.geometry.flipped else "left",  # where the chest wall lies in the stored image
        "picture": picture,
        "dense": _shaded(p.preview.dense) if picture else "",
        "missing": pdf_image.not_shown(p),
        "score": _score(p.scores.malignancy),
        "above": p.scores.malignancy >= context.threshold,
        # A reading only: an estimate must not come back as a reader's word.
        "density": p.density.density.value
        if p.density.source not in {DensitySource.ESTIMATE, DensitySource.NONE} else "",
        "age": None if h.age is None else round(h.age.years, 2),
        "mm": [round(spacing.column_mm, 6), round(spacing.row_mm, 6)] if spacing else None,
        "flags": [flag.value for flag in p.flags],
        "facts": facts,
        "findings": [_finding(f, p, heated, earlier) for f in sorted(p.findings, key=lambda f: f.number)],
    }  # fmt: skip


def _place(f: Finding, p: Prediction) -> str:
    """Where in the breast a finding lies, as far as the view tells: 'outer half, 43 mm from the nipple'."""
    half, distance = nipple.half(p, f), nipple.distance_mm(p, f)
    words = "near the line through the nipple" if half == "central" else f"{half} half" if half else ""
    return ", ".join(filter(None, (words, "" if distance is None else f"{distance:.0f} mm from the nipple")))


def _finding(f: Finding, p: Prediction, heated: set[str], earlier: Earlier | None) -> dict[str, Any]:
    region, scores = f.region, f.scores
    area = region.area_mm2
    said = earlier.of(f.tracking_uid) if earlier else None
    return {
        "number": f.number,
        "id": f.tracking_id,
        "uid": f.tracking_uid,
        "kind": region.kind.value + (f", {region.spots} spots" if region.spots else ""),
        "lesion": f.lesion_kind if f.lesion_kind in KINDS else "",
        "score": _score(scores.malignancy),
        "above": f.above_threshold,
        "classes": [_score(v) for v in (scores.normal, scores.benign, scores.malignant)],
        "size": pdf_image.size(region.box, p.header.spacing),
        "place": _place(f, p),
        "seen": said.seen.value if said else "",
        "said": earlier_words.of_finding(said, earlier) if said and earlier else "",
        "then": said.then.tracking_uid if said and said.then else "",
        "area": UNKNOWN if area is None else f"{area:.0f}",
        "box": [round(v, _PLACES) for v in region.box],
        "centre": [round(v, _PLACES) for v in region.centre],
        "outline": " ".join(f"{x:.{_PLACES}f},{y:.{_PLACES}f}" for x, y in region.contour),
        "features": [f"{value:.3g}" if math.isfinite(value) else "" for value in f.features],
        "heat": _heat(f) if f.tracking_uid in heated else None,
    }


def _heat(f: Finding) -> dict[str, Any] | None:
    """Grad-CAM of a finding in steps of 0 to 255, row by row, with its box in source pixels."""
    if f.heat is None or f.heat_box is None:
        return None
    rows, columns = f.heat.shape
    steps = np.round(np.clip(f.heat, 0.0, 1.0) * _STEPS).astype(np.uint8)
    return {
        "rows": rows,
        "columns": columns,
        "steps": base64.b64encode(steps.tobytes()).decode("ascii"),
        "box": [round(v, _PLACES) for v in f.heat_box],
    }


def _score(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
