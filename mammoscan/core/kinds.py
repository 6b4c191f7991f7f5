"""The kinds of DICOM objects that a run can write, and who reads which. Data only: nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of result object, as the manual and the conformance statement list it.

    file: name below the study's folder; ``NN`` stands for the image's number, ``S`` for the side.
    series_number: of the first series of this kind.
    """

    name: str
    title: str
    file: str
    sop_class_uid: str
    sop_class: str
    modality: str
    series_number: int
    by_default: bool
    readers: str
    reason: str


KINDS = (
    Kind(
        "cad-sr",
        "Mammography CAD SR (TID 4000)",
        "mammography-cad-sr.dcm",
        "1.2.840.10008.5.1.4.1.1.88.50",
        "Mammography CAD SR Storage",
        "SR",
        9101,
        True,
        "mammography workstations",
        "the only CAD object that they draw marks from; obeys their switch for CAD marks",
    ),
    Kind(
        "tid1500",
        "TID 1500 Measurement Report, one an image with marks and one of the outcome (`sr`)",
        "tid1500-NN.dcm",
        "1.2.840.10008.5.1.4.1.1.88.34",
        "Comprehensive 3D SR Storage",
        "SR",
        9140,
        True,
        "IHE AI Results displays, OHIF, 3D Slicer, dcmqi",
        "outlines with scores for software; OHIF reads no other report, and steps through the marks of one image only",
    ),
    Kind(
        "tid1500-below",
        "TID 1500 of what is below the operating point, one an image",
        "not-for-presentation-NN.dcm",
        "1.2.840.10008.5.1.4.1.1.88.34",
        "Comprehensive 3D SR Storage",
        "SR",
        9150,
        False,
        "research software",
        "the same for findings that are not for presentation; off, since viewers draw them like any other",
    ),
    Kind(
        "pdf",
        "Encapsulated PDF",
        "report-pdf.dcm",
        "1.2.840.10008.5.1.4.1.1.104.1",
        "Encapsulated PDF Storage",
        "DOC",
        9103,
        True,
        "nearly every PACS",
        "the report for people, where nothing else is understood",
    ),
    Kind(
        "gsps",
        "Grayscale Softcopy Presentation State, one a side",
        "presentation-state-S.dcm",
        "1.2.840.10008.5.1.4.1.1.11.1",
        "Grayscale Softcopy Presentation State Storage",
        "PR",
        9110,
        False,
        "many PACS viewers",
        "marks over the original image; off, since workstations that read the CAD SR would show each mark twice",
    ),
    Kind(
        "seg",
        "Segmentation, one an image with findings and a known spacing",
        "segmentation-NN.dcm",
        "1.2.840.10008.5.1.4.1.1.66.4",
        "Segmentation Storage",
        "SEG",
        9120,
        False,
        "3D Slicer, OHIF, research software",
        "masks at full resolution; off, since each finding costs a bit for every pixel of its image",
    ),
    Kind(
        "sc",
        "Secondary Capture of the overlay, one an image",
        "overlay-NN.dcm",
        "1.2.840.10008.5.1.4.1.1.7",
        "Secondary Capture Image Storage",
        "OT",
        9130,
        False,
        "everything that shows pictures",
        "the last resort; off, since it is a reduced picture that must not be read from, in every hanging protocol",
    ),
)
NAMES = tuple(kind.name for kind in KINDS)
DEFAULT = tuple(kind.name for kind in KINDS if kind.by_default)
REVIEW = "review"  # the study on the review page: no DICOM object, and no choice of ``--write``
BY_NAME = {kind.name: kind for kind in KINDS}
