"""Mammography CAD SR (PS3.16 TID 4000), which mammography workstations display."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mammoscan import NOTICE
from mammoscan.core import uids
from mammoscan.core.codes import SIDE_CODES, VIEW_CODES
from mammoscan.core.domain import RegionKind
from mammoscan.report.sr_common import (
    NO_UNIT,
    PERCENT,
    add,
    algorithm,
    by_reference,
    code,
    container,
    date,
    dcm,
    document,
    headers_of,
    image,
    num,
    outcome,
    scoord,
    sct,
    text,
    time,
    to_bytes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset
    from pydicom.sr.coding import Code

    from mammoscan.core.domain import Finding, Header, ReportContext, StudyResult

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.50"
SERIES_NUMBER = 9101

DENSITY_LESION = sct("129793001", "Mammography breast density")
CLUSTER = sct("129769006", "Calcification Cluster")
REQUIRED = dcm("111150", "Presentation Required: Rendering device is expected to present")
NOT_SHOWN = dcm("111152", "Not for Presentation: Rendering device expected not to present")
MICROMETRE = ("um", "micrometer")


def render(result: StudyResult, context: ReportContext) -> bytes:
    """The report as a DICOM file. All coordinates are pixels of the source images."""
    headers = headers_of(result)
    analysed = len(result.images)
    # Position of each image in the tree: the root is 1, the library its second child.
    paths: list[tuple[int, ...]] = [(1, 2, index + 1) for index in range(len(headers))]
    root = container(dcm("111036", "Mammography CAD Report"), is_content_continuous=False, template_id="4000")
    add(
        root,
        _language(),
        add(container(dcm("111028", "Image Library"), "CONTAINS"), *map(_library_entry, headers)),
    )
    add(root, _summary(result, context, paths))
    add(root, _detections(paths[:analysed], paths[analysed:], context))
    # A density estimated from the pixels stays in the tables and the PDF: in this report it would be
    # taken for a composition that somebody stated.
    add(root, code(dcm("111065", "Summary of Analyses"), dcm("111225", "Not Attempted"), "CONTAINS"))
    ds = document(
        SOP_CLASS,
        uids.of_result("cad-sr", result, context),
        uids.of_result("cad-sr-series", result, context),
        SERIES_NUMBER,
        "mammoscan CAD (research, second reading)",
        result,
        context,
    )
    for element in root:
        ds[element.tag] = element
    return to_bytes(ds)


def _language() -> Dataset:
    from pydicom.sr.coding import Code

    item = code(
        dcm("121049", "Language of Content Item and Descendants"),
        Code("en", "RFC5646", "English"),
        "HAS CONCEPT MOD",
    )
    return add(
        item,
        code(dcm("121046", "Country of Language"), Code("US", "ISO3166_1", "United States"), "HAS CONCEPT MOD"),
    )


def _library_entry(header: Header) -> Dataset:
    """TID 4020: what is known of the image; what is not is left out."""
    from pydicom.sr.coding import Code

    acquired = "HAS ACQ CONTEXT"
    item = image(header, "CONTAINS")
    if header.laterality in SIDE_CODES:
        add(item, code(dcm("111027", "Image Laterality"), sct(*SIDE_CODES[header.laterality]), acquired))
    if header.view in VIEW_CODES:
        add(item, code(dcm("111031", "Image View"), sct(*VIEW_CODES[header.view]), acquired))
    if header.patient_orientation:
        row, column = header.patient_orientation
        add(item, text(dcm("111044", "Patient Orientation Row"), row, acquired),
            text(dcm("111043", "Patient Orientation Column"), column, acquired))  # fmt: skip
    for concept, value in (
        (dcm("111060", "Study Date"), header.study.study_date),
        (dcm("111018", "Content Date"), header.content_date),
    ):
        if value:
            add(item, date(concept, value, acquired))
    for concept, value in (
        (dcm("111061", "Study Time"), header.study.study_time),
        (dcm("111019", "Content Time"), header.content_time),
    ):
        if value:
            add(item, time(concept, value, acquired))
    if header.spacing is not None:
        unit = Code(MICROMETRE[0], "UCUM", MICROMETRE[1])
        add(item, num(dcm("111026", "Horizontal Pixel Spacing"), round(header.spacing.column_mm * 1000, 3), unit, acquired),
            num(dcm("111066", "Vertical Pixel Spacing"), round(header.spacing.row_mm * 1000, 3), unit, acquired))  # fmt: skip
    return item


def _summary(result: StudyResult, context: ReportContext, paths: list[tuple[int, ...]]) -> Dataset:
    summary = code(dcm("111017", "CAD Processing and Findings Summary"), outcome(result), "CONTAINS")
    add(
        summary,
        text(dcm("111033", "Impression Description"), _sentence(result, context), "HAS PROPERTIES"),
        *algorithm(context),
    )
    for wanted, intent in ((True, REQUIRED), (False, NOT_SHOWN)):
        items = [
            _finding(finding, context, path, intent)
            for prediction, path in zip(result.images, paths, strict=False)
            for finding in prediction.findings
            if finding.above_threshold is wanted
        ]
        if items:
            add(summary, add(_impression(intent), *items))
    return summary


def _sentence(result: StudyResult, context: ReportContext) -> str:
    if result.malignancy is None:
        return f"No image could be analysed. {NOTICE}"
    return (
        f"Highest malignancy score {result.malignancy:.3f} (0 to 1), operating point {context.threshold_name} "
        f"at {context.breast_threshold:.3f}. {NOTICE}"
    )


def _impression(intent: Code) -> Dataset:
    item = container(dcm("111034", "Individual Impression/Recommendation"), "INFERRED FROM")
    return add(item, code(dcm("111056", "Rendering Intent"), intent, "HAS CONCEPT MOD"))


def _finding(finding: Finding, context: ReportContext, path: tuple[int, ...], intent: Code) -> Dataset:
    """TID 4006. Below the operating point a finding is written, but not for presentation."""
    cluster = finding.region.kind is RegionKind.CALCIFICATION
    item = code(dcm("111059", "Single Image Finding"), CLUSTER if cluster else DENSITY_LESION, "CONTAINS")
    has = "HAS PROPERTIES"
    score = round(100.0 * finding.scores.malignancy, 2)
    add(
        item,
        code(dcm("111056", "Rendering Intent"), intent, "HAS CONCEPT MOD"),
        text(dcm("112039", "Tracking Identifier"), finding.tracking_id, "HAS OBS CONTEXT"),
        _tracking_uid(finding),
        *algorithm(context),
        num(
            dcm("111012", "Certainty of Finding"),
            round(100.0 * (1.0 - finding.scores.normal), 2),
            PERCENT,
            has,
        ),
        num(dcm("111047", "Probability of cancer"), score, PERCENT, has),
        add(
            scoord(dcm("111010", "Center"), "POINT", np.array([finding.region.centre]), has),
            by_reference("SELECTED FROM", path),
        ),
        add(
            scoord(dcm("111041", "Outline"), "POLYLINE", closed(finding.region.contour), has),
            by_reference("SELECTED FROM", path),
        ),
    )
    if cluster:
        add(item, num(dcm("111038", "Number of calcifications"), finding.region.spots, NO_UNIT, has))
    return item


def _tracking_uid(finding: Finding) -> Dataset:
    from mammoscan.report.sr_common import uidref

    return uidref(dcm("112040", "Tracking Unique Identifier"), finding.tracking_uid, "HAS OBS CONTEXT")


def closed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A polygon with its first point repeated at the end."""
    return np.vstack([points, points[:1]])


def _detections(good: list[tuple[int, ...]], bad: list[tuple[int, ...]], context: ReportContext) -> Dataset:
    """TID 4015: what was sought, in which images it could be and in which not."""
    if not good:
        status = dcm("111224", "Failed")
    elif bad:
        status = dcm("111223", "Partially Succeeded")
    else:
        status = dcm("111222", "Succeeded")
    item = code(dcm("111064", "Summary of Detections"), status, "CONTAINS")
    for title, paths in (
        (dcm("111063", "Successful Detections"), good),
        (dcm("111025", "Failed Detections"), bad),
    ):
        if paths:
            group = container(title, "INFERRED FROM")
            for kind in (DENSITY_LESION, CLUSTER):
                performed = code(dcm("111022", "Detection Performed"), kind, "CONTAINS")
                references = (by_reference("HAS PROPERTIES", path) for path in paths)
                add(group, add(performed, *algorithm(context), *references))
            add(item, group)
    return item
