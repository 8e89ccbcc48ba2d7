"""Grad-CAM as nodes of the graph: an explanation that needs neither Keras nor autograd.

Grad-CAM weights each channel of a feature map by the mean gradient of the answer (Selvaraju et
al., "Grad-CAM", ICCV 2017). Behind the feature maps of our networks come only the global average
and Dense layers with ReLU between them, so the gradient is a product of their weights, masked by
the ReLUs, divided by the number of places, and the same at every place: nothing is differentiated.

The feature maps are those that the average reads: the last pooling of the 3D networks, before its
BatchNorm (which the fold has moved into the first Dense), and the last ReLU of DenseNet121. The
gradient is that of the logit or score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctedge_export.network.tf_to_onnx import refusal

if TYPE_CHECKING:
    import onnx

#: The output that holds the map: (N, *grid of the feature maps), not negative.
CAM = "cam"

_AVERAGE = "GlobalAveragePool"
_PREFIX = "cam."


@dataclass(frozen=True, kw_only=True, eq=False)
class Cam:
    """The map of a graph.

    Attributes:
        nodes, weights: to append to the graph.
        grid: shape of the map, without the batch axis.
        origin: where the centre of its first cell lies, as an index of the input, per axis.
        step: from one centre to the next, in voxels of the input, per axis.
    """

    nodes: tuple[onnx.NodeProto, ...]
    weights: tuple[onnx.TensorProto, ...]
    grid: tuple[int, ...]
    origin: tuple[float, ...]
    step: tuple[float, ...]


def cam_of(model: onnx.ModelProto, *, answer: str) -> Cam:
    """The nodes that draw the map.

    Args:
        model: with inferred shapes; one global average, and behind it Flatten, then Gemm and Relu
            in turn up to the answer.
        answer: the output whose gradient is taken, "logit" or "score".

    Raises:
        InvalidBundle: another graph.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    average = _only([node for node in graph.node if node.op_type == _AVERAGE], _AVERAGE)
    features = average.input[0]
    channels, *grid = _shape(graph, features)
    head = _head(graph, average.output[0], answer)
    origin, step = _places(graph, features, rank=len(grid))
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    places = math.prod(grid)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def hold(name: str, values: npt.NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), _PREFIX + name))
        return _PREFIX + name

    def emit(operator: str, name: str, inputs: list[str], **attributes: Any) -> str:
        written = CAM if name == CAM else _PREFIX + name
        nodes.append(helper.make_node(operator, inputs, [written], name=written, **attributes))
        return written

    # The last Dense has one output: its weights are its gradient.
    *inner, last = head
    gradient = hold("gradient", weights[last.weight].T)
    for number, dense in enumerate(reversed(inner), start=1):
        alive = emit("Sign", f"alive{number}", [dense.output])
        passed = emit("Mul", f"passed{number}", [alive, gradient])
        gradient = emit("Gemm", f"gradient{number}", [passed, dense.weight], transB=1)
    share = emit("Mul", "share", [gradient, hold("places", np.array(1 / places, np.float32))])
    shape = hold("row", np.array([-1, 1, channels], np.int64))
    row = emit("Reshape", "weights", [share, shape])
    shape = hold("flat", np.array([0, channels, places], np.int64))
    flat = emit("Reshape", "features", [features, shape])
    summed = emit("MatMul", "sum", [row, flat])
    shape = hold("grid", np.array([-1, *grid], np.int64))
    emit("Relu", CAM, [emit("Reshape", "map", [summed, shape])])
    return Cam(
        nodes=tuple(nodes),
        weights=tuple(constants),
        grid=tuple(grid),
        origin=origin,
        step=step,
    )


@dataclass(frozen=True, kw_only=True)
class _Dense:
    """A Gemm behind the average: its weights (in, out), and its output after the ReLU."""

    weight: str
    output: str


def _head(graph: onnx.GraphProto, tensor: str, answer: str) -> list[_Dense]:
    """The Dense layers from the average to the answer, in the order of the data."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        readers.setdefault(node.input[0], []).append(node)
    found: list[_Dense] = []
    while tensor != answer:
        node = _only(readers.get(tensor, []), f"one reader of {tensor}")
        tensor = node.output[0]
        if node.op_type == "Gemm":
            if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
                raise refusal("a Gemm of transposed weights", "weights of (inputs, outputs)")
            found.append(_Dense(weight=node.input[1], output=tensor))
        elif node.op_type == "Relu" and found:
            found[-1] = _Dense(weight=found[-1].weight, output=tensor)
        elif node.op_type != "Flatten" or found:
            raise refusal(f"{node.op_type} behind the average", "Flatten, Gemm or Relu")
    if not found:
        raise refusal("no Dense behind the average", "at least one")
    return found


def _places(
    graph: onnx.GraphProto, features: str, *, rank: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where the cells of a feature map lie in the input: centre of the first, and distance."""
    from onnx import helper, numpy_helper

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
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        kernel = np.array(attributes["kernel_shape"], float)
        before = np.array(attributes.get("pads", [0] * 2 * rank)[:rank], float)
        dilation = np.array(attributes.get("dilations", [1] * rank), float)
        origin += ((kernel - 1) * dilation / 2 - before) * step
        step *= np.array(attributes.get("strides", [1] * rank), float)
    return tuple(origin.tolist()), tuple(step.tolist())


def _shape(graph: onnx.GraphProto, tensor: str) -> list[int]:
    """Sizes of an inner tensor, without the batch axis."""
    for value in graph.value_info:
        if value.name == tensor:
            sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
            if len(sizes) > 2 and all(sizes[1:]):
                return sizes[1:]
    raise refusal(f"no static shape of {tensor}", "a static shape")


def _only(found: list[Any], what: str) -> Any:
    if len(found) != 1:
        raise refusal(f"{len(found)} times {what}", "one")
    return found[0]
