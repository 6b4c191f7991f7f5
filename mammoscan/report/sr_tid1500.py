"""TID 1500 Measurement Report in a Comprehensive 3D SR, for IHE AI Results displays, OHIF, 3D Slicer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from pydicom.sr.codedict import codes as known

from mammoscan.core import uids
from mammoscan.core.codes import SIDE_CODES
from mammoscan.core.domain import RegionKind
from mammoscan.core.implementation import MANUFACTURER
from mammoscan.report.sr_common import MM2, PERCENT, dcm, document, headers_of, sct, to_bytes, version

if TYPE_CHECKING:
    from mammoscan.core.domain import Finding, Header, ReportContext, StudyResult

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
SERIES_NUMBER = 9102
# No standard code says "score of an algorithm between 0 and 100 %": the CAD template's is the nearest.
SCORE = dcm("111047", "Probability of cancer")
AREA = sct("42798000", "Area")


def render(result: StudyResult, context: ReportContext) -> bytes:
    """The report as a DICOM file; outlines are polygons in pixels of the source images."""
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
        imaging_measurements=[
            _group(finding, prediction.header, context)
            for prediction in result.images
            for finding in prediction.findings
        ]
        or [_nothing(result, context)],
        title=dcm("126000", "Imaging Measurement Report"),
        # highdicom's image library asks for attributes that many sources lack: it is left out (TID 1500
        # makes it conditional), and every image stands in the evidence.
        referenced_images=None,
    )
    # By highdicom's own document class the content would be copied and searched for references twice over, which
    # takes longer than all the rest; the evidence is known here, every image of the study.
    ds = document(
        SOP_CLASS,
        uids.of_result("tid1500", result, context),
        uids.of_result("tid1500-series", result, context),
        SERIES_NUMBER,
        "mammoscan findings (research, second reading)",
        result,
        context,
    )
    for element in report[0]:
        ds[element.tag] = element
    return to_bytes(ds)


def _nothing(result: StudyResult, context: ReportContext) -> MeasurementsAndQualitativeEvaluations:
    """What a report without findings says: that all, some or none of the images could be analysed.

    Image-level groups never stand beside outlines in one file: PixelMed's validator mixes them up.
    """
    if not result.images:
        outcome = dcm("111245", "No algorithms succeeded; without findings")
    elif len(headers_of(result)) > len(result.images):
        outcome = dcm("111243", "Not all algorithms succeeded; without findings")
    else:
        outcome = dcm("111241", "All algorithms succeeded; without findings")
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=uids.of_result("tid1500-outcome", result, context), identifier="outcome"
        ),
        source_images=[SourceImageForMeasurementGroup(h.sop_class_uid, h.sop_instance_uid) for h in headers_of(result)],
        algorithm_id=AlgorithmIdentification(name=context.model.name, version=version(context)),
        qualitative_evaluations=[QualitativeEvaluation(dcm("111017", "CAD Processing and Findings Summary"), outcome)],
    )


def _group(finding: Finding, header: Header, context: ReportContext) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    algorithm = AlgorithmIdentification(name=context.model.name, version=version(context))
    measurements = [
        Measurement(
            name=SCORE,
            value=round(100.0 * finding.scores.malignancy, 2),
            unit=PERCENT,
            algorithm_id=algorithm,
        )
    ]
    if finding.region.area_mm2 is not None:
        measurements.append(Measurement(name=AREA, value=round(finding.region.area_mm2, 2), unit=MM2))
    outline = np.vstack([finding.region.contour, finding.region.contour[:1]])
    sites = None
    if header.laterality in SIDE_CODES:
        side = {
            "L": sct("7771000", "Left"),
            "R": sct("24028007", "Right"),
            "B": sct("51440002", "Right and left"),
        }
        sites = [FindingSite(sct("76752008", "Breast"), laterality=side[header.laterality.value])]
    cluster = finding.region.kind is RegionKind.CALCIFICATION
    options: dict[str, Any] = {"finding_sites": sites} if sites else {}
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_id),
        referenced_region=ImageRegion(
            GraphicTypeValues.POLYLINE,
            outline,
            source_image=SourceImageForRegion(header.sop_class_uid, header.sop_instance_uid),
        ),
        finding_type=sct("129769006", "Calcification Cluster")
        if cluster
        else sct("129793001", "Mammography breast density"),
        measurements=measurements,
        qualitative_evaluations=[
            QualitativeEvaluation(
                dcm("111056", "Rendering Intent"),
                dcm("111150", "Presentation Required: Rendering device is expected to present")
                if finding.above_threshold
                else dcm("111152", "Not for Presentation: Rendering device expected not to present"),
            )
        ],
        **options,
    )
