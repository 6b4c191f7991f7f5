"""What takes the place of pixels, network and reports where the driver alone is measured; called in worker processes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import time
from pathlib import Path

import numpy as np

from mammoscan.core import store
from mammoscan.core.domain import Laterality, Scored, View
from mammoscan.report.tables import rows_of_study
from mammoscan.run import publish, tablerows
from mammoscan.run.inventory import Facts
from mammoscan.run.ledger import Output
from mammoscan.run.tasks import Worked
from tests.report import results

SECONDS = float(os.environ.get("STUB_SECONDS", "0"))  # that an image's analysis takes
VIEWS = tuple((side, view) for side in (Laterality.LEFT, Laterality.RIGHT) for view in (View.CC, View.MLO))
KINDS = (("mammography-cad-sr.dcm", "1.2.840.10008.5.1.4.1.1.88.50"), ("tid1500-sr.dcm", "1.2.840.10008.5.1.4.1.1.88.34"),
         ("report-pdf.dcm", "1.2.840.10008.5.1.4.1.1.104.1"), ("report.pdf", ""))  # fmt: skip


def uid(*parts):
    return f"2.25.{int.from_bytes(hashlib.sha256('/'.join(parts).encode()).digest()[:16], 'big')}"


def header(file):
    """The header of a file, as its place says: study and view."""
    path = Path(file.relative)
    side, view = VIEWS[int(path.stem[-1]) % 4]
    study = uid(str(path.parent))
    made = results.header(side, view)
    patient = dataclasses.replace(made.patient, patient_id=f"P{study[5:17]}", name=f"Demo^{study[5:12]}")
    return dataclasses.replace(
        made, file=file, patient=patient, study=dataclasses.replace(made.study, study_instance_uid=study),
        sop_instance_uid=uid(file.relative), series_instance_uid=uid(str(path.parent), path.stem),
    )  # fmt: skip


def read_headers(files, root, settle_seconds):
    return [Facts.of(header(file), root) for file in files]


@functools.cache
def _contour(number):
    """An outline of 120 points on the lattice of the working scale, as the segmentation draws them."""
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    random = np.random.default_rng(number)
    radius = random.uniform(15, 40) * (1 + 0.2 * np.sin(angles * 3 + random.uniform(0, 6)))
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None] + random.uniform(80, 400, 2)
    return np.round(points) * 2.857142857


def analyse_file(written, settings, picture):
    if SECONDS:
        time.sleep(SECONDS)
    seed = int(written.sop_instance_uid[-9:])
    random = np.random.default_rng(seed)
    findings = []
    for number in (1, 2, 3):
        found = results.finding(written, number, float(random.random()))
        region = dataclasses.replace(found.region, contour=_contour((seed + number) % 5000))
        features = random.normal(size=len(found.features)) * 10
        heat = random.random((10, 10)).astype(np.float32)
        findings.append(
            dataclasses.replace(
                found, region=region, features=features, heat=heat, tracking_uid=uid(written.sop_instance_uid, str(number)),
                tracking_id=f"{written.laterality.value}{written.view.value}-{number}-{seed}",
            )
        )  # fmt: skip
    made = results.prediction(written, tuple(findings))
    fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(Scored)}
    return Worked(Scored(**fields), hashlib.sha256(written.sop_instance_uid.encode()).digest())


def attempt(job):
    """The tables' rows and the files of a study, without what is in them."""
    began = time.perf_counter()
    result = publish.result_of(
        dataclasses.replace(job, images=tuple(dataclasses.replace(i, source=None) for i in job.images))
    )
    below = store.study_folder(result.study.study_instance_uid)
    (job.out / below).mkdir(parents=True, exist_ok=True)
    outputs = []
    for name, sop_class in KINDS:
        content = f"{name} {job.context.created}".encode()
        (job.out / below / name).write_bytes(content)
        uids = (sop_class, uid(below, name), uid(below)) if sop_class else ()
        outputs.append(Output(f"{below}/{name}", hashlib.sha256(content).hexdigest(), *uids))
    rows = tablerows.packed(rows_of_study(result, job.context, below))
    return publish.Published(tuple(outputs), rows, 3, job.context.created, time.perf_counter() - began)


def image_task(image, settings, picture):
    return analyse_file, (image.written, settings, picture)


def analyse_and_score(image, settings, picture, model):
    return analyse_file(image.written, settings, picture)
