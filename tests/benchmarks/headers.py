"""How fast headers are read: ``python -m tests.benchmarks.headers [--files N]``.

A folder of small files (empty pictures of 1024 x 768 as JPEG 2000, four to a study) is walked, read and grouped into
studies, as the first pass of a run does. Printed: files a second, and the ratio to reading the same
files one after the other with ``pydicom.dcmread(stop_before_pixels=True)`` in this process.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import JPEG2000Lossless

from mammoscan.archive import discover
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Header, Laterality, View
from mammoscan.run.plan import plan_studies
from mammoscan.synthetic.dicom import Subject, file_bytes, mammogram_dataset, uid

VIEWS = tuple((side, view) for side in (Laterality.LEFT, Laterality.RIGHT) for view in (View.CC, View.MLO))


def write_small_files(folder: Path, count: int) -> None:
    """Write ``count`` empty pictures, four to a study, a folder each; JPEG 2000 makes them small."""
    pixels = np.zeros((1024, 768), np.uint16)
    made = [
        mammogram_dataset(
            pixels,
            laterality=side,
            view=view,
            subject=Subject("BENCH"),
            transfer_syntax=JPEG2000Lossless,
            instance=number,
        )
        for number, (side, view) in enumerate(VIEWS, 1)
    ]
    for index in range(count):
        study, view = divmod(index, len(VIEWS))
        subject, ds = Subject(f"BENCH-{study:05d}", study_key=str(study)), made[view]
        ds.PatientID, ds.StudyInstanceUID = subject.patient_id, subject.study_uid
        ds.SeriesInstanceUID = uid("series", subject.study_uid, str(view))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("instance", ds.SeriesInstanceUID, "1")
        path = folder / f"study-{study:05d}" / f"{view}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file_bytes(ds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_small_files(folder, arguments.files)
        include = AnalysisConfig().include
        rates = []
        for _ in range(arguments.rounds):
            began = time.perf_counter()
            found = discover.walk(folder, out=None)
            headers = list(discover.read_headers(found, include=include, settle_seconds=0, workers=arguments.workers))
            plans, _ = plan_studies(headers)
            rates.append(arguments.files / (time.perf_counter() - began))
            if not all(isinstance(h, Header) for h in headers) or len(plans) != -(-arguments.files // len(VIEWS)):
                raise SystemExit("not every file was read as a mammogram of its study")
        sample = sorted(folder.rglob("*.dcm"))[:1000]
        began = time.perf_counter()
        for path in sample:
            pydicom.dcmread(path, stop_before_pixels=True)
        alone = len(sample) / (time.perf_counter() - began)
    print(f"{arguments.files} files, {arguments.workers} workers")
    print("files a second, each round (the first starts the processes):", *(f"{r:.0f}" for r in rates))
    print(
        f"pydicom.dcmread alone: {alone:.0f} files a second; ratio of the median round {np.median(rates) / alone:.2f}"
    )


if __name__ == "__main__":
    main()
