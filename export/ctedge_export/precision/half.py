"""FP32 to half precision: the convolution trunk in FP16 or BF16; head, inputs and outputs float.

The types are written into the graph (Cast at both ends), so that a strongly typed build runs
exactly them. A layer kept in float takes and gives float32, with Casts around it.

Range: a weight beyond the largest half becomes infinite, so its layer is kept in float; a subnormal
one keeps fewer bits, or none. Both are counted. Bias and factors count as weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge_export.gates.structural import OPSETS
from ctedge_export.precision.trunk import finished, trunk_nodes

if TYPE_CHECKING:
    import onnx

#: Largest value, smallest normal value and smallest value above 0: IEEE 754 binary16, and bfloat16,
#: which has float32's exponent.
_RANGES = {
    "fp16": (65504.0, 2.0**-14, 2.0**-24),
    "bf16": (float.fromhex("0x1.fep127"), 2.0**-126, 2.0**-133),
}


@dataclass(frozen=True, kw_only=True)
class HalfWeights:
    """What half precision does to a trunk's weights.

    Attributes:
        total: how many there are.
        overflow: beyond the largest half.
        subnormal: below the smallest normal half, not 0.
        to_zero: of these, those that round to 0.
        overflowing: the layers that hold overflowing ones.
    """

    total: int
    overflow: int
    subnormal: int
    to_zero: int
    overflowing: tuple[str, ...]

    def to_json(self) -> dict[str, int]:
        """The counts."""
        return {
            "total": self.total,
            "overflow": self.overflow,
            "subnormal": self.subnormal,
            "to_zero": self.to_zero,
        }


def look_at_weights(model: onnx.ModelProto, precision: str) -> HalfWeights:
    """Count the trunk's weights that half precision cannot hold as they are."""
    largest, normal, smallest = _RANGES[precision]
    total = overflow = subnormal = to_zero = 0
    overflowing = []
    for layer, values in _weights(model):
        sizes = np.abs(values.astype(np.float64))
        tiny = (sizes > 0) & (sizes < normal)
        beyond = int(np.count_nonzero(sizes > largest))
        total, overflow = total + sizes.size, overflow + beyond
        subnormal += int(np.count_nonzero(tiny))
        to_zero += int(np.count_nonzero(tiny & (sizes <= smallest / 2)))
        if beyond and layer not in overflowing:
            overflowing.append(layer)
    return HalfWeights(
        total=total,
        overflow=overflow,
        subnormal=subnormal,
        to_zero=to_zero,
        overflowing=tuple(overflowing),
    )


def _weights(model: onnx.ModelProto) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    from onnx import TensorProto, numpy_helper

    constants = {weight.name: weight for weight in model.graph.initializer}
    trunk = set(trunk_nodes(model))
    for node in model.graph.node:
        for name in node.input if node.name in trunk else ():
            if name in constants and constants[name].data_type == TensorProto.FLOAT:
                yield node.name, numpy_helper.to_array(constants[name])


def halve(model: onnx.ModelProto, precision: str, *, keep: Collection[str] = ()) -> bytes:
    """Write the trunk in half precision.

    Args:
        model: the FP32 network, with names that say what they hold.
        precision: "fp16" or "bf16".
        keep: nodes that stay in float.

    Raises:
        InvalidBundle: not a network of convolutions with a global average behind them.
    """
    import onnx

    written = onnx.ModelProto()
    written.CopyFrom(model)
    _Halver(written, precision, set(trunk_nodes(model)) - set(keep)).rewrite()
    written.opset_import[0].version = OPSETS[precision]
    return finished(written)


class _Halver:
    """Walks a graph in the order of the data and keeps the type of every tensor."""

    def __init__(self, model: onnx.ModelProto, precision: str, trunk: set[str]) -> None:
        from onnx import TensorProto

        self._graph = model.graph
        self._trunk = trunk
        self._float = int(TensorProto.FLOAT)
        self._half = int(TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16)
        self._constants = {weight.name: weight for weight in model.graph.initializer}
        self._halved: dict[str, onnx.TensorProto] = {}
        self._kinds = {value.name: self._float for value in model.graph.input}
        self._nodes: list[onnx.NodeProto] = []

    def rewrite(self) -> None:
        for node in self._graph.node:
            kind = self._kind_of(node)
            for place, name in enumerate(node.input):
                node.input[place] = self._in_kind(name, kind)
            self._kinds |= dict.fromkeys(node.output, kind)
            self._nodes.append(node)
        nodes = list(self._nodes)
        used = {name for node in nodes for name in node.input}
        weights = [*self._constants.values(), *self._halved.values()]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        kept = [weight for weight in weights if weight.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _kind_of(self, node: onnx.NodeProto) -> int:
        """Half for a convolution of the trunk, and for what works on halves there."""
        if node.name not in self._trunk:
            return self._float
        halves = self._half in [self._kinds.get(name) for name in node.input]
        return self._half if node.op_type == "Conv" or halves else self._float

    def _in_kind(self, name: str, kind: int) -> str:
        """The name under which a tensor is to be had in a type; adds the Cast that it needs."""
        from onnx import helper

        if name in self._constants:
            return self._constant(name, kind)
        if name not in self._kinds or self._kinds[name] == kind:
            return name
        wanted = f"{name}.{'half' if kind == self._half else 'float'}"
        if wanted not in self._kinds:
            self._nodes.append(helper.make_node("Cast", [name], [wanted], wanted, to=kind))
            self._kinds[wanted] = kind
        return wanted

    def _constant(self, name: str, kind: int) -> str:
        from onnx import helper, numpy_helper

        weight = self._constants[name]
        if kind == self._float or weight.data_type != self._float:
            return name
        wanted = f"{name}.half"
        if wanted not in self._halved:
            values = numpy_helper.to_array(weight)
            with np.errstate(over="ignore"):
                half = values.astype(helper.tensor_dtype_to_np_dtype(self._half))
            self._halved[wanted] = numpy_helper.from_array(half, wanted)
        return wanted
