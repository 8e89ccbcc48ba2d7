"""A half-precision graph for runtimes without half-precision arithmetic, its roundings written out.

Weights are widened to float32 (exactly), and behind every operator whose result was half stand two
Casts, to half and back. What is left out is the order of the sums within one operator: they are in
float32 here, as on tensor cores.
"""

from __future__ import annotations

import numpy as np

#: These only pass values on, or pick among them: of rounded values they give rounded values.
_EXACT = frozenset(("Concat", "Flatten", "Identity", "MaxPool", "Pad", "Relu"))


def write_out_roundings(onnx_bytes: bytes) -> bytes:
    """The same network in float32, with a rounding behind each operator that computed in half.

    Args:
        onnx_bytes: a graph as `half.halve` writes it, FP16 or BF16.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(onnx_bytes))
    graph, halves = model.graph, (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    for weight in graph.initializer:
        if weight.data_type in halves:
            values = numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    nodes = []
    for node in graph.node:
        (output,) = node.output
        if node.op_type == "Cast" and kinds.get(output) not in halves:  # back to float: it is
            nodes.append(helper.make_node("Identity", node.input, [output], node.name))
            continue
        rounds = kinds.get(output) in halves and node.op_type not in _EXACT
        if not rounds:
            nodes.append(node)
            continue
        source = node.input[0]
        if node.op_type != "Cast":
            source = f"{output}.exact"
            computed = onnx.NodeProto()
            computed.CopyFrom(node)
            computed.output[0] = source
            nodes.append(computed)
        nodes += [
            helper.make_node("Cast", [source], [f"{output}.rounded"], to=kinds[output]),
            helper.make_node("Cast", [f"{output}.rounded"], [output], to=TensorProto.FLOAT),
        ]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString()
    return written
