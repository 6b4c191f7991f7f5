"""Grad-CAM (Selvaraju et al., ICCV 2017) for the class malignant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mammoscan.model.classify import CLASSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.model.classify import Classifier, RegionOutputs


def grad_cam(classifier: Classifier, outputs: RegionOutputs) -> NDArray[np.float32]:
    """Heat over each crop, float32 (n, h, w), 0 to 1.

    The head is linear after average pooling, so the gradient of the malignant logit with respect to
    a channel's mean is that channel's weight in the last layer: exact, without a backward pass.
    A map without any positive evidence is all 0.
    """
    maps = outputs.maps
    weights = classifier.logits_kernel[: maps.shape[-1], CLASSES.index("malignant")]
    heat = np.maximum(maps @ weights, 0.0)
    highest = heat.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(heat, highest, out=np.zeros_like(heat), where=highest > 0), dtype=np.float32)
