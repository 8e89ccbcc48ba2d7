"""The published networks, layer by layer.

Sources:
    3D: Zunair, "3D image classification from CT scans", Keras examples, 2020, after Zunair et al.,
    "Uniformizing Techniques to Process CT scans with 3D CNNs for Tuberculosis Prediction", 2020.
    The severity network is the same with a linear output (Kavin Raj et al., 2020).
    Slices: DenseNet121 (Huang et al., "Densely Connected Convolutional Networks", 2017) with one
    sigmoid, as CheXNeXt used it (Rajpurkar et al., 2018).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctedge.errors import DatasetError
from ctedge_training.learning.settings import SMALLEST_AXIS, SMALLEST_SIDE
from ctedge_training.tasks import SLICES, Task

if TYPE_CHECKING:
    import keras

FILTERS = (64, 64, 128, 256)
DENSE_UNITS = 512
DROPOUT_RATE = 0.3
PARAMETERS = 1_352_897


def build_network(
    task: Task, shape: tuple[int, ...], *, mixed_precision: bool = False
) -> keras.Model:
    """The network of a task.

    Args:
        task: decides about the architecture and the activation of the output.
        shape: of the input without batch and channels, in the spec's axis order: three axes of at
            least 46 voxels, or two of at least 32 pixels. The weights fit every size.
        mixed_precision: compute in bfloat16, keep variables and the output in float32.

    Returns:
        An uncompiled model of (batch, *shape, 1), for slices (batch, *shape, 3), to (batch, 1) in
        units of `task.unit`.

    Raises:
        DatasetError: an axis is too small.
    """
    least = SMALLEST_SIDE if task is SLICES else SMALLEST_AXIS
    if min(shape) < least:
        raise DatasetError(
            "the grid is too small for this network's poolings",
            found="x".join(map(str, shape)),
            expected=f"at least {least} on every axis",
            fix="choose a larger --grid",
        )
    policy = "mixed_bfloat16" if mixed_precision else "float32"
    return _densenet(shape, policy) if task is SLICES else _volume_network(task, shape, policy)


def freeze_statistics(network: keras.Model) -> None:
    """Let every BatchNorm work as it will when it is used, in place; before it is compiled.

    With its scale and shift it stays as it is. In batches of four the statistics are noise, which
    a score suffers from more than a class does.
    """
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def start_from_imagenet(network: keras.Model, weights: Path) -> None:
    """Give a slice network the convolutions of a DenseNet121 trained on ImageNet, in place.

    Args:
        network: of `build_network` for slices.
        weights: Keras' own file `densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5`.

    Raises:
        InvalidBundle: the file is missing, damaged, or of another network.
    """
    from ctedge_training.legacy.densenet import load_imagenet

    load_imagenet([layer for layer in network.layers if layer.name != "output"], weights)


def _volume_network(task: Task, shape: tuple[int, ...], policy: str) -> keras.Model:
    import keras
    from keras import layers

    inputs = keras.Input((*shape, 1), name="volume")
    x = inputs
    for number, filters in enumerate(FILTERS, start=1):
        x = layers.Conv3D(filters, 3, activation="relu", dtype=policy, name=f"conv_{number}")(x)
        x = layers.MaxPooling3D(2, dtype=policy, name=f"pool_{number}")(x)
        x = layers.BatchNormalization(dtype=policy, name=f"norm_{number}")(x)
    x = layers.GlobalAveragePooling3D(dtype=policy, name="average")(x)
    x = layers.Dense(DENSE_UNITS, activation="relu", dtype=policy, name="dense")(x)
    x = layers.Dropout(DROPOUT_RATE, dtype=policy, name="dropout")(x)
    x = layers.Dense(1, activation=task.activation, dtype="float32", name="output")(x)
    return keras.Model(inputs, x, name="3dcnn")


def _densenet(shape: tuple[int, ...], policy: str) -> keras.Model:
    import keras
    from keras import layers

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        body = keras.applications.DenseNet121(
            include_top=False, weights=None, input_shape=(*shape, 3)
        )
    finally:
        keras.config.set_dtype_policy(before)
    x = layers.GlobalAveragePooling2D(dtype="float32", name="average")(body.output)
    x = layers.Dense(1, activation="sigmoid", dtype="float32", name="output")(x)
    return keras.Model(body.input, x, name="densenet121")
