"""Words and inputs that the network, its description and its training share. No TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core.domain import Density, DensitySource, Laterality, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import DensityReading, Header

CLASSES = ("normal", "benign", "malignant")
MALIGNANT = CLASSES.index("malignant")
KINDS = ("mass", "calcification", "architectural distortion", "asymmetry")  # of lesions
TISSUES = ("F", "G", "D")  # mini-MIAS: fatty, fatty-glandular, dense-glandular
GRADES = ("a", "b", "c", "d")  # BI-RADS 5th edition
# Each input is followed or replaced by a state of its own for "missing". A bundle names those that it takes.
CLINICAL = (
    "age_known", "age_decades", "density_known", "density_level", "view_cc", "view_oblique_or_lateral",
    "side_left", "side_right",
)  # fmt: skip
# The inputs that may be missing where a model is used, and are therefore blanked at random in training.
MAY_BE_MISSING = tuple(CLINICAL.index(name) for name in ("age_known", "age_decades", "density_known", "density_level"))
LEVEL = {Density.A: 0.0, Density.B: 1.0, Density.C: 2.0, Density.D: 3.0}


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of logits to probabilities."""
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def log_odds(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """log(p / (1 - p)), with p kept off 0 and 1 by 1e-7."""
    held = np.clip(np.asarray(p, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(held / (1 - held)))


def logistic(z: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 / (1 + exp(-z))."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(np.asarray(z, np.float64), -700, 700))))


def clinical_inputs(header: Header, density: DensityReading) -> NDArray[np.float32]:
    """Age, density, view and side as the network's second input, float32 (len(CLINICAL),).

    An unknown age, density or side is a state of its own (all of its inputs 0). A density estimated
    from the pixels is not given to the network: it holds nothing that the pixels do not.
    """
    age = header.age
    stated = density.density in LEVEL and density.source not in {DensitySource.ESTIMATE, DensitySource.NONE}
    return np.array(
        [
            float(age is not None),
            0.0 if age is None else (age.years - 55.0) / 10.0,
            float(stated),
            LEVEL[density.density] - 1.5 if stated else 0.0,
            float(header.view in {View.CC, View.XCC, View.XCCL, View.XCCM, View.FB}),
            float(header.view.shows_pectoral_muscle),
            float(header.laterality is Laterality.LEFT),
            float(header.laterality is Laterality.RIGHT),
        ],
        dtype=np.float32,
    )
