"""Layer by layer: where do Keras and ONNX part?

Folding moves each BatchNorm behind the layer that follows it, so the two networks agree after
every convolution (with its ReLU), every pooling and every Dense layer; only the global average,
which a BatchNorm has passed through, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.volumes import GateVolume

if TYPE_CHECKING:
    import keras

    from ctedge_export.fold import Step

#: |difference| relative to the layer's largest |value|. Rounding of sums of 1728 float32 products
#: gives about 1e-6.
LAYER_TOLERANCE = 2e-5


class KerasProbe:
    """Some inner outputs of a Keras model, computed on the CPU in inference mode."""

    def __init__(self, model: keras.Model, outputs: Sequence[Any]) -> None:
        import keras

        self._model = keras.Model(model.inputs, list(outputs))

    def run(self, volume: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """The outputs for one volume (A, B, C), each with a batch axis of 1, channels last."""
        import tensorflow as tf

        with tf.device("/CPU:0"):
            answers = self._model(tf.constant(volume[None, ..., None]), training=False)
        return [np.asarray(answer) for answer in answers]


def first_deviation(
    trained: keras.Model, onnx_bytes: bytes, steps: tuple[Step, ...], volume: GateVolume
) -> str:
    """Name the first layer whose outputs differ, and by how much.

    Args:
        trained: the Keras model as loaded.
        onnx_bytes: the ONNX file, with the node names that `tidy` gives.
        steps: the folded layers.
        volume: the volume on which the answers differ.
    """
    compared = [step for step in steps[:-1] if step.comparable]
    tensors = _tensors(onnx_bytes, [step.name for step in compared])
    runtime = OnnxRuntime(_with_outputs(onnx_bytes, tensors), name="the converted model")
    found = runtime.run(volume.values[None, None])
    probe = KerasProbe(trained, [trained.get_layer(step.source).output for step in compared])
    largest = 0.0
    for step, tensor, expected in zip(compared, tensors, probe.run(volume.values), strict=True):
        answer = np.moveaxis(found[tensor], 1, -1)
        scale = max(float(np.abs(expected).max()), 1e-6)
        relative = float(np.nan_to_num(np.abs(answer - expected), nan=np.inf).max()) / scale
        if not relative <= LAYER_TOLERANCE:
            return f"{step.name} ({step.source} in Keras), by {relative:.2g} of its largest value"
        largest = max(largest, relative)
    last = steps[-1]
    return (
        f"{last.name} ({last.source} in Keras) or its activation;"
        f" all layers before agree within {largest:.2g} of their largest values"
    )


def _tensors(onnx_bytes: bytes, names: Sequence[str]) -> list[str]:
    """The tensor to compare for each layer: that of its ReLU where one follows."""
    import onnx

    nodes = onnx.load_from_string(onnx_bytes).graph.node
    activated = {node.input[0]: node.output[0] for node in nodes if node.op_type == "Relu"}
    return [activated.get(name, name) for name in names]


def _with_outputs(onnx_bytes: bytes, tensors: Sequence[str]) -> bytes:
    import onnx

    model = onnx.load_from_string(onnx_bytes)
    kinds = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(kinds[name] for name in tensors)
    extended: bytes = model.SerializeToString()
    return extended
