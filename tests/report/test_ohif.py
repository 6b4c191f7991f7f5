"""What a reader sees of the results in OHIF: outlines where findings.csv has them, and no page that breaks."""

import csv
import dataclasses
import re

import numpy as np
import pydicom
import pytest
import requests
from pydicom.uid import ExplicitVRLittleEndian

from mammoscan.core import kinds, store
from mammoscan.synthetic.archive import PLANS, SEED, study_images
from mammoscan.synthetic.dicom import file_bytes
from tests import small
from tests.report import ohif
from tests.review import browser
from tests.send.peers import ORTHANC, Orthanc

pytestmark = [
    pytest.mark.slow,
    ORTHANC,
    pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING),
]
DIGITAL, NORMAL, FILM = "northwind/study-1", "deep/er/and/deeper", "film"  # four series each; a film without spacing
NEAR = 1.5  # pixels of the page: how near a drawn point must be


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run over three studies: its folder, rows of findings by study, files of archive and results by study."""
    root = tmp_path_factory.mktemp("ohif")
    ohif.program()  # skips before anything is analysed
    studies, files = {}, {}
    for number, plan in enumerate(PLANS):
        if plan.folder in {DIGITAL, NORMAL, FILM}:
            # Orthanc 1.10 serves no frames of deflated files.
            plain = dataclasses.replace(plan, syntax=ExplicitVRLittleEndian)
            for relative, ds, _ in study_images(plain, seed=SEED + number):
                path = root / "archive" / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file_bytes(ds))
                studies[plan.folder] = str(ds.StudyInstanceUID)
                files.setdefault(plan.folder, []).append(path)
    out = root / "out"
    small.run(root / "archive", out, write=kinds.NAMES, review=False)
    with (out / "findings.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for name, uid in studies.items():
        files[name] += sorted((out / store.study_folder(uid)).glob("*.dcm"))
    return studies, {name: [r for r in rows if r["study_instance_uid"] == uid] for name, uid in studies.items()}, files


@pytest.fixture(scope="module")
def viewer(made, tmp_path_factory):
    _, _, files = made
    folder = tmp_path_factory.mktemp("viewer")
    with Orthanc(folder / "orthanc") as orthanc:
        for path in (p for paths in files.values() for p in paths):
            requests.post(f"{orthanc.root}/instances", data=path.read_bytes(), timeout=60).raise_for_status()
        opened = ohif.Viewer(orthanc, folder)
        print(f"screenshots: {folder}")
        yield opened
        opened.close()


def _contour(row):
    return np.array([[float(v) for v in point.split()] for point in re.split(r"[;,]\s*", row["contour"])])


def _shown(rows):
    return [row for row in rows if row["above_threshold"] == "yes"]


def _on_page(points, drawn, rows, columns):
    """Where pixels of an image lie on the page: it fills the viewport, in the middle (nothing asked of the viewer)."""
    scale = min(drawn["width"] / columns, drawn["height"] / rows)
    corner = np.array([drawn["width"] - columns * scale, drawn["height"] - rows * scale]) / 2
    return corner + np.asarray(points) * scale


@pytest.mark.parametrize("name", [DIGITAL, FILM])
def test_every_mark_is_reached_by_the_arrows_and_drawn_where_the_table_has_it(made, viewer, name):
    studies, findings, files = made
    size = {}
    for path in files[name]:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        size[str(ds.SOPInstanceUID)] = (ds.get("Rows"), ds.get("Columns"))
    expected = {}
    for row in _shown(findings[name]):
        expected.setdefault(row["sop_instance_uid"], []).append(row)
    assert len(expected) >= 2, "marks in several series, or there is nothing to step through"
    assert len(_shown(findings[name])) < len(findings[name]), "and some below the operating point"
    viewer.open(studies[name])
    reports = [s for s in viewer.series() if "mammoscan findings" in s]
    assert len(reports) == len(expected)
    seen = set()
    for report in reports:
        viewer.show(report)
        viewer.picture()
        drawn = viewer.drawn()
        rows = expected[drawn["image"]]
        assert report.startswith(f"{rows[0]['laterality']} {rows[0]['view']}: ")
        for _ in rows:
            drawn = viewer.drawn()
            assert rows is expected[drawn["image"]]
            assert len(drawn["page"]) == len(rows)
            for row in rows:
                contour = _contour(row)
                contour = np.vstack([contour, contour[:1]])
                on_page = _on_page(contour, drawn, *size[drawn["image"]])
                found = [
                    n
                    for n, (page, pixels) in enumerate(zip(drawn["page"], drawn["pixels"], strict=True))
                    if len(page) == len(contour)
                    and np.abs(np.array(page) - on_page).max() < NEAR
                    and np.abs(np.array(pixels) - contour).max() < NEAR
                ]
                assert len(found) == 1, row["tracking_id"]
                seen.add(row["tracking_uid"])
            assert sorted(c[0] for c in drawn["captions"]) == sorted(
                f"Malignancy score: {float(row['malignancy']):.2f} {{0:1}}" for row in rows
            )
            assert "robability" not in str(drawn["captions"])
            viewer.arrow()
        viewer.arrow(forward=False)
        viewer.picture()
        assert viewer.troubles() == []
    assert seen == {row["tracking_uid"] for row in _shown(findings[name])}


@pytest.mark.parametrize("name", [DIGITAL, FILM, NORMAL])
def test_no_object_of_a_study_breaks_the_page(made, viewer, name):
    studies, findings, _ = made
    viewer.open(studies[name])
    listed = viewer.series()
    images = {row["sop_instance_uid"] for row in findings[name]}
    assert sum("outlines" in s for s in listed) == (0 if name == FILM else len(images))
    assert sum("outcome" in s for s in listed) == 1
    for one in listed:
        viewer.show(one)
        viewer.picture()
        assert viewer.troubles() == [], one
        if "outcome" in one:
            with_findings = bool(_shown(findings[name]))
            assert f"All algorithms succeeded; {'with' if with_findings else 'without'} findings" in viewer.words()
    assert name != NORMAL or not any("mammoscan findings" in s for s in listed)


def test_the_viewer_asks_nobody_else(viewer):
    assert all(address.startswith(viewer.root) for address in viewer.browser.asked_for())
