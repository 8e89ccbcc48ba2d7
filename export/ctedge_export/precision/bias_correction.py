"""What rounding to INT8 shifts on average, given back to the biases.

Rounded weights move the mean of each channel of a convolution; behind the global average nothing
takes that back. On calibration scans the mean of each channel is measured in FP32 and in INT8,
layer after layer with all before it corrected, and the difference added to the bias, which is
float.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(ICCV 2019), section 4.2, with means that are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates.inputs import GateInput
from ctedge_export.gates.keras_layers import with_outputs

if TYPE_CHECKING:
    import onnx

#: Of many layers this many passes are made, each of which corrects several.
_PASSES = 8

#: Of convolutions, by the name of the node.
Biases = Mapping[str, npt.NDArray[np.float32]]

_Means = dict[str, npt.NDArray[np.float64]]


def corrected_biases(
    model: onnx.ModelProto,
    quantised: Callable[[Biases], bytes],
    biases: Biases,
    scans: Sequence[GateInput],
) -> Biases:
    """Biases of convolutions, by the name of the node, that give their channels FP32's means.

    Args:
        model: the network in float.
        quantised: writes it in INT8 with these biases.
        biases: of the layers to correct, as they are.
        scans: for calibration.
    """
    results = {n.name: n.output[0] for n in model.graph.node if n.name in biases}
    expected = _means(model.SerializeToString(), results, scans)
    corrected = dict(biases)
    for group in np.array_split(list(results), min(_PASSES, len(results))):
        seen = {str(name): results[str(name)] for name in group}
        found = _means(quantised(corrected), seen, scans)
        for name in seen:
            shifted = biases[name] + expected[name] - found[name]
            corrected[name] = shifted.astype(np.float32)
    return corrected


def _means(onnx_bytes: bytes, tensors: Mapping[str, str], scans: Sequence[GateInput]) -> _Means:
    """The mean of each channel of tensors (1, channels, ...) over scans, by layer."""
    session = OnnxRuntime(with_outputs(onnx_bytes, list(tensors.values())), name="calibration")
    sums: _Means = {}
    for shown in scans:
        answers = session.run(shown.batch)
        for layer, tensor in tensors.items():
            values = answers[tensor]
            mean = values.mean(axis=(0, *range(2, values.ndim)), dtype=np.float64)
            sums[layer] = sums.get(layer, 0.0) + mean
    return {layer: total / len(scans) for layer, total in sums.items()}
