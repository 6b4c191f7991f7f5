"""The CSV tables: columns, rows, bytes. Pure functions."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core import store, tableforms
from mammoscan.core.domain import Laterality, Seen
from mammoscan.image import nipple
from mammoscan.image.features import FEATURE_DOCS, REGION_FEATURES

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from mammoscan.core.domain import Earlier, Finding, Prediction, ReportContext, StudyResult


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the manual lists it."""

    name: str
    unit: str
    meaning: str


def _columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


_IDENTITY = (
    ("patient_id", "", "PatientID (0010,0020)"),
    ("study_instance_uid", "", "StudyInstanceUID (0020,000D)"),
)
_MODEL = (
    ("model_sha256", "", "hash of the model's description, which holds the hashes of its weights"),
    ("config_digest", "", "digest of the configuration"),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "images": _columns(
        *_IDENTITY,
        ("series_instance_uid", "", "SeriesInstanceUID (0020,000E)"),
        ("sop_instance_uid", "", "SOPInstanceUID (0008,0018)"),
        ("path", "", "path below the archive"),
        ("study_date", "YYYYMMDD", "StudyDate (0008,0020); empty where unknown"),
        ("laterality", "", "L, R, B or unknown"),
        ("view", "", "CID 4014 short term or unknown"),
        ("view_modifiers", "", "CID 4015 meanings, separated by ;"),
        ("age", "years", "age at the study; empty where unknown"),
        ("age_source", "", "attribute that the age comes from, or unknown"),
        ("sex", "", "F, M, O or unknown"),
        ("density", "", "breast composition a to d, or unknown"),
        ("density_source", "", "user-table, structured-report, private-attribute, pixel-estimate or none"),
        ("tissue_estimate", "", "estimate in mini-MIAS's terms: F, G or D; empty where the model makes none"),
        ("percent_density", "%", "dense tissue in the breast, estimated from the pixels"),
        ("breast_area_mm2", "mm²", "area without muscle and labels; empty where the spacing is unknown"),
        ("manufacturer", "", "Manufacturer (0008,0070), or unknown"),
        ("spacing_row_mm", "mm", "distance between rows; empty where unknown"),
        ("spacing_column_mm", "mm", "distance between columns; empty where unknown"),
        ("spacing_source", "", "attribute that the spacing comes from, or unknown"),
        ("presentation_intent", "", "PresentationIntentType (0008,0068), or unknown"),
        ("implant", "", "yes, no or unknown"),
        ("partial_view", "", "yes, no or unknown"),
        ("flags", "", "what is worth knowing, separated by ;"),
        ("normal", "0 to 1", "probability of the image's most suspicious region"),
        ("benign", "0 to 1", "probability of the image's most suspicious region"),
        ("malignant", "0 to 1", "probability of the image's most suspicious region"),
        ("malignancy", "0 to 1", "calibrated malignancy score of the image, from its regions"),
        ("above_threshold", "", "yes where the malignancy score reaches the operating point"),
        ("threshold", "0 to 1", "operating point"),
        ("candidates", "count", "regions that were classified"),
        ("findings", "count", "regions that are reported"),
        ("nipple_x", "px", "column of the skin farthest from the chest wall; empty where it was not found"),
        ("nipple_y", "px", "its row"),
        *_MODEL,
    ),
    "findings": _columns(
        *_IDENTITY,
        ("sop_instance_uid", "", "SOPInstanceUID (0008,0018) of the source image"),
        ("laterality", "", "L, R, B or unknown"),
        ("view", "", "CID 4014 short term or unknown"),
        ("number", "count", "number within the study, as in the PDF"),
        ("tracking_id", "", "Tracking Identifier, the same in the reports"),
        ("tracking_uid", "", "Tracking Unique Identifier, the same in the reports"),
        ("kind", "", "mass-like or calcification-cluster"),
        ("lesion_kind_estimate", "", "what it is if it is a lesion; empty where the model makes no estimate"),
        ("centre_x", "px", "column of the centre in the source image"),
        ("centre_y", "px", "row of the centre in the source image"),
        ("box_x0", "px", "left of the box in the source image"),
        ("box_y0", "px", "top"),
        ("box_x1", "px", "right"),
        ("box_y1", "px", "bottom"),
        ("contour", "px", "outline in the source image: x y pairs, separated by ;"),
        ("area_px", "px²", "area in the source image"),
        ("normal", "0 to 1", "probability"),
        ("benign", "0 to 1", "probability"),
        ("malignant", "0 to 1", "probability"),
        ("malignancy", "0 to 1", "calibrated malignancy score"),
        ("above_threshold", "", "yes where the score reaches the operating point"),
        *((name, unit, formula) for name, (unit, formula, _) in FEATURE_DOCS.items()),
        ("nipple_distance_mm", "mm", "of the centre; empty where nipple or spacing are not known"),
        ("half", "", "of the breast, as far as the view tells: inner, outer, upper, lower, central or empty"),
        ("earlier", "", "against the earlier study: seen-before, new or not-comparable; empty without one"),
        ("earlier_reason", "", "why it is not comparable"),
        ("earlier_tracking_uid", "", "of the finding that was seen before"),
        ("earlier_malignancy", "0 to 1", "its score then"),
        ("earlier_apart_mm", "mm", "between the two places, each seen from its nipple; empty where a spacing is unknown"),
    ),
    "studies": _columns(
        *_IDENTITY,
        ("study_date", "YYYYMMDD", "StudyDate (0008,0020); empty where unknown"),
        ("accession_number", "", "AccessionNumber (0008,0050)"),
        ("age", "years", "age at the study; empty where unknown"),
        ("images_analysed", "count", ""),
        ("images_failed", "count", ""),
        ("files_skipped", "count", ""),
        ("malignancy", "0 to 1", "score of the worse breast; empty where no image could be analysed"),
        ("malignancy_left", "0 to 1", "calibrated malignancy score of the left breast; empty without image"),
        ("malignancy_right", "0 to 1", "calibrated malignancy score of the right breast; empty without image"),
        ("above_threshold", "", "yes where the score reaches the operating point"),
        ("threshold", "0 to 1", "operating point"),
        ("operating_point", "", "its name"),
        ("findings_above", "count", "findings at or above the operating point"),
        ("findings_below", "count", "findings below it"),
        ("clinical", "", "the user's own data that the breasts' scores used: name=value, separated by ;"),
        ("folder", "", "folder of the reports below the output folder"),
        ("created", "YYYYMMDDHHMMSS", "when the report was first made"),
        ("earlier_study_instance_uid", "", "the latest earlier study of the same patient among these results"),
        ("earlier_reason", "", "why there is none: none, patient-unknown, date-unknown or not-certain"),
        ("earlier_study_date", "YYYYMMDD", "its date"),
        ("earlier_folder", "", "folder of its reports below the output folder"),
        ("earlier_malignancy", "0 to 1", "its score"),
        ("earlier_malignancy_left", "0 to 1", "of its left breast; empty without image"),
        ("earlier_malignancy_right", "0 to 1", "of its right breast; empty without image"),
        ("earlier_density_left", "", "a to d, ~ before an estimate from the pixels; empty where unknown"),
        ("earlier_density_right", "", "a to d, ~ before an estimate from the pixels; empty where unknown"),
        ("earlier_same_model", "", "yes where both studies were scored by one model with one configuration, else no"),
        ("findings_new", "count", "findings at or above the operating point that are new; empty without an earlier study"),
        ("findings_seen_before", "count", "findings at or above the operating point that were seen before"),
        *_MODEL,
    ),
    "files": _columns(
        ("path", "", "path below the archive"),
        ("size", "byte", "size of the file"),
        ("status", "", "analysed, skipped, failed, gone (not seen any more) or, while a run goes on, pending"),
        ("stage", "", "where it ended; empty for analysed"),
        ("code", "", "coded reason; empty for analysed"),
        ("meaning", "", "what the code means"),
        ("detail", "", "more about it"),
        ("remedy", "", "what to do about it"),
        ("study_instance_uid", "", "StudyInstanceUID, empty where unknown"),
        ("sop_instance_uid", "", "SOPInstanceUID, empty where unknown"),
    ),
}  # fmt: skip


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def rows_of_study(result: StudyResult, context: ReportContext, folder: str) -> dict[str, list[list[str]]]:
    """Rows of images, findings and studies, as ``COLUMNS`` orders them."""
    return {
        "images": [_image_row(p, context) for p in result.images],
        "findings": [_finding_row(p, f, result.earlier) for p in result.images for f in p.findings],
        "studies": [_study_row(result, context, folder)],
    }


def _image_row(p: Prediction, context: ReportContext) -> list[str]:
    h, spacing = p.header, p.header.spacing
    return [
        h.patient.patient_id,
        h.study.study_instance_uid,
        h.series_instance_uid,
        h.sop_instance_uid,
        h.file.relative,
        h.study.study_date,
        h.laterality.value,
        h.view.value,
        ";".join(h.view_modifiers),
        number(h.age.years if h.age else None, 4),
        h.age.source.value if h.age else "unknown",
        h.patient.sex.value,
        p.density.density.value,
        p.density.source.value,
        p.tissue,
        number(p.image_features.percent_density, 4),
        number(p.image_features.breast_area_mm2, 6),
        h.manufacturer or "unknown",
        number(spacing.row_mm if spacing else None, 6),
        number(spacing.column_mm if spacing else None, 6),
        spacing.source.value if spacing else "unknown",
        h.presentation_intent or "unknown",
        _yes_no(h.implant),
        _yes_no(h.partial_view),
        ";".join(f.value for f in p.flags),
        number(p.scores.normal),
        number(p.scores.benign),
        number(p.scores.malignant),
        number(p.scores.malignancy),
        _yes_no(p.scores.malignancy >= context.threshold),
        number(context.threshold),
        str(p.candidates),
        str(len(p.findings)),
        *(f"{v:.2f}" for v in p.nipple or ()),
        *([] if p.nipple else ["", ""]),
        context.model.sha256,
        context.config_digest,
    ]


def _finding_row(p: Prediction, f: Finding, earlier: Earlier | None) -> list[str]:
    h, region = p.header, f.region
    said = earlier.of(f.tracking_uid) if earlier else None
    then = said.then if said else None
    return [
        h.patient.patient_id,
        h.study.study_instance_uid,
        h.sop_instance_uid,
        h.laterality.value,
        h.view.value,
        str(f.number),
        f.tracking_id,
        f.tracking_uid,
        region.kind.value,
        f.lesion_kind,
        *(f"{v:.2f}" for v in (*region.centre, *region.box)),
        ";".join(f"{x:.2f} {y:.2f}" for x, y in region.contour),
        number(region.area_px, 6),
        number(f.scores.normal),
        number(f.scores.benign),
        number(f.scores.malignant),
        number(f.scores.malignancy),
        _yes_no(f.above_threshold),
        *(number(v) for v in f.features[: len(REGION_FEATURES)]),
        number(nipple.distance_mm(p, f), 4),
        nipple.half(p, f),
        said.seen.value if said else "",
        said.why.value if said and said.why else "",
        then.tracking_uid if then else "",
        number(then.malignancy if then else None),
        number(then.apart if then and then.apart_mm else None, 4),
    ]


def _study_row(r: StudyResult, context: ReportContext, folder: str) -> list[str]:
    sides = {b.laterality: b.malignancy for b in r.breasts}
    above = sum(f.above_threshold for p in r.images for f in p.findings)
    return [
        r.patient.patient_id,
        r.study.study_instance_uid,
        r.study.study_date,
        r.study.accession_number,
        number(r.age.years if r.age else None, 4),
        str(len(r.images)),
        str(len(r.failed)),
        str(len(r.skipped)),
        number(r.malignancy),
        number(sides.get(Laterality.LEFT)),
        number(sides.get(Laterality.RIGHT)),
        _yes_no(None if r.malignancy is None else r.malignancy >= context.breast_threshold),
        number(context.breast_threshold),
        context.threshold_name,
        str(above),
        str(sum(len(p.findings) for p in r.images) - above),
        ";".join(f"{name}={value}" for name, value in r.clinical),
        folder,
        "".join(context.created),
        *_earlier_cells(r),
        context.model.sha256,
        context.config_digest,
    ]


def _earlier_cells(r: StudyResult) -> list[str]:
    """What the row of a study says of the earlier one."""
    earlier = r.earlier
    if earlier is None or earlier.none is not None:
        return ["", earlier.none.value if earlier and earlier.none else "", *[""] * 10]
    then = earlier.studies[0]
    sides = {breast.laterality: breast for breast in then.breasts}
    above = [f.tracking_uid for p in r.images for f in p.findings if f.above_threshold]
    seen = [said.seen for said in earlier.findings if said.tracking_uid in above]
    both = [sides.get(side) for side in (Laterality.LEFT, Laterality.RIGHT)]
    return [
        then.study_instance_uid,
        "",
        then.study_date,
        store.study_folder(then.study_instance_uid),
        number(then.malignancy),
        *(number(breast.malignancy if breast else None) for breast in both),
        *(breast.density_shown if breast else "" for breast in both),
        _yes_no(then.same_model),
        str(seen.count(Seen.NEW)),
        str(seen.count(Seen.BEFORE)),
    ]


def number(value: float | None, digits: int = 6) -> str:
    """A number with significant digits, never in exponent form of a spreadsheet's making; '' for unknown."""
    return "" if value is None or not np.isfinite(value) else f"{value:.{digits}g}"


def safe(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe before = + - @ tab and return,
    unless the whole cell is a number (CWE-1236).
    """
    if cell[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"} and not _is_number(cell):
        return "'" + cell
    return cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def rows_of(path: Path) -> Generator[dict[str, str], None, None]:
    """Rows of a table that a run wrote, in whatever form, as cells of the plain form by the name of their column."""
    return tableforms.rows(path, {column.name: column.unit for column in COLUMNS[path.stem]})


def header_line(columns: Sequence[Column]) -> bytes:
    """The first line of a table."""
    return _text([[c.name for c in columns]])


def lines(rows: Sequence[Sequence[str]], columns: Sequence[Column]) -> bytes:
    """Rows as lines: UTF-8, comma, lines end with a line feed alone (RFC 4180 but for that).

    A row is a line: control characters, which a detail may quote from a damaged header, become blanks. The writer
    puts a carriage return into no quotes, so that it would end the row.

    Raises
    ------
    ValueError
        When a row does not have the cells of its table.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row has {len(row)} cells for {len(columns)} columns")
    return _text([[_CONTROLS.sub(" ", safe(cell)) for cell in row] for row in rows])


def _text(rows: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "backslashreplace")


def _yes_no(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"
