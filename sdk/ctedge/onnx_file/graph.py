"""An ONNX file's graph as nodes that can be taken out and put in, without the onnx package.

Only what a rewrite needs is read: which tensors a node reads and makes, and its whole numbers.
Everything else of the file is carried over byte by byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ctedge.errors import InvalidBundle, UnsafeModel
from ctedge.onnx_file.guard import (
    GRAPH_FIELDS,
    MODEL_FIELDS,
    NODE_FIELDS,
    TENSOR_FIELDS,
    TensorFacts,
    inspect_model,
)
from ctedge.onnx_file.wire import Field, Kind, MalformedError, Walker, encoded, head, numbers

GRAPH, NODE, WEIGHT, INNER = 7, 1, 5, 13
_INPUT, _OUTPUT, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5
_TYPE_INT, _INT64 = 2, 7

#: Of an attribute, what is no whole number is passed over here; the guard looked at it.
_NUMBERS = {1: Kind.BYTES, 2: Kind.FLOAT, 3: Kind.INT, 4: Kind.BYTES, 5: Kind.BYTES, 6: Kind.BYTES}
_NUMBERS |= {7: Kind.FLOATS, 8: Kind.INTS, 9: Kind.MANY, 10: Kind.MANY, 11: Kind.MANY}
_NUMBERS |= {13: Kind.BYTES, 20: Kind.INT, 22: Kind.BYTES, 23: Kind.MANY}


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: its operator, the tensors that it reads and makes, its whole numbers, its bytes."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, tuple[int, ...]]
    data: memoryview

    def number(self, name: str, default: int) -> int:
        """An attribute that is one whole number."""
        found = self.numbers.get(name, (default,))
        return found[0] if len(found) == 1 else default

    def copy(self, *, reads: str, makes: str) -> bytes:
        """The node, its first input and its output renamed, as a field of the graph."""
        fields = list(Walker().fields(self.data, "node", NODE_FIELDS))
        others = [encoded(_INPUT, name.encode()) for name in self.inputs[1:]]
        ends = [encoded(_INPUT, reads.encode()), *others, encoded(_OUTPUT, makes.encode())]
        kept = [encoded(f.number, f.data) for f in fields if f.number not in (1, 2, _NAME)]
        return encoded(NODE, b"".join([*ends, encoded(_NAME, makes.encode()), *kept]))


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph with one input.

    Attributes:
        input: the only input.
        opset: version of the default operator set.
        nodes: in the order of the file.
        outputs: names of the outputs.
        weights: the sizes of each constant tensor, by name.
    """

    input: TensorFacts
    opset: int
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, tuple[int, ...]]

    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for tensor in set(node.inputs):
                found.setdefault(tensor, []).append(node)
        return found

    def constants(self) -> set[str]:
        """Tensors that the input has no part in."""
        known = {"", *self.weights}
        for node in self.nodes:
            if known.issuperset(node.inputs):
                known.update(node.outputs)
        return known

    def names(self) -> Iterator[str]:
        """Every name in it."""
        yield from (self.input.name, *self.weights)
        for node in self.nodes:
            yield from (node.name, *node.outputs)


def read_graph(model: bytes) -> Graph | None:
    """The graph; None where it has not one input, or the guard would refuse the file."""
    walker = Walker()
    nodes, weights = [], {}
    try:
        facts = inspect_model(model)
        for field in _graph_fields(walker, memoryview(model)):
            if field.number == NODE:
                nodes.append(_node(walker, field.data))
            elif field.number == WEIGHT:
                name, sizes = _weight(walker, field.data)
                weights[name] = sizes
    except (InvalidBundle, UnsafeModel, MalformedError):
        return None
    if len(facts.inputs) != 1:
        return None
    return Graph(
        input=facts.inputs[0],
        opset=facts.opset,
        nodes=tuple(nodes),
        outputs=tuple(output.name for output in facts.outputs),
        weights=weights,
    )


def replace_nodes(
    model: bytes, gone: Sequence[Node], made: Sequence[bytes], weights: Sequence[bytes]
) -> bytes:
    """A file with other nodes in the place of the last of those that go.

    Args:
        model: an ONNX file.
        gone: nodes of it, as `read_graph` gave them.
        made: fields of the graph that take their place, as `Node.copy` and `node` write them.
        weights: fields of the graph to add, as `whole_numbers` writes them.
    """
    walker = Walker()
    going = {node.outputs for node in gone}
    last = gone[-1].outputs
    written: list[bytes | memoryview] = list(weights)
    for field in _graph_fields(walker, memoryview(model)):
        if field.number == NODE:
            outputs = _node(walker, field.data).outputs
            if outputs == last:
                written += made
            if outputs in going:
                continue
        if field.number != INNER:  # sizes of inner tensors, which may be others now
            written += (head(field.number, len(field.data)), field.data)
    return with_graph(model, written)


def with_graph(model: bytes, graph: Sequence[bytes | memoryview]) -> bytes:
    """A file with another graph, given piece by piece, and everything beside it as it was."""
    whole: list[bytes | memoryview] = []
    for field in Walker().fields(memoryview(model), "model", MODEL_FIELDS):
        if field.number == GRAPH:
            whole += (head(GRAPH, sum(map(len, graph))), *graph)
        else:
            whole.append(_again(field))
    return b"".join(whole)


def node(operator: str, inputs: Sequence[str], output: str, **attributes: int) -> bytes:
    """A new node, named as its output, as a field of the graph."""
    fields = [encoded(_INPUT, name.encode()) for name in inputs]
    fields += [encoded(_OUTPUT, output.encode()), encoded(_NAME, output.encode())]
    fields.append(encoded(_OPERATOR, operator.encode()))
    for name, value in attributes.items():
        parts = encoded(1, name.encode()), encoded(3, value), encoded(20, _TYPE_INT)
        fields.append(encoded(_ATTRIBUTE, b"".join(parts)))
    return encoded(NODE, b"".join(fields))


def whole_numbers(name: str, values: Sequence[int]) -> bytes:
    """A constant of 64-bit whole numbers, as a field of the graph."""
    raw = struct.pack(f"<{len(values)}q", *values)
    fields = encoded(1, len(values)), encoded(2, _INT64), encoded(8, name.encode())
    return encoded(WEIGHT, b"".join((*fields, encoded(9, raw))))


def _again(field: Field) -> bytes:
    single = MODEL_FIELDS[field.number] is Kind.INT
    return encoded(field.number, field.integer if single else field.data)


def _graph_fields(walker: Walker, model: memoryview) -> Iterator[Field]:
    for field in walker.fields(model, "model", MODEL_FIELDS):
        if field.number == GRAPH:
            yield from walker.fields(field.data, "graph", GRAPH_FIELDS)


def _node(walker: Walker, data: memoryview) -> Node:
    texts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _NAME: [""], _OPERATOR: [""]}
    attributes = {}
    for field in walker.fields(data, "node", NODE_FIELDS):
        if field.number in texts:
            texts[field.number].append(field.text)
        elif field.number == _ATTRIBUTE:
            name, values = _attribute(walker, field.data)
            attributes[name] = values
    return Node(
        operator=texts[_OPERATOR][-1],
        name=texts[_NAME][-1],
        inputs=tuple(texts[_INPUT]),
        outputs=tuple(texts[_OUTPUT]),
        numbers=attributes,
        data=data,
    )


def _attribute(walker: Walker, data: memoryview) -> tuple[str, tuple[int, ...]]:
    name, values = "", []
    for field in walker.fields(data, "attribute", _NUMBERS):
        if field.number == 1:
            name = field.text
        elif field.number in (3, 8):
            values += numbers(field)
    return name, tuple(values)


def _weight(walker: Walker, data: memoryview) -> tuple[str, tuple[int, ...]]:
    name, sizes = "", []
    for field in walker.fields(data, "tensor", TENSOR_FIELDS):
        if field.number == 8:
            name = field.text
        elif field.number == 1:
            sizes += numbers(field)
    return name, tuple(sizes)
