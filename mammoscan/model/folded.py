"""ResNet50 for inference: batch normalisation is folded into the convolutions.

oneDNN then does a convolution, its bias, the sum with the shortcut and the ReLU as one step. No model of Keras is
built, which costs seconds. Training goes on with the network as it is built in ``network``; a test holds what both say
together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.core.errors import ModelError
from mammoscan.model.network import BLOCKS, CONV5_WIDTH, MEANS, POOLED, pools

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.image.crops import CropGeometry

EPSILON = 1.001e-5  # of normalisation in ``keras.applications.ResNet50``
STEM = 64  # channels of conv1
# Computed in float32 whatever the precision: with the block in bfloat16 too, scores of real films' regions moved by .017
# at the 99th percentile, and by .008 without; no later block has a like share in it.
SINGLE = ("conv1", "conv2_block1")
_CLINICAL = 8  # cells of the dense layer before conv5's logits


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with what normalises it. kernel: float32 (h, w, channels in, channels out). bias: (channels out,)."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


def convolutions(
    arrays: Mapping[str, NDArray[Any]], *, conv5: bool, path: Path | None = None
) -> dict[str, Convolution]:
    """All convolutions to conv4, or to conv5, by name (``conv1``, ``conv2_block1_0``), folded in double precision.

    arrays: weights by ``layer/index``, as in a bundle.

    Raises
    ------
    ModelError
        When a layer's weights are missing or have another shape.
    """
    found = {"conv1": _folded(arrays, "conv1", (7, 7, len(MEANS), STEM), path)}
    channels, width = STEM, STEM
    for stage, blocks in BLOCKS.items():
        if stage == "conv5" and not conv5:
            break
        for number in range(1, blocks + 1):
            block = f"{stage}_block{number}"
            shapes = {"1": (1, 1, channels, width), "2": (3, 3, width, width), "3": (1, 1, width, 4 * width)}
            if number == 1:
                shapes["0"] = (1, 1, channels, 4 * width)
            found |= {f"{block}_{n}": _folded(arrays, f"{block}_{n}", shape, path) for n, shape in shapes.items()}
            channels = 4 * width
        width *= 2
    return found


def grey_stem(stem: Convolution) -> Convolution:
    """The first convolution for two channels: the grey level, and 1 wherever there is a picture.

    A grey crop less ``MEANS`` fills its three channels. The means must be subtracted before zeros are put around the
    crop, so they cannot go into the bias; the second channel carries them.
    """
    kernel = stem.kernel.astype(np.float64)
    means = -(kernel * np.array(MEANS)[:, None]).sum(axis=2)
    return Convolution(np.stack([kernel.sum(axis=2), means], axis=2).astype(np.float32), stem.bias)


class Folded:
    """The network as functions on tensors, for use within a ``tf.function``. conv5: whether it goes on to there.

    precision: ``float32``, or ``bfloat16`` for all but what is in ``SINGLE``, the pooling and the heads.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], crop: CropGeometry, clinical: int, heads: Mapping[str, int], *,
        conv5: bool, logits: int = 0, precision: str = "float32", path: Path | None = None,
    ) -> None:  # fmt: skip
        import tensorflow as tf

        self._tf = tf
        self._crop = crop
        folded = convolutions(arrays, conv5=conv5, path=path)
        stem = grey_stem(folded.pop("conv1"))
        # Tensors that the graph captures, not constants in it: of those TensorFlow keeps several copies, a gigabyte in
        # all. oneDNN then rearranges weights in every batch, which was not to be seen in its time.
        self._stem = tf.constant(stem.kernel), tf.constant(stem.bias)
        self._convolutions = {}
        for name, c in folded.items():
            dtype = tf.float32 if name.startswith(SINGLE) else tf.dtypes.as_dtype(precision)
            self._convolutions[name] = tf.constant(c.kernel, dtype), tf.constant(c.bias, dtype)
        self._linear = {
            name: _dense(arrays, name, POOLED + clinical, size, path)
            for name, size in heads.items()
            if name != "kind_logits"
        }
        self._kinds = None
        if conv5 and "kind_logits" in heads:
            self._kinds = _dense(arrays, "kind_logits", 4 * CONV5_WIDTH, heads["kind_logits"], path)
        self._logits = None
        if conv5 and logits:
            self._logits = (
                _dense(arrays, "clinical_dense", clinical, _CLINICAL, path),
                _dense(arrays, "logits", 4 * CONV5_WIDTH + _CLINICAL, logits, path),
            )

    def stages(self, crops: Any) -> tuple[Any, Any]:
        """Maps of conv3 and conv4 of crops (n, side, side), 0 to 255."""
        tf = self._tf
        grey = tf.cast(crops, tf.float32)[..., None]
        kernel, bias = self._stem
        # As in ``keras.applications``: zeros on all four sides, where "SAME" would put them on two.
        x = tf.nn.conv2d(tf.concat([grey, tf.ones_like(grey)], axis=-1), kernel, 2, [[0, 0], [3, 3], [3, 3], [0, 0]])
        x = tf.nn.relu(tf.nn.bias_add(x, bias))
        x = tf.nn.max_pool2d(x, 3, 2, [[0, 0], [1, 1], [1, 1], [0, 0]])
        third = self._stage(self._stage(x, "conv2"), "conv3")
        return third, self._stage(third, "conv4")

    def fifth(self, fourth: Any) -> Any:
        """Maps of conv5 from those of conv4."""
        return self._stage(fourth, "conv5")

    def linear(self, third: Any, fourth: Any, clinical: Any) -> dict[str, Any]:
        """What the heads say that are linear in the pooled maps and the clinical inputs, float32 (n, size) by name."""
        tf = self._tf
        third, fourth = tf.cast(third, tf.float32), tf.cast(fourth, tf.float32)
        joined = tf.concat([*pools(third, fourth, self._crop, tf.experimental.numpy), clinical], axis=-1)
        return {name: tf.matmul(joined, kernel) + bias for name, (kernel, bias) in self._linear.items()}

    def of_conv5(self, fifth: Any, clinical: Any = None) -> dict[str, Any]:
        """What the heads on conv5 say: ``kind_logits`` and ``logits``, where they were asked for."""
        tf = self._tf
        pooled = tf.reduce_mean(tf.cast(fifth, tf.float32), axis=(1, 2))
        said = {}
        if self._kinds is not None:
            said["kind_logits"] = tf.matmul(pooled, self._kinds[0]) + self._kinds[1]
        if self._logits is not None:
            small, last = self._logits
            facts = tf.nn.relu(tf.matmul(clinical, small[0]) + small[1])
            said["logits"] = tf.matmul(tf.concat([pooled, facts], axis=-1), last[0]) + last[1]
        return said

    def _stage(self, x: Any, stage: str) -> Any:
        tf = self._tf
        for number in range(1, BLOCKS[stage] + 1):
            block, first = f"{stage}_block{number}", number == 1
            # The first of the block halves the maps, not the second as in later variants.
            stride = 2 if first and stage != "conv2" else 1
            x = tf.cast(x, self._convolutions[f"{block}_1"][0].dtype)
            shortcut = self._convolved(x, f"{block}_0", stride) if first else x
            y = tf.nn.relu(self._convolved(x, f"{block}_1", stride))
            y = tf.nn.relu(self._convolved(y, f"{block}_2"))
            x = tf.nn.relu(self._convolved(y, f"{block}_3") + shortcut)
        return x

    def _convolved(self, x: Any, name: str, stride: int = 1) -> Any:
        tf, (kernel, bias) = self._tf, self._convolutions[name]
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, "SAME" if stride == 1 else "VALID"), bias)


def _folded(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], path: Path | None) -> Convolution:
    channels = (shape[-1],)
    kernel, bias = _layer(arrays, f"{name}_conv", (shape, channels), path)
    gamma, beta, mean, variance = _layer(arrays, f"{name}_bn", (channels,) * 4, path)
    scale = gamma / np.sqrt(variance + EPSILON)
    return Convolution((kernel * scale).astype(np.float32), (beta + (bias - mean) * scale).astype(np.float32))


def _dense(
    arrays: Mapping[str, NDArray[Any]], name: str, inputs: int, size: int, path: Path | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    kernel, bias = _layer(arrays, name, ((inputs, size), (size,)), path)
    return kernel.astype(np.float32), bias.astype(np.float32)


def _layer(
    arrays: Mapping[str, NDArray[Any]], name: str, shapes: tuple[tuple[int, ...], ...], path: Path | None
) -> list[NDArray[np.float64]]:
    names = [f"{name}/{index}" for index in range(len(shapes))]
    if not all(n in arrays for n in names):
        raise ModelError(f"the weights of layer {name} are missing", path=path, remedy="use the model's own files")
    if [arrays[n].shape for n in names] != list(shapes):
        raise ModelError(
            f"the weights of layer {name} have another shape", path=path, remedy="use the model's own files"
        )
    return [np.asarray(arrays[n], np.float64) for n in names]
