"""Rounded pooling: an int8 network rounds to its levels before a pooling instead of behind it.

The exported file rounds the largest of each window to a level; here the largest of the levels is
taken. Rounding never puts a larger value below a smaller one, so both are the same number. A
runtime can then draw the rounding into the convolution before, whose result (the largest tensor of
a 3D network) is written as one byte a value instead of four.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctedge.onnx_file.dead_voxels import MARK
from ctedge.onnx_file.graph import Graph, Node, read_graph, replace_nodes


def rounded_before_pooling(model: bytes) -> bytes:
    """The same network, bit for bit; the same bytes where no pooling is followed by a rounding.

    Args:
        model: an ONNX file that the guard passed. What is not understood is left as it is.
    """
    graph = read_graph(model)
    if graph is None:
        return model
    taken = set(graph.names())
    for pooling, rounding, levels in _rounded(graph):
        name = f"{MARK}.{pooling.outputs[0]}"
        if not taken.isdisjoint((f"{name}.int8", f"{name}.levels")):
            continue
        turned = [
            rounding.copy(reads=pooling.inputs[0], makes=f"{name}.int8"),
            levels.copy(reads=f"{name}.int8", makes=f"{name}.levels"),
            pooling.copy(reads=f"{name}.levels", makes=levels.outputs[0]),
        ]
        model = replace_nodes(model, [pooling, rounding, levels], turned, ())
    return model


def _rounded(graph: Graph) -> Iterator[tuple[Node, Node, Node]]:
    """Each largest-value pooling, and the two nodes behind it that round to levels of one scale."""
    readers, constants = graph.readers(), graph.constants()

    def only_reader(node: Node, operator: str) -> Node | None:
        reading = readers.get(node.outputs[0], [])
        if len(node.outputs) != 1 or len(reading) != 1 or node.outputs[0] in graph.outputs:
            return None
        others = reading[0].inputs[1:]
        single = all(graph.weights.get(name) in ((), (1,)) for name in others if name)
        first = reading[0].inputs[0] == node.outputs[0]
        fits = first and single and constants.issuperset(others)
        return reading[0] if fits and reading[0].operator == operator else None

    for pooling in graph.nodes:
        if pooling.operator != "MaxPool" or len(pooling.outputs) != 1:
            continue
        rounding = only_reader(pooling, "QuantizeLinear")
        levels = only_reader(rounding, "DequantizeLinear") if rounding else None
        if rounding and levels and rounding.inputs[1:] == levels.inputs[1:]:
            yield pooling, rounding, levels
