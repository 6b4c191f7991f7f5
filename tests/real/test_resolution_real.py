"""Half the resolution against all of it on 204 real images, and beside it what a shift by a pixel does to the same.

Pixels of real images are taken as of 0.0594 mm, so that half of them will do: what counts is their grain and edges. The
shifted image lacks its first row and column; what changes by that is chance, and the bars are set beside it.
"""

import csv
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mammoscan.core.domain import (
    Density,
    DensityReading,
    DensitySource,
    Image,
    Laterality,
    RegionKind,
    Spacing,
    SpacingSource,
    View,
)
from mammoscan.image import crops, dense, features, polarity, preprocess, segment, trace
from mammoscan.image.halved import halved
from mammoscan.image.segment import ranking
from mammoscan.model import bundle
from mammoscan.model.classify import Classifier, image_scores
from mammoscan.model.terms import clinical_inputs
from tests.real import films

pytestmark = [pytest.mark.slow, films.SKIP, pytest.mark.timeout(3600)]
MM = 0.0594
SHARED = 0.5  # intersection over union from which on two boxes are of one region
UNKNOWN = DensityReading(Density.UNKNOWN, DensitySource.NONE, Laterality.UNKNOWN)


def _digital():
    """109 digital views of CDD-CESM."""
    with (films.DATA / "cesm-cc" / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = {path.stem: path for path in (films.DATA / "cesm-cc" / "images").iterdir()}
    for row in rows:
        grey = cv2.imread(str(found[row["image"]]), cv2.IMREAD_GRAYSCALE)
        yield grey, Laterality(row["laterality"]), View.CC


def _films():
    """95 films of mini-MIAS."""
    for film in films.mias()[::2][:95]:
        yield np.rint(film.image().pixels * 255), Laterality(film.rows[0]["laterality"]), View.MLO


def _analysed(picture, header, step, model):
    """Regions, score of the image and per cent of dense tissue."""
    image = Image(header, picture.astype(np.float32) / 4095, np.zeros(picture.shape, bool), step=step)
    prepared = preprocess.prepare_upright(polarity.upright(image))
    bundled, network = model
    found = segment.segment(prepared, max_regions=20, trees=ranking.at(bundled.ranking))
    found = trace.trace(found, trace.at(bundled.outlines))
    count = len(found.regions)
    outputs = network.predict(
        crops.region_crops(found, bundled.crop), np.tile(clinical_inputs(header, UNKNOWN), (count, 1)),
        features.region_features(found), np.arange(count, dtype=np.float64),
    )  # fmt: skip
    percent = features.image_features(prepared, dense.dense_pixels(prepared)).percent_density
    return found.regions, image_scores(outputs, bundled.image).malignancy, percent


def _shared(a, b):
    x0, y0, x1, y1 = np.maximum(a[0], b[0]), np.maximum(a[1], b[1]), np.minimum(a[2], b[2]), np.minimum(a[3], b[3])
    both = max(0.0, x1 - x0) * max(0.0, y1 - y0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _missing(ours, theirs, kind, shift):
    """How many regions of a kind there are, and how many of them are not among the others."""
    boxes = [[v + shift for v in region.box] for region in theirs if region.kind is kind]
    wanted = [region.box for region in ours if region.kind is kind]
    return np.array([len(wanted), sum(all(_shared(box, other) < SHARED for other in boxes) for box in wanted)])


@pytest.fixture(scope="module")
def model():
    bundled = bundle.load(None)
    return bundled, Classifier(bundled, batch_size=32)


@pytest.mark.parametrize(("pictures", "count", "clusters"), [(_digital, 109, 0.70), (_films, 95, 0.70)])
def test_half_the_resolution_moves_masses_and_scores_as_a_shift_by_a_pixel_does(pictures, count, clusters, model):
    cv2.setNumThreads(1)
    plain = films.mias()[0].header
    missing = {(way, kind): np.zeros(2, int) for way in ("half", "shifted") for kind in RegionKind}
    scores: dict[str, list[float]] = {"half": [], "shifted": []}
    for number, (grey, side, view) in enumerate(pictures()):
        picture = (grey.astype(np.uint16) << 4) + np.random.default_rng(number).integers(0, 16, grey.shape, np.uint16)
        rows, columns = picture.shape
        header = replace(
            plain, rows=rows, columns=columns, laterality=side, view=view, spacing=Spacing(MM, MM, SpacingSource.IMAGER)
        )
        whole = _analysed(picture, header, 1, model)
        less = replace(header, rows=rows - 1, columns=columns - 1)
        others = {
            "half": (_analysed(halved(picture, 12), header, 2, model), 0),
            "shifted": (_analysed(np.ascontiguousarray(picture[1:, 1:]), less, 1, model), 1),
        }
        for way, (other, shift) in others.items():
            scores[way].append(abs(whole[1] - other[1]))
            for kind in RegionKind:
                missing[way, kind] += _missing(whole[0], other[0], kind, shift)
    assert len(scores["half"]) == count
    lost = {key: of[1] / of[0] for key, of in missing.items()}
    moved = {way: np.percentile(of, (50, 90, 99, 100)).round(4).tolist() for way, of in scores.items()}
    print({f"{way} {kind.value}": round(float(share), 3) for (way, kind), share in lost.items()}, moved)
    assert lost["half", RegionKind.MASS] < lost["shifted", RegionKind.MASS] + 0.05
    assert lost["half", RegionKind.CALCIFICATION] < clusters
    assert moved["half"][0] < 0.03
    assert moved["half"][2] < 0.16
    assert moved["half"][3] < 0.20
