"""The published 3D network, layer by layer.

Sources:
    Zunair, "3D image classification from CT scans", Keras examples, 2020, after Zunair et al.,
    "Uniformizing Techniques to Process CT scans with 3D CNNs for Tuberculosis Prediction", 2020.
    The severity network is the same with a linear output (Kavin Raj et al., 2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctedge.errors import DatasetError
from ctedge_training.settings import SMALLEST_AXIS
from ctedge_training.tasks import Task

if TYPE_CHECKING:
    import keras

FILTERS = (64, 64, 128, 256)
DENSE_UNITS = 512
DROPOUT_RATE = 0.3
PARAMETERS = 1_352_897


def build_network(
    task: Task, shape: tuple[int, int, int], *, mixed_precision: bool = False
) -> keras.Model:
    """The network of a task for inputs of (batch, *shape, 1), 0..1, in the spec's axis order.

    Args:
        task: decides about the activation of the output.
        shape: voxels per axis, at least 46 each; the weights fit every size.
        mixed_precision: compute in bfloat16, keep variables and the output in float32.

    Returns:
        An uncompiled model with output (batch, 1) in units of `task.unit`.

    Raises:
        DatasetError: an axis is too small.
    """
    import keras
    from keras import layers

    if min(shape) < SMALLEST_AXIS:
        raise DatasetError(
            "the grid is too small for four convolutions and poolings",
            found="x".join(map(str, shape)),
            expected=f"at least {SMALLEST_AXIS} voxels on every axis",
            fix="choose a larger --grid",
        )
    policy = "mixed_bfloat16" if mixed_precision else "float32"
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
