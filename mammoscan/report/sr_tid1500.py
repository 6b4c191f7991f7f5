"""TID 1500 Measurement Report in a Comprehensive 3D SR, for IHE AI Results displays, OHIF, 3D Slicer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes as known
from pydicom.sr.coding import Code

from mammoscan.core import uids
from mammoscan.core.codes import SIDE_CODES
from mammoscan.core.domain import RegionKind
from mammoscan.core.implementation import MANUFACTURER
from mammoscan.core.kinds import BY_NAME
from mammoscan.report.objects import place
from mammoscan.report.sr_common import MM2, ZERO_TO_ONE, dcm, document, headers_of, outcome, sct, to_bytes, version

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

    from mammoscan.core.domain import Finding, Header, ReportContext, StudyResult

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
# No public scheme has a code for "score of an algorithm, no probability": a private one, named in every object.
SCHEME = "99MAMMOSCAN"
SCORE = Code("malignancy-score", SCHEME, "Malignancy score")
AREA = sct("42798000", "Area")
MASS = sct("129788004", "Mammographic breast mass")
CLUSTER = sct("129769006", "Calcification Cluster")
OUTCOME = "tid1500-sr.dcm"
TITLE, OUTCOME_TITLE = dcm("126000", "Imaging Measurement Report"), dcm("111036", "Mammography CAD Report")


def render(result: StudyResult, context: ReportContext) -> dict[str, bytes]:
    """A report of the study's outcome, and one of each image with findings at or above the operating point.

    Each report of an image is a series of its own: OHIF shows one report a series, and steps only within the
    pictures of one image.
    """
    return {OUTCOME: _outcome(result, context)} | _by_image(result, context, shown=True)


def render_below(result: StudyResult, context: ReportContext) -> dict[str, bytes]:
    """One report of each image with findings below the operating point; viewers draw them like any other."""
    return _by_image(result, context, shown=False)


def _by_image(result: StudyResult, context: ReportContext, *, shown: bool) -> dict[str, bytes]:
    files = {}
    for number, prediction in enumerate(result.images, 1):
        findings = [f for f in prediction.findings if f.above_threshold is shown]
        if findings:
            name = f"tid1500-{number:02d}.dcm" if shown else f"not-for-presentation-{number:02d}.dcm"
            files[name] = _marks(findings, prediction.header, number, result, context, shown=shown)
    return files


def _marks(
    findings: Several[Finding], header: Header, number: int, result: StudyResult, context: ReportContext, *, shown: bool
) -> bytes:
    """The outlines of an image as polygons in its pixels."""
    kind = BY_NAME["tid1500" if shown else "tid1500-below"]
    what = "mammoscan findings" if shown else "below operating point"
    ds = document(
        SOP_CLASS,
        uids.of_result(f"{kind.name}-{header.sop_instance_uid}", result, context),
        uids.of_result(f"{kind.name}-series-{header.sop_instance_uid}", result, context),
        kind.series_number + number,
        f"{place(header) or f'Image {number}'}: {what} (research, second reading)",
        result,
        context,
        headers=[header],
    )
    return _filled(ds, TITLE, [_group(finding, header, context) for finding in findings], context)


def _outcome(result: StudyResult, context: ReportContext) -> bytes:
    """Whether all, some or none of the images could be analysed, and whether something was found.

    Image-level groups never stand beside outlines in one file: PixelMed's validator mixes them up. The title is not
    that of measurements: OHIF 3.12 looks for outlines below that one, and ends where there are none.
    """
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=uids.of_result("tid1500-outcome", result, context), identifier="outcome"
        ),
        source_images=[SourceImageForMeasurementGroup(h.sop_class_uid, h.sop_instance_uid) for h in headers_of(result)],
        algorithm_id=AlgorithmIdentification(name=context.model.name, version=version(context)),
        qualitative_evaluations=[
            QualitativeEvaluation(dcm("111017", "CAD Processing and Findings Summary"), outcome(result))
        ],
    )
    ds = document(
        SOP_CLASS,
        uids.of_result("tid1500", result, context),
        uids.of_result("tid1500-series", result, context),
        BY_NAME["tid1500"].series_number,
        "mammoscan outcome (research, second reading)",
        result,
        context,
    )
    return _filled(ds, OUTCOME_TITLE, [group], context)


def _filled(
    ds: Dataset, title: Code, groups: Several[MeasurementsAndQualitativeEvaluations], context: ReportContext
) -> bytes:
    """A document with its content."""
    report = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=known.DCM.Device,
                observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                    uid=uids.uid("device", context.model.sha256),
                    name=MANUFACTURER,
                    manufacturer_name=MANUFACTURER,
                    model_name=context.model.name,
                    serial_number=context.model.sha256[:16],
                ),
            )
        ),
        procedure_reported=sct("71651007", "Mammography"),
        imaging_measurements=groups,
        title=title,
        # highdicom's image library asks for attributes that many sources lack: it is left out (TID 1500
        # makes it conditional), and every image stands in the evidence.
        referenced_images=None,
    )
    # By highdicom's own document class the content would be copied and searched for references twice over, which
    # takes longer than all the rest; the evidence is known here.
    for element in report[0]:
        ds[element.tag] = element
    ds.CodingSchemeIdentificationSequence = Sequence([_scheme()])
    return to_bytes(ds)


def _scheme() -> Dataset:
    """Whose the private codes are (PS3.3 C.12.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeUID = uids.uid("coding-scheme", SCHEME)
    item.CodingSchemeName = "Terms of mammoscan"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item


def _group(finding: Finding, header: Header, context: ReportContext) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    algorithm = AlgorithmIdentification(name=context.model.name, version=version(context))
    measurements = [
        Measurement(
            name=SCORE,
            value=round(finding.scores.malignancy, 4),
            unit=ZERO_TO_ONE,
            algorithm_id=algorithm,
        )
    ]
    if finding.region.area_mm2 is not None:
        measurements.append(Measurement(name=AREA, value=round(finding.region.area_mm2, 2), unit=MM2))
    outline = np.vstack([finding.region.contour, finding.region.contour[:1]])
    # One code of side and organ: viewers show no modifier.
    sites = [FindingSite(sct(*SIDE_CODES[header.laterality]))] if header.laterality in SIDE_CODES else None
    cluster = finding.region.kind is RegionKind.CALCIFICATION
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_id),
        referenced_region=ImageRegion(
            GraphicTypeValues.POLYLINE,
            outline,
            source_image=SourceImageForRegion(header.sop_class_uid, header.sop_instance_uid),
        ),
        finding_type=CLUSTER if cluster else MASS,
        finding_sites=sites,
        measurements=measurements,
        qualitative_evaluations=[
            QualitativeEvaluation(
                dcm("111056", "Rendering Intent"),
                dcm("111150", "Presentation Required: Rendering device is expected to present")
                if finding.above_threshold
                else dcm("111152", "Not for Presentation: Rendering device expected not to present"),
            )
        ],
    )
