"""Region crops to probabilities: ResNet50 in batches of one fixed shape."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.domain import Density, DensitySource, Scores, View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mammoscan.domain import DensityReading, Header
    from mammoscan.model.bundle import Bundle

log = logging.getLogger(__name__)

CLASSES = ("normal", "benign", "malignant")
# Each input is followed or replaced by a state of its own for "missing".
CLINICAL = (
    "age_known", "age_decades", "density_known", "density_level", "view_cc", "view_oblique_or_lateral",
)  # fmt: skip
_LEVEL = {Density.A: 0.0, Density.B: 1.0, Density.C: 2.0, Density.D: 3.0}
CPU_BATCH = 16
BYTES_A_CROP = 120e6  # activations of one crop in float32, with room to spare


@dataclass(frozen=True, slots=True)
class RegionOutputs:
    """What the network says of n regions.

    probabilities: float64 (n, 3), rows sum to 1, in the order of ``CLASSES``. malignancy: float64
    (n,), calibrated, 0 to 1. maps: float32 (n, h, w, c), the last convolution's output, for Grad-CAM.
    """

    probabilities: NDArray[np.float64]
    malignancy: NDArray[np.float64]
    maps: NDArray[np.float32]

    def part(self, begin: int, end: int) -> RegionOutputs:
        """Regions ``begin`` to ``end``."""
        return RegionOutputs(self.probabilities[begin:end], self.malignancy[begin:end], self.maps[begin:end])

    def take(self, chosen: NDArray[np.intp]) -> RegionOutputs:
        """The chosen regions."""
        return RegionOutputs(self.probabilities[chosen], self.malignancy[chosen], self.maps[chosen])


class Classifier:
    """The network of a bundle, loaded once. TensorFlow is imported here and nowhere before.

    Batches always have the same shape (the last is filled up), and batch normalisation runs with
    its stored statistics, so a region's score does not depend on its neighbours in the batch.
    """

    def __init__(self, bundle: Bundle, *, batch_size: int = 0) -> None:
        with _stderr_to_log():
            import tensorflow as tf

            tf.config.list_physical_devices("GPU")
        from mammoscan.model import network

        self._tf = tf
        self.bundle = bundle
        self.batch_size = batch_size or _batch_size(tf)
        model = network.resnet50(bundle.side, len(CLINICAL), len(CLASSES))
        arrays = bundle.arrays()
        network.set_weights(model, arrays, path=bundle.weights_path)
        self._kernel = np.asarray(arrays["logits/0"], dtype=np.float32)

        @tf.function(jit_compile=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
        def call(crops: Any, clinical: Any) -> Any:
            return model([tf.cast(crops, tf.float32)[..., None], clinical], training=False)

        self._call = call

    @property
    def logits_kernel(self) -> NDArray[np.float32]:
        """Weights of the last layer, (pooled + clinical, classes)."""
        return self._kernel

    def predict(self, crops: NDArray[np.uint8], clinical: NDArray[np.float32]) -> RegionOutputs:
        """Classify crops (n, side, side) with their clinical inputs (n, len(CLINICAL)); n may be 0."""
        n = len(crops)
        logits, maps = [], []
        for begin in range(0, n, self.batch_size):
            count = min(self.batch_size, n - begin)
            batch = np.zeros((self.batch_size, *crops.shape[1:]), np.uint8)
            facts = np.zeros((self.batch_size, clinical.shape[1]), np.float32)
            batch[:count] = crops[begin : begin + count]
            facts[:count] = clinical[begin : begin + count]
            out, features = self._call(self._tf.constant(batch), self._tf.constant(facts))
            logits.append(np.asarray(out)[:count])
            maps.append(np.asarray(features)[:count])
        if not logits:
            return RegionOutputs(np.empty((0, len(CLASSES))), np.empty(0), np.empty((0, 1, 1, 1), np.float32))
        probabilities = softmax(np.concatenate(logits))
        return RegionOutputs(
            probabilities, self.bundle.calibrated(probabilities), np.concatenate(maps).astype(np.float32)
        )


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of logits to probabilities."""
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def clinical_inputs(header: Header, density: DensityReading) -> NDArray[np.float32]:
    """Age, density and view as the network's second input, float32 (len(CLINICAL),).

    An unknown age or density is a state of its own (known = 0). A density estimated from the pixels
    is not given to the network: it holds nothing that the pixels do not.
    """
    age = header.age
    stated = density.density in _LEVEL and density.source not in {DensitySource.ESTIMATE, DensitySource.NONE}
    return np.array(
        [
            float(age is not None),
            0.0 if age is None else (age.years - 55.0) / 10.0,
            float(stated),
            _LEVEL[density.density] - 1.5 if stated else 0.0,
            float(header.view in {View.CC, View.XCC, View.XCCL, View.XCCM, View.FB}),
            float(header.view.shows_pectoral_muscle),
        ],
        dtype=np.float32,
    )


def image_scores(outputs: RegionOutputs) -> Scores:
    """An image's scores: those of its most suspicious region.

    An image in which no candidate region was found has nothing to classify: normal 1, malignancy 0.
    """
    if len(outputs.malignancy) == 0:
        return Scores(1.0, 0.0, 0.0, 0.0)
    worst = int(np.argmax(outputs.malignancy))
    normal, benign, malignant = (float(p) for p in outputs.probabilities[worst])
    return Scores(normal, benign, malignant, float(outputs.malignancy[worst]))


@contextmanager
def _stderr_to_log() -> Iterator[None]:
    """Send what is written to standard error to the log instead.

    TensorFlow's C++ part reports there that it found no GPU, whatever its log level; cron would mail it.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught.read().decode("utf-8", "replace").splitlines():
                log.info("tensorflow: %s", line)


def _batch_size(tf: Any) -> int:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return CPU_BATCH
    tf.config.experimental.set_memory_growth(gpus[0], True)
    memory = tf.config.experimental.get_device_details(gpus[0]).get("memory_limit", 4e9)
    return int(np.clip(memory * 0.5 / BYTES_A_CROP, CPU_BATCH, 512)) // 8 * 8
