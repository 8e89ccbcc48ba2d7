"""Grad-CAM in the graph equals Keras' gradients of the logit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import onnx
from onnx import TensorProto, helper, numpy_helper

from ctedge.errors import InvalidBundle
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.network.cam import CAM, Cam, cam_of
from run_factory import (
    SMALL,
    SMALL_SLICE,
    slice_bundle,
    slice_network,
    small_bundle,
    small_network,
)

#: Of the largest value: sums of 256 or 1024 float32 products in another order than Keras'.
TOLERANCE = 1e-4

CASES = 8

#: The map before its ReLU: maps of random networks may hold nothing above 0.
SIGNED = "cam.map"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def with_cam(model: bytes, answer: str = "logit") -> tuple[bytes, Cam]:
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    cam = cam_of(graph, answer=answer)
    graph.graph.node.extend(cam.nodes)
    graph.graph.initializer.extend(cam.weights)
    for name in (CAM, SIGNED):
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *cam.grid])
        graph.graph.output.append(output)
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString(), cam


def keras_maps(trained: Any, layer: str, inputs: np.ndarray) -> np.ndarray:
    """Grad-CAM as it is written, up to its ReLU: mean gradient of the logit, weighted sum."""
    import keras
    import tensorflow as tf

    at = next(n for n, found in enumerate(trained.layers) if found.name == layer)
    features = keras.Model(trained.inputs[0], trained.layers[at].output)(inputs, training=False)
    with tf.GradientTape() as tape:
        tape.watch(features)
        tensor = features
        for step in trained.layers[at + 1 : -1]:
            tensor = step(tensor, training=False)
        last = trained.layers[-1]
        logit = tf.linalg.matmul(tensor, last.kernel) + last.bias
    gradient = tape.gradient(logit, features).numpy()
    axes = tuple(range(1, gradient.ndim - 1))
    weights = gradient.mean(axis=axes, keepdims=True)
    return np.asarray((weights * features.numpy()).sum(axis=-1))


def compare(model: bytes, inputs: np.ndarray, expected: np.ndarray) -> None:
    batch = np.ascontiguousarray(np.moveaxis(inputs, -1, 1))
    found = OnnxRuntime(model, name="with cam").run(batch)
    largest = np.abs(expected).max()
    assert largest > 1e-6
    np.testing.assert_allclose(found[SIGNED], expected, atol=TOLERANCE * largest)
    np.testing.assert_array_equal(found[CAM], np.maximum(found[SIGNED], 0))


def test_the_map_of_a_volume_is_that_of_keras(base, rng):
    model, _ = with_cam(small_bundle(base).model)
    inputs = rng.random((CASES, *SMALL.shape, 1), dtype=np.float32) ** 2
    compare(model, inputs, keras_maps(small_network(), "pool_4", inputs))


def test_the_map_of_a_slice_is_that_of_keras(base, rng):
    model, _ = with_cam(slice_bundle(base).model)
    inputs = rng.normal(0, 1, (CASES, *SMALL_SLICE.shape, 3)).astype(np.float32)
    compare(model, inputs, keras_maps(slice_network(), "relu", inputs))


def test_the_answers_stay_as_they_were(base, rng):
    bundle = small_bundle(base)
    model, _ = with_cam(bundle.model)
    batch = rng.random((2, 1, *SMALL.shape), dtype=np.float32)
    before = OnnxRuntime(bundle.model, name="before").run(batch)
    after = OnnxRuntime(model, name="after").run(batch)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_cells_lie_where_they_look(base):
    """Four valid convolutions of 3 and poolings of 2: 22.5 voxels in, then 16 by 16."""
    _, cam = with_cam(small_bundle(base).model)
    assert cam.origin == (22.5, 22.5, 22.5)
    assert cam.step == (16.0, 16.0, 16.0)
    assert cam.grid == (1, 1, 1)
    _, cam = with_cam(slice_bundle(base).model)
    assert cam.step == (32.0, 32.0)
    assert cam.grid == (2, 2)


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


@pytest.mark.parametrize(
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
def test_another_head_is_refused(nodes, match):
    with pytest.raises(InvalidBundle, match=match):
        cam_of(chain(*nodes), answer="logit")
