"""The real films of ``../shared/data``, for tests that need them."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoscan.core.domain import Laterality, View
from mammoscan.synthetic.dicom import Shown, Subject, file_bytes, mammogram_dataset
from mammoscan.training.datasets import folders

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def available() -> bool:
    return (DATA / "mias" / "labels.csv").is_file()


SKIP = pytest.mark.skipif(not available(), reason="needs the real films in ../shared/data")


def mias():
    """258 films of 1024 x 1024, 0.2 mm a pixel."""
    return folders.read(DATA, "mias")


def cbis():
    """1,231 film views, 480 x 800 after the stretch is undone; pixel size unknown."""
    return folders.read(DATA, "cbis-mass")


def cesm():
    """255 digital views of 512 x 512 (padded); pixel size unknown."""
    return folders.read(DATA, "cesm")


def circles(film):
    """(x, y, radius) of the located findings of a mini-MIAS film."""
    return [(float(r["x"]), float(r["y"]), float(r["radius"])) for r in film.rows if r["radius"]]


def not_breast(film):
    """Muscle and labels of a mini-MIAS film: bool (1024, 1024)."""
    return cv2.imread(str(DATA / "mias" / "not-breast" / f"{film.name}.png"), cv2.IMREAD_GRAYSCALE) > 127


def muscle_share_removed(removed: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two masks, 0 to 1."""
    return float(2 * (removed & truth).sum() / max(1, removed.sum() + truth.sum()))


def write_mias(archive, chosen):
    """Write mini-MIAS films as DICOM, both sides of a patient in one study: ``<archive>/<film>.dcm``."""
    for film in chosen:
        number = re.sub(r"\D", "", film.patient)
        ds = mammogram_dataset(
            (film.image().pixels * 255).astype(np.uint16),
            laterality=Laterality(film.rows[0]["laterality"]),
            view=View.MLO,
            subject=Subject(f"MIAS-{number}", study_key=f"mias-{number}"),
            shown=Shown(bits=8, window=((128, 256),)),
            spacing_mm=0.2,
            instance=1 + (film.rows[0]["laterality"] == "R"),
        )
        (archive / f"{film.name}.dcm").write_bytes(file_bytes(ds))
