"""Reading an ONNX graph, and writing nodes beside those that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctedge_export.network.tf_to_onnx import refusal

if TYPE_CHECKING:
    import onnx


class Writer:
    """Nodes and constants whose names all start alike, in the order in which they were written."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def hold(self, name: str, values: npt.NDArray[Any]) -> str:
        """Write a constant; its name."""
        from onnx import numpy_helper

        written = f"{self.prefix}.{name}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), written))
        return written

    def emit(self, operator: str, name: str | None, *inputs: str, **attributes: Any) -> str:
        """Write a node; the name of its output, which without a name is the prefix itself."""
        from onnx import helper

        written = self.prefix if name is None else f"{self.prefix}.{name}"
        node = helper.make_node(operator, list(inputs), [written], name=written, **attributes)
        self.nodes.append(node)
        return written


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node, by name."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def shape_of(graph: onnx.GraphProto, tensor: str) -> list[int]:
    """Sizes of an inner tensor with inferred shape, without the batch axis.

    Raises:
        InvalidBundle: a size is not static, or there is no such tensor.
    """
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.name == tensor:
            sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
            if len(sizes) > 2 and all(sizes[1:]):
                return sizes[1:]
    raise refusal(f"no static shape of {tensor}", "a static shape")


def only(found: list[Any], what: str) -> Any:
    """The one of a list of one.

    Raises:
        InvalidBundle: there are none, or several.
    """
    if len(found) != 1:
        raise refusal(f"{len(found)} times {what}", "one")
    return found[0]


def places(
    graph: onnx.GraphProto, features: str, *, rank: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where the cells of a feature map lie in the input: centre of the first, and distance."""
    from onnx import numpy_helper

    makers = {node.output[0]: node for node in graph.node}
    chain = []
    tensor = features
    while tensor in makers:
        node = makers[tensor]
        if node.op_type in ("Conv", "MaxPool", "AveragePool", "Pad"):
            chain.append(node)
        tensor = node.input[0]
    constants = {weight.name: weight for weight in graph.initializer}
    origin, step = np.zeros(rank), np.ones(rank)
    for node in reversed(chain):
        if node.op_type == "Pad":
            widths = numpy_helper.to_array(constants[node.input[1]])
            origin -= widths[2 : 2 + rank] * step
            continue
        attributes = attributes_of(node)
        kernel = np.array(attributes["kernel_shape"], float)
        before = np.array(attributes.get("pads", [0] * 2 * rank)[:rank], float)
        dilation = np.array(attributes.get("dilations", [1] * rank), float)
        origin += ((kernel - 1) * dilation / 2 - before) * step
        step *= np.array(attributes.get("strides", [1] * rank), float)
    return tuple(origin.tolist()), tuple(step.tolist())
