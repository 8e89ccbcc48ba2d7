"""`ctedge export triton` of other precisions and of engines: what is served, and what is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from typer.testing import CliRunner

import engine_factory
from bundle_factory import read_document, seal
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import record_path
from ctedge.engines.record import DeviceGate, Target
from ctedge.errors import (
    DigestMismatch,
    EngineMismatch,
    EngineUnverified,
    GateFailed,
    InvalidBundle,
    RuntimeUnavailable,
)
from ctedge.files import sha256_of
from ctedge_export.cli import app
from ctedge_export.triton.export import export_triton
from triton_here import export, refused

PLAN = b"what TensorRT wrote"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    folder = tmp_path_factory.mktemp("triton") / "small.ctedge"
    bundle = engine_factory.write_engine_bundle(folder, variants=("fp16", "int8"))
    document = read_document(folder)
    # As `ctedge export precision` names what it ran.
    for precision, name, passed in (("fp16", "fp16-rounded", True), ("int8", "int8", False)):
        runtimes = document["variants"][precision]["gates"]["runtimes"]
        runtimes[f"onnxruntime-cpu-{name}"] = {
            "version": "1",
            "numeric": {"passed": passed},
            "task": {"passed": True},
        }
    seal(folder, document)
    assert bundle.variants == ("fp16", "int8")
    return ModelBundle.load(folder)


def test_a_network_whose_gate_ran_on_a_gpu_is_not_called_uncompared(small, repo, tmp_path):
    document = read_document(small.path)
    runtimes = document["variants"]["fp16"]["gates"]["runtimes"]
    runtimes["onnxruntime-cuda-fp16"] = runtimes["onnxruntime-cpu-fp16-rounded"]
    copy = tmp_path / "small.ctedge"
    shutil.copytree(small.path, copy)
    seal(copy, document)
    output = export(copy, "-o", repo, "--precision", "fp16")
    assert "onnxruntime-cuda-fp16, batches up to 1, gate passed" in output
    assert "nothing has compared" not in output


def test_another_precision_is_served_where_its_gate_passed(small, repo, tmp_path):
    output = export(small.path, "-o", repo, "--precision", "fp16")
    assert "onnxruntime-cuda-fp16" in output
    assert "nothing has compared" in output
    served = repo / "small_network" / "1" / "model.onnx"
    assert served.read_bytes() == small.member("model.fp16.onnx")
    told = json.loads((repo / "PROVENANCE.json").read_text())["models"]["small"]["network"]
    assert (told["member"], told["gate"]) == ("model.fp16.onnx", "not run")
    other = (small.path, "-o", tmp_path / "other", "--precision")
    refused(RuntimeUnavailable, *other, "fp16", "--device", "cpu")
    assert "ctedge export precision" in str(refused(GateFailed, *other, "int8"))
    assert "ctedge export precision" in str(refused(RuntimeUnavailable, *other, "bf16"))
    shipped = ("pneumonia", "-o", tmp_path / "other", "--precision", "bf16")
    assert "-o pneumonia.ctedge" in str(refused(RuntimeUnavailable, *shipped))
    answer = CliRunner().invoke(app, ["triton", *map(str, (*other, "fp8"))])
    assert answer.exit_code == 2
    assert "'fp32', 'fp16', 'bf16', 'int8'" in answer.output
    with pytest.raises(RuntimeUnavailable, match="no such precision"):
        export_triton(small.path, tmp_path / "other", precision="fp8")
    document = read_document(small.path)
    gates = document["variants"]["int8"]["gates"]["runtimes"]
    gates["onnxruntime-cpu-int8"]["numeric"]["passed"] = True
    copy = tmp_path / "small.ctedge"
    shutil.copytree(small.path, copy)
    seal(copy, document)
    output = export(copy, "-o", tmp_path / "int8", "--precision", "int8")
    assert "onnxruntime-cpu-int8, batches up to 1, gate passed" in output


@pytest.fixture
def engines(small: ModelBundle):
    yield small
    for left in (small.path / "engines").glob("*"):
        left.unlink()


def lay(bundle: ModelBundle, name: str = "fp16-tensorrt-10.3.0-sm86", **changes: object) -> Path:
    record = engine_factory.record_for(bundle, PLAN, **changes)
    return engine_factory.put_engine(bundle, f"{name}.engine", PLAN, record)


def test_an_engine_that_passed_its_gate_is_served(engines, repo, tmp_path):
    path = lay(engines)
    output = export(engines.path, "-o", repo, "--runtime", "tensorrt")
    assert "TensorRT 10.3.0 on NVIDIA RTX A4000" in output
    plan = repo / "small_network" / "1" / "model.plan"
    assert plan.read_bytes() == PLAN
    assert not plan.with_name("model.onnx").exists()
    told = json.loads((repo / "PROVENANCE.json").read_text())["models"]["small"]["network"]
    assert told["sha256"] == sha256_of(path)
    assert told["tensorrt"] == "10.3.0"
    assert told["machine"]["driver"] == "580.65"
    assert (told["runs"], told["max_batch"]) == ("tensorrt-cuda-fp16", 4)
    export(engines.path, "-o", tmp_path / "named", "--engine", path)
    again = tmp_path / "named" / "PROVENANCE.json"
    assert again.read_bytes() == (repo / "PROVENANCE.json").read_bytes()


def test_of_several_engines_one_is_named(engines, repo):
    lay(engines)
    other = lay(engines, "fp16-tensorrt-10.3.0-sm86-batch8", max_batch=8)
    found = refused(RuntimeUnavailable, engines.path, "-o", repo, "--runtime", "tensorrt")
    assert "--engine" in str(found)
    export(engines.path, "-o", repo, "--runtime", "tensorrt", "--max-batch", "8")
    export(engines.path, "-o", repo, "--engine", other, "--overwrite")


UNFIT = {
    "not run": (EngineUnverified, {"device_gate": DeviceGate()}),
    "failed": (
        EngineUnverified,
        {"device_gate": DeviceGate(state="failed", machine=engine_factory.WORKSTATION)},
    ),
    "passed in numbers alone": (
        EngineUnverified,
        {
            "device_gate": DeviceGate(
                state="passed",
                machine=engine_factory.WORKSTATION,
                results={"numeric": {"passed": True}},
            )
        },
    ),
    "another model": (EngineMismatch, {"onnx_sha256": "0" * 64}),
    "another shape": (EngineMismatch, {"input_shape": (1, 2, 3, 4)}),
    "another GPU than its gate's": (
        EngineMismatch,
        {
            "target": Target(
                name="sm89-l4", gpu="NVIDIA L4", compute_capabilities=("8.9",), or_newer=False
            )
        },
    ),
    "smaller batches": (EngineMismatch, {"max_batch": 1}),
    "another file": (DigestMismatch, {"sha256": "0" * 64}),
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_unfit_engine_is_refused(engines, repo, case):
    kind, changes = UNFIT[case]
    path = lay(engines, **changes)
    for way in (("--engine", path), ("--runtime", "tensorrt")):
        refused(kind, engines.path, "-o", repo, *way, "--max-batch", "2")
    assert not repo.exists()


def test_an_engine_of_another_runtime_or_without_record_is_refused(engines, repo):
    path = lay(engines, "fp16-tensorrt-rtx-1.7.1-portable", runtime="tensorrt-rtx")
    found = refused(EngineMismatch, engines.path, "-o", repo, "--engine", path)
    assert "--runtime tensorrt" in str(found)
    found = refused(RuntimeUnavailable, engines.path, "-o", repo, "--runtime", "tensorrt")
    assert "ctedge export build-engine" in str(found)
    record_path(path).unlink()
    refused(InvalidBundle, engines.path, "-o", repo, "--engine", path)
    refused(InvalidBundle, engines.path, "-o", repo, "--engine", path.with_name("none.engine"))
    fitting = lay(engines)
    named = (engines.path, "-o", repo, "--engine", fitting)
    refused(EngineMismatch, *named, "--precision", "fp32")
    refused(RuntimeUnavailable, *named, "--runtime", "onnxruntime")
    refused(RuntimeUnavailable, *named, "--device", "cpu")
