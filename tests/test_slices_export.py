"""DenseNet121 to a bundle: a tidy graph, gated, with golden slices that the SDK answers alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", exc_type=ImportError)
pytest.importorskip("tf2onnx", exc_type=ImportError)

import onnx
from onnx import numpy_helper
from typer.testing import CliRunner

from ctedge import SliceClassifier
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import GateFailed, InvalidBundle
from ctedge.onnx_file.guard import ALLOWED_OPERATORS, inspect_model
from ctedge.onnx_file.parts import answers_of
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.runtimes.verification import TOLERANCES
from ctedge.tensor import network_batch
from ctedge_export.cli import app
from ctedge_export.gates import against_keras as gate
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.network import tidy_slices
from ctedge_export.network.onnx_model import Converted, Landmark
from ctedge_export.network.slices import convert_slices
from ctedge_export.verify import verify_bundle
from run_factory import (
    LABELS,
    SMALL_SLICE,
    few_inputs,
    logit_of,
    logits_of,
    slice_bundle,
    slice_network,
    slice_run,
)

OPERATORS = {
    "Add": 62,
    "AveragePool": 3,
    "Concat": 58,
    "Conv": 120,
    "Flatten": 1,
    "Gemm": 1,
    "GlobalAveragePool": 1,
    "MaxPool": 1,
    "Mul": 62,
    "Pad": 1,
    "Relu": 121,
    "Sigmoid": 1,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return slice_bundle(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(bundle: ModelBundle) -> onnx.ModelProto:
    return onnx.load_from_string(bundle.model)


@pytest.fixture(scope="module")
def converted(model: onnx.ModelProto) -> Converted:
    """What the export had in hand before its gate, read back from the bundle."""
    names = [layer.name for layer in slice_network().layers if "relu" in layer.name]
    return Converted(
        model=model,
        folded=59,
        landmarks=tuple(
            Landmark(node=f"relu{number}", layer=name) for number, name in enumerate(names, 1)
        ),
        last=Landmark(node="dense1", layer="output"),
    )


def test_the_bundle_says_what_it_is(bundle: ModelBundle) -> None:
    assert (bundle.task, bundle.labels) == ("slices", tuple(LABELS["slices"]))
    assert bundle.slice_spec == SMALL_SLICE
    assert bundle.threshold == 0.375
    assert (bundle.input_name, bundle.input_shape) == ("image", (3, 64, 64))
    assert bundle.output_names == ("logit", "probability")
    export = bundle.provenance["export"]
    assert (export["nodes"], export["batch_norms_folded"], export["opset"]) == (432, 59, 17)
    for words in (
        "Not a medical device",
        "single axial slices",
        "64 x 64 pixels",
        "less 0.4, 0.5, 0.6 and divided by 0.2, 0.25, 0.3",
        "`abnormal` from a probability of 0.375 on",
    ):
        assert words in bundle.card


def test_no_transpose_is_left_and_the_guard_knows_every_operator(bundle: ModelBundle) -> None:
    facts = inspect_model(answers_of(bundle.model))
    assert facts.operators == OPERATORS
    assert set(inspect_model(bundle.model).operators) <= ALLOWED_OPERATORS
    (image,) = facts.inputs
    assert (image.name, image.shape) == ("image", ("batch", 3, 64, 64))


def test_names_say_what_they_hold(bundle: ModelBundle) -> None:
    model = onnx.load_from_string(answers_of(bundle.model))
    onnx.checker.check_model(model, full_check=True)
    nodes = [node.name for node in model.graph.node]
    assert nodes[:8] == [
        "conv1",
        "relu1",
        "pad1",
        "max_pool1",
        "scale1",
        "shift1",
        "relu2",
        "conv2",
    ]
    assert nodes[-5:] == ["relu121", "average", "flatten", "dense1", "sigmoid"]
    assert [node.output[0] for node in model.graph.node][:-2] == nodes[:-2]
    weights = {weight.name for weight in model.graph.initializer}
    assert {"conv1.weight", "conv120.weight", "scale62.factor", "dense1.bias"} <= weights
    assert "Not a medical device" in model.doc_string
    properties = {entry.key for entry in model.metadata_props}
    assert properties == {"task", "labels", "spec", "keras_sha256"}


def test_the_gate_saw_patterns_and_both_kinds_of_chests(bundle: ModelBundle) -> None:
    record = bundle.gates["onnx"]
    assert record["passed"] is True
    assert (record["output"], record["tolerance"]) == ("logit", 1e-4)
    assert record["max_abs_difference"] <= 5e-5
    names = {shown["name"] for shown in record["inputs"]}
    assert {"zeros", "ones", "noise", "healthy-slice", "diseased-slice"} <= names
    answers = [shown["keras"] for shown in record["inputs"]]
    assert max(answers) - min(answers) > 0.1


def test_the_golden_slices_hold_keras_answers(bundle: ModelBundle) -> None:
    cases = bundle.golden()
    assert [case.name for case in cases] == ["healthy-slice", "diseased-slice"]
    for case in cases:
        logit = logit_of(slice_network(), network_batch(case.input[None], SMALL_SLICE))
        assert case.outputs["logit"] == pytest.approx(logit, abs=TOLERANCES["logit"])
    assert verify_bundle(bundle.path) <= 5e-5


def test_the_batch_is_dynamic(bundle: ModelBundle) -> None:
    slices = np.stack([shown.values for shown in gate_inputs(SMALL_SLICE)])
    batch = network_batch(slices, SMALL_SLICE)
    answers = OnnxRuntime(bundle.model, name="small").run(batch)
    logits = answers["logit"]
    assert logits.shape == answers["probability"].shape == (32, 1)
    np.testing.assert_allclose(logits, logits_of(slice_network(), batch), rtol=0, atol=5e-5)
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(answers["probability"], expected, rtol=0, atol=1e-6)


def test_the_door_answers_the_golden_slice(bundle: ModelBundle) -> None:
    case = bundle.golden()[1]
    levels = np.rint(case.input * 255).astype(np.uint8)
    with SliceClassifier.load(bundle.path) as classifier:
        (answer,) = classifier.predict(levels).slices
    assert answer.logit == pytest.approx(case.outputs["logit"], abs=TOLERANCES["logit"])


def spoilt(model: onnx.ModelProto, name: str, factor: float) -> bytes:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    weight = next(weight for weight in copy.graph.initializer if weight.name == name)
    values = numpy_helper.to_array(weight) * np.float32(factor)
    weight.CopyFrom(numpy_helper.from_array(values, name))
    return copy.SerializeToString()


@pytest.mark.parametrize(
    ("weight", "factor", "layer"),
    [
        ("conv1.weight", 1.01, "relu1 (conv1_relu in Keras)"),
        ("scale3.factor", 1.1, "relu6 (conv2_block3_0_relu in Keras)"),
        ("conv60.weight", np.nan, "in Keras), by inf"),
        ("dense1.weight", 1.5, "dense1 (output in Keras)"),
    ],
)
def test_the_gate_names_the_layer(
    converted: Converted, weight: str, factor: float, layer: str
) -> None:
    onnx_bytes, shown = spoilt(converted.model, weight, factor), gate_inputs(SMALL_SLICE)[-3:]
    versions = {"keras": "", "onnxruntime": ""}
    result = gate.compare(slice_network(), onnx_bytes, shown, output="logit", versions=versions)
    with pytest.raises(GateFailed) as caught:
        gate.require_pass(result, slice_network(), onnx_bytes, converted, shown)
    assert layer in str(caught.value)


def test_a_failed_gate_leaves_nothing_and_a_second_conversion_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: onnx.ModelProto,
) -> None:
    original = tidy_slices.head

    def spoil(dense: Any, *, after: str) -> Any:
        nodes, (weight, bias) = original(dense, after=after)
        return nodes, [
            numpy_helper.from_array(numpy_helper.to_array(weight) * 3, weight.name),
            bias,
        ]

    monkeypatch.setattr(tidy_slices, "head", spoil)
    folder = slice_run(tmp_path_factory.getbasetemp())
    arguments = ["onnx", str(folder), "-o", str(tmp_path / "x.ctedge"), "--keep-failed"]
    with few_inputs():
        result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 3
    assert "dense1 (output in Keras)" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["x.failed"]
    again = onnx.load(tmp_path / "x.failed" / "model.onnx")
    assert again.graph.node == model.graph.node
    differing = [
        one.name
        for one, two in zip(again.graph.initializer, model.graph.initializer, strict=True)
        if one != two
    ]
    assert sorted(differing) == ["cam.gradient", "dense1.weight"]  # of one Dense they are the same


# What is refused


def network(*middle: Any, end: Any = None, average: Any = None) -> Any:
    import keras
    from keras import layers

    tensor = inputs = keras.Input((64, 64, 3))
    for layer in (*middle, layers.Activation("relu", name="last")):
        tensor = layer(tensor)
    tensor = (average or layers.GlobalAveragePooling2D())(tensor)
    return keras.Model(inputs, (end or layers.Dense(1, activation="sigmoid", name="end"))(tensor))


def test_a_network_of_other_layers_is_refused_by_name() -> None:
    from keras import layers

    conv = layers.Conv2D
    for made, found in (
        (network(layers.Conv2DTranspose(2, 3, name="here")), "Conv2DTranspose"),
        (network(conv(2, 3, activation="gelu", name="here")), "gelu"),
        (network(conv(2, 3, dtype="mixed_bfloat16", name="here")), "bfloat16"),
        (network(end=layers.Dense(2, name="here")), r"Dense\(2\)"),
        (network(end=layers.Dense(1, name="here")), "linear"),
        (network(average=layers.GlobalMaxPooling2D(name="here")), "GlobalMaxPooling2D"),
        (network(average=layers.Flatten(name="here")), "Flatten"),
    ):
        with pytest.raises(InvalidBundle, match=found) as caught:
            convert_slices(made, spec=SMALL_SLICE, properties={})
        assert "'here'" in str(caught.value)


def test_a_graph_with_another_operator_is_refused() -> None:
    raw = onnx.ModelProto()
    raw.graph.input.add().name = "image"
    raw.graph.output.add().name = "features"
    raw.graph.node.append(onnx.helper.make_node("Transpose", ["image"], ["features"], "stray"))
    with pytest.raises(InvalidBundle, match="Transpose in node 'stray'"):
        tidy_slices.tidy_trunk(raw)
