"""Studies of real source files: written, read back through the header stage, given findings."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from mammoscan.archive.header import read_header
from mammoscan.core import kinds
from mammoscan.core.domain import Header, Preview, RegionKind, SourceFile
from mammoscan.synthetic.dicom import Shown, Subject, file_bytes, mammogram_dataset
from tests.report import results

ROWS, COLUMNS = 640, 512
SUBJECT = Subject("SRC-1", "Source^Sara", birth_date="19600229", age="065Y", accession="SRC-A1")
SHOWN = Shown(window=((2048, 4096),), function="LINEAR")


def write_study(folder, change=None, *, views=results.VIEWS, subject=SUBJECT, shown=SHOWN):
    """Files of a study below ``folder``; ``change`` edits each data set first. Returns their headers."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = []
    pixels = np.tile(np.linspace(0, (1 << shown.bits) - 1, COLUMNS).astype("u2"), (ROWS, 1))
    for number, (side, view) in enumerate(views, 1):
        ds = mammogram_dataset(
            pixels, laterality=side, view=view, subject=subject, shown=shown, spacing_mm=0.1, instance=number,
            series=number,
        )  # fmt: skip
        if change is not None:
            change(ds)
        path = folder / f"{number}.dcm"
        path.write_bytes(file_bytes(ds))
        headers.append(read(path))
    return headers


def read(path) -> Header:
    """The header of a file, as a run reads it."""
    status = path.stat()
    file = SourceFile(path, path.name, status.st_size, status.st_mtime_ns)
    header = read_header(file, include=results.INCLUDE, settle_seconds=0, now=time.time())
    assert isinstance(header, Header), header
    return header


def with_findings(headers):
    """A result with findings above and below the operating point, masses and clusters, and an image without."""
    predictions = []
    for n, h in enumerate(headers):
        found = (
            [] if n == 2 else [results.finding(h, 1, 0.8, x=150.5, y=200.25), results.finding(h, 2, 0.1, x=300, y=400)]
        )
        if n == 1:
            found[0] = results.finding(h, 1, 0.7, x=150.5, y=200.25, kind=RegionKind.CALCIFICATION)
        picture = np.tile(np.linspace(0, 200, h.columns, dtype=np.uint8), (h.rows, 1))
        preview = Preview(picture, np.zeros(picture.shape, bool), 1.0)
        predictions.append(dataclasses.replace(results.prediction(h, found), preview=preview))
    first = headers[0]
    return dataclasses.replace(results.study(predictions, patient=first.patient, facts=first.study), age=first.age)


def write_objects(result, folder, write=kinds.NAMES):
    """Every DICOM object of a study as a file below ``folder``, by name."""
    from mammoscan.run.publish import rendered

    folder.mkdir(parents=True, exist_ok=True)
    out = {}
    for name, content in rendered(result, results.CONTEXT, write).items():
        path = folder / name
        path.write_bytes(content)
        if path.suffix == ".dcm":
            out[name] = path
    return out
