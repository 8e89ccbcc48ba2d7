"""The chain of layers behind a network's input of which each value sees a small box of it alone.

Unpadded convolution, unpadded pooling, and what looks at one value at a time: of such a chain every
part of the result can be calculated from a part of the input, exactly. It ends before the first
node of another kind, before a tensor that a second node reads, and before an output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctedge.onnx_file.graph import Graph, Node

#: Operators of one value at a time; what else they read is a constant that is a single number.
_ELEMENTWISE = frozenset(("Cast", "Clip", "Identity", "LeakyRelu", "Relu", "Sigmoid", "Tanh"))
_ELEMENTWISE |= {"QuantizeLinear", "DequantizeLinear"}
_POOLING = frozenset(("AveragePool", "MaxPool"))
_WINDOWED = _POOLING | {"Conv"}

#: Attributes of a window that are understood, as whole numbers; with another (auto_pad, pads that
#: are not 0) the chain ends.
_UNDERSTOOD = frozenset(("dilations", "group", "kernel_shape", "pads", "strides", "ceil_mode"))
_UNDERSTOOD |= {"count_include_pad", "storage_order"}

#: (N, C, depth, height, width)
_AXES_BEFORE = 2
SPATIAL = 3
_STILL = (1,) * SPATIAL

#: Voxels along an axis; no scan has as many.
_MOST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node of the chain, and per spatial axis the window that it slides.

    Attributes:
        node: the node.
        size: of its result.
        window: how many values of its input one value sees, from the first to the last.
        stride: how far apart two windows begin.
        pools: whether it is a pooling.
    """

    node: Node
    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    pools: bool


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The layers behind the input, which has `size` along its spatial axes."""

    input: str
    size: tuple[int, ...]
    layers: tuple[Layer, ...]

    def live(self, upto: int = 0) -> tuple[int, ...]:
        """How much is read, along each axis, of what `layers[upto]` takes (0: of the input)."""
        size = self.layers[-1].size if self.layers else self.size
        return tuple(read(self.layers[upto:], axis, 0, size[axis])[1] for axis in range(len(size)))


def read(layers: Sequence[Layer], axis: int, first: int, end: int) -> tuple[int, int]:
    """What layers read of their input to make the cells `first` to `end` - 1 of their result."""
    for layer in reversed(layers):
        first *= layer.stride[axis]
        end = (end - 1) * layer.stride[axis] + layer.window[axis]
    return first, end


def chain_of(graph: Graph) -> Chain | None:
    """The chain behind a volume (N, C, depth, height, width) of known sizes; else None."""
    shape = graph.input.shape[_AXES_BEFORE:]
    size = tuple(axis for axis in shape if isinstance(axis, int) and 0 < axis <= _MOST)
    if len(size) != SPATIAL or len(shape) != SPATIAL:
        return None
    constants, readers = graph.constants(), graph.readers()
    layers: list[Layer] = []
    tensor, whole = graph.input.name, size
    while len(layers) < len(graph.nodes):  # a damaged file may lead in a circle
        reading = readers.get(tensor, [])
        if len(reading) != 1 or tensor in graph.outputs:
            break
        layer = _layer(reading[0], tensor, size, graph, constants)
        if layer is None:
            break
        layers.append(layer)
        tensor, size = layer.node.outputs[0], layer.size
    return Chain(input=graph.input.name, size=whole, layers=tuple(layers))


def _layer(
    node: Node, tensor: str, size: tuple[int, ...], graph: Graph, constants: set[str]
) -> Layer | None:
    """A node as a layer of the chain; None where it is none."""
    others = node.inputs[1:]
    if node.inputs[:1] != (tensor,) or len(node.outputs) != 1 or not constants.issuperset(others):
        return None
    if node.operator in _WINDOWED:
        return _windowed(node, size)
    # A scale of several numbers runs along an axis, which might be cut.
    single = all(not name or graph.weights.get(name) in ((), (1,)) for name in others)
    if node.operator not in _ELEMENTWISE or not single:
        return None
    return Layer(node=node, size=size, window=_STILL, stride=_STILL, pools=False)


def _windowed(node: Node, size: tuple[int, ...]) -> Layer | None:
    """A convolution or pooling without padding; None for one of another kind."""
    kernel = node.numbers.get("kernel_shape", ())
    stride = node.numbers.get("strides", _STILL)
    dilation = node.numbers.get("dilations", _STILL)
    understood = _UNDERSTOOD.issuperset(node.numbers) and not node.number("ceil_mode", 0)
    if not understood or any(node.numbers.get("pads", ())) or node.number("storage_order", 0):
        return None
    if any(len(part) != SPATIAL or min(part) < 1 for part in (kernel, stride, dilation)):
        return None
    window = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    made = tuple((n - w) // s + 1 for n, w, s in zip(size, window, stride, strict=True))
    if min(made) < 1:
        return None
    pools = node.operator in _POOLING
    return Layer(node=node, size=made, window=window, stride=stride, pools=pools)
