"""What is inside an ONNX file, read from its bytes before any native library sees them.

An ONNX file is a protobuf message. This module walks its wire format directly: no onnx package,
no recursion (the messages it enters are nested to a fixed depth), and every field it does not
know is refused, so that it cannot understand a file otherwise than the library that runs it.

Refused as UnsafeModel: external data (a tensor that names a file), operators off the allow-list
or of another domain, local functions, subgraphs, training graphs, sparse and text tensors.
Refused as InvalidBundle: bytes that are no well-formed ONNX message.

Sources: protobuf.dev/programming-guides/encoding, and onnx.proto of ONNX 1.23 for field numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from ctedge.errors import InvalidBundle, UnsafeModel
from ctedge.onnx_file.wire import Field, Kind, MalformedError, Walker

_PLAIN_OPERATORS = """
    Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Constant Conv ConvTranspose
    DequantizeLinear Dropout Exp Flatten Floor Gather Gemm GlobalAveragePool GlobalMaxPool
    Identity LeakyRelu Log MatMul Max MaxPool Mean Min Mul Neg Pad Pow QuantizeLinear
    Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Shape Sigmoid
    Sign Slice Softmax Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze
    """

#: Plain arithmetic on tensors. None of these reads a file, calls out, loops or holds a subgraph.
ALLOWED_OPERATORS = frozenset(_PLAIN_OPERATORS.split())
_DOMAINS = frozenset(("", "ai.onnx"))

#: Numeric element types of TensorProto: 4 bits and wider, no text (8) and no complex (14, 15).
_ELEMENT_TYPES = frozenset((1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16, 21, 22))
_MAX_NODES = 20_000
FLOAT32 = 1

_INT, _INTS, _BYTES, _MANY = Kind.INT, Kind.INTS, Kind.BYTES, Kind.MANY

MODEL_FIELDS = {1: _INT, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _INT, 6: _BYTES, 7: _BYTES, 8: _MANY}
MODEL_FIELDS |= {14: _MANY, 20: _MANY, 25: _MANY}
_OPSET = {1: _BYTES, 2: _INT}
GRAPH_FIELDS = {1: _MANY, 2: _BYTES, 5: _MANY, 10: _BYTES, 11: _MANY, 12: _MANY, 13: _MANY}
GRAPH_FIELDS |= {15: _MANY, 16: _MANY}
NODE_FIELDS = {1: _MANY, 2: _MANY, 3: _BYTES, 4: _BYTES, 5: _MANY, 6: _BYTES, 7: _BYTES, 8: _BYTES}
NODE_FIELDS |= {9: _MANY}
_ATTRIBUTE = {1: _BYTES, 2: Kind.FLOAT, 3: _INT, 4: _BYTES, 5: _BYTES, 6: _BYTES, 7: Kind.FLOATS}
_ATTRIBUTE |= {8: _INTS, 9: _MANY, 10: _MANY, 11: _MANY, 13: _BYTES, 20: _INT, 22: _BYTES}
_ATTRIBUTE |= {23: _MANY}
TENSOR_FIELDS = {
    1: _INTS,
    2: _INT,
    4: _BYTES,
    5: _BYTES,
    7: _BYTES,
    8: _BYTES,
    9: _BYTES,
    10: _BYTES,
}
TENSOR_FIELDS |= {11: _BYTES, 12: _BYTES, 13: _MANY, 14: _INT, 16: _MANY}
VALUE_FIELDS = {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _MANY}
_TYPE = {1: _BYTES, 6: _BYTES}
_TENSOR_TYPE = {1: _INT, 2: _BYTES}
_SHAPE = {1: _MANY}
_DIMENSION = {1: _INT, 2: _BYTES, 3: _BYTES}


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """A graph input or output: name, ONNX element type, and sizes (a text is a symbolic size)."""

    name: str
    element_type: int
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What an ONNX file says about itself.

    Attributes:
        ir_version: version of the ONNX file format.
        opset: version of the default operator set.
        operators: number of nodes, by operator.
        inputs, outputs: the graph's inputs and outputs, in order.
    """

    ir_version: int
    opset: int
    operators: Mapping[str, int]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]


def inspect_model(data: bytes) -> ModelFacts:
    """Read an ONNX file's facts, refusing whatever is not plain arithmetic on its own weights.

    Args:
        data: the bytes of the file; never handed to a native library here.

    Raises:
        UnsafeModel: external data, or an operator off the allow-list.
        InvalidBundle: no well-formed ONNX model.
    """
    try:
        return _model(Walker(), memoryview(data))
    except MalformedError as error:
        raise InvalidBundle(
            "the model is no well-formed ONNX file",
            found=error,
            fix="export the bundle again, or copy it again from where it came",
        ) from error


def _model(walker: Walker, data: memoryview) -> ModelFacts:
    ir_version = 0
    opsets: list[int] = []
    graph: memoryview | None = None
    for field in walker.fields(data, "model", MODEL_FIELDS):
        if field.number == 1:
            ir_version = field.integer
        elif field.number == 7:
            graph = field.data
        elif field.number == 8:
            opsets.append(_opset(walker, field.data))
        elif field.number == 20:
            _unsafe("the model carries a training graph", "training_info")
        elif field.number == 25:
            _unsafe("the model carries local functions", "functions")
    if graph is None or len(opsets) != 1 or not 1 <= ir_version <= 99:
        raise MalformedError(f"graph, operator set or version missing (ir_version {ir_version})")
    operators, inputs, outputs = _graph(walker, graph)
    return ModelFacts(
        ir_version=ir_version,
        opset=opsets[0],
        operators=operators,
        inputs=inputs,
        outputs=outputs,
    )


_Values = tuple[TensorFacts, ...]


def _graph(walker: Walker, graph: memoryview) -> tuple[dict[str, int], _Values, _Values]:
    operators: Counter[str] = Counter()
    inputs, outputs = [], []
    for field in walker.fields(graph, "graph", GRAPH_FIELDS):
        if field.number == 1:
            operators[_node(walker, field.data)] += 1
            if operators.total() > _MAX_NODES:
                raise MalformedError(f"more than {_MAX_NODES} nodes")
        elif field.number == 5:
            _tensor(walker, field.data)
        elif field.number == 11:
            inputs.append(_value(walker, field.data))
        elif field.number == 12:
            outputs.append(_value(walker, field.data))
        elif field.number == 13:
            _value(walker, field.data)
        elif field.number == 15:
            _unsafe("the model carries sparse tensors", "sparse_initializer")
    return dict(operators), tuple(inputs), tuple(outputs)


def _opset(walker: Walker, data: memoryview) -> int:
    domain, version = "", 0
    for field in walker.fields(data, "opset_import", _OPSET):
        if field.number == 1:
            domain = field.text
        else:
            version = field.integer
    if domain not in _DOMAINS:
        _unsafe("the model imports operators of another domain", domain)
    return version


def _node(walker: Walker, data: memoryview) -> str:
    name, operator, domain = "", "", ""
    attributes: list[memoryview] = []
    for field in walker.fields(data, "node", NODE_FIELDS):
        if field.number == 3:
            name = field.text
        elif field.number == 4:
            operator = field.text
        elif field.number == 5:
            attributes.append(field.data)
        elif field.number == 7:
            domain = field.text
        elif field.number == 8 and len(field.data):
            _unsafe("a node calls an overloaded function", name)
    if domain not in _DOMAINS or operator not in ALLOWED_OPERATORS:
        _unsafe(
            "the model uses an operator off the allow-list",
            f"{domain}::{operator} in node {name!r}" if domain else f"{operator} in node {name!r}",
        )
    for attribute in attributes:
        _attribute(walker, attribute)
    return operator


def _attribute(walker: Walker, data: memoryview) -> None:
    for field in walker.fields(data, "attribute", _ATTRIBUTE):
        if field.number in (5, 10):
            _tensor(walker, field.data)
        elif field.number in (6, 11):
            _unsafe("a node holds a subgraph", "an attribute of type GRAPH")
        elif field.number in (22, 23):
            _unsafe("a node holds a sparse tensor", "an attribute of type SPARSE_TENSOR")


def _tensor(walker: Walker, data: memoryview) -> None:
    name, element_type, external = "", 0, False
    for field in walker.fields(data, "tensor", TENSOR_FIELDS):
        if field.number == 2:
            element_type = field.integer
        elif field.number == 8:
            name = field.text
        elif field.number == 13 or (field.number == 14 and field.integer != 0):
            external = True
    if external:
        _unsafe("a tensor takes its data from another file", f"external data of {name!r}")
    if element_type not in _ELEMENT_TYPES:
        _unsafe("a tensor holds no plain numbers", f"element type {element_type} of {name!r}")


def _value(walker: Walker, data: memoryview) -> TensorFacts:
    name, kind = "", memoryview(b"")
    for field in walker.fields(data, "value", VALUE_FIELDS):
        if field.number == 1:
            name = field.text
        elif field.number == 2:
            kind = field.data
    element_type, shape = 0, memoryview(b"")
    for outer in walker.fields(kind, "type", _TYPE):
        if outer.number != 1:
            continue
        for field in walker.fields(outer.data, "tensor type", _TENSOR_TYPE):
            if field.number == 1:
                element_type = field.integer
            else:
                shape = field.data
    axes = [_dimension(walker, field) for field in walker.fields(shape, "shape", _SHAPE)]
    return TensorFacts(name=name, element_type=element_type, shape=tuple(axes))


def _dimension(walker: Walker, axis: Field) -> int | str:
    size: int | str = ""
    for field in walker.fields(axis.data, "dimension", _DIMENSION):
        if field.number == 1:
            size = field.integer
        elif field.number == 2:
            size = field.text
    return size


def _unsafe(what: str, found: str) -> NoReturn:
    raise UnsafeModel(
        what,
        found=found[:200].encode("ascii", "backslashreplace").decode(),
        expected="a single ONNX file of plain operators",
        fix="use a bundle made by `ctedge export onnx`; do not run this file",
    )
