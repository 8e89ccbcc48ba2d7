"""Ways to write the network that `rewrites.py` measures; those that lost live here alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ctedge.onnx_file.dead_voxels import without_dead_voxels
from ctedge.onnx_file.rounded_pooling import rounded_before_pooling
from ctedge.onnx_file.slabs import in_slabs

#: Where each spatial axis of the input comes from when depth goes to the other end: first to last.
TURN = (1, 2, 0)


def turned(model: bytes) -> bytes:
    """The same network for volumes whose first spatial axis comes last."""
    graph = (written := onnx.load_from_string(model)).graph
    axes = graph.input[0].type.tensor_type.shape.dim
    sizes = [axis.dim_value for axis in axes[2:]]
    for axis, source in zip(axes[2:], TURN, strict=True):
        axis.dim_value = sizes[source]
    for weight in graph.initializer:
        if len(weight.dims) == 5:
            values = numpy_helper.to_array(weight).transpose(0, 1, *(2 + axis for axis in TURN))
            weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), weight.name))
    return _bytes(written)


def half_input(model: bytes) -> bytes:
    """The same network for volumes in float16, widened first."""
    graph = (written := onnx.load_from_string(model)).graph
    name = graph.input[0].name
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in graph.node:
        node.input[:] = ["widened" if one == name else one for one in node.input]
    graph.node.insert(0, helper.make_node("Cast", [name], ["widened"], to=TensorProto.FLOAT))
    return _bytes(written)


def space_to_depth(model: bytes) -> bytes:
    """The first convolution on the eight phases of the volume, and its pooling over them.

    Conv 3 x 3 x 3 and MaxPool 2 are Conv 2 x 2 x 2 of 8 channels to 8 times as many, and the
    largest of the eight: the value at 2 i + p reads, through weight k, the voxel 2 i + p + k, which
    is phase (p + k) mod 2 of block i + (p + k) // 2.
    """
    graph = (written := onnx.load_from_string(without_dead_voxels(model))).graph
    conv, relu, pool = (
        next(node for node in graph.node if node.op_type == kind)
        for kind in ("Conv", "Relu", "MaxPool")
    )
    constants = {weight.name: weight for weight in graph.initializer}
    kernel = numpy_helper.to_array(constants[conv.input[1]])
    bias = numpy_helper.to_array(constants[conv.input[2]])
    spread = np.zeros((8, len(kernel), 8, 2, 2, 2), np.float32)
    for number, phase in enumerate(itertools.product(range(2), repeat=3)):
        for place in itertools.product(range(3), repeat=3):
            reads = [p + k for p, k in zip(phase, place, strict=True)]
            channel = sum((at % 2) << shift for at, shift in zip(reads, (2, 1, 0), strict=True))
            block = tuple(at // 2 for at in reads)
            spread[(number, slice(None), channel, *block)] = kernel[(slice(None), 0, *place)]
    live = next(weight for weight in graph.initializer if weight.name == "ctedge.cut.live.ends")
    sizes = [int(size) // 2 for size in numpy_helper.to_array(live)]
    halves = list(itertools.chain.from_iterable((size, 2) for size in sizes))
    made = {
        "s2d.kernel": spread.reshape(8 * len(kernel), 8, 2, 2, 2),
        "s2d.bias": np.tile(bias, 8),
        "s2d.halves": np.array([-1, *halves]),
        "s2d.phases": np.array([-1, 8, *sizes]),
        "s2d.apart": np.array([-1, 8, len(kernel), *(size - 1 for size in sizes)]),
    }
    graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in made.items())
    node = helper.make_node
    nodes = [
        node("Reshape", [conv.input[0], "s2d.halves"], ["s2d.split"]),
        node("Transpose", ["s2d.split"], ["s2d.moved"], perm=[0, 2, 4, 6, 1, 3, 5]),
        node("Reshape", ["s2d.moved", "s2d.phases"], ["s2d.volume"]),
        node(
            "Conv", ["s2d.volume", "s2d.kernel", "s2d.bias"], ["s2d.conv"], kernel_shape=[2, 2, 2]
        ),
        node("Reshape", ["s2d.conv", "s2d.apart"], ["s2d.values"]),
        node("ReduceMax", ["s2d.values"], ["s2d.most"], axes=[1], keepdims=0),
        node("Relu", ["s2d.most"], list(pool.output)),
    ]
    place = list(graph.node).index(conv)
    for gone in (conv, relu, pool):
        graph.node.remove(gone)
    for number, made_node in enumerate(nodes):
        graph.node.insert(place + number, made_node)
    return _bytes(written)


def _slabs(cells: int, poolings: int) -> Callable[[bytes], bytes]:
    return lambda model: in_slabs(model, cells=cells, poolings=poolings)


def _same(model: bytes) -> bytes:
    return model


ROUNDED = "dead voxels, rounded before pooling"

#: Graphs that only one precision has.
ONE_PRECISION = {ROUNDED: "int8", "space to depth": "fp32"}

#: By name. Of the published grid the second pooling makes 30 planes, the first 62.
GRAPHS: dict[str, Callable[[bytes], bytes]] = {
    "as exported": _same,
    "dead voxels": without_dead_voxels,
    "dead voxels, 2 slabs": _slabs(15, 2),
    "dead voxels, 4 slabs": _slabs(8, 2),
    "dead voxels, 8 slabs": _slabs(4, 2),
    "dead voxels, 15 slabs": _slabs(2, 2),
    "dead voxels, 30 slabs": _slabs(1, 2),
    "dead voxels, 2 slabs of the first block": _slabs(32, 1),
    "dead voxels, 8 slabs of the first block": _slabs(8, 1),
    "dead voxels, 16 slabs of the first block": _slabs(4, 1),
    ROUNDED: lambda model: rounded_before_pooling(without_dead_voxels(model)),
    "depth at the other end": turned,
    "volume in float16": half_input,
    "space to depth": space_to_depth,
}


def _bytes(model: onnx.ModelProto) -> bytes:
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data
