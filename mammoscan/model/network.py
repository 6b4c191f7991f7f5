"""The networks: ResNet50 with a clinical head, and the second source paper's small CNN."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.image.crops import CropGeometry

# Caffe-style means of the ImageNet weights (BGR, 0 to 255); a grey crop fills all three channels.
MEANS = (103.939, 116.779, 123.68)
MIDDLE_END = "conv3_block4_out"
FROZEN_END = "conv4_block6_out"
FEATURES_END = "conv5_block3_out"
CHANNELS = 1024  # of conv4
CONV5_WIDTH = 512  # a quarter of its channels
STRIDE = 16  # pixels of a crop in a cell of conv4
BLOCKS = {"conv2": 3, "conv3": 4, "conv4": 6, "conv5": 3}  # of each stage
# How conv4 is pooled: the region's own place in the crop, its middle and its surround apart (``inner``). The halves of
# a whole breast, for its density, go through the same layers.
POOLS = ("average", "maximum", "centre average", "centre maximum", "surround average", "surround maximum",
         "middle average", "deviation")  # fmt: skip
POOLED = 2 * 512 + len(POOLS) * CHANNELS  # average and maximum of conv3, and POOLS of conv4


def inner(crop: CropGeometry) -> tuple[slice, slice]:
    """Which cells of conv4, along each side, lie on the region's own place, and which on its middle; one at least."""
    cells = crop.side // STRIDE
    margin = max(1, round(crop.surround * cells))
    return _inner(cells, margin), _inner(cells, 2 * margin)


def unfit(crop: CropGeometry) -> str:
    """Why this network cannot be used on crops of a geometry, '' where it can."""
    if crop.side % (2 * STRIDE):
        return f"a side of {crop.side} pixels, which is no multiple of {2 * STRIDE}"
    cells = crop.side // STRIDE
    # The place, its middle and the surround must be apart, else what they are pooled for is lost.
    if cells - 4 * max(1, round(crop.surround * cells)) < 1:
        return f"{crop.side} pixels with a context of {crop.context:g}, which leave no cell to the region's middle"
    return ""


def resnet50(
    crop: CropGeometry, clinical: int, classes: int, *, conv5: bool = True, heads: Mapping[str, int] | None = None,
    shown: str = "",
) -> Any:  # fmt: skip
    """Keras model from crops (n, side, side, 1) in 0 to 255 and clinical inputs (n, clinical).

    Outputs by name: ``maps`` (of the last stage, or of the layer ``shown``), ``logits`` (n, classes) where it
    has conv5, and the further ``heads``: ``kind_logits`` from conv5, others are linear in the pooled features
    and the clinical inputs. Without conv5 it ends at conv4. He et al., CVPR 2016, as in ``keras.applications``,
    with average pooling, a small dense head for the clinical inputs and dropout before the last layer.
    """
    import keras

    grey = keras.Input((crop.side, crop.side, 1), name="crop")
    facts = keras.Input((clinical,), name="clinical")
    channels = keras.layers.Concatenate()([grey - mean for mean in MEANS])
    base = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=channels)
    maps = base.get_layer(FEATURES_END if conv5 else FROZEN_END).output
    wanted = dict(heads or {})
    kinds = wanted.pop("kind_logits", 0)
    outputs = head(maps, facts, classes, kinds=kinds) if conv5 else {}
    outputs["maps"] = base.get_layer(shown).output if shown else maps
    if wanted:
        joined = keras.layers.Concatenate(name="pooled_and_clinical")([pooled_features(base, crop), facts])
        for name, size in wanted.items():
            outputs[name] = keras.layers.Dense(size, name=name, dtype="float32")(joined)
    return keras.Model([grey, facts], outputs)


def pooled_features(model: Any, crop: CropGeometry) -> Any:
    """Average and maximum of conv3 (512 channels each), then ``POOLS`` of conv4 (1024 each): (n, POOLED)."""
    import keras

    third, fourth = (model.get_layer(name).output for name in (MIDDLE_END, FROZEN_END))
    return keras.layers.Concatenate(name="pooled")(pools(third, fourth, crop, keras.ops))


def pools(third: Any, fourth: Any, crop: CropGeometry, ops: Any) -> list[Any]:
    """What ``pooled_features`` joins, of maps of conv3 and conv4. ops: mean, max, sum and std of such tensors."""
    side = int(fourth.shape[1])
    place, inmost = inner(crop)
    centre, middle = (fourth[:, part, part] for part in (place, inmost))
    around = np.ones((1, side, side, 1), np.float32)
    around[:, place, place] = 0.0
    outside = fourth * around  # activations are not negative, so the maximum is that of the surround
    space = (1, 2)
    by_name = {
        "average": ops.mean(fourth, space), "maximum": ops.max(fourth, space),
        "centre average": ops.mean(centre, space), "centre maximum": ops.max(centre, space),
        "surround average": ops.sum(outside, space) / float(around.sum()), "surround maximum": ops.max(outside, space),
        "middle average": ops.mean(middle, space), "deviation": ops.std(fourth, space),
    }  # fmt: skip
    return [ops.mean(third, space), ops.max(third, space), *(by_name[name] for name in POOLS)]


def _inner(side: int, margin: int) -> slice:
    """What is at least ``margin`` cells from the edge; one cell where nothing is."""
    begin = min(margin, side - 1)
    return slice(begin, max(begin + 1, side - margin))


def frozen(crop: CropGeometry, weights: Mapping[str, NDArray[Any]]) -> Any:
    """Function from crops (n, side, side, 1) to (conv4 maps, ``pooled_features``)."""
    import keras
    import tensorflow as tf

    model = resnet50(crop, 1, 1, conv5=False, heads={"lesion_logits": 2})
    set_weights(model, weights, partly=True)
    whole = keras.Model(model.inputs[0], [model.get_layer(FROZEN_END).output, model.get_layer("pooled").output])
    return tf.function(lambda x: whole(x, training=False), reduce_retracing=True)


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 hex over names and values."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(name.encode())
        total.update(np.ascontiguousarray(arrays[name]).tobytes())
    return total.hexdigest()


def tail(crop: CropGeometry, clinical: int, classes: int, kinds: int) -> Any:
    """The part from conv4's output: for training conv5 and the heads on stored conv4 maps.

    Its layers have the names of ``resnet50``'s, so that weights move by name. Outputs by name, as there.
    """
    import keras
    from keras.src.applications.resnet import stack_residual_blocks_v1

    cells = crop.side // STRIDE
    maps_in = keras.Input((cells, cells, CHANNELS), name="conv4")
    facts = keras.Input((clinical,), name="clinical")
    maps = stack_residual_blocks_v1(maps_in, 512, 3, name="conv5")
    model = keras.Model([maps_in, facts], head(maps, facts, classes, kinds=kinds))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.95  # a training has only some hundred steps
            if layer.name.endswith("_3_bn"):
                # A block begins as its shortcut (Goyal et al. 2017, arXiv:1706.02677): gentler on few cases.
                layer.gamma.assign(np.zeros(layer.gamma.shape, np.float32))
    return model


def head(maps: Any, facts: Any, classes: int, *, kinds: int) -> dict[str, Any]:
    """Average pooling, the clinical head, dropout, logits; a second head for the kind of lesion."""
    import keras

    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(maps)
    small = keras.layers.Dense(8, activation="relu", name="clinical_dense")(facts)
    dropped = keras.layers.Dropout(0.4, name="dropout")(pooled)
    joined = keras.layers.Concatenate(name="joined")([dropped, small])
    out = {"logits": keras.layers.Dense(classes, name="logits", dtype="float32")(joined)}
    if kinds:
        out["kind_logits"] = keras.layers.Dense(kinds, name="kind_logits", dtype="float32")(dropped)
    return out


def small_cnn(side: int) -> Any:
    """The second paper's network: three blocks of 3x3 convolution and pooling, dense 64, dropout, sigmoid."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((side, side, 1)),
            layers.Rescaling(1.0 / 255.0),
            *(
                layer
                for filters in (32, 32, 64)
                for layer in (layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D())
            ),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def evidence_kernel(arrays: Mapping[str, NDArray[Any]], *, conv5: bool) -> NDArray[np.float32]:
    """Grad-CAM's weights (channels, classes) of the last stage's maps for each class.

    Both stages end in heads that are linear after pooling. After average pooling the gradient of a
    logit with respect to a channel, averaged over places, is that channel's weight over the number of
    places; after maximum pooling, where one place has the whole gradient, and after pooling of a part,
    it is the same. That of a deviation sums to 0. The factor is common to all channels and left out.
    """
    if conv5:
        kernel = np.asarray(arrays["logits/0"], np.float32)
        return kernel[: 4 * CONV5_WIDTH]
    lesion, pathology = (np.asarray(arrays[f"{n}_logits/0"], np.float32) for n in ("lesion", "pathology"))
    # More of a lesion, and that worse: the sum of both heads' log odds stands for the malignant logit.
    found = (lesion[:, 1] - lesion[:, 0])[:, None] * (-1, 1, 1)
    kernel = np.asarray(found + (pathology[:, 1] - pathology[:, 0])[:, None] * (0, -1, 1), np.float32)
    by_pool = kernel[2 * 512 : POOLED].reshape(len(POOLS), CHANNELS, -1)
    return np.asarray(by_pool[[name != "deviation" for name in POOLS]].sum(axis=0))


def weights_of(model: Any) -> dict[str, NDArray[Any]]:
    """All weights as arrays named ``layer/index``."""
    return {f"{layer.name}/{index}": value for layer in model.layers for index, value in enumerate(layer.get_weights())}


def compact(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Weights in half precision; vectors (biases, normalisation) stay in single: some exceed its range."""
    return {name: value.astype(np.float16 if value.ndim > 1 else np.float32) for name, value in arrays.items()}


def set_weights(
    model: Any, arrays: Mapping[str, NDArray[Any]], *, partly: bool = False, path: Path | None = None
) -> None:
    """Set weights by layer name; with ``partly`` layers that the file does not hold keep theirs.

    Raises
    ------
    ModelError
        When a layer's weights are missing or have another shape.
    """
    for layer in model.layers:
        own = layer.get_weights()
        if not own:
            continue
        names = [f"{layer.name}/{index}" for index in range(len(own))]
        if not all(name in arrays for name in names):
            if partly:
                continue
            raise ModelError(
                f"the weights of layer {layer.name} are missing", path=path, remedy="use the model's own files"
            )
        values = [np.asarray(arrays[name], dtype=np.float32) for name in names]
        if [v.shape for v in values] != [o.shape for o in own]:
            raise ModelError(
                f"the weights of layer {layer.name} have another shape", path=path, remedy="use the model's own files"
            )
        layer.set_weights(values)
