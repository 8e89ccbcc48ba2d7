"""The numeric gate is no ornament."""

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

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import GateFailed, InvalidBundle
from ctedge.runtimes import verification
from ctedge_export.cli import app
from ctedge_export.gates import against_keras as gate
from ctedge_export.gates import keras_layers as layers
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.network import tidy_volumes as tidy
from ctedge_export.network.volumes import convert_volumes
from ctedge_export.onnx_bundle import export_onnx
from ctedge_export.verify import verify_bundle
from run_factory import SMALL, few_inputs, logit_of, small_bundle, small_network, small_run


@pytest.fixture(scope="module")
def trained() -> Any:
    return small_network()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return small_bundle(tmp_path_factory.getbasetemp())


def test_the_gate_passes_with_its_figures(bundle: ModelBundle) -> None:
    record = bundle.gates["onnx"]
    assert record["passed"] is True
    assert record["output"] == "logit"
    assert record["tolerance"] == 1e-4
    assert record["max_abs_difference"] <= 2e-5
    assert len(record["inputs"]) == 32
    answers = [shown["keras"] for shown in record["inputs"]]
    assert max(answers) - min(answers) > 0.1


def test_the_golden_cases_hold_keras_answers(bundle: ModelBundle, trained: Any) -> None:
    cases = bundle.golden()
    assert [case.name for case in cases] == ["healthy-chest", "diseased-chest"]
    for case in cases:
        assert case.input.shape == SMALL.shape
        assert case.outputs["logit"] == pytest.approx(
            logit_of(trained, case.input[None, None]), abs=1e-4
        )
    assert verify_bundle(bundle.path) <= 2e-5


def spoilt(name: str, factor: float) -> Any:
    original = tidy.tidy

    def spoil(*arguments: Any, **options: Any) -> onnx.ModelProto:
        model = original(*arguments, **options)
        for weight in model.graph.initializer:
            if weight.name == name:
                values = numpy_helper.to_array(weight) * np.float32(factor)
                weight.CopyFrom(numpy_helper.from_array(values, name))
        return model

    return spoil


@pytest.mark.parametrize(
    ("weight", "factor", "layer"),
    [
        ("conv1.weight", 1.01, "conv1 (conv_1 in Keras)"),
        ("conv3.bias", 2.0, "conv3 (conv_3 in Keras)"),
        ("dense1.weight", 0.9, "dense1 (dense in Keras)"),
        ("dense2.weight", 1.5, "dense2 (output in Keras)"),
        ("conv2.weight", np.nan, "conv2 (conv_2 in Keras)"),
    ],
)
def test_a_failed_gate_names_the_layer_and_leaves_nothing(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weight: str,
    factor: float,
    layer: str,
) -> None:
    monkeypatch.setattr(tidy, "tidy", spoilt(weight, factor))
    with few_inputs():  # what fails on these fails on all
        command = ["onnx", str(run_folder), "-o", str(tmp_path / "x.ctedge")]
        result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 3
    assert layer in str(result.exception)
    assert "1e-0" in str(result.exception) or "0.0001" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_model_can_be_kept_but_is_no_bundle(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidy, "tidy", spoilt("conv4.bias", 3.0))
    for _ in range(2):
        with few_inputs(), pytest.raises(GateFailed, match="conv4"):
            export_onnx(run_folder, tmp_path / "x.ctedge", keep_failed=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.failed"]
    assert {path.name for path in (tmp_path / "x.failed").iterdir()} == {"gate.json", "model.onnx"}
    with pytest.raises(InvalidBundle):
        ModelBundle.load(tmp_path / "x.failed")


def test_a_difference_without_a_number_fails() -> None:
    result = gate.GateResult(
        output="logit",
        tolerance=1e-4,
        comparisons=(gate.Comparison(name="zeros", keras=float("nan"), onnx=0.0),),
        batch_difference=0.0,
        probability_difference=0.0,
        outputs={},
        versions={"keras": "", "onnxruntime": ""},
    )
    assert not result.passed
    assert result.to_json()["max_abs_difference"] is None


def test_all_layers_of_a_good_model_agree(trained: Any, bundle: ModelBundle) -> None:
    converted = convert_volumes(trained, task="classifier", spec=SMALL, properties={})
    place = layers.first_deviation(trained, bundle.model, converted, gate_inputs(SMALL)[2])
    assert place.startswith("dense2")


def test_verify_finds_a_changed_answer(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(verification.TOLERANCES, "logit", -1.0)
    result = CliRunner().invoke(app, ["verify", str(bundle.path)])
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 3
