"""The ONNX graph of a network for whole scans, rewritten to be read.

One chain, names that say what they hold, nothing idle.

tf2onnx writes the network as a chain with a leading no-op Reshape, Dense as MatMul and Add, and
generated names. This reads that chain node by node, refuses anything it does not expect, and
writes it again: Dense as Gemm, the squeeze after the average as Flatten, each node and its output
named after its layer ("conv1", "relu1", "pool1"), weights "conv1.weight" and "conv1.bias".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ctedge.bundle.manifest import TASK_INPUTS, TASK_OUTPUTS
from ctedge.errors import counted
from ctedge.spec import PreprocessSpec
from ctedge_export.network.fold import Step
from ctedge_export.network.onnx_model import finished_model
from ctedge_export.network.tf_to_onnx import refusal

if TYPE_CHECKING:
    import onnx


def tidy(
    raw: onnx.ModelProto,
    steps: tuple[Step, ...],
    *,
    task: str,
    spec: PreprocessSpec,
    properties: Mapping[str, str],
) -> onnx.ModelProto:
    """Rewrite what tf2onnx made, and check it in full.

    Args:
        raw: the model from `volume_network.to_onnx`.
        steps: the folded layers; the graph must consist of exactly them.
        task: "classifier" (outputs `logit`, `probability`) or "severity" (output `score`).
        spec: gives the input its shape.
        properties: metadata for whoever opens the file elsewhere.

    Raises:
        InvalidBundle: tf2onnx wrote something else, or the checker refuses the result.
    """
    nodes, weights = _Chain(raw).rewrite(steps, (1, *spec.shape), task)
    return finished_model(nodes, weights, task=task, spec=spec, properties=properties)


class _Chain:
    """tf2onnx' nodes in the order of the data, from the input on."""

    def __init__(self, raw: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self._weights = {w.name: numpy_helper.to_array(w) for w in raw.graph.initializer}
        self._readers: dict[str, list[Any]] = {}
        for node in raw.graph.node:
            for name in node.input:
                if name not in self._weights:
                    self._readers.setdefault(name, []).append(node)
        self._tensor = raw.graph.input[0].name
        self._left = len(raw.graph.node)

    def rewrite(
        self,
        steps: tuple[Step, ...],
        input_shape: tuple[int, ...],
        task: str,
    ) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The chain's nodes and weights, renamed; every node of the original must be used."""
        self._nodes: list[onnx.NodeProto] = []
        self._named: list[onnx.TensorProto] = []
        self._name = TASK_INPUTS[task]
        outputs = TASK_OUTPUTS[task]
        relus = 0
        self._skip_reshape(input_shape)
        for step in steps:
            if step.name.startswith("conv"):
                self._conv(step)
            elif step.name.startswith("pool"):
                self._emit("MaxPool", step.name, **_attributes(self._next("MaxPool")))
            elif step.name == "average":
                self._next("GlobalAveragePool")
                self._emit("GlobalAveragePool", step.name)
                self._next("Squeeze", "Reshape", "Flatten")
                self._emit("Flatten", "flatten", axis=1)
            else:
                self._dense(step, outputs[0] if step is steps[-1] else step.name)
            activation = step.config["config"].get("activation", "linear")
            if step is not steps[-1] and activation != "linear":
                if activation != "relu":
                    _refuse(f"activation {activation!r} of {step.source}", "relu")
                relus += 1
                self._next("Relu")
                self._emit("Relu", f"relu{relus}")
        if "probability" in outputs:
            self._next("Sigmoid")
            self._emit("Sigmoid", "sigmoid", output="probability")
        if self._left:
            _refuse(f"{counted(self._left, 'node')} beside the chain", "none")
        return self._nodes, self._named

    def _skip_reshape(self, input_shape: tuple[int, ...]) -> None:
        """Drop the leading Reshape, after making sure that it keeps every axis where it is."""
        node = self._peek()
        if node is not None and node.op_type == "Reshape":
            target = [int(n) for n in self._weights[node.input[1]]]
            if target[0] not in (-1, 0) or target[1:] != list(input_shape):
                _refuse(f"a reshape of the input to {target}", f"[-1, *{input_shape}]")
            self._next("Reshape")

    def _conv(self, step: Step) -> None:
        node = self._next("Conv")
        weight = self._weights[node.input[1]]
        bias = self._weights[node.input[2]] if len(node.input) > 2 else _zeros(weight.shape[0])
        inputs = self._hold(step.name, weight, bias)
        self._emit("Conv", step.name, inputs=inputs, **_attributes(node))

    def _dense(self, step: Step, output: str) -> None:
        node = self._next("MatMul", "Gemm")
        weight = self._weights[node.input[1]]
        attributes = _attributes(node)
        if any(attributes.pop(key, default) != default for key, default in _GEMM.items()):
            _refuse(f"a Gemm with {_attributes(node)}", _GEMM)
        bias = self._weights[node.input[2]] if len(node.input) > 2 else None
        after = self._peek()
        if bias is None and after is not None and after.op_type == "Add":
            self._next("Add")
            bias = self._weights[next(name for name in after.input if name in self._weights)]
        bias = _zeros(weight.shape[1]) if bias is None else bias.reshape(weight.shape[1])
        self._emit("Gemm", step.name, output=output, inputs=self._hold(step.name, weight, bias))

    def _hold(self, layer: str, weight: Any, bias: Any) -> tuple[str, str]:
        from onnx import numpy_helper

        names = (f"{layer}.weight", f"{layer}.bias")
        for name, values in zip(names, (weight, bias), strict=True):
            if values.dtype != np.float32:
                _refuse(f"{values.dtype} in {name}", "float32")
            self._named.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return names

    def _emit(
        self,
        operator: str,
        name: str,
        *,
        inputs: tuple[str, ...] = (),
        output: str | None = None,
        **attributes: Any,
    ) -> None:
        from onnx import helper

        written = name if output is None else output
        self._nodes.append(
            helper.make_node(operator, [self._name, *inputs], [written], name=name, **attributes)
        )
        self._name = written

    def _peek(self) -> Any:
        readers = self._readers.get(self._tensor, [])
        return readers[0] if len(readers) == 1 else None

    def _next(self, *operators: str) -> Any:
        node = self._peek()
        found = "the end, or a branch" if node is None else node.op_type
        if node is None or node.op_type not in operators or len(node.output) != 1:
            _refuse(f"{found} after {self._name}", " or ".join(operators))
        self._left -= 1
        self._tensor = node.output[0]
        return node


#: What a Gemm does when it is nothing but MatMul and Add.
_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _zeros(length: int) -> Any:
    return np.zeros(length, np.float32)


def _refuse(found: object, expected: object) -> NoReturn:
    raise refusal(found, expected)
