"""A Keras network of the layers that were read, built by our own code alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ctedge_training.legacy.layers import Architecture
from ctedge_training.legacy.layouts import Weights

if TYPE_CHECKING:
    import keras

#: Names as in `ctedge_training.learning.networks`; what occurs once there has no number.
_STEMS = {
    "Conv3D": "conv_{}",
    "MaxPooling3D": "pool_{}",
    "BatchNormalization": "norm_{}",
    "GlobalAveragePooling3D": "average",
    "Dense": "dense",
    "Dropout": "dropout",
}


def rebuild(architecture: Architecture, weights: Weights) -> keras.Model:
    """The network, float32, uncompiled: (batch, *shape, 1) to (batch, 1).

    Args:
        architecture: its layers.
        weights: for each layer that has some, in order.
    """
    import keras

    tensor = inputs = keras.Input((*architecture.shape, 1), name="volume")
    left = iter(weights)
    for name, layer in zip(_names(architecture), architecture.layers, strict=True):
        built = getattr(keras.layers, layer.kind)(**layer.settings, dtype="float32", name=name)
        tensor = built(tensor)
        if layer.weights:
            arrays = next(left)
            built.set_weights([arrays[weight] for weight in layer.weights])
    return keras.Model(inputs, tensor, name="3dcnn")


def _names(architecture: Architecture) -> list[str]:
    kinds = [layer.kind for layer in architecture.layers]
    totals, counts = Counter(kinds[:-1]), Counter[str]()
    names = []
    for kind in kinds[:-1]:
        counts[kind] += 1
        stem = _STEMS[kind]
        if "{}" not in stem and totals[kind] > 1:
            stem += "_{}"
        names.append(stem.format(counts[kind]))
    return [*names, "output"]
