"""Which engine of a bundle the TensorRT runtime loads here, and why it loads none."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.engines.files import record_path
from ctedge.engines.record import DeviceGate, Site, Target
from ctedge.errors import (
    DigestMismatch,
    EngineMismatch,
    EngineUnverified,
    InvalidBundle,
    RuntimeUnavailable,
)
from engine_factory import WORKSTATION
from tensorrt_fake import SURFACES
from tensorrt_stage import Stage, expected, set_stage, stage_of, volumes

UNVERIFIED = DeviceGate()
L4 = Target(name="sm89-l4", gpu="NVIDIA L4", compute_capabilities=("8.9",), or_newer=False)
ELSEWHERE = Site(gpu="NVIDIA L4", compute_capability="8.9", driver="580.65", cuda="13.0")


stage = stage_of("10.3", "rtx-1.7")


def untouched(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on TensorRT may not be asked for anything."""

    def touched(log: object) -> Any:
        raise AssertionError("TensorRT was handed something")

    monkeypatch.setattr(stage.trt, "Runtime", touched)


def test_a_bundles_engine_is_found_and_runs(stage: Stage) -> None:
    stage.put()
    runtime = stage.load()
    batch = volumes(2)
    assert runtime.name == f"{stage.record.runtime}-cuda-fp16"
    assert np.array_equal(runtime.run(batch)["logit"], expected(batch)["logit"])


def test_the_fastest_whose_gate_passed_is_taken(stage: Stage) -> None:
    stage.put("fp32")
    assert stage.load().name.endswith("fp32")
    stage.put("fp16")
    assert stage.load().name.endswith("fp16")
    digest = stage.bundle.manifest["members"]["model.int8.onnx"]["sha256"]
    onnx = {"onnx_member": "model.int8.onnx", "onnx_sha256": digest}
    stage.put("int8", device_gate=UNVERIFIED, **onnx)
    assert stage.load().name.endswith("fp16")
    stage.put("int8", **onnx)
    assert stage.load().name.endswith("int8")
    assert stage.load("fp32").name.endswith("fp32")  # what is named is strict


@pytest.mark.parametrize("named", [None, "fp16"])
def test_an_engine_that_nobody_checked_here_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    untouched(stage, monkeypatch)
    stage.put(device_gate=UNVERIFIED)
    stage.put("fp32", machine=ELSEWHERE, device_gate=UNVERIFIED)
    with pytest.raises(EngineUnverified, match="not passed its own gate") as met:
        stage.load(named)
    assert "ctedge export verify" in str(met.value.fix)


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime_version": "9.9.9"},
        {"target": L4},
        {"onnx_sha256": "0" * 64},
        {"input_shape": (1, 8, 8, 8)},
        {"outputs": ("score",)},
    ],
)
def test_an_engine_for_another_machine_or_model_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    untouched(stage, monkeypatch)
    path = stage.put()
    record = stage.record.__class__(**{**vars(stage.record), **changes})
    record_path(path).write_bytes(record.to_bytes())
    for named in (None, "fp16"):
        with pytest.raises(EngineMismatch, match="built for another"):
            stage.load(named)


def test_a_byte_that_changed_never_reaches_tensorrt(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched(stage, monkeypatch)
    path = stage.put()
    path.write_bytes(b"an enginE")
    with pytest.raises(DigestMismatch):
        stage.load()
    record_path(path).write_bytes(b"{}")
    with pytest.raises(InvalidBundle):
        stage.load()


@pytest.mark.parametrize("named", [None, "int8"])
def test_a_bundle_without_such_an_engine_says_how_to_build_one(
    stage: Stage, named: str | None
) -> None:
    if named:
        stage.put("fp16")
    with pytest.raises(RuntimeUnavailable, match="has no engine for") as met:
        stage.load(named)
    command = f"--precision {named or 'fp16'} --runtime {stage.record.runtime}"
    assert command in str(met.value.fix)


def test_a_precision_that_no_engine_has_is_refused(stage: Stage) -> None:
    with pytest.raises(RuntimeUnavailable, match="no engine has such a precision"):
        stage.load("fp1(")


def test_without_a_driver_tensorrt_is_not_even_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage = set_stage(monkeypatch, tmp_path, "11", with_driver=False)

    def absent(name: str, *arguments: Any, **named: Any) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    stage.put()
    with pytest.raises(RuntimeUnavailable, match="needs an NVIDIA GPU and its driver"):
        stage.load()


def test_a_driver_that_is_too_old_says_so(stage: Stage) -> None:
    stage.put()
    stage.driver.lacks.add("cuGraphInstantiateWithFlags")
    with pytest.raises(RuntimeUnavailable, match="too old to run TensorRT") as met:
        stage.load()
    assert "cuGraphInstantiateWithFlags" in str(met.value.found)


@pytest.mark.parametrize(
    "error",
    ["ImportError('libnvinfer.so.10: cannot open shared object file')", "OSError('libcudart')"],
)
def test_libraries_of_another_major_version_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: str
) -> None:
    stage = set_stage(monkeypatch, tmp_path, "10.3")
    monkeypatch.delitem(sys.modules, "tensorrt")
    (tmp_path / "tensorrt.py").write_text(f"raise {error}\n")
    monkeypatch.syspath_prepend(tmp_path)
    stage.put()
    with pytest.raises(RuntimeUnavailable, match="tensorrt cannot be imported") as met:
        stage.load()
    assert "lib" in str(met.value.found)
    assert "ctedge[tensorrt]" in str(met.value.fix)


def test_too_little_memory_is_no_broken_engine(stage: Stage) -> None:
    stage.put()
    stage.driver.fail("cuMemAlloc_v2", 2)
    with pytest.raises(RuntimeUnavailable, match="cannot take the engine") as met:
        stage.load()
    assert "CUDA_ERROR_OUT_OF_MEMORY" in str(met.value.found)
    assert stage.driver.left() == {}


def test_the_played_machine_is_the_one_that_the_records_name(stage: Stage) -> None:
    from ctedge.engines.machine import Machine

    here = Machine.here()
    assert here.site == WORKSTATION
    version = SURFACES["rtx-1.7" if "rtx" in stage.record.runtime else "10.3"]["version"]
    assert here.versions == {stage.record.runtime: version}
