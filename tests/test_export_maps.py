"""Maps in the graph equal Keras' gradients, cost nothing unasked, and have a gate of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import onnx
from onnx import TensorProto, helper, numpy_helper

from ctedge import CTScan, SliceClassifier
from ctedge.bundle.maps import CAM, LAYER_CAM
from ctedge.engines.files import read_record
from ctedge.errors import GateFailed, InvalidBundle
from ctedge.onnx_file.parts import answers_of, output_names, part_of, without
from ctedge.phantom import draw_patient, render
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.engine.make import build_engine
from ctedge_export.engine.settings import Settings
from ctedge_export.gates import keras_maps
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.gates.keras_layers import with_outputs
from ctedge_export.gates.keras_maps import KerasMaps
from ctedge_export.gates.result import Figure, GateResult
from ctedge_export.network import maps
from ctedge_export.network.grad_cam import SIGNED, grad_cam
from ctedge_export.network.layer_cam import layer_cam
from ctedge_export.network.volumes import convert_volumes
from ctedge_export.onnx_bundle import export_onnx
from run_factory import (
    SMALL,
    SMALL_SLICE,
    few_inputs,
    slice_bundle,
    slice_network,
    small_bundle,
    small_network,
    small_run,
)

#: Of the largest value: sums of 256 or 1024 float32 products in another order than Keras'.
TOLERANCE = 1e-4

#: LayerCAM: where two values of a window differ by rounding alone, the gradient may go to the other
#: one; a share of the cells so small may differ by more than `TOLERANCE`.
FLIPPED = 0.01

CASES = 8


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def batch_of(inputs: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(inputs, -1, 1))


def check_grad_cam(model: bytes, trained: Any, layer: str, inputs: np.ndarray) -> None:
    batch = batch_of(inputs)
    expected = KerasMaps(trained, layer, layered=False).of(batch)
    # Before its ReLU: maps of random networks may hold nothing above 0.
    runtime = OnnxRuntime(with_outputs(model, [SIGNED]), name="with maps")
    found = runtime.run(batch, outputs=[SIGNED, CAM])
    largest = np.abs(expected).max()
    assert largest > 1e-6
    np.testing.assert_allclose(found[SIGNED], expected, atol=TOLERANCE * largest)
    np.testing.assert_array_equal(found[CAM], np.maximum(found[SIGNED], 0))


def test_grad_cam_of_a_volume_is_that_of_keras(base, rng):
    inputs = rng.random((CASES, *SMALL.shape, 1), dtype=np.float32) ** 2
    check_grad_cam(small_bundle(base).model, small_network(), "pool_4", inputs)


def test_grad_cam_of_a_slice_is_that_of_keras(base, rng):
    inputs = rng.normal(0, 1, (CASES, *SMALL_SLICE.shape, 3)).astype(np.float32)
    check_grad_cam(slice_bundle(base).model, slice_network(), "relu", inputs)


def test_layer_cam_is_that_of_keras(base, rng):
    inputs = rng.random((CASES, *SMALL.shape, 1), dtype=np.float32) ** 2
    batch = batch_of(inputs)
    expected = KerasMaps(small_network(), "pool_1", layered=True).of(batch)
    found = OnnxRuntime(small_bundle(base).model, name="maps").run(batch, outputs=[LAYER_CAM])
    largest = expected.max(axis=(1, 2, 3), keepdims=True)
    assert largest.min() > 1e-6
    apart = np.abs(found[LAYER_CAM] - expected) > TOLERANCE * largest
    assert apart.mean() <= FLIPPED


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full(8, 0.5), np.full(8, 0.5 / 8)),
        (np.array([1, 2, 0, 0, 0, 0, 0, 0]), np.array([0, 2, 0, 0, 0, 0, 0, 0])),
        (np.array([3, 0, 0, 3, 0, 0, 0, 0]), np.array([1.5, 0, 0, 1.5, 0, 0, 0, 0])),
    ],
    ids=["all", "one", "two"],
)
def test_the_largest_values_of_a_window_share_its_gradient(values, expected):
    """Two poolings and a Dense of weight 1: the logit is the largest value."""
    pool = {"kernel_shape": [2] * 3, "strides": [2] * 3}
    nodes = [
        helper.make_node("MaxPool", ["volume"], ["pool1"], name="pool1", **pool),
        helper.make_node("MaxPool", ["pool1"], ["pool2"], name="pool2", **pool),
        helper.make_node("GlobalAveragePool", ["pool2"], ["average"]),
        helper.make_node("Flatten", ["average"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["logit"]),
    ]
    graph = helper.make_graph(
        nodes,
        "poolings",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, ["batch", 1, 5, 4, 4])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.ones((1, 1), np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, ir_version=10, opset_imports=opsets)
    )
    explained = maps.explain(model, task="classifier")
    volume = np.zeros((1, 1, 5, 4, 4), np.float32)
    volume[0, 0, :4] = np.kron(values.reshape(2, 2, 2), np.ones((2, 2, 2)))
    runtime = OnnxRuntime(explained.model.SerializeToString(), name="poolings")
    found = runtime.run(volume, outputs=["logit", LAYER_CAM])
    assert found["logit"].item() == values.max()
    np.testing.assert_allclose(found[LAYER_CAM].ravel(), expected, rtol=1e-6)


def test_a_map_costs_nothing_where_it_is_not_asked_for(base, rng):
    bundle = small_bundle(base)
    answers = answers_of(bundle.model)
    assert output_names(bundle.model) == ("logit", "probability", CAM, LAYER_CAM)
    assert output_names(answers) == ("logit", "probability")
    onnx.checker.check_model(onnx.load_from_string(answers), full_check=True)
    graph = onnx.load_from_string(answers).graph
    assert len(graph.node) == 18
    assert not [node.name for node in graph.node if "cam" in node.name]
    batch = rng.random((2, 1, *SMALL.shape), dtype=np.float32)
    before = OnnxRuntime(answers, name="answers").run(batch)
    after = OnnxRuntime(bundle.model, name="with maps").run(
        batch, outputs=["logit", "probability", LAYER_CAM]
    )
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, rtol=1e-6, atol=1e-6)
    assert answers_of(answers) == answers
    with pytest.raises(KeyError, match="score"):
        part_of(bundle.model, ["score"])


def test_cells_lie_where_they_look(base):
    """Four valid convolutions of 3 and poolings of 2: 22.5 voxels in, then 16 by 16."""
    cam, fine = small_bundle(base).maps
    assert (cam.origin, cam.step, cam.shape) == ((22.5,) * 3, (16.0,) * 3, (1, 1, 1))
    assert (fine.origin, fine.step, fine.shape) == ((1.5,) * 3, (2.0,) * 3, (22, 23, 24))
    (cam,) = slice_bundle(base).maps
    assert (cam.step, cam.shape) == ((32.0, 32.0), (2, 2))


def test_without_leaves_maps_out_of_a_file(base):
    model = small_bundle(base).model
    assert output_names(without(model, LAYER_CAM)) == ("logit", "probability", CAM)
    assert output_names(without(model, CAM, LAYER_CAM)) == ("logit", "probability")
    onnx.checker.check_model(onnx.load_from_string(without(model, LAYER_CAM)), full_check=True)


def test_the_gate_of_the_maps_stands_in_the_manifest(base):
    gate = small_bundle(base).gates["maps"]
    assert gate["passed"]
    assert len(gate["figures"]) == 2


def test_a_map_that_shows_something_else_is_not_exported(base, tmp_path, monkeypatch):
    def broken(*_: Any) -> GateResult:
        return GateResult(gate="maps", figures=(Figure(name="cam", value=0.5, limit=1e-4),))

    monkeypatch.setattr(keras_maps, "check", broken)
    run = small_run(base)
    with few_inputs(), pytest.raises(GateFailed, match="maps gate"):
        export_onnx(run, tmp_path / "x.ctedge")
    assert not (tmp_path / "x.ctedge").exists()


def test_the_gate_sees_a_wrong_map(base):
    network = small_network()
    bundle = small_bundle(base)
    model = onnx.load_from_string(bundle.model)
    (places,) = [w for w in model.graph.initializer if w.name == "cam.places"]
    places.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(places), "cam.places"))
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(answers_of(bundle.model)))
    cam = grad_cam(inferred, answer="logit")
    fine = layer_cam(inferred, cam)
    converted = convert_volumes(network, task="classifier", spec=SMALL, properties={})
    shown = gate_inputs(SMALL)[:4]
    good = keras_maps.check(network, bundle.model, converted, (cam, fine), shown)
    assert good.passed, good
    wrong = keras_maps.check(network, model.SerializeToString(), converted, (cam,), shown)
    assert not wrong.passed
    assert replace(wrong.figures[0], value=0).holds


@pytest.mark.parametrize("explain", [False, True], ids=["answers", "maps"])
def test_an_engine_draws_maps_where_it_was_asked_to(base, tmp_path, explain):
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    path = build_engine(
        small_bundle(base).path,
        precision="fp32",
        runtime="tensorrt-rtx",
        settings=Settings(explain=explain),
        output=tmp_path / "small.engine",
    )
    record = read_record(path)
    assert record.outputs == ("logit", "probability", *((CAM,) if explain else ()))
    assert record.builder["explain"] is explain
    assert record.layers.convolutions == {"fp32": 1.0}


def test_a_slice_is_explained_on_its_own_grid(base, rng, tmp_path):
    phantom = render(draw_patient(70_004, lesion_share=0.3), shape=(80, 72, 20))
    levels = rng.integers(0, 256, (50, 60), dtype=np.uint8)
    with SliceClassifier.load(slice_bundle(base).path, runtime="onnxruntime") as classifier:
        scan = CTScan.from_array(phantom.voxels)
        found = classifier.predict(scan, slices=[3, 11], explain=True)
        picture = classifier.predict(levels, explain=True)
        plain = classifier.predict(scan, slices=[3, 11])
    for answer, without_map in zip(found.slices, plain.slices, strict=True):
        assert answer.logit == pytest.approx(without_map.logit, abs=1e-4)
        assert answer.explanation.method == "grad-cam"
        assert answer.explanation.heatmap().shape == (80, 72, 1)
        assert without_map.explanation is None
    assert found.explanation is None
    assert [row["explanation"]["cells"] for row in found.to_json()["slices"]] == [[2, 2, 1]] * 2
    (only,) = picture.slices
    assert only.explanation.heatmap().shape == (60, 50, 1)  # columns, rows
    assert only.explanation.write_overlay(tmp_path / "picture.png").is_file()


def chain(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 2, 4, 4])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.ones((2, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return onnx.shape_inference.infer_shapes(model)


OTHER_HEADS = pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([helper.make_node("Flatten", ["image"], ["logit"])], "GlobalAveragePool"),
        (
            [
                helper.make_node("Relu", ["image"], ["relu"]),
                helper.make_node("GlobalAveragePool", ["relu"], ["average"]),
                helper.make_node("Flatten", ["average"], ["flat"]),
                helper.make_node("MatMul", ["flat", "w"], ["logit"]),
            ],
            "MatMul",
        ),
    ],
    ids=["no average", "no Gemm"],
)


@OTHER_HEADS
def test_another_head_has_no_map(nodes, match):
    with pytest.raises(InvalidBundle, match=match):
        grad_cam(chain(*nodes), answer="logit")


@OTHER_HEADS
def test_a_network_without_a_map_is_exported_without(nodes, match):
    explained = maps.explain(chain(*nodes), task="classifier")
    assert explained.maps == ()
    assert match in explained.missing


def test_layer_cam_is_the_same_on_openvino(base, rng):
    pytest.importorskip("openvino")
    from ctedge.runtimes.openvino_runtime import OpenVinoRuntime

    inputs = rng.random((1, *SMALL.shape, 1), dtype=np.float32) ** 2
    batch, model = batch_of(inputs), small_bundle(base).model
    there = OpenVinoRuntime(model, name="maps").run(batch, outputs=[LAYER_CAM])[LAYER_CAM]
    here = OnnxRuntime(model, name="maps").run(batch, outputs=[LAYER_CAM])[LAYER_CAM]
    apart = np.abs(there - here) > TOLERANCE * here.max()
    assert apart.mean() <= FLIPPED
