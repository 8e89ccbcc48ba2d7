"""The guard reads what the onnx package writes, and refuses what could reach outside the file."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from bundle_factory import tiny_model
from ctedge.errors import InvalidBundle, UnsafeModel
from ctedge.onnx_file.guard import ALLOWED_OPERATORS, inspect_model


def inspect(model: onnx.ModelProto) -> object:
    return inspect_model(model.SerializeToString())


def test_facts_are_those_of_the_onnx_package() -> None:
    facts = inspect_model(tiny_model().SerializeToString())
    assert (facts.ir_version, facts.opset) == (10, 17)
    assert facts.operators == {"GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1, "Sigmoid": 1}
    (volume,) = facts.inputs
    assert (volume.name, volume.element_type, volume.shape) == ("volume", 1, ("batch", 1, 8, 8, 8))
    assert [(t.name, t.shape) for t in facts.outputs] == [
        ("logit", ("batch", 1)),
        ("probability", ("batch", 1)),
    ]


def test_the_allow_list_is_of_real_operators_without_subgraphs() -> None:
    for name in ALLOWED_OPERATORS:
        schema = onnx.defs.get_schema(name, 17)
        assert schema.domain == ""
        kinds = {str(attribute.type) for attribute in schema.attributes.values()}
        assert not any("GRAPH" in kind for kind in kinds)


def test_attributes_and_weights_of_all_numeric_kinds_are_read() -> None:
    model = tiny_model()
    for dtype in (np.float16, np.float64, np.int8, np.uint8, np.int32, np.int64, np.bool_):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, dtype), str(dtype)))
    packed = helper.make_tensor("packed", TensorProto.FLOAT, [2], [1.0, 2.0])
    model.graph.initializer.append(packed)
    constant = helper.make_node("Constant", [], ["c"], value=packed)
    floats = helper.make_node("Constant", [], ["d"], value_floats=[1.0, -2.0])
    ints = helper.make_node("Constant", [], ["e"], value_ints=[1, -2, 2**62])
    model.graph.node.extend([constant, floats, ints])
    helper.set_model_props(model, {"key": "value"})
    inspect(onnx.shape_inference.infer_shapes(model))


def with_external_location(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def with_external_entry_only(model: onnx.ModelProto) -> None:
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "x"


def with_external_location_only(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].data_location = TensorProto.EXTERNAL


def with_external_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="t", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def with_custom_domain(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.microsoft"


def with_imported_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def with_unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "PyOp"


def with_loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["l"], body=model.graph))


def with_hidden_subgraph(model: onnx.ModelProto) -> None:
    model.graph.node[3].attribute.append(helper.make_attribute("body", model.graph))


def with_hidden_subgraphs(model: onnx.ModelProto) -> None:
    model.graph.node[3].attribute.append(helper.make_attribute("bodies", [model.graph]))


def with_function(model: onnx.ModelProto) -> None:
    function = helper.make_function(
        "", "Sigmoid", ["x"], ["y"], list(model.graph.node[:1]), [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)


def with_training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.CopyFrom(model.graph)


def with_sparse_weight(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().dims.append(3)


def with_text(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="t", data_type=8, string_data=[b"x"]))


@pytest.mark.parametrize(
    "spoil",
    [
        with_external_location,
        with_external_entry_only,
        with_external_location_only,
        with_external_constant,
        with_custom_domain,
        with_imported_domain,
        with_unknown_operator,
        with_loop,
        with_hidden_subgraph,
        with_hidden_subgraphs,
        with_function,
        with_training,
        with_sparse_weight,
        with_text,
    ],
)
def test_whatever_reaches_outside_is_unsafe(spoil: object) -> None:
    model = tiny_model()
    spoil(model)  # type: ignore[operator]
    with pytest.raises((UnsafeModel, InvalidBundle)) as caught:
        inspect(model)
    if spoil not in (with_imported_domain, with_text):
        assert type(caught.value) is UnsafeModel


def test_external_data_as_onnx_saves_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(tiny_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(UnsafeModel, match="another file"):
        inspect_model(path.read_bytes())


def test_the_long_name_of_the_default_domain_is_allowed() -> None:
    model = tiny_model()
    model.graph.node[0].domain = "ai.onnx"
    inspect(model)


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def test_a_message_that_a_parser_would_merge_is_refused() -> None:
    """A second `graph` is merged into the first by protobuf: its nodes would run unseen."""
    data = tiny_model().SerializeToString()
    evil = field(7, field(1, field(4, b"PyOp")))
    assert onnx.load_from_string(data + evil).graph.node[-1].op_type == "PyOp"
    with pytest.raises(InvalidBundle, match="twice"):
        inspect_model(data + evil)


def test_an_operator_written_twice_is_refused() -> None:
    """Of two `op_type` fields protobuf takes the last."""
    node = field(1, field(4, b"Relu") + field(4, b"PyOp"))
    with pytest.raises(InvalidBundle, match="twice"):
        inspect_model(b"\x08\x0a" + field(7, node) + field(8, b"\x10\x11"))


def test_a_location_that_a_parser_would_truncate_is_refused() -> None:
    """2**32 + 1 is cut to 1, which means external."""
    tensor = b"\x10\x01" + b"\x70" + varint((1 << 32) + 1)
    with pytest.raises(UnsafeModel, match="another file"):
        inspect_model(b"\x08\x0a" + field(7, field(5, tensor)) + field(8, b"\x10\x11"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x08",
        b"\xff" * 40,
        b"\x0b\x0c",  # a group
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of 2**64 - 1
        b"\x3a\x05\x00",
        b"\x08\x8a\x00",  # a padded number
        b"\x99" * 1_000_000,
        b"\x3a" * 1_000_000,
        field(200, b"unknown"),
        field(26, b"configuration"),
        b"not a model at all, but text",
        b"PK\x03\x04",
    ],
)
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidBundle):
        inspect_model(data)


def test_endless_small_fields_are_refused_in_bounded_time() -> None:
    tensor = field(5, b"\x10\x01" + b"\x08\x01" * 2_000_000)
    with pytest.raises(InvalidBundle, match="more fields"):
        inspect_model(b"\x08\x0a" + field(7, tensor) + field(8, b"\x10\x11"))


def test_nesting_does_not_recurse() -> None:
    data = b""
    for _ in range(3000):
        data = field(6, field(1, field(5, data)))
    with pytest.raises((UnsafeModel, InvalidBundle)):
        inspect_model(b"\x08\x0a" + field(7, data) + field(8, b"\x10\x11"))


def test_mutated_models_are_read_or_refused() -> None:
    original = onnx.shape_inference.infer_shapes(tiny_model()).SerializeToString()
    random_bytes = random.Random(11)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(4000):
        data = bytearray(original)
        for _ in range(random_bytes.randint(1, 4)):
            position = random_bytes.randrange(len(data))
            kind = random_bytes.randrange(4)
            if kind == 0:
                data[position] ^= 1 << random_bytes.randrange(8)
            elif kind == 1:
                data[position] = random_bytes.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif kind == 2:
                del data[position : position + random_bytes.randint(1, 8)]
            else:
                data[position:position] = random_bytes.randbytes(random_bytes.randint(1, 8))
        try:
            facts = inspect_model(bytes(data))
        except (InvalidBundle, UnsafeModel):
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert set(facts.operators) <= ALLOWED_OPERATORS
    assert min(outcomes.values()) > 100


def test_every_truncation_is_refused_or_still_whole() -> None:
    original = tiny_model().SerializeToString()
    for length in range(len(original)):
        try:
            inspect_model(original[:length])
        except (InvalidBundle, UnsafeModel):
            continue
        onnx.load_from_string(original[:length])


def test_what_the_guard_reads_is_what_onnx_reads() -> None:
    """On mutated files that it lets pass, the guard and the real parser see the same nodes."""
    original = tiny_model().SerializeToString()
    random_bytes = random.Random(12)
    compared = 0
    for _ in range(3000):
        data = bytearray(original)
        data[random_bytes.randrange(len(data))] ^= 1 << random_bytes.randrange(8)
        try:
            facts = inspect_model(bytes(data))
            model = onnx.load_from_string(bytes(data))
        except (InvalidBundle, UnsafeModel, DecodeError):  # the parser may refuse still more
            continue
        operators = [node.op_type for node in model.graph.node]
        assert facts.operators == {name: operators.count(name) for name in operators}
        assert [value.name for value in model.graph.input] == [t.name for t in facts.inputs]
        compared += 1
    assert compared > 100
