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

from mammoscan.core.domain import Density, Scores
from mammoscan.image.features import REGION_FEATURES
from mammoscan.model import outputs
from mammoscan.model.terms import CLASSES, CLINICAL, GRADES, KINDS, MALIGNANT, TISSUES, log_odds, softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mammoscan.model.bundle import Bundle
    from mammoscan.model.scores import Score

log = logging.getLogger(__name__)

CPU_BATCH = 16
MOST_BATCH = 512
BYTES_A_CROP = 120e6  # activations of one crop in float32, with room to spare


@dataclass(frozen=True, slots=True)
class RegionOutputs:
    """What the network says of n regions.

    probabilities: float64 (n, 3), calibrated, rows sum to 1, in the order of ``CLASSES``. maps: float32
    (n, h, w, c), the output of the last stage that the score uses, for Grad-CAM. kinds: what each is if it is
    a lesion, '' where the network has no such head.
    """

    probabilities: NDArray[np.float64]
    maps: NDArray[np.float32]
    kinds: NDArray[np.str_]

    @property
    def malignancy(self) -> NDArray[np.float64]:
        """Probability of malignant, float64 (n,)."""
        return self.probabilities[:, MALIGNANT]

    def take(self, chosen: slice | NDArray[np.intp]) -> RegionOutputs:
        """The chosen regions."""
        return RegionOutputs(self.probabilities[chosen], self.maps[chosen], self.kinds[chosen])


@dataclass(frozen=True, slots=True)
class BreastOutputs:
    """What the network says of a whole breast in an image; unknown and '' where it has no such head.

    tissue: mini-MIAS's F, G or D.
    """

    density: Density = Density.UNKNOWN
    tissue: str = ""


class Classifier:
    """The network of a bundle, loaded once. TensorFlow is imported here and nowhere before.

    Batches always have the same shape (the last is filled up), and batch normalisation runs with
    its stored statistics, so a region's score does not depend on its neighbours in the batch. In single
    precision everywhere: bfloat16 moved the scores of 82 crops of real films by up to 0.040 (median 0.004).
    """

    def __init__(self, bundle: Bundle, *, batch_size: int = 0) -> None:
        with _stderr_to_log():
            import tensorflow as tf

            tf.config.list_physical_devices("GPU")
        from mammoscan.model import network

        self._tf = tf
        self.bundle = bundle
        self.batch_size = batch_size or _batch_size(tf)
        # What is shown as evidence is that of the stage whose logits make the score.
        scored = bundle.conv5 and bool(set(bundle.region.inputs) & set(outputs.CONV5_INPUTS))
        model = network.resnet50(
            bundle.crop, len(bundle.clinical), len(CLASSES), conv5=bundle.conv5, heads=bundle.heads,
            shown=network.FEATURES_END if scored else network.FROZEN_END,
        )  # fmt: skip
        arrays = bundle.arrays()
        network.set_weights(model, arrays, path=bundle.weights_path)
        self._kernel = network.evidence_kernel(arrays, conv5=scored)[:, MALIGNANT]
        self._columns = [CLINICAL.index(name) for name in bundle.clinical]
        self._region = [outputs.REGION_INPUTS.index(name) for name in bundle.region.inputs]

        @tf.function(jit_compile=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
        def call(crops: Any, clinical: Any) -> Any:
            return model([tf.cast(crops, tf.float32)[..., None], clinical], training=False)

        self._call = call

    @property
    def evidence_kernel(self) -> NDArray[np.float32]:
        """Weight of every channel of ``RegionOutputs.maps`` in the malignant logit, (channels,)."""
        return self._kernel

    def predict(
        self, crops: NDArray[np.uint8], clinical: NDArray[np.float32], features: NDArray[np.float64] | None = None,
        rank: NDArray[np.floating] | None = None,
    ) -> RegionOutputs:  # fmt: skip
        """Classify n regions; n may be 0.

        crops: (n, side, side). clinical: (n, len(CLINICAL)). features: (n, len(REGION_FEATURES)), nan
        or None where not measured. rank: (n,), 0 for the most salient region of its image; nan or None where
        they were not found by saliency.
        """
        n = len(crops)
        if not n:
            maps = np.empty((0, 1, 1, 1), np.float32)
            return RegionOutputs(np.empty((0, len(CLASSES))), maps, np.empty(0, str))
        out = self._outputs(crops, clinical[:, self._columns])
        nothing = np.full((n, len(CLASSES)), np.nan)
        conv5 = out.get("logits", nothing)
        linear = outputs.class_logits(*(outputs.head_odds(out[f"{n}_logits"]) for n in ("lesion", "pathology")))
        kinds = np.full(n, "")
        if "kind_logits" in out:
            kinds = np.array(KINDS)[out["kind_logits"].argmax(axis=1)]
        measured = np.full((n, len(REGION_FEATURES)), np.nan) if features is None else features
        place = np.full(n, np.nan) if rank is None else rank
        inputs = outputs.region_inputs(conv5, linear, place, measured)
        logits = self.bundle.region.logits(inputs[:, self._region])
        return RegionOutputs(softmax(logits), out["maps"].astype(np.float32), kinds)

    def breasts(self, tiles: NDArray[np.uint8]) -> tuple[BreastOutputs, ...]:
        """What the heads on whole breasts say of n images. tiles: (n, 2, side, side), ``crops.whole_tiles``."""
        heads = set(self.bundle.heads) & {"grade_logits", "tissue_logits"}
        if not heads or not len(tiles):
            return (BreastOutputs(),) * len(tiles)
        flat = tiles.reshape(-1, *tiles.shape[2:])
        out = self._outputs(flat, np.zeros((len(flat), len(self._columns)), np.float32))
        # The heads are linear in pooled features, so the mean of both halves' logits is that of their mean.
        said = {name: out[name].astype(np.float64).reshape(len(tiles), 2, -1).mean(axis=1) for name in heads}
        found = []
        for index in range(len(tiles)):
            one = {name: logits[index] for name, logits in said.items()}
            found.append(
                BreastOutputs(
                    Density(GRADES[int(one["grade_logits"].argmax())]) if "grade_logits" in one else Density.UNKNOWN,
                    TISSUES[int(one["tissue_logits"].argmax())] if "tissue_logits" in one else "",
                )
            )
        return tuple(found)

    def _outputs(self, crops: NDArray[np.uint8], clinical: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        parts: dict[str, list[NDArray[Any]]] = {}
        for begin in range(0, len(crops), self.batch_size):
            count = min(self.batch_size, len(crops) - begin)
            batch = np.zeros((self.batch_size, *crops.shape[1:]), np.uint8)
            facts = np.zeros((self.batch_size, clinical.shape[1]), np.float32)
            batch[:count] = crops[begin : begin + count]
            facts[:count] = clinical[begin : begin + count]
            for name, value in self._call(self._tf.constant(batch), self._tf.constant(facts)).items():
                parts.setdefault(name, []).append(np.asarray(value)[:count])
        return {name: np.concatenate(values) for name, values in parts.items()}


def image_scores(outputs_of_image: RegionOutputs, score: Score | None) -> Scores:
    """An image's scores: classes of its most suspicious region, malignancy by the model's image score.

    outputs_of_image: its regions, most salient first.

    Without such a score the highest region stands for the image. An image in which no candidate region
    was found has nothing to classify: normal 1, malignancy 0.
    """
    if len(outputs_of_image.malignancy) == 0:
        return Scores(1.0, 0.0, 0.0, 0.0)
    worst = int(np.argmax(outputs_of_image.malignancy))
    normal, benign, malignant = (float(p) for p in outputs_of_image.probabilities[worst])
    if score is None:
        return Scores(normal, benign, malignant, float(outputs_of_image.malignancy[worst]))
    inputs = outputs.image_inputs(log_odds(outputs_of_image.malignancy))
    columns = [outputs.IMAGE_INPUTS.index(name) for name in score.inputs]
    return Scores(normal, benign, malignant, float(score(inputs[None, columns])[0]))


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
    """Regions in a batch: as many as half of a GPU's memory holds, ``CPU_BATCH`` where there is none.

    A power of two: the memory that a process is given differs a little from run to run, and a batch of
    another size may be computed by other kernels, so that a resumed run's scores would differ in the last bits.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return CPU_BATCH
    tf.config.experimental.set_memory_growth(gpus[0], True)
    crops = int(_gpu_memory(tf) * 0.5 / BYTES_A_CROP)
    return min(MOST_BATCH, max(CPU_BATCH, 1 << max(crops.bit_length() - 1, 0)))


def _gpu_memory(tf: Any) -> int:
    """Bytes that TensorFlow may use of the first GPU, 0 where it does not say.

    ``get_device_details`` names the card and ``get_memory_info`` what is in use; the limit is told by this list alone.
    """
    from tensorflow.python.client import device_lib

    # The list makes the devices, with options of its own: without growth the whole card would be taken.
    options = tf.compat.v1.ConfigProto(gpu_options=tf.compat.v1.GPUOptions(allow_growth=True))
    found = device_lib.list_local_devices(options)
    return next((int(device.memory_limit) for device in found if device.device_type == "GPU"), 0)
