"""Weights that are carried from one network to another, or to the saved file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge.run_folder import MODEL_FILE
from ctedge_training.tasks import Task

if TYPE_CHECKING:
    import keras

    from ctedge_training.run import Run

Volumes = npt.NDArray[np.float32]

_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}


def start_from(network: keras.Model, task: Task, axes: str, source: Run) -> None:
    """Give a network the weights of another run, turned so that the anatomy matches.

    Args:
        network: built for `task`, answering in units of `task.unit`; changed in place.
        task: if it is not the source's, the output layer keeps its fresh weights.
        axes: of the network's spec, as in "SPL".
        source: the other run.
    """
    trained = load_network(source)
    weights = [turn_kernel(array, source.spec.axes, axes) for array in trained.get_weights()]
    if source.task is task:
        weights[-2:] = [array / np.float32(task.unit) for array in weights[-2:]]
    else:
        weights[-2:] = network.get_weights()[-2:]
    network.set_weights(weights)


def load_network(run: Run) -> keras.Model:
    """The saved network of a run: float32, answering in full units."""
    from ctedge_training.networks import build_network

    network = build_network(run.task, run.spec.shape)
    with tempfile.TemporaryDirectory(prefix="ctedge-") as private:
        path = Path(private) / MODEL_FILE
        path.write_bytes(run.keras_bytes)
        network.load_weights(path)
    return network


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
        network: of `ctedge_training.networks`.
        batches: (batch, *shape, 1) training volumes.
    """
    import keras

    norms = [layer for layer in network.layers if layer.name.startswith("norm_")]
    momenta = [norm.momentum for norm in norms]
    trunk = keras.Model(network.inputs[0], network.get_layer("average").output)
    for number, volumes in enumerate(batches):
        for norm in norms:
            norm.momentum = number / (number + 1)
        trunk(volumes, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
