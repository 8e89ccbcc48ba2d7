"""The gate of the maps: they must show what Keras' own gradients show.

Grad-CAM's gradient is the same at every place, so its map is equal to rounding. LayerCAM's goes
back through poolings: where two values of a window are equal but for rounding, Keras and ONNX may
hand the gradient to different neighbours, and single cells differ; so two maps are held together as
a whole. Windows of exactly equal values (air) share the gradient here, and Keras picks one; so
LayerCAM is looked at on noise alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import CAM
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates.inputs import NOISE, GateInput
from ctedge_export.gates.keras_layers import with_outputs
from ctedge_export.gates.result import Figure, GateResult
from ctedge_export.network.grad_cam import SIGNED, GraphMap
from ctedge_export.network.onnx_model import Converted

if TYPE_CHECKING:
    import keras

#: Largest |difference| of Grad-CAM, relative to its largest |value|: rounding of sums of 256 to
#: 1024 float32 products gives some 1e-6.
TOLERANCE = 1e-4

#: 1 - cosine of two LayerCAMs; measured 2e-5 at full size on noise, where ties are at their worst.
LAYER_TOLERANCE = 1e-3

#: A map whose largest value is below this is nothing but rounding.
_NOTHING = 1e-9


def check(
    trained: keras.Model,
    onnx_bytes: bytes,
    converted: Converted,
    maps: Sequence[GraphMap],
    inputs: Sequence[GateInput],
) -> GateResult:
    """Hold every map against Keras.

    Args:
        trained: the Keras model as loaded.
        onnx_bytes: the ONNX file with the maps.
        converted: says which layers the features are.
        maps: of the file.
        inputs: what to run.
    """
    # Before its ReLU: the map of a random network may hold nothing above 0.
    signed = [SIGNED] if maps else []
    session = OnnxRuntime(with_outputs(onnx_bytes, signed), name="the converted model")
    figures = []
    for found in maps:
        plain = found.name == CAM
        reference = KerasMaps(trained, layer_of(found, converted), layered=not plain)
        output = SIGNED if plain else found.name
        differences = []
        for shown in inputs if plain else _noise(inputs):
            (answer,) = session.run(shown.batch, outputs=[output])[output]
            (expected,) = reference.of(shown.batch)
            differences.append((_largest if plain else _angle)(answer, expected))
        name = f"{found.name}: {'max |d| / max' if plain else '1 - cosine'}"
        limit = TOLERANCE if plain else LAYER_TOLERANCE
        # `max` passes over NaN that does not come first.
        worst = float(np.nan_to_num(differences, nan=np.inf, posinf=np.inf).max())
        figures.append(Figure(name=name, value=worst, limit=limit))
    return GateResult(gate="maps", figures=tuple(figures))


def _noise(inputs: Sequence[GateInput]) -> list[GateInput]:
    """What has hardly any ties; of inputs without noise all."""
    return [shown for shown in inputs if shown.name in NOISE] or list(inputs)


def layer_of(found: GraphMap, converted: Converted) -> str:
    """The Keras layer whose output a map's features are."""
    made_by = {node.output[0]: node for node in converted.model.graph.node}
    layers = {landmark.node: landmark.layer for landmark in converted.landmarks}
    node = made_by[found.features]
    if node.name not in layers and node.op_type == "Relu":
        node = made_by[node.input[0]]
    return layers[node.name]


class KerasMaps:
    """Grad-CAM or LayerCAM at a layer, as they are written down, by TensorFlow's own gradients."""

    def __init__(self, trained: keras.Model, layer: str, *, layered: bool) -> None:
        import keras

        at = [found.name for found in trained.layers].index(layer)
        self._features = keras.Model(trained.inputs[0], trained.layers[at].output)
        *self._tail, self._last = trained.layers[at + 1 :]
        self._layered = layered

    def of(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Maps (N, *grid) of a batch as ONNX takes it, channels first; Grad-CAM before its ReLU."""
        import tensorflow as tf

        with tf.device("/CPU:0"):
            features = self._features(tf.constant(np.moveaxis(batch, 1, -1)), training=False)
            with tf.GradientTape() as tape:
                tape.watch(features)
                tensor = features
                for layer in self._tail:
                    tensor = layer(tensor, training=False)
                answer = tf.linalg.matmul(tensor, self._last.kernel)
            gradient = tape.gradient(answer, features).numpy()
        values = features.numpy()
        if self._layered:
            return np.asarray((np.maximum(gradient, 0) * values).sum(axis=-1))
        axes = tuple(range(1, gradient.ndim - 1))
        return np.asarray((gradient.mean(axis=axes, keepdims=True) * values).sum(axis=-1))


def _largest(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    scale = max(float(np.abs(expected).max()), _NOTHING)
    return float(np.abs(found - expected).max()) / scale


def _angle(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """1 - cosine; 0 where both maps are nothing, infinite where one holds what is no number."""
    a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not np.isfinite(norms):
        return np.inf
    if norms <= _NOTHING**2:
        return 0.0 if max(np.abs(a).max(), np.abs(b).max()) <= _NOTHING else 1.0
    return 1.0 - float(a @ b) / norms
