"""A benchmark archive: studies of four full-size views, JPEG Lossless and JPEG 2000 in turn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

from mammoscan.core.domain import Density, Laterality, RegionKind, View
from mammoscan.synthetic.dicom import Shown, Subject, file_bytes, mammogram_dataset, uid
from mammoscan.synthetic.phantom import Lesion, Spec, render

ROWS, COLUMNS = 4096, 3328  # 0.06 mm pixels
VIEWS = (
    (Laterality.LEFT, View.CC),
    (Laterality.RIGHT, View.CC),
    (Laterality.LEFT, View.MLO),
    (Laterality.RIGHT, View.MLO),
)
LESIONS = (
    Lesion(RegionKind.MASS, malignant=True, radius_mm=6.0),
    Lesion(RegionKind.CALCIFICATION, malignant=True, radius_mm=6.0),
)


def write_benchmark_archive(out: Path, studies: int, seed: int) -> tuple[Path, ...]:
    """Write ``studies`` studies of four 4096 x 3328 12-bit views below ``out``.

    Eight pictures are drawn (at a quarter of the size) and encoded, four in each syntax, each with
    its own grain at full size; later studies repeat them under identifiers of their own.

    Returns
    -------
    tuple
        The paths written.
    """
    encoded = {}
    for number, syntax in enumerate((JPEGLosslessSV1, JPEG2000Lossless)[: max(1, min(2, studies))]):
        density = (Density.B, Density.C)[number]
        for view_number, (side, view) in enumerate(VIEWS):
            spec = Spec(side, view, density, LESIONS[number:][:1], ROWS // 4, COLUMNS // 4, patient=seed + number)
            small, _ = render(spec, seed * 100 + number * 4 + view_number)
            pixels = _full_size(small, np.random.default_rng([seed, number, view_number]))
            encoded[number, view_number] = mammogram_dataset(
                pixels,
                laterality=side,
                view=view,
                subject=Subject("BENCH"),
                shown=Shown(window=((2048, 4096),)),
                spacing_mm=243.0 / ROWS,
                transfer_syntax=syntax,
                instance=view_number + 1,
                series=view_number + 1,
            )
    paths = []
    for study in range(studies):
        subject = Subject(f"BENCH-{study:05d}", "Demo^Benchmark", age="060Y", study_key=str(study))
        for view_number in range(len(VIEWS)):
            ds = encoded[study % 2, view_number]
            ds.PatientID, ds.PatientName, ds.PatientAge = subject.patient_id, subject.name, subject.age
            ds.StudyInstanceUID, ds.StudyID = subject.study_uid, subject.study_key
            ds.SeriesInstanceUID = uid("series", subject.study_uid, str(view_number))
            ds.SOPInstanceUID = uid("instance", ds.SeriesInstanceUID, "1")
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            path = Path(out) / f"study-{study:05d}" / f"{view_number}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file_bytes(ds))
            paths.append(path)
    return tuple(paths)


def _full_size(small: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture enlarged, with grain at the full size; the air around the breast stays quiet."""
    large = cv2.resize(small.astype(np.float32), (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)
    grain = rng.standard_normal((ROWS, COLUMNS), dtype=np.float32)
    large += grain * (2.0 + 14.0 * np.sqrt(np.clip(large, 0, None) / 4095.0))
    return np.clip(np.rint(large), 0, 4095).astype(np.uint16)
