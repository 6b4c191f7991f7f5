"""How fast headers are read: ``python -m tests.benchmarks.headers [--files N]``.

A folder of small files (empty pictures of 1024 x 768 as JPEG 2000, four to a study) is walked and read into a state
file, and what is to be done is counted, as the first pass of a run does. Printed: files a second, the same with all
studies planned (a run plans each when it is worked on), and the ratio to reading the same files one after the other
with ``pydicom.dcmread(stop_before_pixels=True)`` in this process.
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

from mammoscan.core.console import Console
from mammoscan.core.domain import Laterality, View
from mammoscan.run import pipeline
from mammoscan.run.config import RunConfig
from mammoscan.run.ledger import Ledger
from mammoscan.run.planner import Planner
from mammoscan.run.policy import Plain
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


def first_pass(archive: Path, workers: int) -> tuple[tuple[int, int], float, float]:
    """What a run does before it analyses anything, with a new state file.

    Returns
    -------
    tuple
        Images and studies that are to be worked on; how many seconds that took; and how many it takes with the plans of
        all studies.
    """
    with tempfile.TemporaryDirectory() as temporary:
        config = RunConfig(archive=archive, out=Path(temporary), settle_seconds=0, workers=workers)
        console = Console(quiet=True)
        with Ledger(config.out) as ledger, pipeline._workplace(config, console) as workplace:
            began = time.perf_counter()
            run = pipeline.Run(config, console, ledger, Plain(), None, None, 0.0, workplace)
            run._take_stock()
            planner = Planner(run.inventory, ledger, run.policy, run._rules())
            run._choose(planner)
            run._compare_twins(planner)
            found = run._plan(planner)
            seconds = time.perf_counter() - began
            images = [len(planner.study(uid).images) for uid in run.inventory.studies_to_do()]
            if images != [len(VIEWS)] * found[1]:
                raise SystemExit("not every file was planned as a mammogram of its study")
            return found, seconds, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.files % len(VIEWS):
        parser.error(f"--files: {len(VIEWS)} are a study")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_small_files(folder, arguments.files)
        rates, planned = [], []
        for _ in range(arguments.rounds):
            found, seconds, with_plans = first_pass(folder, arguments.workers)
            rates.append(arguments.files / seconds)
            planned.append(arguments.files / with_plans)
            if found != (arguments.files, arguments.files // len(VIEWS)):
                raise SystemExit("not every file was read as a mammogram of its study")
        sample = sorted(folder.rglob("*.dcm"))[:1000]
        began = time.perf_counter()
        for path in sample:
            pydicom.dcmread(path, stop_before_pixels=True)
        alone = len(sample) / (time.perf_counter() - began)
    print(f"{arguments.files} files, {arguments.workers} workers")
    print("files a second, each round (the first starts the processes):", *(f"{r:.0f}" for r in rates))
    print("with the plans of all studies:", *(f"{r:.0f}" for r in planned))
    print(
        f"pydicom.dcmread alone: {alone:.0f} files a second; ratio of the median round {np.median(rates) / alone:.2f}"
    )


if __name__ == "__main__":
    main()
