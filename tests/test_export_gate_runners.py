"""A precision is gated on every device that might run it here, GPUs too, which are played."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnxruntime

from ctedge.bundle.files import shipped_bundles
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import RuntimeUnavailable
from ctedge.runtimes import choice as choice_module
from ctedge.runtimes import cpu_flags, openvino_package
from ctedge.runtimes.choice import choose
from ctedge_export.gates import runners as runners_module
from ctedge_export.gates.runners import runners
from ctedge_export.precision import half
from engine_factory import chain
from gated_bundle import gated_copy, write_small
from precision_factory import network, weights

ONNX: Any = "onnxruntime"

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU and ONNX Runtime's provider for it, which is the CPU's."""

    class Played(onnxruntime.InferenceSession):
        def __init__(self, model: bytes, options: Any, providers: Any, **others: Any) -> None:
            ((self.provider, _),) = providers
            super().__init__(model, options, providers=["CPUExecutionProvider"], **others)

        def get_providers(self) -> list[str]:
            return [self.provider, "CPUExecutionProvider"]

    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Played)
    gpu = SimpleNamespace(gpu="a played GPU")
    monkeypatch.setattr(runners_module, "require_device", lambda purpose: gpu)
    monkeypatch.setattr(choice_module, "find_device", lambda: gpu)


@pytest.fixture
def intel(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's GPU, which is its CPU."""
    monkeypatch.setitem(openvino_package.DEVICES, "gpu", "CPU")


def test_fp16_is_gated_on_cuda_where_there_is_a_gpu(cuda: None) -> None:
    found = runners(half.halve(network(weights()), "fp16"), "fp16")
    assert [one.name for one in found] == ["onnxruntime-cpu-fp16-rounded", "onnxruntime-cuda-fp16"]
    assert found[1].version.endswith("CUDAExecutionProvider, a played GPU")


@needs_openvino
def test_int8_is_gated_on_an_intel_gpu_where_there_is_one(intel: None) -> None:
    found = {one.name: one.version for one in runners(chain("int8"), "int8")}
    assert next(iter(found)) == "onnxruntime-cpu-int8"
    assert found["openvino-gpu-int8"].endswith(", GPU, f32")


def test_what_cannot_be_had_here_is_said_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(purpose: str) -> None:
        raise RuntimeUnavailable(f"{purpose} needs a GPU", found="no NVIDIA driver")

    monkeypatch.setattr(runners_module, "require_device", absent)
    said: list[str] = []
    (only,) = runners(half.halve(network(weights()), "fp16"), "fp16", say=said.append)
    assert only.name == "onnxruntime-cpu-fp16-rounded"
    assert said == [
        "onnxruntime-cuda-fp16 is not gated here: a gate on onnxruntime-cuda-fp16 needs a GPU"
        " (no NVIDIA driver)"
    ]


@needs_openvino
def test_int8_is_not_gated_where_it_saturates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text("flags : avx2\n")
    monkeypatch.setattr(cpu_flags, "CPUINFO", tmp_path / "cpuinfo")
    said: list[str] = []
    names = [one.name for one in runners(chain("int8"), "int8", say=said.append)]
    assert "openvino-cpu-int8" not in names
    assert any("openvino-cpu-int8 is not gated here: OpenVINO's int8 sat" in one for one in said)


def test_what_was_gated_on_cuda_is_taken_there_and_before_it_is_advised(
    tmp_path: Path, cuda: None
) -> None:
    named: Any = {"device": "cuda", "runtime": "onnxruntime", "precision": "fp16"}
    plain = write_small(tmp_path / "plain.ctedge")
    files = {"fp16": half.halve(network(weights()), "fp16")}
    names = [one.name for one in runners(files["fp16"], "fp16")]
    assert len(names) == 2
    elsewhere = gated_copy(plain.path, tmp_path / "a.ctedge", files, {"fp16": {names[0]: True}})
    with pytest.raises(RuntimeUnavailable, match=f"never ran on {names[1]}") as met:
        choose(elsewhere, **named)
    advice = str(met.value.fix)
    assert f"export precision {elsewhere.argument} --to fp16 --overwrite` on this" in advice
    assert "onnxruntime-gpu" in advice
    # What the advised command writes on this machine.
    both = dict.fromkeys(names, True)
    chosen = choose(gated_copy(plain.path, tmp_path / "b.ctedge", files, {"fp16": both}), **named)
    chosen.runtime.close()
    assert chosen.runtime.name == names[1]


def test_a_shipped_bundle_is_not_changed_where_it_stands(cuda: None) -> None:
    assert "pneumonia" in shipped_bundles()
    with pytest.raises(RuntimeUnavailable, match="never ran on onnxruntime-cuda-fp16") as met:
        choose(ModelBundle.load("pneumonia"), device="cuda", precision="fp16", runtime=ONNX)
    assert "pneumonia --to fp16 -o pneumonia.ctedge --overwrite`" in str(met.value.fix)
