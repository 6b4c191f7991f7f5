"""The PDF report as an Encapsulated PDF object (PS3.3 A.45.1), which nearly every PACS stores and shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.sequence import Sequence

from mammoscan.report import objects
from mammoscan.report.sr_common import headers_of, to_bytes

if TYPE_CHECKING:
    from mammoscan.core.domain import ReportContext, StudyResult


def render(result: StudyResult, context: ReportContext, report: bytes) -> dict[str, bytes]:
    """One file a study around the PDF's bytes."""
    ds = objects.instance("pdf", "document", result, context, description="mammoscan report")
    ds.ContentDate, ds.ContentTime = context.created
    ds.ConversionType = "WSD"
    ds.AcquisitionDateTime = ""  # Type 2; a study has no single one
    # Pictures of the source are embedded: whether those show burned-in identities is as known as of the sources.
    stated = {objects.burned_in(h, result) for h in headers_of(result)}
    nameless = result.deidentified or not (result.patient.name or result.patient.patient_id)
    ds.BurnedInAnnotation = "YES"  # header facts of the patient stand on every page
    if stated == {False} and nameless:
        ds.BurnedInAnnotation = "NO"
    ds.DocumentTitle = "Mammography analysis (research, second reading)"
    ds.ConceptNameCodeSequence = Sequence([])  # Type 2: no standard title says "result of an algorithm"
    ds.SourceInstanceSequence = Sequence([objects.reference(h) for h in headers_of(result)])
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(report)
    ds.add_new("EncapsulatedDocument", "OB", report + b"\0" * (len(report) % 2))
    return {"report-pdf.dcm": to_bytes(ds)}
