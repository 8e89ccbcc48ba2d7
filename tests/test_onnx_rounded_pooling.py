"""An int8 network that rounds before its poolings answers bit for bit as the file does."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ctedge.onnx_file.dead_voxels import MARK
from ctedge.onnx_file.for_cpu import for_openvino
from ctedge.onnx_file.guard import inspect_model
from ctedge.onnx_file.rounded_pooling import rounded_before_pooling
from engine_factory import chain
from precision_factory import SPEC, network, weights

ort = pytest.importorskip("onnxruntime")

#: The levels are the same numbers; a runtime's own sums may differ by their order.
INT8_LEVEL = 1e-3

Change = Callable[[onnx.ModelProto], None]


def answers(model: bytes, batch: np.ndarray) -> list[np.ndarray]:
    """As the file says, node by node: nothing is drawn together."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"volume": batch}))


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


@pytest.mark.parametrize("task", ["classifier", "severity"])
def test_the_answers_keep_every_bit(task: str, rng: np.random.Generator) -> None:
    model = chain("int8", task=task)
    turned = rounded_before_pooling(model)
    inspect_model(turned)
    onnx.checker.check_model(onnx.load_from_string(turned), full_check=True)
    batch = rng.random((3, 1, *SPEC.shape), dtype=np.float32)
    for found, expected in zip(answers(turned, batch), answers(model, batch), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_every_pooling_before_a_rounding_takes_levels() -> None:
    model = chain("int8")
    turned = rounded_before_pooling(model)
    assert sorted(operators(turned)) == sorted(operators(model))
    graph = onnx.load_from_string(turned).graph
    makes = {name: node.op_type for node in graph.node for name in node.output}
    before = [makes[node.input[0]] for node in graph.node if node.op_type == "MaxPool"]
    assert before == ["DequantizeLinear"] * len(before)
    assert rounded_before_pooling(turned) is turned


def test_float_networks_are_left_as_they_are() -> None:
    for model in (network(weights()).SerializeToString(), chain("fp16"), b"", b"text"):
        assert rounded_before_pooling(model) is model


def first_rounding(model: onnx.ModelProto) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """The first pooling and the rounding behind it."""
    pooling = next(node for node in model.graph.node if node.op_type == "MaxPool")
    reads = (node for node in model.graph.node if pooling.output[0] in node.input)
    return pooling, next(reads)


def read_twice(model: onnx.ModelProto) -> None:
    pooling, _ = first_rounding(model)
    model.graph.node.append(helper.make_node("Identity", pooling.output, ["other"], "other"))


def also_an_output(model: onnx.ModelProto) -> None:
    pooling, _ = first_rounding(model)
    model.graph.output.append(helper.make_empty_tensor_value_info(pooling.output[0]))


def scales_along_an_axis(model: onnx.ModelProto) -> None:
    _, rounding = first_rounding(model)
    levels = next(node for node in model.graph.node if rounding.output[0] in node.input)
    model.graph.initializer.append(numpy_helper.from_array(np.full(4, 0.1, "f"), "scales"))
    for node in (rounding, levels):
        del node.input[1:]
        node.input.append("scales")


def another_scale(model: onnx.ModelProto) -> None:
    _, rounding = first_rounding(model)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "scale"))
    rounding.input[1] = "scale"


def taken_name(model: onnx.ModelProto) -> None:
    pooling, _ = first_rounding(model)
    model.graph.node[-1].name = f"{MARK}.{pooling.output[0]}.int8"


@pytest.mark.parametrize(
    "change", [read_twice, also_an_output, scales_along_an_axis, another_scale, taken_name]
)
def test_a_pooling_that_cannot_be_turned_stays(change: Change) -> None:
    model = onnx.load_from_string(chain("int8"))
    first = first_rounding(model)[0].input[0]
    change(model)
    turned = onnx.load_from_string(rounded_before_pooling(model.SerializeToString()))
    assert first_rounding(turned)[0].input[0] == first


def test_openvino_gives_bytes_between_the_layers(rng: np.random.Generator) -> None:
    if importlib.util.find_spec("openvino") is None:  # importing it would send a message
        pytest.skip("OpenVINO is not installed")
    from ctedge.runtimes.cpu_flags import why_int8_saturates
    from ctedge.runtimes.openvino_package import import_openvino
    from ctedge.runtimes.openvino_runtime import OpenVinoRuntime

    if why_int8_saturates():
        pytest.skip("int8 saturates on this CPU")

    model = chain("int8")
    core = import_openvino().Core()
    network_ = core.read_model(for_openvino(model, "int8"))
    network_.reshape([1, 1, *SPEC.shape])
    compiled = core.compile_model(network_, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [
        operation.get_output_element_type(0).get_type_name()
        for operation in compiled.get_runtime_model().get_ordered_ops()
        if operation.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert kinds[0] in ("u8", "i8")
    batch = rng.random((1, 1, *SPEC.shape), dtype=np.float32)
    runtime = OpenVinoRuntime(model, name="small", precision="int8")
    found = runtime.run(batch)["logit"]
    runtime.close()
    np.testing.assert_allclose(found, answers(model, batch)[0], atol=INT8_LEVEL)
