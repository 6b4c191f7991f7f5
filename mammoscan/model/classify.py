"""Crops to what is said of regions and breasts: ResNet50 in batches."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mammoscan.core.domain import Density, Scores
from mammoscan.image.features import REGION_FEATURES
from mammoscan.model import outputs
from mammoscan.model.batchsize import BatchSizes
from mammoscan.model.precision import Precision
from mammoscan.model.terms import CLASSES, CLINICAL, GRADES, KINDS, MALIGNANT, TISSUES, log_odds, softmax

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from mammoscan.model.batchsize import Outputs
    from mammoscan.model.bundle import Bundle
    from mammoscan.model.scores import Score

log = logging.getLogger(__name__)

CPU_BATCH = 16
MOST_CPU_BATCH = 64  # measured: 0.2 GB more than one of 16
MOST_BATCH = 512
BREAST_HEADS = ("grade_logits", "tissue_logits")
CONV4 = "conv4"  # maps among the outputs, for what is asked of findings alone
NAMED_TOGETHER = 4  # an image has three findings by default
BYTES_A_CROP = 120e6  # activations of one crop in float32, with room to spare


@dataclass(frozen=True, slots=True)
class RegionOutputs:
    """What the network says of n regions.

    probabilities: float64 (n, 3), calibrated, rows sum to 1, in the order of ``CLASSES``. evidence: float32
    (n, h, w), for malignant, by place in the last stage that the score uses, for Grad-CAM.
    """

    probabilities: NDArray[np.float64]
    evidence: NDArray[np.float32]

    @property
    def malignancy(self) -> NDArray[np.float64]:
        """Probability of malignant, float64 (n,)."""
        return self.probabilities[:, MALIGNANT]

    def take(self, chosen: slice | NDArray[np.intp]) -> RegionOutputs:
        """The chosen regions."""
        return RegionOutputs(self.probabilities[chosen], self.evidence[chosen])


@dataclass(frozen=True, slots=True)
class BreastOutputs:
    """What the network says of a whole breast in an image; unknown and '' where it has no such head.

    tissue: mini-MIAS's F, G or D.
    """

    density: Density = Density.UNKNOWN
    tissue: str = ""


class Step(Protocol):
    """A batch that a device was given and may still be computing."""

    def outputs(self) -> Outputs:
        """Wait for it and copy what it says: by name, one row a crop that was given."""


class Device(Protocol):
    """What computes batches: a network (``Classifier``), or what stands in for one."""

    sizes: BatchSizes

    def step(self, crops: NDArray[np.uint8], clinical: NDArray[np.float32]) -> Step:
        """Begin a batch of ``crops`` (n, side, side) and ``clinical`` (n, len(CLINICAL)), n from 1 to ``sizes.size``.

        Only a device that computes by itself, as a GPU does, comes back before it is done.
        """

    def kinds(self, said: Outputs) -> NDArray[np.str_]:
        """What each of n regions is if it is a lesion, '' where that is not known. said: what was said of them, n rows.

        Called from another thread than ``step``.
        """

    def probe(self, count: int) -> Outputs:
        """Compute so many crops of its own, the first ``sizes.reference`` of them repeated, in one batch."""


class Classifier:
    """The network of a bundle, loaded once. TensorFlow is imported here and nowhere before.

    Batches are filled up to a size that ``sizes`` knows, and batch normalisation has its stored statistics, folded
    into the convolutions, so a region's score does not depend on its neighbours in the batch.

    conv5 is computed with each batch only where it is in the region's score. Where it but names the kind of a lesion,
    that is asked of the few regions that become findings, from their maps of conv4 (``kinds``); on a GPU, which would
    have to copy the maps of all, it is computed with the batch.
    """

    def __init__(self, bundle: Bundle, *, batch_size: int = 0, precision: Precision = Precision.FLOAT32) -> None:
        first = "tensorflow" not in sys.modules
        with _stderr_to_log():
            import tensorflow as tf

            if first:
                # Its million objects stay to the end: they are not gone through for garbage now and then, and not
                # when the process ends, which took a second.
                gc.freeze()
            gpus = tf.config.list_physical_devices("GPU")
        from mammoscan.model import network
        from mammoscan.model.folded import Folded

        self._tf = tf
        self.bundle = bundle
        self.precision = precision
        if gpus:
            tf.config.experimental.set_memory_growth(gpus[0], True)
            # Otherwise its matrix units round factors to 10 bits and say no word of it.
            tf.config.experimental.enable_tensor_float_32_execution(False)
        self.sizes = BatchSizes(*_batch_sizes(tf), given=batch_size)
        scored = bundle.conv5 and bool(set(bundle.region.inputs) & set(outputs.CONV5_INPUTS))
        named = bundle.conv5 and "kind_logits" in bundle.heads
        at_once, later = scored or (named and bool(gpus)), named and not scored and not gpus
        arrays = bundle.arrays()
        folded = Folded(
            arrays, bundle.crop, len(bundle.clinical), bundle.heads, conv5=at_once or later,
            logits=len(CLASSES) if scored else 0, precision=precision.value, path=bundle.weights_path,
        )  # fmt: skip
        # What is shown as evidence is that of the stage whose logits make the score.
        kernel = network.evidence_kernel(arrays, conv5=scored)[:, MALIGNANT]
        self._columns = [CLINICAL.index(name) for name in bundle.clinical]

        # Of any number of crops: each size of batch would be traced for seconds.
        shapes = [tf.TensorSpec([None, bundle.crop.side, bundle.crop.side], tf.uint8),
                  tf.TensorSpec([None, len(bundle.clinical)], tf.float32)]  # fmt: skip

        @tf.function(jit_compile=False, input_signature=shapes)  # type: ignore[untyped-decorator]
        def call(crops: Any, clinical: Any) -> Any:
            third, fourth = folded.stages(crops)
            said = folded.linear(third, fourth, clinical)
            maps = fourth
            if at_once:
                fifth = folded.fifth(fourth)
                said |= folded.of_conv5(fifth, clinical)
                maps = fifth if scored else fourth
            # Summed where the maps are: they are a thousand times as large. Not a matrix product, as in ``Score``.
            said["evidence"] = tf.reduce_sum(tf.cast(maps, tf.float32) * kernel, axis=-1)
            if later:
                said[CONV4] = fourth
            return said

        @tf.function(jit_compile=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
        def name(fourth: Any) -> Any:
            return folded.of_conv5(folded.fifth(fourth))["kind_logits"]

        self._call, self._name = call, name

    def step(self, crops: NDArray[np.uint8], clinical: NDArray[np.float32]) -> Step:
        """Begin a batch, filled up with black crops. crops: (n, side, side). clinical: (n, len(CLINICAL))."""
        size, count = self.sizes.fitting(len(crops)), len(crops)
        batch = np.zeros((size, *crops.shape[1:]), np.uint8)
        facts = np.zeros((size, len(self._columns)), np.float32)
        batch[:count] = crops
        facts[:count] = clinical[:, self._columns]
        return _Running(self._call(self._tf.constant(batch), self._tf.constant(facts)), count)

    def probe(self, count: int) -> Outputs:
        """Compute noise, the first ``sizes.reference`` crops of it repeated."""
        rng = np.random.default_rng(0)
        crops = rng.integers(0, 256, (self.sizes.reference, self.bundle.crop.side, self.bundle.crop.side), np.uint8)
        facts = rng.normal(size=(self.sizes.reference, len(self._columns))).astype(np.float32)
        which = np.arange(count) % self.sizes.reference
        return _Running(self._call(self._tf.constant(crops[which]), self._tf.constant(facts[which])), count).outputs()

    def kinds(self, said: Outputs) -> NDArray[np.str_]:
        """Names the lesions, some at a time, filled up, so that none hangs on how many there are."""
        if "kind_logits" in said or CONV4 not in said:
            return named_kinds(said)
        maps = said[CONV4]
        logits = []
        for begin in range(0, len(maps), NAMED_TOGETHER):
            part = np.zeros((NAMED_TOGETHER, *maps.shape[1:]), maps.dtype)
            part[: len(maps) - begin] = maps[begin : begin + NAMED_TOGETHER]
            logits.append(np.asarray(self._name(self._tf.constant(part)))[: len(maps) - begin])
        return named_kinds({**said, "kind_logits": np.concatenate(logits)}) if logits else np.empty(0, str)

    def predict(
        self, crops: NDArray[np.uint8], clinical: NDArray[np.float32], features: NDArray[np.float64] | None = None,
        rank: NDArray[np.floating] | None = None,
    ) -> RegionOutputs:  # fmt: skip
        """Classify n regions, batch after batch; n may be 0. See ``region_outputs``."""
        n, size = len(crops), self.sizes.size
        steps = [dict(self.step(crops[i : i + size], clinical[i : i + size]).outputs()) for i in range(0, n, size)]
        for step in steps:
            step.pop(CONV4, None)  # half a megabyte a crop
        said = {name: np.concatenate([step[name] for step in steps]) for name in steps[0]} if steps else {}
        measured = np.full((n, len(REGION_FEATURES)), np.nan) if features is None else features
        return region_outputs(self.bundle, said, measured, np.full(n, np.nan) if rank is None else rank)


class _Running:
    """A batch in TensorFlow's hands: on a GPU its outputs are promises, which are kept as they are copied."""

    def __init__(self, promised: Mapping[str, Any], count: int) -> None:
        self._promised = promised
        self._count = count

    def outputs(self) -> Outputs:
        return {name: np.asarray(value)[: self._count] for name, value in self._promised.items()}


def region_outputs(
    bundle: Bundle, said: Outputs, features: NDArray[np.float64], rank: NDArray[np.floating]
) -> RegionOutputs:
    """What the network's outputs say of n regions.

    said: n rows; nothing at all if n is 0. features: (n, len(REGION_FEATURES)), nan where not measured.
    rank: (n,), 0 for the most salient region of its image; nan where they were not found by saliency.
    """
    n = len(rank)
    if not n:
        return RegionOutputs(np.empty((0, len(CLASSES))), np.empty((0, 1, 1), np.float32))
    conv5 = said.get("logits", np.full((n, len(CLASSES)), np.nan))
    linear = outputs.class_logits(*(outputs.head_odds(said[f"{n}_logits"]) for n in ("lesion", "pathology")))
    inputs = outputs.region_inputs(conv5, linear, rank, features)
    logits = bundle.region.logits(inputs[:, [outputs.REGION_INPUTS.index(name) for name in bundle.region.inputs]])
    return RegionOutputs(softmax(logits), said["evidence"])


def named_kinds(said: Outputs) -> NDArray[np.str_]:
    """What each of n regions is if it is a lesion, '' where the network has no such head. said: n rows."""
    if "kind_logits" in said:
        return np.asarray(np.array(KINDS)[said["kind_logits"].argmax(axis=1)], np.str_)
    return np.full(len(said["evidence"]), "")


def looks_at_breasts(bundle: Bundle) -> bool:
    """Whether the network has heads that say something of a whole breast."""
    return bool(set(bundle.heads) & set(BREAST_HEADS))


def breast_outputs(said: Outputs) -> BreastOutputs:
    """What the network's outputs say of a whole breast. said: of its tiles (``crops.whole_tiles``), or nothing."""
    # The heads are linear in pooled features, so the mean of both halves' logits is that of their mean.
    best = {n: int(said[n].astype(np.float64).mean(axis=0).argmax()) for n in BREAST_HEADS if n in said}
    return BreastOutputs(
        Density(GRADES[best["grade_logits"]]) if "grade_logits" in best else Density.UNKNOWN,
        TISSUES[best["tissue_logits"]] if "tissue_logits" in best else "",
    )


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


def _batch_sizes(tf: Any) -> tuple[int, int]:
    """The reference and the largest size of batch, for ``BatchSizes``.

    As many crops as half of a GPU's memory holds, ``CPU_BATCH`` where there is none. A power of two: the memory that
    a process is given differs a little from run to run, and a batch of another size may be computed by other kernels,
    so that a resumed run's scores would differ in the last bits.
    """
    if not tf.config.list_physical_devices("GPU"):
        return CPU_BATCH, MOST_CPU_BATCH
    crops = int(_gpu_memory(tf) * 0.5 / BYTES_A_CROP)
    size = min(MOST_BATCH, max(CPU_BATCH, 1 << max(crops.bit_length() - 1, 0)))
    return size, size


def _gpu_memory(tf: Any) -> int:
    """Bytes that TensorFlow may use of the first GPU, 0 where it does not say.

    ``get_device_details`` names the card and ``get_memory_info`` what is in use; the limit is told by this list alone.
    """
    from tensorflow.python.client import device_lib

    # The list makes the devices, with options of its own: without growth the whole card would be taken.
    options = tf.compat.v1.ConfigProto(gpu_options=tf.compat.v1.GPUOptions(allow_growth=True))
    found = device_lib.list_local_devices(options)
    return next((int(device.memory_limit) for device in found if device.device_type == "GPU"), 0)
