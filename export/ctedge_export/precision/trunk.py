"""The convolution trunk of a graph: from its first convolution to what the global average reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ctedge.errors import InvalidBundle

if TYPE_CHECKING:
    import onnx


def trunk_nodes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the trunk's nodes, in the order of the data.

    Raises:
        InvalidBundle: no convolution, or no global average behind the last one.
    """
    nodes = list(model.graph.node)
    average = next((node for node in nodes if node.op_type == "GlobalAveragePool"), None)
    if average is None or not convolutions(model):
        raise InvalidBundle(
            "the network has no convolutions with a global average behind them",
            found=", ".join(sorted({node.op_type for node in nodes})),
            fix="export the bundle again with `ctedge export onnx`",
        )
    wanted, inside = set(average.input), []
    for node in reversed(nodes[: nodes.index(average)]):
        if wanted & set(node.output):
            wanted |= set(node.input)
            inside.append(node)
    inside.reverse()
    first = next(i for i, node in enumerate(inside) if node.op_type == "Conv")
    return tuple(node.name for node in inside[first:])


def convolutions(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the convolutions, in the order of the data."""
    return tuple(node.name for node in model.graph.node if node.op_type == "Conv")


def multiplications(model: onnx.ModelProto) -> dict[str, int]:
    """How many multiplications each convolution takes for one input, in the order of the data."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    sizes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim[2:]]
        for value in (*inferred.graph.value_info, *inferred.graph.output)
    }
    weights = {weight.name: math.prod(weight.dims) for weight in model.graph.initializer}
    return {
        node.name: weights[node.input[1]] * math.prod(sizes[node.output[0]])
        for node in model.graph.node
        if node.op_type == "Conv"
    }


def finished(model: onnx.ModelProto) -> bytes:
    """Infer every shape and type, check in full, and serialise; equal graphs give equal bytes.

    Raises:
        InvalidBundle: the ONNX checker refuses it.
    """
    import onnx

    del model.graph.value_info[:]
    try:
        model = onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InvalidBundle(
            "this network cannot be written in another precision",
            found=f"the ONNX checker: {error}",
            fix="export the bundle again with `ctedge export onnx`, then try once more",
        ) from error
    written: bytes = model.SerializeToString(deterministic=True)
    return written
