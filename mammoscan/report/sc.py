"""Secondary Capture (PS3.3 A.8.1) of each image's overlay: a picture for everything that reads nothing else.

Modality is OT, never MG: a reduced picture with marks must not hang among the mammograms as one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.sequence import Sequence

from mammoscan.core.domain import Laterality
from mammoscan.report import figures, objects
from mammoscan.report.sr_common import dcm, to_bytes

if TYPE_CHECKING:
    from mammoscan.core.domain import Prediction, ReportContext, StudyResult


def render(result: StudyResult, context: ReportContext) -> dict[str, bytes]:
    """One file for each image that was analysed, with findings or without."""
    return {
        f"overlay-{number:02d}.dcm": _capture(prediction, number, result, context)
        for number, prediction in enumerate(result.images, 1)
    }


def _capture(prediction: Prediction, number: int, result: StudyResult, context: ReportContext) -> bytes:
    header = prediction.header
    ds = objects.instance(
        "sc", header.sop_instance_uid, result, context,
        description="mammoscan overlay", series=header.laterality.value, side=header.laterality, number=number,
    )  # fmt: skip
    picture = figures.overlay_picture(prediction, context)
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ContentDate, ds.ContentTime = context.created
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = context.created
    ds.PatientOrientation = list(header.patient_orientation) or ""
    if header.laterality is not Laterality.UNKNOWN:
        ds.ImageLaterality = header.laterality.value
        del ds.Laterality  # the two exclude each other (PS3.3 C.7.3.1)
    # What the source's pixels show is on the picture; where the source doesn't say, neither do we.
    burned_in = objects.burned_in(header, result)
    if burned_in is not None:
        ds.BurnedInAnnotation = "YES" if burned_in else "NO"
    ds.DerivationDescription = "Reduced picture with the outlines of findings; not for reading"
    source = objects.reference(header)
    source.PurposeOfReferenceCodeSequence = objects.coded(dcm("121322", "Source image for image processing operation"))
    ds.SourceImageSequence = Sequence([source])
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.LossyImageCompression = "01" if header.lossy else "00"
    content = picture.tobytes()
    ds.add_new("PixelData", "OB", content + b"\0" * (len(content) % 2))
    return to_bytes(ds)
