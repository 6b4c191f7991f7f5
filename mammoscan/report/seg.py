"""Segmentation objects (PS3.3 A.51): the outlines as masks, one object an image, one segment a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence

from mammoscan import NOTICE
from mammoscan.core import uids
from mammoscan.core.domain import RegionKind
from mammoscan.report import objects
from mammoscan.report.sr_common import dcm, sct, to_bytes, version

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import Finding, Header, Prediction, ReportContext, Spacing, StudyResult

CATEGORY = sct("49755003", "Morphologically Altered Structure")
MASS = sct("4147007", "Mass")
CALCIFICATION = sct("129769006", "Calcification Cluster")
_BREAST = sct("76752008", "Breast")
_SEGMENT_NUMBER, _SEGMENT_IDENTIFICATION = 0x0062000B, 0x0062000A
# CIELab (L 0 to 100, a and b -128 to 127) scaled to 16 bits (PS3.3 C.10.7.1.1): red and blue as in the PDF.
_SHOWN, _NOT_SHOWN = (41000, 51000, 45000), (46000, 33000, 22000)


def render(result: StudyResult, context: ReportContext) -> dict[str, bytes]:
    """One file for each image with findings and a known spacing; masks have the source image's rows and columns.

    Without a spacing a mask has no plane: OHIF 3.12 ends at such an object, dcmqi and 3D Slicer refuse it, and a
    made-up spacing would be measured with.
    """
    return {
        f"segmentation-{number:02d}.dcm": _segmentation(prediction, spacing, number, result, context)
        for number, prediction in enumerate(result.images, 1)
        if prediction.findings and (spacing := prediction.header.spacing) is not None
    }


def mask(contour: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.bool_]:
    """The pixels (rows, columns) whose centres lie within an outline (n, 2) in source pixels, by the even-odd rule.

    An outline that holds no pixel centre marks the pixel around its middle, so that no segment is empty.
    """
    first, band = _band(contour, rows, columns)
    out = np.zeros((rows, columns), bool)
    out[first : first + len(band)] = band
    return out


def _band(contour: NDArray[np.float64], rows: int, columns: int) -> tuple[int, NDArray[np.bool_]]:
    """A mask's first row, and its rows (n, columns) from there: masks are small in their images."""
    x0, y0 = contour[:, 0], contour[:, 1]
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    first, last = (int(np.clip(v, 0, rows)) for v in (np.floor(y0.min()), np.ceil(y0.max())))
    left, right = (int(np.clip(v, 0, columns)) for v in (np.floor(x0.min()), np.ceil(x0.max())))
    y = np.arange(first, last)[:, None] + 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        x = x0 + (y - y0) * (x1 - x0) / (y1 - y0)  # where each edge meets the middle of each row
    line, edge = np.nonzero((y0 <= y) != (y1 <= y))
    start = np.clip(np.ceil(x[line, edge] - 0.5), left, right).astype(int) - left
    flips = np.zeros((last - first, right - left + 1), np.uint8)  # only odd or even counts: it may wrap
    np.add.at(flips, (line, start), 1)
    inside = np.cumsum(flips[:, : right - left], axis=1, dtype=np.uint8) % 2 == 1
    if not inside.any():
        column, row = (int(np.clip(v, 0, n - 1)) for v, n in zip(contour.mean(axis=0), (columns, rows), strict=True))
        middle = np.zeros((1, columns), bool)
        middle[0, column] = True
        return row, middle
    out = np.zeros((last - first, columns), bool)
    out[:, left:right] = inside
    return first, out


def _packed(bands: list[tuple[int, NDArray[np.bool_]]], rows: int, columns: int) -> bytes:
    """Masks as frames of one bit a pixel, without gaps between rows and frames (PS3.5 8.1.1), of even length."""
    out = np.zeros(-(-len(bands) * rows * columns // 16) * 2, np.uint8)
    for frame, (first, band) in enumerate(bands):
        byte, bit = divmod((frame * rows + first) * columns, 8)
        bits = np.packbits(np.concatenate([np.zeros(bit, bool), band.ravel()]), bitorder="little")
        out[byte : byte + len(bits)] |= bits
    return out.tobytes()


def _overlap(bands: list[tuple[int, NDArray[np.bool_]]], rows: int, columns: int) -> bool:
    """Whether a pixel lies in several masks."""
    taken = np.zeros((rows, columns), bool)
    for first, band in bands:
        there = taken[first : first + len(band)]
        if (there & band).any():
            return True
        there |= band
    return False


def _segmentation(
    prediction: Prediction, spacing: Spacing, number: int, result: StudyResult, context: ReportContext
) -> bytes:
    header, findings = prediction.header, prediction.findings
    ds = objects.instance(
        # A series an image: one series has one frame of reference (PS3.3 C.7.4.1).
        "seg", header.sop_instance_uid, result, context,
        description=f"{objects.place(header) or f'Image {number}'}: mammoscan outlines", series=header.sop_instance_uid,
    )  # fmt: skip
    ds.SeriesNumber += number
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentDate, ds.ContentTime = context.created
    ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = "FINDINGS", NOTICE[:64], ""
    # Type 2C where the plane has no orientation in the patient: as the source states it.
    ds.PatientOrientation = list(header.patient_orientation) or ""
    bands = [_band(f.region.contour, header.rows, header.columns) for f in findings]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.NumberOfFrames = header.rows, header.columns, len(findings)
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    ds.LossyImageCompression = "00"
    ds.SegmentationType = "BINARY"
    ds.SegmentsOverlap = "YES" if _overlap(bands, header.rows, header.columns) else "NO"
    ds.SegmentSequence = Sequence([_segment(n, f, context) for n, f in enumerate(findings, 1)])
    ds.ReferencedSeriesSequence = objects.references_by_series([header], "ReferencedInstanceSequence")
    organization = uids.of_result(f"seg-dimension-{header.sop_instance_uid}", result, context)
    _dimensions(ds, organization)
    ds.SharedFunctionalGroupsSequence = Sequence([_shared(spacing)])
    ds.PerFrameFunctionalGroupsSequence = Sequence([_frame(n, header) for n in range(1, len(findings) + 1)])
    ds.FrameOfReferenceUID = uids.uid("plane", header.sop_instance_uid)
    ds.PositionReferenceIndicator = ""
    ds.add_new("PixelData", "OB", _packed(bands, header.rows, header.columns))
    return to_bytes(ds)


def _segment(number: int, finding: Finding, context: ReportContext) -> Dataset:
    item = Dataset()
    item.SegmentNumber = number
    kind = "cluster" if finding.region.kind is RegionKind.CALCIFICATION else "mass-like"
    shown = "" if finding.above_threshold else ", below operating point: not for presentation"
    item.SegmentLabel = f"{finding.number} {kind}{shown}"
    item.SegmentDescription = f"malignancy score {finding.scores.malignancy:.3f} (0 to 1), research"
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = "AUTOMATIC", context.model.name
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = objects.coded(dcm("123109", "Artificial Intelligence"))
    algorithm.AlgorithmName, algorithm.AlgorithmVersion = context.model.name, version(context)
    item.SegmentationAlgorithmIdentificationSequence = Sequence([algorithm])
    item.SegmentedPropertyCategoryCodeSequence = objects.coded(CATEGORY)
    cluster = finding.region.kind is RegionKind.CALCIFICATION
    item.SegmentedPropertyTypeCodeSequence = objects.coded(CALCIFICATION if cluster else MASS)
    item.AnatomicRegionSequence = objects.coded(_BREAST)
    item.TrackingID, item.TrackingUID = finding.tracking_id, finding.tracking_uid
    item.RecommendedDisplayCIELabValue = list(_SHOWN if finding.above_threshold else _NOT_SHOWN)
    return item


def _dimensions(ds: Dataset, organization: str) -> None:
    owner = Dataset()
    owner.DimensionOrganizationUID = organization
    ds.DimensionOrganizationSequence = Sequence([owner])
    index = Dataset()
    index.DimensionOrganizationUID = organization
    index.DimensionIndexPointer, index.FunctionalGroupPointer = _SEGMENT_NUMBER, _SEGMENT_IDENTIFICATION
    index.DimensionDescriptionLabel = "Segment Number"
    ds.DimensionIndexSequence = Sequence([index])


def _shared(spacing: Spacing) -> Dataset:
    """The plane of the masks.

    It lies in a frame of reference of its own (a projection has no place in the patient), with its first pixel at
    the origin and its axes along rows and columns: readers of volumes need one to read anything at all.
    """
    group, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [f"{v:.8g}" for v in (spacing.row_mm, spacing.column_mm)]
    measures.SliceThickness = "1"  # of a projection: formal, required beside a volumetric plane
    measures.SpacingBetweenSlices = "1"
    orientation.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    group.PixelMeasuresSequence = Sequence([measures])
    group.PlaneOrientationSequence = Sequence([orientation])
    return group


def _frame(number: int, header: Header) -> Dataset:
    group, content, identification, derivation, position = (Dataset() for _ in range(5))
    content.DimensionIndexValues = number
    identification.ReferencedSegmentNumber = number
    source = objects.reference(header)
    source.PurposeOfReferenceCodeSequence = objects.coded(dcm("121322", "Source image for image processing operation"))
    source.SpatialLocationsPreserved = "YES"
    derivation.SourceImageSequence = Sequence([source])
    derivation.DerivationCodeSequence = objects.coded(dcm("113076", "Segmentation"))
    group.DerivationImageSequence = Sequence([derivation])
    group.FrameContentSequence = Sequence([content])
    group.SegmentIdentificationSequence = Sequence([identification])
    position.ImagePositionPatient = ["0", "0", "0"]
    group.PlanePositionSequence = Sequence([position])
    return group
