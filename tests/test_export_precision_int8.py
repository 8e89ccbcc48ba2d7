"""INT8: explicit pairs around every convolution, ranges from three methods, wrong ones found."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from onnx import numpy_helper

from ctedge.onnx_file.guard import inspect_model
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates import layerwise, numeric, structural
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.gates.keras_layers import with_outputs
from ctedge_export.gates.runners import onnx_runner
from ctedge_export.precision import int8, seen
from precision_factory import SPEC, network, weights

INPUTS = ["volume", "pool1", "pool2", "pool3"]
CHESTS = gate_inputs(SPEC)[-2:]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return network(weights())


@pytest.fixture(scope="module")
def ranges(model: onnx.ModelProto) -> dict[str, float]:
    """One a tensor, the largest value."""
    assert int8.quantised_inputs(model) == tuple(INPUTS)
    found = seen.look(model, CHESTS).largest
    return {name: float(values.max()) for name, values in found.items()}


def test_pairs_stand_before_each_convolution(
    model: onnx.ModelProto, ranges: dict[str, float]
) -> None:
    data = int8.quantise(model, ranges)
    written = onnx.load_from_string(data)
    onnx.checker.check_model(written, full_check=True)
    facts = inspect_model(data)
    assert (facts.operators["QuantizeLinear"], facts.operators["DequantizeLinear"]) == (4, 8)
    assert facts.opset == 17
    assert set(structural.convolution_types(written).values()) == {"int8"}
    made_by = {name: node for node in written.graph.node for name in node.output}
    tensors = {one.name: numpy_helper.to_array(one) for one in written.graph.initializer}
    for node, source in zip(
        (node for node in written.graph.node if node.op_type == "Conv"), INPUTS, strict=True
    ):
        weight, channels = made_by[node.input[1]], weights()[f"{node.name}.weight"]
        levels, scales, zeros = (tensors[name] for name in weight.input)
        assert (levels.dtype, zeros.dtype, zeros.any()) == (np.int8, np.int8, False)
        assert np.abs(levels).reshape(len(levels), -1).max(axis=1).tolist() == [127] * len(levels)
        error = levels * scales.reshape(-1, 1, 1, 1, 1) - channels
        assert (np.abs(error) <= scales.reshape(-1, 1, 1, 1, 1) * 0.501).all()
        quantise = made_by[made_by[node.input[0]].input[0]]
        assert quantise.input[0] == source
        scale, zero = (tensors[name] for name in quantise.input[1:])
        assert (scale.shape, zero.shape, zero.dtype, zero.item()) == ((), (), np.int8, 0)
        assert scale.item() * 127 == pytest.approx(ranges[source])
        assert node.input[2] == f"{node.name}.bias"
    assert "conv1.weight" not in tensors


def test_what_runs_is_the_arithmetic_of_the_levels(
    model: onnx.ModelProto, ranges: dict[str, float]
) -> None:
    data = int8.quantise(model, ranges)
    shown = CHESTS[0]
    answers = OnnxRuntime(with_outputs(data, ["conv1.input.dequantized"]), name="int8").run(
        shown.batch
    )
    scale = ranges["volume"] / 127
    expected = np.clip(np.rint(shown.batch / scale), -128, 127) * scale
    np.testing.assert_allclose(answers["conv1.input.dequantized"], expected, atol=1e-6)


def test_a_kept_layer_has_its_own_weights(model: onnx.ModelProto, ranges: dict[str, float]) -> None:
    written = onnx.load_from_string(int8.quantise(model, ranges, keep={"conv1"}))
    types = structural.convolution_types(written)
    assert (types["conv1"], types["conv2"]) == ("fp32", "int8")
    first = written.graph.node[0]
    assert (first.op_type, *first.input) == ("Conv", "volume", "conv1.weight", "conv1.bias")


def test_a_wrong_scale_fails_and_names_the_layer(
    model: onnx.ModelProto, ranges: dict[str, float]
) -> None:
    reference = model.SerializeToString()
    answers = numeric.answers_of(onnx_runner(reference), CHESTS)
    data = int8.quantise(model, {**ranges, "pool2": ranges["pool2"] / 50})
    result = numeric.check(answers, onnx_runner(data, "int8"), CHESTS, precision="int8")
    assert not result.passed
    assert result.worst > 1
    (worst,) = numeric.worst_inputs(answers, result, CHESTS, precision="int8", count=1)
    layers = layerwise.agreements(reference, data, worst, precision="int8")
    assert [one.layer for one in layers] == [*(f"conv{n}" for n in range(1, 5)), "dense1", "dense2"]
    bad = layerwise.first_bad(layers, precision="int8")
    assert bad.layer == "conv3"  # which reads pool2
    assert "cosine" in str(bad)
