"""Weights that are carried from one network to another, or to the saved file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge.errors import InvalidBundle, WrongTask
from ctedge.run_folder import MODEL_FILE
from ctedge.spec import PreprocessSpec, SliceSpec, Spec
from ctedge_training.tasks import Task

if TYPE_CHECKING:
    import keras

    from ctedge_training.run import Run

Volumes = npt.NDArray[np.float32]

_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}


def start_from(network: keras.Model, task: Task, spec: Spec, source: Run) -> None:
    """Give a network the weights of another run, turned so that the anatomy matches.

    Args:
        network: built for `task`, answering in units of `task.unit`; changed in place.
        task: if it is not the source's, the output layer keeps its fresh weights.
        spec: what the network is fed with; its axes may lie in another order than the source's.
        source: the other run.

    Raises:
        WrongTask: one of the two judges slices, the other volumes.
        InvalidBundle: the source is another network than the published one.
    """
    if isinstance(spec, SliceSpec) != isinstance(source.spec, SliceSpec):
        raise WrongTask(
            f"{source.folder}: this network cannot be the start",
            found=source.task.name,
            expected=f"a run of {task.name}",
            fix="start slices from slices, and volumes from volumes",
        )
    weights = load_network(source).get_weights()
    if isinstance(spec, PreprocessSpec) and isinstance(source.spec, PreprocessSpec):
        weights = [turn_kernel(array, source.spec.axes, spec.axes) for array in weights]
    if source.task is task:
        weights[-2:] = [array / np.float32(task.unit) for array in weights[-2:]]
    else:
        weights[-2:] = network.get_weights()[-2:]
    shapes = [array.shape for array in weights]
    if shapes != [array.shape for array in network.get_weights()]:
        raise InvalidBundle(
            f"{source.folder}: its network has other layers than the one to be trained",
            found=f"{sum(array.size for array in weights):,} numbers",
            expected=f"{network.count_params():,}",
            fix="start from a run of the published network",
        )
    network.set_weights(weights)


def load_network(run: Run) -> keras.Model:
    """The saved network of a run: float32, answering in full units.

    Raises:
        InvalidBundle: Keras cannot read it.
    """
    import keras

    with tempfile.TemporaryDirectory(prefix="ctedge-") as private:
        path = Path(private) / MODEL_FILE
        path.write_bytes(run.keras_bytes)
        try:
            return keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever its zip, JSON and HDF5 readers raise
            raise InvalidBundle(
                f"Keras cannot read {MODEL_FILE} of {run.folder}",
                found=f"{type(error).__name__}: {str(error)[:300]}",
                fix="train again, or use the Keras version that wrote it",
            ) from error


def fold_unit(network: keras.Model, task: Task) -> None:
    """Let the last Dense answer in full units (score 0-100), in place.

    A linear output times a factor is the same layer with kernel and bias times that factor.
    """
    if task.unit != 1.0:
        output = network.get_layer("output")
        output.set_weights([array * np.float32(task.unit) for array in output.get_weights()])


def turn_kernel(
    array: npt.NDArray[np.float32], axes_from: str, axes_to: str
) -> npt.NDArray[np.float32]:
    """A (k, k, k, in, out) kernel for input axes `axes_to`; anything else as it is.

    Correlating a turned volume with the turned kernel is the turned result, because both the
    convolution and the pooling treat their three axes alike.
    """
    if array.ndim != 5:
        return array
    order, flips = [], []
    for side in axes_to:
        same = side in axes_from
        order.append(axes_from.index(side if same else _OPPOSITE[side]))
        flips.append(slice(None, None, 1 if same else -1))
    return np.ascontiguousarray(np.transpose(array, (*order, 3, 4))[tuple(flips)])


def recalibrate(network: keras.Model, batches: Iterable[Volumes]) -> None:
    """Replace every BatchNorm's moving statistics by their plain mean over some batches, in place.

    The moving averages follow weights that are still changing: in epochs of a few dozen batches
    the validation loss then tells more about the lag than about the network (1.11 instead of 0.59
    after a first epoch). A pass in training mode with the weights at rest gives what they aim at
    ("precise BatchNorm": Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021). Training itself
    never reads these statistics. Momentum k / (k + 1) at batch k makes the moving average the
    cumulative mean.

    Args:
        network: of `ctedge_training.learning.networks`.
        batches: (batch, *shape, 1) training volumes.
    """
    import keras

    norms = [
        layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [norm.momentum for norm in norms]
    trunk = keras.Model(network.inputs[0], network.get_layer("average").output)
    for number, volumes in enumerate(batches):
        for norm in norms:
            norm.momentum = number / (number + 1)
        trunk(volumes, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
