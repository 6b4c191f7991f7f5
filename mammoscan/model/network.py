"""The networks: ResNet50 with a clinical head, and the second source paper's small CNN."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

# Caffe-style means of the ImageNet weights (BGR, 0 to 255); a grey crop fills all three channels.
MEANS = (103.939, 116.779, 123.68)
MIDDLE_END = "conv3_block4_out"
FROZEN_END = "conv4_block6_out"
FEATURES_END = "conv5_block3_out"


def resnet50(side: int, clinical: int, classes: int) -> Any:
    """Keras model (crop (n, side, side, 1) in 0 to 255, clinical (n, clinical)) to (logits, conv5 map).

    He et al., CVPR 2016, as in ``keras.applications``, with average pooling, a small dense head for
    the clinical inputs and dropout before the last layer.
    """
    import keras

    grey = keras.Input((side, side, 1), name="crop")
    facts = keras.Input((clinical,), name="clinical")
    channels = keras.layers.Concatenate()([grey - mean for mean in MEANS])
    base = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=channels)
    maps = base.get_layer(FEATURES_END).output
    return keras.Model([grey, facts], [head(maps, facts, classes), maps])


def stem(model: Any) -> Any:
    """The part up to conv4: crop to (n, side/16, side/16, 1024)."""
    import keras

    return keras.Model(model.inputs[0], model.get_layer(FROZEN_END).output)


def frozen(side: int, weights: Mapping[str, NDArray[Any]]) -> Any:
    """Function from crops (n, side, side, 1) to (conv4 maps, pooled conv3 and conv4 features).

    Pooled: average and maximum of conv3 (512 channels each), then of conv4 (1024 each).
    """
    import keras
    import tensorflow as tf

    model = resnet50(side, 1, 1)
    set_weights(model, weights, partly=True)
    third, fourth = (model.get_layer(name).output for name in (MIDDLE_END, FROZEN_END))
    pooled = [pool()(maps) for maps in (third, fourth)
              for pool in (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)]  # fmt: skip
    whole = keras.Model(model.inputs[0], [fourth, keras.layers.Concatenate()(pooled)])
    return tf.function(lambda x: whole(x, training=False), reduce_retracing=True)


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 hex over names and values."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(name.encode())
        total.update(np.ascontiguousarray(arrays[name]).tobytes())
    return total.hexdigest()


def tail(side: int, clinical: int, classes: int) -> Any:
    """The part from conv4's output: for training conv5 and the head on stored conv4 maps.

    Its layers have the names of ``resnet50``'s, so that weights move by name.
    """
    import keras
    from keras.src.applications.resnet import stack_residual_blocks_v1

    maps_in = keras.Input((side // 16, side // 16, 1024), name="conv4")
    facts = keras.Input((clinical,), name="clinical")
    maps = stack_residual_blocks_v1(maps_in, 512, 3, name="conv5")
    return keras.Model([maps_in, facts], head(maps, facts, classes))


def head(maps: Any, facts: Any, classes: int) -> Any:
    """Average pooling, the clinical head, dropout, logits."""
    import keras

    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(maps)
    small = keras.layers.Dense(8, activation="relu", name="clinical_dense")(facts)
    joined = keras.layers.Concatenate(name="joined")([keras.layers.Dropout(0.4, name="dropout")(pooled), small])
    return keras.layers.Dense(classes, name="logits", dtype="float32")(joined)


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
