"""Dead voxels: what no answer reads of the input is cut off before the first layer.

A pooling of an odd number of cells drops the last one, and with it every voxel that only this one
saw: of 128 x 128 x 64 the published network reads 126 x 126 x 62. The answers keep every bit.
"""

from __future__ import annotations

from ctedge.onnx_file.chain import Chain, chain_of
from ctedge.onnx_file.graph import Graph, node, read_graph, replace_nodes, whole_numbers

#: Marks the names that a rewrite adds.
MARK = "ctedge.cut"

#: Since opset 10 a Slice takes its bounds as tensors.
_FIRST_OPSET = 10


def without_dead_voxels(model: bytes) -> bytes:
    """The same network on the part of its input that it reads; the same bytes where that is all.

    Args:
        model: an ONNX file that the guard passed. What is not understood is left as it is.
    """
    found = cuttable(model)
    if found is None or found[1].live() == found[1].size:
        return model
    chain = found[1]
    first = chain.layers[0].node
    bounds = [(0, size) for size in chain.live()]
    made, weights = slice_of(chain.input, f"{MARK}.live", bounds)
    rest = first.copy(reads=f"{MARK}.live", makes=first.outputs[0])
    return replace_nodes(model, [first], [made, rest], weights)


def cuttable(model: bytes) -> tuple[Graph, Chain] | None:
    """A file's graph and its chain of layers, or None where nothing in it can be cut."""
    graph = read_graph(model)
    if graph is None or graph.opset < _FIRST_OPSET:
        return None
    if any(name.startswith(MARK) for name in graph.names()):
        return None
    chain = chain_of(graph)
    return (graph, chain) if chain and chain.layers else None


def slice_of(
    tensor: str, name: str, bounds: list[tuple[int, int]]
) -> tuple[bytes, tuple[bytes, ...]]:
    """A Slice of a volume, first and end of each spatial axis, with the constants that it reads."""
    ends = {
        f"{name}.starts": [first for first, _ in bounds],
        f"{name}.ends": [end for _, end in bounds],
        f"{name}.axes": list(range(2, 2 + len(bounds))),
    }
    weights = tuple(whole_numbers(key, values) for key, values in ends.items())
    return node("Slice", [tensor, *ends], name), weights
