"""All mini-MIAS films as DICOM studies through ``mammoscan run``."""

import csv

import cv2
import numpy as np
import pytest

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.console import Console
from mammoscan.run import pipeline
from mammoscan.run.config import RunConfig
from tests.real import films

pytestmark = [pytest.mark.slow, films.SKIP, pytest.mark.timeout(7200)]


def _table(out, name):
    with (out / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The films, both sides of a patient in a study, and the output of a run over them."""
    archive = tmp_path_factory.mktemp("mias")
    films.write_mias(archive, films.mias())
    out = tmp_path_factory.mktemp("mias-out")
    analysis = AnalysisConfig(max_regions=20, max_findings=20)
    summary = pipeline.run(
        RunConfig(archive=archive, out=out, analysis=analysis, settle_seconds=0), Console(quiet=True)
    )
    return summary, out


def test_every_film_is_analysed_and_none_fails(run):
    summary, out = run
    print(f"\nfilms analysed {summary.analysed}, failed {summary.failed}, seconds {summary.seconds:.0f}")
    assert (summary.analysed, summary.failed, summary.studies) == (258, 0, 129)
    assert len(_table(out, "images")) == 258


def test_outlines_land_on_the_lesions_in_the_source_image(run):
    """Rasterised in source pixels, the outlines that hit a finding cover much more of its circle than
    outlines of the mirrored image would.
    """
    _, out = run
    images = {row["sop_instance_uid"]: row["path"].removesuffix(".dcm") for row in _table(out, "images")}
    found = {}
    for row in _table(out, "findings"):
        points = [tuple(map(float, p.split())) for p in row["contour"].split(";")]
        found.setdefault(images[row["sop_instance_uid"]], []).append((row, np.array(points)))
    straight, mirrored, hit, total = [], [], 0, 0
    for film in films.mias():
        for x, y, r in films.circles(film):
            total += 1
            circle = np.zeros((1024, 1024), np.uint8)
            cv2.circle(circle, (round(x), round(y)), round(r), 1, -1)
            best = best_mirrored = 0.0
            is_hit = False
            for row, points in found.get(film.name, ()):
                cx, cy = float(row["centre_x"]), float(row["centre_y"])
                inside = np.hypot(cx - x, cy - y) <= r
                contains = cv2.pointPolygonTest(points.astype(np.float32).reshape(-1, 1, 2), (x, y), False) >= 0
                is_hit |= bool(inside or (contains and float(row["area_px"]) < 4 * np.pi * r * r))
                best = max(best, _dice(points, circle))
                best_mirrored = max(best_mirrored, _dice(points * (-1, 1) + (1024, 0), circle))
            hit += is_hit
            straight.append(best)
            mirrored.append(best_mirrored)
    print(f"\nreported findings hit {hit} of {total} located findings; median best Dice with the circle "
          f"{np.median(straight):.2f}, of mirrored outlines {np.median(mirrored):.2f}")  # fmt: skip
    assert np.median(straight) > np.median(mirrored) + 0.2


def _dice(points, circle):
    drawn = np.zeros_like(circle)
    cv2.fillPoly(drawn, [np.round(points - 0.5).astype(np.int32)], 1)
    return 2 * float((drawn & circle).sum()) / max(1.0, float(drawn.sum() + circle.sum()))
