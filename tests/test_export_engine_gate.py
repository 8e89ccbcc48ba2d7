"""Gate 4, as far as a machine without a GPU goes: what it decides, and what a driver is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import find_engine, read_record
from ctedge.engines.machine import Machine
from ctedge.engines.record import DeviceGate, EngineRecord, parse_record
from ctedge.errors import (
    EngineUnverified,
    GateFailed,
    InvalidBundle,
    OutputError,
    RuntimeUnavailable,
)
from ctedge.runtimes.cuda_driver import find_device, require_device, why_no_device
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.engine.flavours import Flavour
from ctedge_export.engine.inspector import inspected_layers, inspector_rows
from ctedge_export.engine.log import build_error
from ctedge_export.engine.settings import Settings, check_options, choose_target
from ctedge_export.engine.timing_cache import default_path, keep_timings, read_timings
from ctedge_export.engine.typed_network import require_share
from ctedge_export.engine.verify import judge, require_passed, verify_engines
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import gate_input
from ctedge_export.gates.runners import Batch, Runner
from engine_factory import WORKSTATION, put_engine, record_for, write_engine_bundle

without_gpu = pytest.mark.skipif(find_device() is not None, reason="for machines without a GPU")

PLAN = b"an engine"
NAME = "fp16-tensorrt-10.3.0-sm86-rtx-a4000.engine"
HERE = Machine(versions={"tensorrt": "10.3.0"}, site=WORKSTATION)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    folder = tmp_path_factory.mktemp("gate") / "small.ctedge"
    return write_engine_bundle(folder, variants=("fp16",))


# What a record shows of its gate


PASS = {"passed": True}
UNSHOWN: list[dict[str, Any]] = [
    {},
    {"numeric": PASS},
    {"task": PASS},
    {"numeric": PASS, "task": {}},
    {"numeric": PASS, "task": True},
    {"numeric": PASS, "another": PASS},
    {"numeric": {"passed": None}, "task": PASS},
]


@pytest.mark.parametrize("results", UNSHOWN)
def test_a_pass_that_nothing_shows_is_none(bundle: ModelBundle, results: dict[str, Any]) -> None:
    """A record that was edited by hand, or is of a gate that looked at numbers alone."""
    gate = DeviceGate(state="passed", machine=WORKSTATION, results=results)
    path = put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, device_gate=gate))
    with pytest.raises(EngineUnverified, match="its own gate") as caught:
        find_engine(bundle, precision="fp16", runtime="tensorrt", machine=HERE)
    assert "device_gate: incomplete" in str(caught.value.found)
    wanted = f"on the machine that shall run it: ctedge export verify {bundle.path}"
    assert caught.value.fix == wanted
    record = read_record(path)
    assert parse_record(record.to_bytes(), name="x") == record


@pytest.mark.parametrize("passed", [False, 1, "yes"])
def test_a_pass_that_its_own_figures_deny_is_refused(bundle: ModelBundle, passed: object) -> None:
    results = {"numeric": PASS, "task": {"passed": passed}}
    gate = DeviceGate(state="passed", machine=WORKSTATION, results=results)
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, device_gate=gate))
    with pytest.raises(InvalidBundle, match=r"device_gate\.results"):
        find_engine(bundle, precision="fp16", runtime="tensorrt", machine=HERE)


# What it decides


Answers = dict[str, np.ndarray]


def runner_of(bundle: ModelBundle, change: Callable[[Answers], Answers]) -> Runner:
    """The half-precision file on the CPU, in the place of an engine."""
    session = OnnxRuntime(bundle.model_bytes("fp16"), name="fp16")

    def run(batch: Batch) -> Answers:
        return change(session.run(batch))

    return Runner(name="tensorrt-cuda-fp16", version="tensorrt 10.3.0", run=run)


def judged(bundle: ModelBundle, change: Callable[[Answers], Answers]) -> EngineRecord:
    noise = np.random.default_rng(2).random((6, *bundle.spec.shape))
    shown = [gate_input(f"noise {n}", values, bundle.spec) for n, values in enumerate(noise)]
    cases = [Case(shown=one, positive=n % 2 == 0, score=None) for n, one in enumerate(shown)]
    record = record_for(bundle, PLAN, device_gate=DeviceGate())
    runner = runner_of(bundle, change)
    return judge(record, bundle, runner, site=WORKSTATION, inputs=shown, cases=cases)


def test_an_engine_that_answers_as_its_model_passes(bundle: ModelBundle) -> None:
    record = judged(bundle, lambda answers: answers)
    assert record.device_gate.state == "passed"
    assert record.device_gate.machine == WORKSTATION
    assert record.device_gate.results["runtime"] == "tensorrt-cuda-fp16"
    assert record.device_gate.results["numeric"]["passed"]
    assert record.device_gate.results["task"]["passed"]
    require_passed(record, Path(NAME))
    json.dumps(record.to_json(), allow_nan=False)


def _shift(answers: Answers) -> Answers:
    return answers | {"probability": answers["probability"] + np.float32(0.1)}


def _infinite(answers: Answers) -> Answers:
    return {name: values * np.float32("nan") for name, values in answers.items()}


@pytest.mark.parametrize("change", [_shift, _infinite])
def test_an_engine_that_answers_otherwise_fails(
    bundle: ModelBundle, change: Callable[[Answers], Answers]
) -> None:
    record = judged(bundle, change)
    assert record.device_gate.state == "failed"
    with pytest.raises(GateFailed, match="does not answer as its model does") as caught:
        require_passed(record, Path(NAME))
    assert caught.value.found
    json.dumps(record.to_json(), allow_nan=False)


@without_gpu
def test_verify_says_why_an_engine_is_not_run_here(bundle: ModelBundle) -> None:
    before = record_for(bundle, PLAN, device_gate=DeviceGate())
    path = put_engine(bundle, NAME, PLAN, before)
    said: list[str] = []
    assert verify_engines(bundle, say=said.append) == ()
    assert len(said) == 1
    assert said[0].startswith(f"{NAME}: digest and model verified; not run here: no NVIDIA")
    assert read_record(path) == before


@without_gpu
def test_without_a_driver_there_is_no_device_and_no_crash() -> None:
    assert find_device() is None
    assert "no NVIDIA driver" in why_no_device()
    with pytest.raises(RuntimeUnavailable, match="running an engine needs an NVIDIA GPU"):
        require_device("running an engine")


#: Written after the inspector's JSON: TensorRT Developer Guide, "Engine Inspector".
INSPECTED = {
    "Layers": [
        {
            "Name": "conv1 + relu1",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "v", "Format/Datatype": "Channel major FP16 format"}],
            "Outputs": [{"Name": "r", "Format/Datatype": "Channel major FP16 format"}],
            "TacticName": "sm86_xmma_fprop",
            "Weights": {"Type": "Half", "Count": 100},
        },
        {
            "Name": "conv2",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "r", "Format/Datatype": "Thirty-two wide vectorized Int8 format"}],
            "Outputs": [{"Name": "c", "Format/Datatype": "Row major linear FP32"}],
            "TacticValue": "0x1",
        },
        {"Name": "shape", "LayerType": "Shape", "Outputs": [{"Format/Datatype": "Int32"}]},
    ],
    "Bindings": ["volume", "logit"],
}


def test_the_inspectors_words_are_understood() -> None:
    first, second, _ = inspector_rows(json.dumps(INSPECTED))
    assert (first.precision, first.tactic, first.weight_bytes) == ("fp16", "sm86_xmma_fprop", 200)
    assert (second.precision, second.format) == ("int8", "Row major linear FP32")
    layers = inspected_layers(json.dumps(INSPECTED))
    assert layers is not None
    assert layers.source == "inspector"
    assert layers.convolutions == {"fp16": 0.5, "int8": 0.5}
    with pytest.raises(GateFailed, match="would not be fp16"):
        require_share(layers, "fp16")


FOREIGN = {"Layers": [{"Name": "{ForeignNode[conv1...sigmoid]}", "LayerType": "Myelin"}]}


@pytest.mark.parametrize(
    "text", [json.dumps(FOREIGN), '{"Layers": ["conv1"]}', "{}", "[]", "", "x"]
)
def test_an_inspector_that_names_no_convolution_leaves_the_word_to_the_network(text: str) -> None:
    assert inspected_layers(text) is None


#: As the builders of TensorRT 8, 10 and RTX say it; the first two from public reports of users.
SAID = {
    "Error Code 10: Internal Error (Could not find any implementation for node conv2.)": "memory",
    "Cuda Error in allocate: 2 (out of memory)": "memory",
    "Tactic Selection: no tactics to implement the operation within workspace limit": "memory",
    "Cannot compile operation 'conv1' for Turing (SM75): FP32 GEMM is not supported": "Turing",
    "(cudaError 35: CUDA driver version is insufficient for CUDA runtime version)": "driver",
    "Unable to load library: libnvinfer_lean.so.10: cannot open": "lean runtime",
    "something new": "built no engine",
}


@pytest.mark.parametrize("line", SAID)
def test_a_builders_complaint_is_put_in_words_that_help(line: str) -> None:
    error = build_error([(1, line)], workspace_bytes=None)
    assert SAID[line] in error.what
    assert line in str(error.found)
    assert error.fix
    if SAID[line] == "memory":
        assert "--max-batch" in str(error.fix)
        limited = build_error([(1, line)], workspace_bytes=64 << 20)
        assert "--workspace 64 (MiB)" in str(limited.expected)


def old_tensorrt() -> SimpleNamespace:
    """What 8.5 offers of what is asked for: types are hints, and there is no monitor."""
    kinds = SimpleNamespace(EXPLICIT_BATCH=0)
    flags = SimpleNamespace(FP16=0, INT8=1, TF32=7)
    return SimpleNamespace(
        __version__="8.5.3.1",
        NetworkDefinitionCreationFlag=kinds,
        BuilderFlag=flags,
        IBuilderConfig=SimpleNamespace(),
    )


def test_a_weakly_typed_tensorrt_gets_a_batch_axis_and_no_newer_option() -> None:
    flavour = Flavour(runtime="tensorrt", trt=old_tensorrt())
    assert (flavour.strongly_typed, flavour.ahead_of_time) == (False, False)
    assert flavour.network_flags == 1
    assert choose_target(flavour, Settings(), WORKSTATION).name == "sm86-rtx-a4000"
    refused = [Settings(optimization_level=3), Settings(version_compatible=True)]
    for settings in refused:
        with pytest.raises(RuntimeUnavailable, match=r"8\.5\.3\.1 does not offer"):
            check_options(flavour, settings)
    for settings in (Settings(hardware_compatible=True), Settings(target="sm86")):
        with pytest.raises(RuntimeUnavailable, match=r"does not offer|for no other"):
            choose_target(flavour, settings, WORKSTATION)


def test_timings_are_kept_by_device_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flavour = Flavour(runtime="tensorrt", trt=old_tensorrt())
    path = default_path(flavour, WORKSTATION)
    assert path.name == "timings-tensorrt-8.5.3.1-rtx-a4000-sm86.cache"
    assert path != default_path(flavour, replace(WORKSTATION, gpu="NVIDIA RTX A2000"))
    assert read_timings(path) == b""
    assert keep_timings(path, b"timings") is None
    assert read_timings(path) == b"timings"
    assert "not kept" in str(keep_timings(path / "below", b"timings"))
    with pytest.raises(OutputError, match="cannot be read"):
        read_timings(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "~")  # stays what it is, as where no account names a folder
    with pytest.raises(OutputError, match="no folder for the timing cache") as homeless:
        default_path(flavour, WORKSTATION)
    assert "--timing-cache" in str(homeless.value.fix)
