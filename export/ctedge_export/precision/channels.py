"""Every channel that a convolution reads on a scale of its own, moved into the layers around it.

INT8 knows one scale for a whole tensor, and of a ReLU's results only the half from 0 up. Both are
mended in float, before anything is rounded, and without changing what the network computes:

    scale   channel c is divided by its range: in the weights of what makes it (ReLU and pooling
            pass a positive factor on) and, undone, in those of the convolution that reads it
    shift   range 0..1 becomes -128/255..127/255: the ReLU clips at -128/255 instead of 0, and the
            biases before and behind make up for it; a reader with padding forbids this

so that a symmetric pair with one scale and zero point 0, which is what builders take, has for
every channel 255 steps instead of the few that the loudest channel leaves. What is read by anything
but convolutions stays as it is, and so do the names of all nodes and tensors.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(ICCV 2019), section 4.1, with factors from measured ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

_Floats = npt.NDArray[np.float64]

#: Of a shifted tensor: the size of one level, and what stands for zero.
STEP = 1 / 255
ZERO = -128 * STEP

#: Inputs of a convolution that has a bias.
_WITH_BIAS = 3

#: What a positive factor passes through, channel by channel.
_PASSING = frozenset(("Relu", "MaxPool", "Identity"))


@dataclass(frozen=True, kw_only=True)
class Source:
    """What makes a tensor whose channels can be scaled.

    Attributes:
        node: the convolution, or the Add of constants behind a Mul with constants.
        relu: the ReLU between; a shift needs one.
        shifts: whether a shift is possible.
    """

    node: str
    relu: str | None
    shifts: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Rescaled:
    """A network that computes the same with other scales inside.

    Attributes:
        model: in float.
        factors: by tensor that a convolution reads, what each channel was divided by.
        tops: by tensor, the value that level 127 stands for.
        shifted: tensors that were shifted.
    """

    model: onnx.ModelProto
    factors: Mapping[str, _Floats]
    tops: Mapping[str, float]
    shifted: frozenset[str]


def sources(model: onnx.ModelProto) -> dict[str, Source]:
    """The tensors read by convolutions alone whose channels can be scaled."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {weight.name for weight in graph.initializer}
    outputs = {output.name for output in graph.output}
    found = {}
    for tensor in dict.fromkeys(n.input[0] for n in graph.node if n.op_type == "Conv"):
        if tensor in outputs or any(reader.op_type != "Conv" for reader in readers[tensor]):
            continue
        relu, node = None, makers.get(tensor)
        while node is not None and node.op_type in _PASSING:
            relu = node.name if node.op_type == "Relu" else relu
            below = node.input[0]
            alone = below not in outputs and len(readers[below]) == 1
            node = makers.get(below) if alone else None
        if node is not None and _scalable([node, *readers[tensor]], makers, readers, constants):
            layers = [*readers[tensor], *([node] if node.op_type == "Conv" else [])]
            plain = not any(any(_attribute(reader, "pads")) for reader in readers[tensor])
            biased = all(len(layer.input) == _WITH_BIAS for layer in layers)
            shifts = plain and biased and relu is not None
            found[tensor] = Source(node=node.name, relu=relu, shifts=shifts)
    return found


def rescaled(model: onnx.ModelProto, ranges: Mapping[str, _Floats]) -> Rescaled:
    """Give every channel the range 0..1, where that can be done.

    Args:
        model: the FP32 network.
        ranges: by tensor that a convolution reads, the range of each channel.
    """
    import onnx

    written = onnx.ModelProto()
    written.CopyFrom(model)
    change = _Change(written)
    possible = sources(model)
    factors, tops, shifted = {}, {}, set()
    for tensor, widths in ranges.items():
        source = possible.get(tensor)
        factors[tensor] = np.ones(len(widths)) if source is None else widths
        tops[tensor] = float(widths.max()) if source is None else 1.0
        if source is None:
            continue
        change.divide(source.node, widths)
        shift = 0.0
        if source.shifts and source.relu is not None:
            shift, tops[tensor] = ZERO, 127 * STEP
            shifted.add(tensor)
            change.add(source.node, shift)
            change.clip(source.relu, shift)
        for reader in change.readers(tensor):
            change.multiply(reader, widths, shift)
    return Rescaled(model=written, factors=factors, tops=tops, shifted=frozenset(shifted))


class _Change:
    """Changes weights of a graph where they stand."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._nodes = {node.name: node for node in model.graph.node}
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._constants = {weight.name: weight for weight in model.graph.initializer}

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        return [n for n in self._graph.node if n.op_type == "Conv" and n.input[0] == tensor]

    def divide(self, name: str, widths: _Floats) -> None:
        """Divide what a node makes, channel by channel."""
        node = self._nodes[name]
        places = [(node, place) for place in range(1, len(node.input))]
        if node.op_type != "Conv":
            before = next(self._makers[n] for n in node.input if n in self._makers)
            places = [(one, _constant_place(one, self._constants)) for one in (node, before)]
        for owner, place in places:
            values = self._values(owner, place)
            axis = 0 if owner.op_type == "Conv" else 1  # constants of Mul and Add: (1, channels, …)
            self._put(owner, place, values / _along(widths, values.ndim, axis))

    def add(self, name: str, shift: float) -> None:
        """Add a number to what a node makes."""
        node = self._nodes[name]
        place = 2 if node.op_type == "Conv" else _constant_place(node, self._constants)
        self._put(node, place, self._values(node, place) + shift)

    def clip(self, name: str, low: float) -> None:
        """A ReLU that stops at `low` instead of 0."""
        from onnx import numpy_helper

        node = self._nodes[name]
        node.op_type = "Clip"
        node.input.append(f"{name}.low")
        self._graph.initializer.append(
            numpy_helper.from_array(np.array(low, np.float32), f"{name}.low")
        )

    def multiply(self, node: onnx.NodeProto, widths: _Floats, shift: float) -> None:
        """Undo in a convolution what was done to what it reads."""
        weights = self._values(node, 1)
        weights = weights * _along(widths, weights.ndim, 1)
        self._put(node, 1, weights)
        if shift:
            sums = weights.reshape(len(weights), -1).sum(axis=1)
            self._put(node, 2, self._values(node, 2) - shift * sums)

    def _values(self, node: onnx.NodeProto, place: int) -> _Floats:
        from onnx import numpy_helper

        return numpy_helper.to_array(self._constants[node.input[place]]).astype(np.float64)

    def _put(self, node: onnx.NodeProto, place: int, values: _Floats) -> None:
        from onnx import numpy_helper

        weight = self._constants[node.input[place]]
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float32), weight.name))


def _along(widths: _Floats, rank: int, axis: int) -> _Floats:
    return widths.reshape([-1 if one == axis else 1 for one in range(rank)])


def _constant_place(node: onnx.NodeProto, constants: Mapping[str, object]) -> int:
    return next(place for place, name in enumerate(node.input) if name in constants)


def _scalable(
    nodes: list[onnx.NodeProto],
    makers: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, list[onnx.NodeProto]],
    constants: set[str],
) -> bool:
    """Whether these are convolutions, or a Mul and an Add, whose constants nobody else reads."""
    owners = list(nodes)
    if nodes[0].op_type == "Add":
        inner = [makers[name] for name in nodes[0].input if name in makers]
        if len(inner) != 1 or inner[0].op_type != "Mul" or len(readers[inner[0].output[0]]) != 1:
            return False
        owners += inner
    elif nodes[0].op_type != "Conv":
        return False
    held = [[name for name in owner.input if name in constants] for owner in owners]
    return all(names and all(len(readers[name]) == 1 for name in names) for names in held)


def _attribute(node: onnx.NodeProto, name: str) -> list[int]:
    return [n for attribute in node.attribute if attribute.name == name for n in attribute.ints]
