"""The ONNX graph of a network for whole scans is tidy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", exc_type=ImportError)
pytest.importorskip("tf2onnx", exc_type=ImportError)

import onnx

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import InvalidBundle
from ctedge.onnx_file.guard import inspect_model
from ctedge.onnx_file.parts import answers_of
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.network import fold
from ctedge_export.network import tidy_volumes as tidy
from ctedge_export.network.volumes import rebuild, to_onnx
from run_factory import NODES, SMALL, logit_of, small_bundle, small_network


@pytest.fixture(scope="module")
def trained() -> Any:
    return small_network()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return small_bundle(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(bundle: ModelBundle) -> onnx.ModelProto:
    return onnx.load_from_string(bundle.model)


def test_the_graph_reads_well(bundle: ModelBundle) -> None:
    model = onnx.load_from_string(answers_of(bundle.model))
    assert [node.name for node in model.graph.node] == [*NODES, "sigmoid"]
    assert len(model.graph.node) == 18
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Transpose", "BatchNormalization", "Mul", "Add", "Reshape"}
    assert sorted(weight.name for weight in model.graph.initializer) == sorted(
        f"{layer}.{kind}"
        for layer in ("conv1", "conv2", "conv3", "conv4", "dense1", "dense2")
        for kind in ("weight", "bias")
    )
    (source,) = model.graph.input
    shape = source.type.tensor_type.shape.dim
    assert source.name == "volume"
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", 1, *SMALL.shape]
    assert [output.name for output in model.graph.output] == ["logit", "probability"]


def test_the_file_says_what_it_is(model: onnx.ModelProto) -> None:
    assert model.ir_version <= 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.producer_name == "ctedge"
    assert "Not a medical device" in model.doc_string
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["task"] == "classifier"
    assert set(properties) == {"task", "labels", "spec", "keras_sha256"}


def test_checker_shape_inference_and_guard_agree(
    bundle: ModelBundle, model: onnx.ModelProto
) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert {value.name for value in model.graph.value_info} >= set(NODES[:-1])
    facts = inspect_model(answers_of(bundle.model))
    assert sum(facts.operators.values()) == 18


@pytest.mark.parametrize("count", [1, 3])
def test_the_batch_is_dynamic(bundle: ModelBundle, trained: Any, count: int) -> None:
    batch = np.random.default_rng(1).random((count, 1, *SMALL.shape), np.float32)
    answers = OnnxRuntime(bundle.model, name="tiny").run(batch)
    assert answers["logit"].shape == answers["probability"].shape == (count, 1)
    for volume, logit, probability in zip(batch, *answers.values(), strict=True):
        assert logit.item() == pytest.approx(logit_of(trained, volume[None]), abs=1e-4)
        assert probability.item() == pytest.approx(1 / (1 + np.exp(-logit.item())), abs=1e-6)


def test_an_unexpected_graph_is_refused(trained: Any) -> None:
    steps, _ = fold.fold(trained, activation="sigmoid")
    raw = to_onnx(rebuild(steps, SMALL.shape), task="classifier")
    options: dict[str, Any] = {
        "task": "classifier",
        "spec": SMALL,
        "properties": {},
    }
    tidy.tidy(raw, steps, **options)
    with pytest.raises(InvalidBundle, match="does not recognise"):
        tidy.tidy(raw, steps[1:], **options)
    with pytest.raises(InvalidBundle, match="reshape"):
        tidy.tidy(raw, steps, **{**options, "spec": replace(SMALL, shape=(48, 46, 50))})
    spare = onnx.ModelProto.FromString(raw.SerializeToString())
    spare.graph.node.append(onnx.helper.make_node("Neg", ["logit"], ["spare"]))
    with pytest.raises(InvalidBundle, match="branch"):
        tidy.tidy(spare, steps, **options)
