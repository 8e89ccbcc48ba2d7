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

from ctedge.bundle.maps import CAM
from ctedge_export.network.graph import Writer, attributes_of, only, places, shape_of
from ctedge_export.network.tf_to_onnx import refusal

if TYPE_CHECKING:
    import onnx

#: The map before its ReLU.
SIGNED = f"{CAM}.map"

_AVERAGE = "GlobalAveragePool"


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphMap:
    """A map of a graph.

    Attributes:
        name: of the output: float32 (N, *grid), not negative.
        nodes, weights: to append to the graph.
        features: the tensor that the map weighs.
        gradient: the answer's gradient by that tensor, or, where it is the same at every place,
            (N, C).
        grid: shape of the map, without the batch axis.
        origin: where the centre of its first cell lies, as an index of the input, per axis.
        step: from one centre to the next, in voxels of the input, per axis.
    """

    name: str
    nodes: tuple[onnx.NodeProto, ...]
    weights: tuple[onnx.TensorProto, ...]
    features: str
    gradient: str
    grid: tuple[int, ...]
    origin: tuple[float, ...]
    step: tuple[float, ...]


def grad_cam(model: onnx.ModelProto, *, answer: str) -> GraphMap:
    """The nodes that draw Grad-CAM, the output `cam`.

    Args:
        model: with inferred shapes; one global average, and behind it Flatten, then Gemm and Relu
            in turn up to the answer.
        answer: the output whose gradient is taken, "logit" or "score".

    Raises:
        InvalidBundle: another graph.
    """
    from onnx import numpy_helper

    graph = model.graph
    average = only([node for node in graph.node if node.op_type == _AVERAGE], _AVERAGE)
    features = average.input[0]
    channels, *grid = shape_of(graph, features)
    head = _head(graph, average.output[0], answer)
    origin, step = places(graph, features, rank=len(grid))
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    cells = math.prod(grid)
    write = Writer(CAM)
    # The last Dense has one output: its weights are its gradient.
    *inner, last = head
    gradient = write.hold("gradient", weights[last.weight].T)
    for number, dense in enumerate(reversed(inner), start=1):
        alive = write.emit("Sign", f"alive{number}", dense.output)
        passed = write.emit("Mul", f"passed{number}", alive, gradient)
        gradient = write.emit("Gemm", f"gradient{number}", passed, dense.weight, transB=1)
    share = write.hold("places", np.array(1 / cells, np.float32))
    gradient = write.emit("Mul", "share", gradient, share)
    shape = write.hold("row", np.array([-1, 1, channels], np.int64))
    row = write.emit("Reshape", "weights", gradient, shape)
    shape = write.hold("flat", np.array([0, channels, cells], np.int64))
    flat = write.emit("Reshape", "features", features, shape)
    summed = write.emit("MatMul", "sum", row, flat)
    shape = write.hold("grid", np.array([-1, *grid], np.int64))
    write.emit("Relu", None, write.emit("Reshape", "map", summed, shape))
    return GraphMap(
        name=CAM,
        nodes=tuple(write.nodes),
        weights=tuple(write.weights),
        features=features,
        gradient=gradient,
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
        node = only(readers.get(tensor, []), f"one reader of {tensor}")
        tensor = node.output[0]
        if node.op_type == "Gemm":
            if attributes_of(node).get("transB", 0):
                raise refusal("a Gemm of transposed weights", "weights of (inputs, outputs)")
            found.append(_Dense(weight=node.input[1], output=tensor))
        elif node.op_type == "Relu" and found:
            found[-1] = _Dense(weight=found[-1].weight, output=tensor)
        elif node.op_type != "Flatten" or found:
            raise refusal(f"{node.op_type} behind the average", "Flatten, Gemm or Relu")
    if not found:
        raise refusal("no Dense behind the average", "at least one")
    return found
