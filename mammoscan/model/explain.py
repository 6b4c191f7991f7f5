"""Grad-CAM (Selvaraju et al., ICCV 2017) for the class malignant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grad_cam(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Heat over each crop, float32 (n, h, w), 0 to 1.

    evidence: (n, h, w), the maps of the last stage summed by each channel's weight in the malignant logit
    (``RegionOutputs.evidence``). The heads are linear after pooling, so its gradient is known without a backward
    pass (``network.evidence_kernel``). Heat where there is no positive evidence is all 0.
    """
    heat = np.maximum(evidence, 0.0)
    highest = heat.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(heat, highest, out=np.zeros_like(heat), where=highest > 0), dtype=np.float32)
