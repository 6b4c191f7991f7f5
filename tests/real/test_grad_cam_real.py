"""Grad-CAM of the shipped model on films of known truth: the heat lies on the lesion."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoscan.image import crops, preprocess
from mammoscan.model import bundle
from mammoscan.model.classify import Classifier
from mammoscan.model.explain import grad_cam
from mammoscan.model.terms import CLINICAL
from mammoscan.training.datasets import folders

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "mias" / "labels.csv").is_file(), reason="needs ../shared/data/mias")
def test_the_lesions_circle_holds_far_more_of_the_heat_than_of_the_area():
    classifier = Classifier(bundle.load(None))
    side, wide = classifier.bundle.crop.side, 1.25 * classifier.bundle.crop.context
    patches, circles = [], []
    films = [f for f in folders.read(DATA, "mias") if f.label == "malignant" and f.findings()]
    for film in films[:20]:
        prepared = preprocess.prepare(film.image())
        x0, y0, x1, y1 = film.findings()[0][1]
        # Off the middle, and with more around it than in use: a heat that is always central would not pass.
        away = 0.45 * (x1 - x0) * (1 if len(patches) % 2 else -1)
        moved = (x0 + away, y0 - away, x1 + away, y1 - away)
        patches.append(crops.crop(prepared, moved, crops.CropGeometry(side, wide)))
        shown = crops.crop_box(prepared.geometry, moved, wide)
        scale = side / (shown[2] - shown[0])
        x, y, radius = ((x0 + x1) / 2 - shown[0]) * scale, ((y0 + y1) / 2 - shown[1]) * scale, (x1 - x0) / 2 * scale
        x = side - x if prepared.geometry.flipped else x
        rows, columns = np.mgrid[0:side, 0:side] + 0.5
        circles.append(np.hypot(columns - x, rows - y) <= radius)
    outputs = classifier.predict(np.stack(patches), np.zeros((len(patches), len(CLINICAL)), np.float32))
    heats = [cv2.resize(h, (side, side), interpolation=cv2.INTER_LINEAR) for h in grad_cam(outputs.evidence)]
    gains = [h[c].sum() / h.sum() / c.mean() for h, c in zip(heats, circles, strict=True) if h.sum() > 0]
    print(
        f"{len(gains)} of {len(heats)} films have heat; share of heat over share of area: median {np.median(gains):.2f}"
    )
    assert len(gains) >= 15
    assert np.median(gains) > 1.3
