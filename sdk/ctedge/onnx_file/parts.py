"""A part of an ONNX file: only some of its outputs, and the nodes and weights that they need.

Runtimes calculate every output of a graph, asked for or not. So that a map costs nothing where
nobody looks at it, the part without maps is what is loaded. The part is cut out of the file's
protobuf message as it stands, field by field, without the onnx package.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from ctedge.bundle.maps import MAPS
from ctedge.onnx_file.graph import with_graph
from ctedge.onnx_file.guard import (
    GRAPH_FIELDS,
    MODEL_FIELDS,
    NODE_FIELDS,
    TENSOR_FIELDS,
    VALUE_FIELDS,
)
from ctedge.onnx_file.wire import Field, Kind, Walker, head

_GRAPH, _NODE, _WEIGHT, _OUTPUT = 7, 1, 5, 12
_NODE_INPUT, _NODE_OUTPUT, _WEIGHT_NAME, _VALUE_NAME = 1, 2, 8, 1

#: Shapes of inner tensors: a runtime infers them itself.
_INNER = 13


def output_names(model: bytes) -> tuple[str, ...]:
    """Names of a file's outputs, in order."""
    walker = Walker()
    return tuple(
        _text(walker, field, VALUE_FIELDS, _VALUE_NAME)
        for part in walker.fields(memoryview(model), "model", MODEL_FIELDS)
        if part.number == _GRAPH
        for field in walker.fields(part.data, "graph", GRAPH_FIELDS)
        if field.number == _OUTPUT
    )


def answers_of(model: bytes) -> bytes:
    """A file without its maps (`ctedge.bundle.maps.MAPS`); the same bytes where it has none."""
    return without(model, *MAPS)


def without(model: bytes, *outputs: str) -> bytes:
    """A file without some of its outputs; the same bytes where it has none of them."""
    names = output_names(model)
    left = [name for name in names if name not in outputs]
    return model if len(left) == len(names) else part_of(model, left)


def part_of(model: bytes, outputs: Collection[str]) -> bytes:
    """A file with only these of its outputs.

    Args:
        model: an ONNX file that `ctedge.onnx_file.guard` passed, or that was made here.
        outputs: names, all of which it has.

    Raises:
        KeyError: it lacks one.
    """
    missing = set(outputs) - set(output_names(model))
    if missing:
        raise KeyError(", ".join(sorted(missing)))
    walker = Walker()
    parts = walker.fields(memoryview(model), "model", MODEL_FIELDS)
    (graph,) = (part.data for part in parts if part.number == _GRAPH)
    return with_graph(model, list(_graph(walker, graph, outputs)))


def _graph(
    walker: Walker, graph: memoryview, outputs: Collection[str]
) -> Iterator[bytes | memoryview]:
    fields = list(walker.fields(graph, "graph", GRAPH_FIELDS))
    needed = set(outputs)
    kept: set[int] = set()
    # Nodes stand in the order of the data: from the last one on, each that is needed needs more.
    for place in range(len(fields) - 1, -1, -1):
        if fields[place].number == _NODE:
            inputs, made = _ends(walker, fields[place])
            if needed.intersection(made):
                kept.add(place)
                needed.update(inputs)
    for place, field in enumerate(fields):
        if field.number == _NODE:
            stays = place in kept
        elif field.number == _OUTPUT:
            stays = _text(walker, field, VALUE_FIELDS, _VALUE_NAME) in outputs
        elif field.number == _WEIGHT:
            stays = _text(walker, field, TENSOR_FIELDS, _WEIGHT_NAME) in needed
        else:
            stays = field.number != _INNER
        if stays:
            yield head(field.number, len(field.data))
            yield field.data


def _ends(walker: Walker, node: Field) -> tuple[list[str], list[str]]:
    """The tensors that a node reads, and those that it makes."""
    read, made = [], []
    for field in walker.fields(node.data, "node", NODE_FIELDS):
        if field.number == _NODE_INPUT:
            read.append(field.text)
        elif field.number == _NODE_OUTPUT:
            made.append(field.text)
    return read, made


def _text(walker: Walker, message: Field, known: Mapping[int, Kind], number: int) -> str:
    """A text field of a message, or "" where it has none."""
    fields = walker.fields(message.data, "message", known)
    return next((field.text for field in fields if field.number == number), "")
