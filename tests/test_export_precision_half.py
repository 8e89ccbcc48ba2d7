"""FP16 and BF16: a trunk in half, everything else in float, and what does not fit stays float."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from onnx import numpy_helper

from bundle_factory import tiny_model
from ctedge.errors import InvalidBundle
from ctedge.onnx_file.guard import inspect_model
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.gates.runners import onnx_runner
from ctedge_export.gates.structural import convolution_types, element_types
from ctedge_export.precision import half
from ctedge_export.precision.rounded import write_out_roundings
from precision_factory import SPEC, network, weights

HALF = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
TRUNK = [f"{kind}{n}" for n in range(1, 5) for kind in ("conv", "relu", "pool")]
HEAD = ["average", "flatten", "dense1", "relu5", "logit", "probability"]


def types_of(data: bytes) -> dict[str, int]:
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    return element_types(model)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_every_tensor_has_the_type_that_shall_run(precision: str) -> None:
    data = half.halve(network(weights()), precision)
    types = types_of(data)
    convolutions = {f"conv{n}.{kind}.half" for n in range(1, 5) for kind in ("weight", "bias")}
    halves = {name for name, kind in types.items() if kind == HALF[precision]}
    assert halves == {*TRUNK, *convolutions, "volume.half"}
    floats = {name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT}
    dense = {f"dense{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}
    assert floats == {"volume", "pool4.float", *HEAD, *dense}
    facts = inspect_model(data)
    assert facts.operators["Cast"] == 2
    assert [t.element_type for t in (*facts.inputs, *facts.outputs)] == [1, 1, 1]
    assert facts.opset == {"fp16": 17, "bf16": 22}[precision]


def test_a_layer_kept_in_float_has_casts_around_it() -> None:
    data = half.halve(network(weights()), "fp16", keep={"conv2"})
    model = onnx.load_from_string(data)
    assert convolution_types(model) == {
        "conv1": "fp16",
        "conv2": "fp32",
        "conv3": "fp16",
        "conv4": "fp16",
    }
    casts = [node.output[0] for node in model.graph.node if node.op_type == "Cast"]
    assert casts == ["volume.half", "pool1.float", "pool2.half", "pool4.float"]
    assert "conv2.weight" in types_of(data)


def test_equal_networks_make_equal_files() -> None:
    assert half.halve(network(weights()), "fp16") == half.halve(network(weights()), "fp16")


def test_weights_out_of_range_are_counted() -> None:
    drawn = weights()
    drawn["conv2.weight"][:] = 0.5
    drawn["conv2.weight"].flat[:5] = [7e4, -1e6, 3e-5, -1e-8, 0]
    drawn["conv3.bias"][0] = 65504
    model = network(drawn)
    plain = half.look_at_weights(network(weights()), "fp16")
    found = half.look_at_weights(model, "fp16")
    assert (found.overflow, found.overflowing) == (2, ("conv2",))
    # Of the others' subnormals, those that stood in conv2 are gone; 3e-5 and 1e-8 came.
    assert 2 <= found.subnormal <= plain.subnormal + 2
    assert found.to_zero == plain.to_zero + 1
    assert half.look_at_weights(model, "bf16").overflow == 0


def half_by_hand(values: np.ndarray, precision: str) -> np.ndarray:
    """Round to nearest, ties to even, by the bits of float32."""
    if precision == "fp16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_gate_runs_every_rounding(precision: str) -> None:
    """ONNX Runtime drops the roundings of a half graph on the CPU; ours stay."""
    data = write_out_roundings(half.halve(network(weights()), precision))
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
    shown = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(shown[name] for name in TRUNK)
    answers = OnnxRuntime(model.SerializeToString(), name="rounded").run(
        gate_inputs(SPEC)[-1].batch
    )
    for name in TRUNK:
        values = answers[name]
        assert (values == half_by_hand(values, precision)).all(), name
    assert np.count_nonzero(answers["conv2"]) > 0


def test_an_overflow_inside_shows_in_the_answer() -> None:
    drawn = weights()
    drawn["conv1.weight"][0] = 2e4  # 27 of them times 1 are more than the largest half
    drawn["conv2.weight"][:, 0] /= 1e5
    model = network(drawn)
    ones = gate_inputs(SPEC)[1].batch
    (whole,) = onnx_runner(model.SerializeToString()).run(ones)["logit"].ravel()
    (overflown,) = onnx_runner(half.halve(model, "fp16"), "fp16").run(ones)["logit"].ravel()
    kept = half.halve(model, "fp16", keep={"conv1"})
    assert np.isfinite(whole)
    assert not np.isfinite(overflown)
    # Kept in float, its result is still too large for the next layer's half input.
    assert not np.isfinite(onnx_runner(kept, "fp16").run(ones)["logit"]).all()


def test_a_network_without_convolutions_is_refused() -> None:
    with pytest.raises(InvalidBundle, match="no convolutions"):
        half.halve(tiny_model(), "fp16")


def test_weights_are_the_nearest_halves() -> None:
    drawn = weights()
    model = onnx.load_from_string(half.halve(network(drawn), "bf16"))
    for weight in model.graph.initializer:
        name, _, kind = weight.name.rpartition(".half")
        values = numpy_helper.to_array(weight).astype(np.float32)
        expected = drawn[name or weight.name]
        exact = half_by_hand(expected, "bf16") if weight.name.endswith(".half") else expected
        assert (values == exact).all(), kind
