"""Whose answers a file is held against: Keras', wherever the manifest holds them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.bundle.model_bundle import ModelBundle
from ctedge_export.gates import numeric
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import gate_input
from ctedge_export.gates.recorded import reference
from ctedge_export.gates.runners import Runner
from precision_factory import SPEC

NAMES = ("noise", "ball", "phantom")
INPUTS = tuple(gate_input(name, np.zeros(SPEC.shape), SPEC) for name in NAMES)
PHANTOM = Case(shown=INPUTS[2], positive=True, score=None)

#: What the FP32 file answers here.
FP32 = {name: {"logit": 0.5, "probability": 0.6225} for name in NAMES}

#: What Keras answered to two inputs of the numeric gate and one of the task gate, further from FP32
#: than it may be, so that the two are told apart.
GATES: Mapping[str, Any] = {
    "onnx": {
        "passed": True,
        "reference": "keras 3.15.1, float32, CPU",
        "output": "logit",
        "inputs": [
            {"name": "noise", "keras": 1.0, "onnx": 0.5},
            {"name": "ball", "keras": 1.0, "onnx": 0.5},
        ],
    },
    "task": {
        "passed": True,
        "output": "probability",
        "inputs": [{"name": "phantom", "keras": 0.75, "found": 0.6225}],
    },
}


def changed(gate: str, key: str, value: object) -> dict[str, Any]:
    gates = copy.deepcopy(dict(GATES))
    gates[gate]["inputs"][0][key] = value
    return gates


def test_answers_of_keras_go_before_those_of_the_file() -> None:
    found = reference(GATES, FP32, [PHANTOM])
    for name in ("noise", "ball"):
        assert found.answers[name] == {
            "logit": 1.0,
            "probability": pytest.approx(1 / (1 + math.exp(-1)), abs=1e-12),
        }
    assert found.answers["phantom"] == {"logit": 0.5, "probability": 0.75}
    assert found.decided_by == "keras"
    assert found.said.startswith("keras 3.15.1, float32, CPU on 3 inputs")
    assert FP32["noise"] == {"logit": 0.5, "probability": 0.6225}


def test_a_score_is_a_score() -> None:
    gates = {
        "onnx": {"output": "score", "inputs": [{"name": "noise", "keras": 7.5, "onnx": 7.0}]},
        "task": {"output": "score", "inputs": []},
    }
    assert reference(gates, {"noise": {"score": 7.0}}, []).answers == {"noise": {"score": 7.5}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "another"),
        ("name", ["noise"]),
        ("onnx", 0.6),  # to what is drawn here FP32 answers otherwise: it is another input
        ("onnx", None),
        ("keras", None),
        ("keras", "1.0"),
    ],
)
def test_what_was_answered_to_another_input_is_not_taken(key: str, value: object) -> None:
    found = reference(changed("onnx", key, value), FP32, [PHANTOM])
    assert found.answers["noise"] == FP32["noise"]
    assert found.answers["ball"]["logit"] == 1.0


def test_scans_that_keras_never_saw_are_decided_by_the_file() -> None:
    found = reference(changed("task", "found", 0.7), FP32, [PHANTOM])
    assert found.decided_by == "fp32"
    assert found.answers["phantom"] == FP32["phantom"]


@pytest.mark.parametrize("gates", [{}, {"onnx": None, "task": []}, {"onnx": {"inputs": [7]}}])
def test_a_manifest_without_answers_leaves_those_of_the_file(gates: dict[str, Any]) -> None:
    assert reference(gates, FP32, []).answers == FP32


def test_the_numeric_gate_holds_a_file_against_keras() -> None:
    """The file that answers as FP32 does fails here: Keras' answers are a tenth away."""
    answer = {name: np.array([[value]], np.float32) for name, value in FP32["noise"].items()}
    runner = Runner(
        name="as FP32",
        version="1",
        run=lambda batch: {name: np.repeat(one, len(batch), 0) for name, one in answer.items()},
    )
    held = reference(GATES, FP32, [PHANTOM])
    of_keras = numeric.check(held.answers, runner, INPUTS, precision="int8", said=held.said)
    assert not of_keras.passed
    assert of_keras.to_json()["reference"] == held.said
    assert numeric.check(FP32, runner, INPUTS, precision="int8").passed


@pytest.mark.parametrize("name", ["pneumonia", "severity"])
def test_shipped_variants_were_held_against_keras_on_every_input_of_the_export(name: str) -> None:
    manifest = ModelBundle.load(name).manifest
    shown = sum(len(manifest["gates"][gate]["inputs"]) for gate in ("onnx", "task"))
    for variant in manifest["variants"].values():
        for runtime in variant["gates"]["runtimes"].values():
            said = runtime["numeric"]["reference"]
            assert said.startswith("keras ")
            assert f" on {shown} inputs, as recorded; " in said
