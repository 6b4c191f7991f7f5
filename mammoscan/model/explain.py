"""Grad-CAM (Selvaraju et al., ICCV 2017) for the class malignant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.model.classify import Classifier, RegionOutputs


def grad_cam(classifier: Classifier, outputs: RegionOutputs) -> NDArray[np.float32]:
    """Heat over each crop, float32 (n, h, w), 0 to 1.

    The heads are linear after pooling, so the gradient of the malignant logit is known without a
    backward pass (``network.evidence_kernel``). A map without any positive evidence is all 0.
    """
    maps = outputs.maps
    heat = np.maximum(maps @ classifier.evidence_kernel, 0.0)
    highest = heat.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(heat, highest, out=np.zeros_like(heat), where=highest > 0), dtype=np.float32)
