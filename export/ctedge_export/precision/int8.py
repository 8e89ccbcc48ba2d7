"""FP32 to INT8 by explicit QuantizeLinear and DequantizeLinear around every convolution.

Symmetric, zero point 0: weights per output channel (stored as int8), activations per tensor. The
pair stands directly before the input of each convolution, behind the pooling: a maximum of rounded
values is the rounded maximum, so a runtime may move it up to the convolution before. ReLU, pooling,
bias, head, inputs and outputs stay float. What is rounded is best prepared by `channels`.

Sources: ONNX operators, opset 13 (both accept a scale per channel); NVIDIA TensorRT developer
guide, "Explicit quantization" (symmetric, per channel for weights, per tensor for activations).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge_export.precision.trunk import finished
from ctedge_export.precision.weights import LEVELS, nearest

if TYPE_CHECKING:
    import onnx

#: int8 levels (channels, ...) of weights, and the size of one level for each output channel.
Rounded = tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]


def quantised_inputs(model: onnx.ModelProto) -> tuple[str, ...]:
    """The tensors that convolutions read, in the order of the data, each once."""
    read = [node.input[0] for node in model.graph.node if node.op_type == "Conv"]
    return tuple(dict.fromkeys(read))


def quantise(
    model: onnx.ModelProto,
    ranges: Mapping[str, float],
    *,
    keep: Collection[str] = (),
    weights: Mapping[str, Rounded] | None = None,
    biases: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> bytes:
    """Write the convolutions in INT8.

    Args:
        model: the FP32 network, with names that say what they hold.
        ranges: for each tensor of `quantised_inputs`, the size that level 127 stands for.
        keep: convolutions that stay in float.
        weights: rounded weights, by the name of the node; else each is rounded to the nearest.
        biases: other biases for the rest, by the name of the node (see `bias_correction`).

    Raises:
        InvalidBundle: the ONNX checker refuses the result.
    """
    import onnx
    from onnx import helper, numpy_helper

    written = onnx.ModelProto()
    written.CopyFrom(model)
    graph = written.graph
    constants = {weight.name: weight for weight in graph.initializer}
    rounded, other = weights or {}, biases or {}
    nodes: list[onnx.NodeProto] = []
    written_weights: dict[str, onnx.TensorProto] = {}

    def constant(name: str, values: object) -> str:
        written_weights[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    for node in graph.node:
        if node.op_type != "Conv" or node.name in keep:
            nodes.append(node)
            continue
        source, weight, *bias = node.input
        if node.name in other:
            bias = [constant(f"{bias[0]}.corrected", other[node.name])]
        levels, scales = rounded.get(node.name) or nearest(numpy_helper.to_array(constants[weight]))
        scaled = [
            constant(f"{weight}.scale", scales),
            constant(f"{weight}.zero", np.zeros(len(scales), np.int8)),
        ]
        name = f"{weight}.dequantized"
        nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [constant(f"{weight}.int8", levels), *scaled],
                [name],
                name,
                axis=0,
            )
        )
        # One pair for each convolution: builders match it with the operator that reads it.
        scale = [
            constant(f"{node.name}.input.scale", np.float32(ranges[source] / LEVELS)),
            constant(f"{node.name}.input.zero", np.int8(0)),
        ]
        quantized, dequantized = (f"{node.name}.input.{part}" for part in ("int8", "dequantized"))
        nodes += [
            helper.make_node("QuantizeLinear", [source, *scale], [quantized], quantized),
            helper.make_node("DequantizeLinear", [quantized, *scale], [dequantized], dequantized),
        ]
        del node.input[:]
        node.input.extend([dequantized, name, *bias])
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    every = (*constants.values(), *written_weights.values())
    kept = [weight for weight in every if weight.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return finished(written)
