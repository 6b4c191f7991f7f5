"""Lesions as the truth gives them, and when a mark hits one. Source image pixels throughout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from mammoscan.core.errors import LabelError

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
# A mark much larger than the lesion says nothing about where it is, though it may cover it.
LARGEST_RATIO = 4.0


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion of an image.

    centre: (x, y). radius: pixels, of the circle, else None. box: (x0, y0, x1, y1), of a box or
    around a mask or circle. mask: bool over the box's pixels, or None. area: square pixels.
    """

    centre: tuple[float, float]
    box: tuple[float, float, float, float]
    area: float
    radius: float | None = None
    mask: NDArray[np.bool_] | None = None

    def contains(self, x: float, y: float) -> bool:
        """Whether a point, (x, y) in source pixels, lies in the lesion."""
        x0, y0, x1, y1 = self.box
        if not (x0 <= x <= x1 and y0 <= y <= y1):
            return False
        if self.radius is not None:
            return (x - self.centre[0]) ** 2 + (y - self.centre[1]) ** 2 <= self.radius**2
        if self.mask is not None:
            row, column = min(int(y - y0), self.mask.shape[0] - 1), min(int(x - x0), self.mask.shape[1] - 1)
            return bool(self.mask[row, column])
        return True


@dataclass(frozen=True, slots=True)
class Mark:
    """A finding: number within its study, centre (x, y), box (x0, y0, x1, y1), area, score 0 to 1."""

    number: str
    centre: tuple[float, float]
    box: tuple[float, float, float, float] | None
    area: float | None
    score: float
    kind: str = ""


def circle(x: float, y: float, radius: float) -> Lesion:
    """A lesion given as centre and radius in pixels (> 0)."""
    return Lesion((x, y), (x - radius, y - radius, x + radius, y + radius), float(np.pi * radius**2), radius=radius)


def box(x0: float, y0: float, x1: float, y1: float) -> Lesion:
    """A lesion given as a box in pixels, x0 < x1 and y0 < y1."""
    return Lesion(((x0 + x1) / 2, (y0 + y1) / 2), (x0, y0, x1, y1), (x1 - x0) * (y1 - y0))


def from_mask(mask: NDArray[np.bool_]) -> Lesion:
    """A lesion given as a mask (rows, columns) over the whole source image, not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    inside = mask[y0:y1, x0:x1].copy()
    y, x = np.nonzero(inside)
    centre = (float(x.mean()) + x0 + 0.5, float(y.mean()) + y0 + 0.5)
    return Lesion(centre, (float(x0), float(y0), float(x1), float(y1)), float(inside.sum()), mask=inside)


def hits(mark: Mark, lesion: Lesion) -> bool:
    """Whether a mark finds a lesion.

    Its centre lies in the lesion, or the lesion's centre lies in its box and its area is under
    four times the lesion's.
    """
    if lesion.contains(*mark.centre):
        return True
    if mark.box is None:
        return False
    x0, y0, x1, y1 = mark.box
    area = mark.area if mark.area is not None else (x1 - x0) * (y1 - y0)
    x, y = lesion.centre
    return x0 <= x <= x1 and y0 <= y <= y1 and area < LARGEST_RATIO * lesion.area


def from_seg(path: Path) -> dict[str, tuple[Lesion, ...]]:
    """Lesions of a DICOM SEG by the SOPInstanceUID of the image they lie on (PS3.3 C.8.20).

    Each segment of an image is one lesion; fractional values count from one half up.

    Raises
    ------
    LabelError
        Where the file is no readable SEG, or does not say which image a frame belongs to.
    """
    try:
        data = pydicom.dcmread(path)
        kind, frames = str(data.SOPClassUID), data.pixel_array
    except Exception as error:  # pydicom raises many kinds for broken files; all mean the same here
        raise LabelError(f"the segmentation cannot be read: {error}", path=path) from error
    if kind != SEGMENTATION:
        raise LabelError("not a DICOM segmentation", path=path, remedy="give a SEG object in the seg column")
    if frames.ndim == 2:
        frames = frames[None]
    half = int(getattr(data, "MaximumFractionalValue", 1)) / 2
    shared = data.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    masks: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        uid = _source_of(group) or _source_of(shared[0])
        if uid is None:
            raise LabelError("a frame of the segmentation names no source image", path=path)
        key = uid, _segment_of(group) or _segment_of(shared[0])
        masks[key] = masks.get(key, np.zeros(frame.shape, dtype=bool)) | (frame >= max(half, 0.5))
    out: dict[str, tuple[Lesion, ...]] = {}
    for (uid, _), mask in sorted(masks.items()):
        if mask.any():
            out[uid] = (*out.get(uid, ()), from_mask(mask))
    return out


def _source_of(group: pydicom.Dataset) -> str | None:
    for derivation in group.get("DerivationImageSequence", ()):
        for source in derivation.get("SourceImageSequence", ()):
            return str(source.ReferencedSOPInstanceUID)
    return None


def _segment_of(group: pydicom.Dataset) -> int:
    for identification in group.get("SegmentIdentificationSequence", ()):
        return int(identification.ReferencedSegmentNumber)
    return 0
