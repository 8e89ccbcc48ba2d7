"""What is named is strict: it is had, or the error says what is missing and what mends it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

import ctedge.runtimes.choice as choice_module
from bundle_factory import write_tiny
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import RuntimeUnavailable
from ctedge.runtimes.choice import choose
from ctedge.runtimes.cuda_driver import find_device
from engine_factory import put_engine, record_for, write_engine_bundle

no_gpu = pytest.mark.skipif(find_device() is not None, reason="this machine has a GPU")


@pytest.fixture
def bundle(tmp_path) -> ModelBundle:
    return write_tiny(tmp_path / "tiny.ctedge")


@pytest.mark.parametrize(
    "named",
    [
        {"device": "tpu"},
        {"runtime": "torch"},
        {"precision": "int4"},
        {"runtime": "openvino", "device": "cuda"},
        {"runtime": "openvino", "precision": "fp16"},
        {"runtime": "tensorrt", "device": "cpu"},
    ],
)
def test_nothing_of_that_name(bundle, named):
    with pytest.raises(RuntimeUnavailable, match="expected"):
        choose(bundle, **named)


@no_gpu
def test_a_gpu_that_is_not_there(bundle):
    with pytest.raises(RuntimeUnavailable, match="install the driver") as caught:
        choose(bundle, device="cuda")
    for candidate in ("tensorrt-cuda", "tensorrt-rtx-cuda", "onnxruntime-cuda-fp16"):
        assert f"{candidate}: refused" in str(caught.value)


@pytest.mark.parametrize("device", [None, "cuda"])
@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
@no_gpu
def test_no_engine_is_asked_for_where_there_is_no_gpu(bundle, runtime, device):
    with pytest.raises(RuntimeUnavailable, match="NVIDIA driver") as caught:
        choose(bundle, runtime=runtime, device=device)
    assert "build-engine" not in str(caught.value)
    assert caught.value.fix == "install the driver, or go on with the device cpu"


#: A package that finds no GPU of Intel's.
CPU_ALONE = SimpleNamespace(Core=lambda: SimpleNamespace(available_devices=["CPU"]))


@pytest.mark.parametrize("openvino", [None, CPU_ALONE], ids=["not installed", "CPU alone"])
@pytest.mark.parametrize("precision", [None, "fp32", "int8"])
def test_an_intel_gpu_is_no_nvidia_gpu(bundle, monkeypatch, precision, openvino):
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    with pytest.raises(RuntimeUnavailable, match="an NVIDIA GPU is the device cuda") as caught:
        choose(bundle, device="gpu", precision=precision)
    assert str(caught.value.fix).count("NVIDIA") == 1


@pytest.mark.parametrize("precision", [None, "int8"])
def test_an_engine_that_is_not_there(bundle, monkeypatch, precision):
    monkeypatch.setattr(choice_module, "find_device", lambda: "a GPU")
    with pytest.raises(RuntimeUnavailable, match="has no engine for tensorrt") as caught:
        choose(bundle, runtime="tensorrt", precision=precision)
    wanted = f" --precision {precision}" if precision else ""
    assert str(caught.value.fix).endswith(f"{wanted} --runtime tensorrt")
    assert ("--precision" in str(caught.value.fix)) == bool(precision)


@no_gpu
def test_an_engine_without_a_gpu(tmp_path):
    bundle = write_engine_bundle(tmp_path / "engine.ctedge", variants=("fp16",))
    name = "fp16-tensorrt-10.3.0-sm86-rtx-a4000.engine"
    put_engine(bundle, name, b"plan", record_for(bundle, b"plan"))
    choice = choose(bundle, precision="fp32")
    choice.runtime.close()
    assert choice.runtime.name == "onnxruntime-cpu-fp32"  # without golden cases the only one
    reasons = {verdict.candidate: verdict.reason for verdict in choice.verdicts}
    assert "NVIDIA driver" in reasons["tensorrt-cuda"]
    assert choice.verdicts[-1].candidate == "onnxruntime-cpu-fp32"
    with pytest.raises(RuntimeUnavailable, match="NVIDIA driver"):
        choose(bundle, runtime="tensorrt")
