"""What segmentations, presentation states, captures and encapsulated documents share: everything but their content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.sequence import Sequence

from mammoscan.core import uids
from mammoscan.core.domain import Laterality
from mammoscan.core.kinds import BY_NAME
from mammoscan.report.sr_common import equipment_attributes, study_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom.sr.coding import Code

    from mammoscan.core.domain import Header, ReportContext, StudyResult

_SIDES = (Laterality.LEFT, Laterality.RIGHT, Laterality.BOTH, Laterality.UNKNOWN)


def instance(
    kind: str,
    part: str,
    result: StudyResult,
    context: ReportContext,
    *,
    description: str,
    series: str = "",
    side: Laterality | None = None,
    number: int = 1,
) -> Dataset:
    """A data set with patient, study, series, equipment and SOP common modules.

    Parameters
    ----------
    kind
        Name of the kind (``kinds.KINDS``); ``part`` tells its objects of one study apart, ``series`` its series.
    side
        Laterality (0020,0060) of a series that shows one side, Type 2C; None where it must not be given.
    """
    known = BY_NAME[kind]
    ds = Dataset()
    study_attributes(ds, result)
    equipment_attributes(ds, context)
    ds.SOPClassUID = known.sop_class_uid
    ds.SOPInstanceUID = uids.of_result(f"{kind}-{part}", result, context)
    ds.Modality = known.modality
    ds.SeriesInstanceUID = uids.of_result(f"{kind}-series-{series}", result, context)
    ds.SeriesNumber = known.series_number + (0 if side is None else _SIDES.index(side))
    if side is not None:
        # PS3.3 C.7.3.1: L or R, empty where it is unknown or both.
        ds.Laterality = side.value if side in {Laterality.LEFT, Laterality.RIGHT} else ""
    ds.SeriesDescription = f"{description} (research, second reading)"
    ds.InstanceNumber = number
    ds.InstanceCreationDate, ds.InstanceCreationTime = context.created
    return ds


def place(header: Header) -> str:
    """Side and view as they are abbreviated; '' where neither is known. Lists of series cut off what is long: it
    comes first in descriptions.
    """
    return " ".join(v for v in (header.laterality.value, header.view.value) if v != "unknown")


def coded(value: Code) -> Sequence:
    """A code sequence of one code."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value.value, value.scheme_designator, value.meaning
    return Sequence([item])


def reference(header: Header) -> Dataset:
    """A reference to a source image."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.sop_class_uid, header.sop_instance_uid
    return item


def references_by_series(headers: Iterable[Header], keyword: str) -> Sequence:
    """Items with SeriesInstanceUID and, under ``keyword``, the references of the series' images."""
    series: dict[str, list[Dataset]] = {}
    for header in headers:
        series.setdefault(header.series_instance_uid, []).append(reference(header))
    out = Sequence()
    for uid, references in series.items():
        item = Dataset()
        item.SeriesInstanceUID = uid
        setattr(item, keyword, Sequence(references))
        out.append(item)
    return out


def burned_in(header: Header, result: StudyResult) -> bool | None:
    """Whether a picture of an image shows what was burned into it; None where the image doesn't say.

    With pseudonyms the picture of an image that says so is black (``analyse.only_breast``).
    """
    return False if result.deidentified and header.burned_in else header.burned_in
