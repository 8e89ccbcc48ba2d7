"""Layer by layer: where do Keras and ONNX part?

In a network for whole scans, folding moves each BatchNorm behind the layer that follows it, so the
two agree after every convolution (with its ReLU), every pooling and every Dense layer; only the
global average, which a BatchNorm has passed through, is left out. In a network for slices they
agree after every ReLU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates.inputs import GateInput
from ctedge_export.network.onnx_model import Converted

if TYPE_CHECKING:
    import keras

#: |difference| relative to the layer's largest |value|. Rounding of sums of 1728 float32 products
#: gives about 1e-6.
LAYER_TOLERANCE = 2e-5


class KerasProbe:
    """Some inner outputs of a Keras model, computed on the CPU in inference mode."""

    def __init__(self, model: keras.Model, outputs: Sequence[Any]) -> None:
        import keras

        self._model = keras.Model(model.inputs, list(outputs))

    def run(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """The outputs for a batch as ONNX takes it, channels first; their channels are last."""
        import tensorflow as tf

        with tf.device("/CPU:0"):
            answers = self._model(tf.constant(np.moveaxis(batch, 1, -1)), training=False)
        return [np.asarray(answer) for answer in answers]


def first_deviation(
    trained: keras.Model, onnx_bytes: bytes, converted: Converted, shown: GateInput
) -> str:
    """Name the first layer whose outputs differ, and by how much.

    Args:
        trained: the Keras model as loaded.
        onnx_bytes: the ONNX file, with the node names that `tidy` gives.
        converted: says where the two can be compared.
        shown: the input on which the answers differ.
    """
    landmarks = converted.landmarks
    tensors = _tensors(onnx_bytes, [landmark.node for landmark in landmarks])
    runtime = OnnxRuntime(with_outputs(onnx_bytes, tensors), name="the converted model")
    found = runtime.run(shown.batch)
    probe = KerasProbe(trained, [trained.get_layer(place.layer).output for place in landmarks])
    largest = 0.0
    for place, tensor, expected in zip(landmarks, tensors, probe.run(shown.batch), strict=True):
        answer = np.moveaxis(found[tensor], 1, -1)
        scale = max(float(np.abs(expected).max()), 1e-6)
        off = np.nan_to_num(np.abs(answer - expected), nan=np.inf, posinf=np.inf)
        relative = float(off.max()) / scale
        if not relative <= LAYER_TOLERANCE:
            return f"{place.node} ({place.layer} in Keras), by {relative:.2g} of its largest value"
        largest = max(largest, relative)
    last = converted.last
    return (
        f"{last.node} ({last.layer} in Keras) or its activation;"
        f" all layers before agree within {largest:.2g} of their largest values"
    )


def _tensors(onnx_bytes: bytes, names: Sequence[str]) -> list[str]:
    """The tensor to compare for each layer: that of its ReLU where one follows."""
    import onnx

    nodes = onnx.load_from_string(onnx_bytes).graph.node
    activated = {node.input[0]: node.output[0] for node in nodes if node.op_type == "Relu"}
    return [activated.get(name, name) for name in names]


def with_outputs(onnx_bytes: bytes, tensors: Sequence[str]) -> bytes:
    """The same file with inner tensors, by name, as further outputs."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(onnx_bytes))
    graph = model.graph
    kinds = {value.name: value for value in graph.value_info}
    outputs = {output.name for output in graph.output}
    graph.output.extend(kinds[name] for name in tensors if name not in outputs)
    extended: bytes = model.SerializeToString()
    return extended
