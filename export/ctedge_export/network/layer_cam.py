"""LayerCAM at an early pooling as nodes of the graph: a finer map than Grad-CAM.

LayerCAM weighs each value of a feature map by the positive part of the answer's gradient at that
very place (Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization",
IEEE Transactions on Image Processing 30, 2021), so it can look at an early, fine feature map, where
Grad-CAM's mean gradient says nothing. From Grad-CAM's gradient, which needs no differentiation, the
way back through the trunk is written out: a pooling hands the gradient to its largest values, a
ReLU to what it let pass, a convolution to what it read (its transpose, with the same weights).

It costs about as much as the answer itself, and nothing where it is not asked for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ctedge.bundle.maps import LAYER_CAM
from ctedge.errors import counted
from ctedge_export.network.grad_cam import GraphMap
from ctedge_export.network.graph import Writer, attributes_of, places, shape_of
from ctedge_export.network.tf_to_onnx import refusal

if TYPE_CHECKING:
    import onnx

_POOL = 2

#: An end that a slice from the last voxel backwards does not stop at.
_BEYOND = -(2**31)


def layer_cam(model: onnx.ModelProto, cam: GraphMap, *, pooling: int = 0) -> GraphMap:
    """The nodes that draw LayerCAM at one of the network's poolings, the output `layer_cam`.

    Args:
        model: with inferred shapes; from the input to Grad-CAM's features a chain of convolutions
            without padding, each with a ReLU, and of poolings by two.
        cam: its Grad-CAM, whose nodes must be in the graph too.
        pooling: which one, 0 the first; `benchmarks/explanation.py` compares them.

    Raises:
        InvalidBundle: another graph.
    """
    graph = model.graph
    makers = {node.output[0]: node for node in graph.node}
    chain = []
    tensor = cam.features
    while tensor in makers:
        chain.append(makers[tensor])
        tensor = makers[tensor].input[0]
    pools = [node for node in reversed(chain) if node.op_type == "MaxPool"]
    if len(pools) < pooling + 2:
        raise refusal(f"{counted(len(pools), 'pooling')} in a chain", f"{pooling + 2} at least")
    features = pools[pooling].output[0]
    way = chain[: chain.index(pools[pooling])]
    _, *grid = shape_of(graph, features)
    write = _Backwards(graph)
    shape = [-1, shape_of(graph, cam.features)[0], *[1] * len(grid)]
    gradient = write.emit(
        "Reshape", "start", cam.gradient, write.hold("column", np.array(shape, np.int64))
    )
    gradient = write.through(way, gradient)
    origin, step = places(graph, features, rank=len(grid))
    positive = write.emit("Relu", "positive", gradient)
    weighted = write.emit("Mul", "weighted", positive, features)
    over = write.hold("channels", np.array([1], np.int64))
    write.emit("ReduceSum", None, weighted, over, keepdims=0)
    return GraphMap(
        name=LAYER_CAM,
        nodes=tuple(write.nodes),
        weights=tuple(write.weights),
        features=features,
        gradient=gradient,
        grid=tuple(grid),
        origin=origin,
        step=step,
    )


class _Backwards(Writer):
    """Writes the gradient's way back through a chain."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__(LAYER_CAM)
        self._graph = graph

    def through(self, way: list[onnx.NodeProto], gradient: str) -> str:
        """Write the way back through nodes, the last one first; where it ends, the gradient."""
        for node in way:
            if node.op_type == "MaxPool":
                gradient = self._pool(node, gradient)
            elif node.op_type == "Relu":
                alive = self.emit("Sign", f"{node.name}.alive", node.output[0])
                gradient = self.emit("Mul", f"{node.name}.passed", alive, gradient)
            elif node.op_type == "Conv" and _is_plain(node):
                gradient = self._convolution(node, gradient)
            else:
                raise refusal(f"{node.op_type} {node.name}", "a plain Conv, Relu or MaxPool")
        return gradient

    def _pool(self, node: onnx.NodeProto, gradient: str) -> str:
        """Each window's gradient to its largest value; equal ones share it."""
        attributes = attributes_of(node)
        _, *large = shape_of(self._graph, node.input[0])
        _, *small = shape_of(self._graph, node.output[0])
        rank = len(large)
        windows = (attributes["kernel_shape"], attributes.get("strides"))
        if any(list(sizes or []) != [_POOL] * rank for sizes in windows) or any(
            attributes.get("pads", [])
        ):
            raise refusal(f"the windows of {node.name}", "2 voxels wide, side by side")
        name = node.name
        most = self._widened(node.output[0], f"{name}.most", rank)
        whole = self._cut(node.input[0], f"{name}.whole", small, large)
        # Nothing exceeds a window's largest value: the gap is 0 there, and positive elsewhere.
        below = self.emit("Sign", f"{name}.below", self.emit("Sub", f"{name}.gap", most, whole))
        one = self.hold(f"{name}.one", np.array(1, np.float32))
        largest = self.emit("Sub", f"{name}.largest", one, below)
        kernel = {"kernel_shape": [_POOL] * rank, "strides": [_POOL] * rank}
        share = self.emit("AveragePool", f"{name}.share", largest, **kernel)
        cells = self.hold(f"{name}.cells", np.array(math.pow(_POOL, rank), np.float32))
        equal = self.emit("Mul", f"{name}.equal", share, cells)
        each = self.emit(
            "Mul", f"{name}.each", self.emit("Reciprocal", f"{name}.part", equal), gradient
        )
        spread = self._widened(each, f"{name}.spread", rank)
        passed = self.emit("Mul", f"{name}.passed", spread, largest)
        return self._padded(passed, f"{name}.gradient", small, large)

    def _convolution(self, node: onnx.NodeProto, gradient: str) -> str:
        """What each voxel that was read has a share in: a convolution with the kernel turned round.

        ConvTranspose is the same, but OpenVINO 2026.4 gives others at odd sizes. The kernel is
        turned in the graph, once, when a runtime loads it: no second one is stored.
        """
        kernel = attributes_of(node)["kernel_shape"]
        axes = list(range(2, 2 + len(kernel)))
        name = node.name
        back = {"starts": [-1] * len(axes), "ends": [_BEYOND] * len(axes), "axes": axes}
        back["steps"] = [-1] * len(axes)
        held = [
            self.hold(f"{name}.{key}", np.array(value, np.int64)) for key, value in back.items()
        ]
        swapped = self.emit("Transpose", f"{name}.swapped", node.input[1], perm=[1, 0, *axes])
        turned = self.emit("Slice", f"{name}.turned", swapped, *held)
        pads = [size - 1 for size in kernel] * 2
        return self.emit("Conv", f"{name}.gradient", gradient, turned, pads=pads)

    def _widened(self, tensor: str, name: str, rank: int) -> str:
        """Every cell as a window."""
        scales = self.hold(f"{name}.scales", np.array([1, 1, *[_POOL] * rank], np.float32))
        return self.emit(
            "Resize",
            name,
            tensor,
            "",
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def _cut(self, tensor: str, name: str, small: list[int], large: list[int]) -> str:
        """Without the last plane that no window reads, where a size is odd."""
        if [_POOL * n for n in small] == large:
            return tensor
        ends = [_POOL * n for n in small]
        bounds = {
            "starts": [0] * len(ends),
            "ends": ends,
            "axes": [2 + axis for axis in range(len(ends))],
        }
        held = [
            self.hold(f"{name}.{key}", np.array(value, np.int64)) for key, value in bounds.items()
        ]
        return self.emit("Slice", name, tensor, *held)

    def _padded(self, tensor: str, name: str, small: list[int], large: list[int]) -> str:
        """With zeros where that plane was."""
        missing = [whole - _POOL * n for n, whole in zip(small, large, strict=True)]
        if not any(missing):
            return tensor
        widths = np.array([0] * (2 + len(missing)) + [0, 0, *missing], np.int64)
        return self.emit("Pad", name, tensor, self.hold(f"{name}.widths", widths))


def _is_plain(node: onnx.NodeProto) -> bool:
    attributes = attributes_of(node)
    ones = (*attributes.get("strides", []), *attributes.get("dilations", []))
    return (
        attributes.get("group", 1) == 1
        and all(size == 1 for size in ones)
        and not any(attributes.get("pads", []))
        and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    )
