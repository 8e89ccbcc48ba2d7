"""The ONNX graph of a network for slices, rewritten to be read: names that say what they hold.

tf2onnx writes generated names that differ from run to run. Here nodes are named by kind, in the
order of the data ("conv1", "relu1", "concat1"), their outputs likewise, and their weights after
them ("conv1.weight", "scale1.factor"). Operators that a DenseNet does not need are refused, so that
no stray Transpose gets through.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctedge.bundle.manifest import TASK_INPUTS, TASK_OUTPUTS
from ctedge_export.network.tf_to_onnx import refusal

if TYPE_CHECKING:
    import onnx

#: What tf2onnx calls the trunk's output.
FEATURES = "features"

#: The node of the Dense layer.
DENSE = "dense1"

#: What a node of this kind is called, and its constants in order. BatchNorm before a ReLU is
#: left as Mul and Add.
_KINDS = {
    "Add": ("shift", ("offset",)),
    "AveragePool": ("average_pool", ()),
    "Concat": ("concat", ()),
    "Conv": ("conv", ("weight", "bias")),
    "MaxPool": ("max_pool", ()),
    "Mul": ("scale", ("factor",)),
    "Pad": ("pad", ("widths", "value")),
    "Relu": ("relu", ()),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trunk:
    """A renamed trunk.

    Attributes:
        nodes, weights: in the order of the data.
        features: the name of its output.
    """

    nodes: tuple[onnx.NodeProto, ...]
    weights: tuple[onnx.TensorProto, ...]
    features: str

    @property
    def activations(self) -> tuple[str, ...]:
        """The names of the ReLUs."""
        return tuple(node.name for node in self.nodes if node.op_type == "Relu")

    @property
    def scales(self) -> int:
        """How many BatchNorms are left."""
        return sum(node.op_type == "Mul" for node in self.nodes)


def tidy_trunk(raw: onnx.ModelProto) -> Trunk:
    """Rename what tf2onnx made.

    Args:
        raw: a graph of one input and the output `features`, both NCHW.

    Raises:
        InvalidBundle: an operator that no DenseNet has, or another output.
    """
    from onnx import helper, numpy_helper

    constants = {weight.name: weight for weight in raw.graph.initializer}
    tensors = {raw.graph.input[0].name: TASK_INPUTS["slices"]}
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    counts: Counter[str] = Counter()
    for node in raw.graph.node:
        if node.op_type not in _KINDS or len(node.output) != 1:
            raise refusal(f"{node.op_type} in node {node.name!r}", ", ".join(_KINDS))
        stem, roles = _KINDS[node.op_type]
        counts[stem] += 1
        name = f"{stem}{counts[stem]}"
        inputs, left = [], iter(roles)
        for tensor in filter(None, node.input):
            if tensor not in constants:
                inputs.append(tensors[tensor])
                continue
            role = next(left, None)
            values = numpy_helper.to_array(constants[tensor])
            if role is None or values.dtype not in (np.float32, np.int64):
                raise refusal(f"{values.dtype} constant of {node.name!r}", roles or "none")
            inputs.append(f"{name}.{role}")
            weights.append(numpy_helper.from_array(values, inputs[-1]))
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        nodes.append(helper.make_node(node.op_type, inputs, [name], name=name, **attributes))
        tensors[node.output[0]] = name
    if [output.name for output in raw.graph.output] != [FEATURES] or not nodes:
        raise refusal([output.name for output in raw.graph.output], [FEATURES])
    return Trunk(nodes=tuple(nodes), weights=tuple(weights), features=tensors[FEATURES])


def head(dense: Any, *, after: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The global average, the Dense layer as the logit, and its sigmoid as the probability.

    Args:
        dense: the Keras layer, Dense 1.
        after: the tensor (N, C, H, W) that is averaged.
    """
    from onnx import helper, numpy_helper

    kernel = np.asarray(dense.kernel, np.float32)
    bias = np.asarray(dense.bias, np.float32) if dense.use_bias else np.zeros(1, np.float32)
    weight_name, bias_name = f"{DENSE}.weight", f"{DENSE}.bias"
    logit, probability = TASK_OUTPUTS["slices"]
    return (
        [
            helper.make_node("GlobalAveragePool", [after], ["average"], name="average"),
            helper.make_node("Flatten", ["average"], ["flatten"], name="flatten", axis=1),
            helper.make_node("Gemm", ["flatten", weight_name, bias_name], [logit], name=DENSE),
            helper.make_node("Sigmoid", [logit], [probability], name="sigmoid"),
        ],
        [
            numpy_helper.from_array(kernel, weight_name),
            numpy_helper.from_array(bias, bias_name),
        ],
    )
