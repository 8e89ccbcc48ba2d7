"""The structural gate: a graph of the kind that every supported runtime takes whole.

Looked at: operators (allow-list, expected number of nodes), no external data, opset, no Transpose,
static sizes but for the batch, finite weights, no affine left that folding covers, and, of another
precision, that each convolution computes in the type that was asked for.

The fold covers an affine (Mul or Add with a constant) directly followed by a convolution without
padding, or by the global average; DenseNet's stand before a ReLU and stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ctedge.bundle.maps import MAPS
from ctedge.bundle.variants import FP32
from ctedge.errors import BundleError, counted
from ctedge.onnx_file.guard import inspect_model
from ctedge_export.gates.result import GateResult
from ctedge_export.network.tf_to_onnx import OPSET

if TYPE_CHECKING:
    import onnx

#: Convolutions in bfloat16 came with opset 22.
OPSETS = {FP32: OPSET, "fp16": OPSET, "bf16": 22, "int8": OPSET}

#: Nodes that only change a type.
TYPE_NODES = frozenset(("Cast", "QuantizeLinear", "DequantizeLinear"))

#: DenseNet121 with its head, as `tidy_slices` writes it.
_SLICE_NODES = 432

#: Conv and Gemm of the published network for whole scans.
_VOLUME_LAYERS = (4, 2)

#: The U-Net R231, as `lungmask_network` builds it; BatchNorms before padded convolutions stay.
_LUNG_NODES, _LUNG_NORMS = 66, 13

_PRODUCER = "ctedge"


def check(onnx_bytes: bytes, *, task: str, precision: str = FP32) -> GateResult:
    """Look at an ONNX file; nothing runs.

    Args:
        onnx_bytes: the file.
        task: "classifier", "severity", "slices" or "lungs".
        precision: what its convolutions should compute in.
    """
    import onnx

    try:
        inspect_model(onnx_bytes)
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(onnx_bytes))
        broken = tuple(_broken(model, task, precision))
    except (BundleError, onnx.shape_inference.InferenceError) as error:
        return GateResult(gate="structural", broken=(" ".join(str(error).split()),))
    operators = Counter(node.op_type for node in model.graph.node)
    return GateResult(
        gate="structural",
        broken=broken,
        details={
            "nodes": len(model.graph.node),
            "operators": dict(sorted(operators.items())),
            "opset": model.opset_import[0].version,
            "convolutions": dict(sorted(Counter(convolution_types(model).values()).items())),
        },
    )


def convolution_types(model: onnx.ModelProto) -> dict[str, str]:
    """What each convolution computes in, by node: "fp32", "fp16", "bf16", or "int8".

    Args:
        model: with inferred shapes. A convolution between DequantizeLinear nodes is "int8".
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    kinds = element_types(model)
    types = {}
    for node in model.graph.node:
        if node.op_type == "Conv" and not _of_a_map(node):
            sources = [made_by.get(name) for name in node.input[:2]]
            quantised = all(one and one.op_type == "DequantizeLinear" for one in sources)
            seen = {kinds.get(name) for name in (*node.input[:3], *node.output)}
            (kind,) = seen if len(seen) == 1 else (None,)
            types[node.name] = "int8" if quantised else _NAMES.get(kind or 0, "mixed")
    return types


#: ONNX element types by the name that this project gives them.
_NAMES = {1: FP32, 10: "fp16", 16: "bf16", 3: "int8"}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX element type of every tensor of a graph with inferred shapes, by name."""
    graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: int(value.type.tensor_type.elem_type) for value in values}
    return types | {weight.name: int(weight.data_type) for weight in graph.initializer}


def _of_a_map(node: onnx.NodeProto) -> bool:
    """Whether a node is there for a map, and not for the answer."""
    return node.name.split(".")[0] in MAPS


def _broken(model: onnx.ModelProto, task: str, precision: str) -> Iterator[str]:
    graph = model.graph
    if model.producer_name != _PRODUCER:
        yield f"written by {model.producer_name or 'an unknown tool'}, not by {_PRODUCER}"
    opset = model.opset_import[0].version
    if opset != OPSETS[precision]:
        yield f"opset {opset}, not {OPSETS[precision]}"
    computing = [
        node for node in graph.node if node.op_type not in TYPE_NODES and not _of_a_map(node)
    ]
    expected = expected_nodes(Counter(node.op_type for node in computing), task)
    if len(computing) != expected:
        yield f"{counted(len(computing), 'node')} besides type changes, not {expected}"
    operators = Counter(node.op_type for node in computing)
    if operators["Transpose"]:
        yield f"{operators['Transpose']} Transpose"
    if operators["BatchNormalization"] != (_LUNG_NORMS if task == "lungs" else 0):
        yield f"{operators['BatchNormalization']} BatchNormalization, not folded"
    yield from _dynamic(model)
    yield from _infinite(model)
    yield from _foldable(model)
    found = convolution_types(model)
    wrong = [name for name, kind in found.items() if kind not in (precision, FP32)]
    if wrong:
        yield f"the convolution {wrong[0]} computes in {found[wrong[0]]}, not {precision}"
    if precision not in found.values():
        yield f"no convolution computes in {precision}"


def expected_nodes(operators: Counter[str], task: str) -> int:
    """How many nodes a network of the task has, by its numbers of Conv and Gemm.

    Whole scans: (Conv, Relu, MaxPool) each, GlobalAveragePool, Flatten, Gemm with a Relu between
    each two, and the Sigmoid of a classifier. Imported networks of other sizes may lack an
    activation or a pooling, and still hold nothing else.
    """
    if task == "slices":
        return _SLICE_NODES
    if task == "lungs":
        return _LUNG_NODES
    sigmoid = 1 if task == "classifier" else 0
    if (operators["Conv"], operators["Gemm"]) == _VOLUME_LAYERS:
        return 3 * operators["Conv"] + 2 + (2 * operators["Gemm"] - 1) + sigmoid
    return (
        sum(operators[kind] for kind in ("Conv", "Relu", "Clip", "MaxPool", "Gemm")) + 2 + sigmoid
    )


def _dynamic(model: onnx.ModelProto) -> Iterator[str]:
    """Tensors with a size that is not known before the network runs, the batch left out."""
    graph = model.graph
    values = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    for node in graph.node:
        for name in (*node.input, *node.output):
            value = values.pop(name, None)
            if value is None:
                continue
            sizes = [size.dim_value for size in value.type.tensor_type.shape.dim[1:]]
            if not all(size > 0 for size in sizes):
                yield f"the size of {name} is not static"
                return


def _infinite(model: onnx.ModelProto) -> Iterator[str]:
    from onnx import numpy_helper

    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if not np.isfinite(values.astype(np.float32)).all():
            yield f"{weight.name} holds NaN or infinity"
            return


def _foldable(model: onnx.ModelProto) -> Iterator[str]:
    constants = {weight.name for weight in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in model.graph.node:
        if node.op_type not in ("Mul", "Add") or not constants & set(node.input):
            continue
        following = readers.get(node.output[0], [])
        if following and all(_takes_an_affine(reader) for reader in following):
            yield f"{node.name} is an affine before {following[0].name}, not folded"
            return


def _takes_an_affine(node: onnx.NodeProto) -> bool:
    if node.op_type == "GlobalAveragePool":
        return True
    pads = [n for attribute in node.attribute if attribute.name == "pads" for n in attribute.ints]
    return node.op_type == "Conv" and not any(pads)
