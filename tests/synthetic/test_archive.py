"""The demo archive and the phantoms behind it."""

import csv
import hashlib
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mammoscan.core.domain import Density, Laterality, RegionKind, View
from mammoscan.synthetic import archive, jpeg_lossless, phantom
from mammoscan.synthetic.dicom import FOR_PRESENTATION, file_bytes

SMALL = (300, 240)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("small-demo")
    archive.write_demo(out, size=SMALL)
    return out


def _digests(folder: Path):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def _rows(folder):
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_two_writes_give_the_same_bytes(written, tmp_path):
    archive.write_demo(tmp_path, size=SMALL)
    assert _digests(tmp_path) == _digests(written)


def test_another_seed_gives_other_pixels():
    spec = phantom.Spec(Laterality.LEFT, View.CC, Density.B, height=300, width=240)
    assert not np.array_equal(phantom.render(spec, 1)[0], phantom.render(spec, 2)[0])


def test_the_labels_name_files_that_hold_those_instances(written):
    for row in _rows(written):
        ds = pydicom.dcmread(written / "archive" / row["path"])
        assert ds.SOPInstanceUID == row["sop_instance_uid"]
        assert ds.ImageLaterality == row["laterality"]
        if row["x"]:
            assert 0 < float(row["x"]) < ds.Columns
            assert 0 < float(row["y"]) < ds.Rows


def test_every_label_and_kind_occurs(written):
    assert {r["label"] for r in _rows(written)} == {"normal", "benign", "malignant"}
    assert {r["kind"] for r in _rows(written)} == {"", "mass", "calcification"}
    assert {r["density"] for r in _rows(written)} == set("abcd")


@pytest.mark.outside
def test_the_mammograms_are_valid_dicom(written):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    checked = 0
    for row in _rows(written):
        path = written / "archive" / row["path"]
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        if ds.SOPClassUID != FOR_PRESENTATION or ds.file_meta.TransferSyntaxUID.is_deflated:
            continue  # dciodvfy reads no deflated files
        done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, check=False)
        assert b"Error" not in done.stderr, done.stderr[:500]
        checked += 1
    assert checked > 15


def test_lesions_are_brighter_than_without_them():
    lesion = phantom.Lesion(RegionKind.MASS, malignant=True, radius_mm=7)
    spec = phantom.Spec(Laterality.RIGHT, View.MLO, Density.B, (lesion,), height=450, width=360)
    image, truth = phantom.render(spec, 3)
    (placed,) = truth.lesions
    y, x = np.mgrid[: spec.height, : spec.width] + 0.5
    away = np.hypot(x - placed.x, y - placed.y)
    core = image[away < placed.radius * 0.6].mean()
    around = image[(away > 2.6 * placed.radius) & (away < 3.2 * placed.radius) & truth.breast & ~truth.pectoral].mean()
    assert core > around + 150


def test_the_chest_wall_is_on_the_side_of_the_laterality():
    for side, columns in ((Laterality.LEFT, slice(0, 20)), (Laterality.RIGHT, slice(-20, None))):
        _, truth = phantom.render(phantom.Spec(side, View.CC, Density.B, height=300, width=240), 1)
        assert truth.breast[150, columns].all()


def test_denser_classes_are_brighter():
    means = []
    for density in (Density.A, Density.B, Density.C, Density.D):
        image, truth = phantom.render(phantom.Spec(Laterality.LEFT, View.CC, density, height=300, width=240), 1)
        means.append(image[truth.breast].mean())
    assert means == sorted(means)


@pytest.mark.parametrize("bits", [2, 8, 12, 16])
def test_jpeg_lossless_round_trips_bit_exactly(bits):
    libjpeg = pytest.importorskip("libjpeg")
    values = np.random.default_rng(bits).integers(0, 1 << bits, (37, 53))
    assert np.array_equal(libjpeg.decode(jpeg_lossless.encode(values, bits)), values)


def test_values_beyond_the_precision_are_refused():
    with pytest.raises(ValueError, match="precision"):
        jpeg_lossless.encode(np.full((4, 4), 4096), 12)


def test_one_study_can_be_written_alone():
    plan = archive.PLANS[0]
    images = archive.study_images(plan, seed=5, size=SMALL)
    assert images[0][0] == "northwind/study-1/L-CC.dcm"
    assert pydicom.dcmread(io.BytesIO(file_bytes(images[0][1]))).PatientID == plan.subject.patient_id
