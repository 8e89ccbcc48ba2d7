"""`ctedge export verify`: every gate that needs no Keras, on whatever is here, and every engine."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

import precision_factory
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import read_record
from ctedge.engines.record import DeviceGate
from ctedge.errors import DigestMismatch, EngineMismatch, GateFailed, InvalidBundle
from ctedge.runtimes.cuda_driver import find_device
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.engine.verify import verify_engines
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import GateInput, gate_input
from ctedge_export.gates.runners import runners
from ctedge_export.verify import Row, verify_bundle
from engine_factory import put_engine, record_for, write_engine_bundle
from precision_factory import SPEC
from tensorrt_stage import PLAN, Stage, set_stage

REFERENCE = "onnxruntime-cpu-fp32"


@pytest.fixture(scope="module")
def few() -> tuple[tuple[GateInput, ...], tuple[Case, ...]]:
    noise = np.random.default_rng(3).random((4, *SPEC.shape))
    shown = tuple(gate_input(f"noise {n}", values, SPEC) for n, values in enumerate(noise))
    return shown, tuple(Case(shown=one, positive=n > 1, score=None) for n, one in enumerate(shown))


@pytest.fixture(autouse=True)
def drawn(few: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inputs that gates draw take seconds, and have tests of their own."""
    for module in ("precision.precision", "engine.verify"):
        monkeypatch.setattr(f"ctedge_export.{module}.gate_inputs", lambda spec: few[0])
        monkeypatch.setattr(f"ctedge_export.{module}.gate_phantoms", lambda spec: few[1])
        monkeypatch.setattr(f"ctedge_export.{module}.undecided_inputs", lambda *_, **__: ())


def write(path: Path, **options: Any) -> ModelBundle:
    """A bundle as `precision_factory` writes it; its golden case is of noise, which is quick."""
    noise = gate_input("golden", np.random.default_rng(5).random(SPEC.shape), SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision_factory, "gate_inputs", lambda spec: (noise,))
        return precision_factory.write(path, **options)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write(tmp_path_factory.mktemp("verify") / "plain.ctedge")


def rows_of(bundle: ModelBundle, **options: Any) -> list[Row]:
    shown: list[Row] = []
    verify_bundle(bundle.path, show=shown.extend, **options)
    return shown


def test_fp32_alone_passes_every_gate_on_every_runtime(plain: ModelBundle) -> None:
    rows = rows_of(plain)
    found = {(row.runtime, row.gate) for row in rows}
    wanted = {(REFERENCE, "golden"), ("any", "structural, fp32")}
    for runner in runners(plain.model)[1:]:
        wanted |= {(runner.name, gate) for gate in ("golden", "numeric", "task")}
    assert found == wanted
    assert all(row.passed for row in rows)
    golden = [row.text for row in rows if row.gate == "golden"]
    assert all(text.startswith("1 case, at most ") for text in golden)


def test_a_bundle_that_was_never_gated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match="no gate result"):
        verify_bundle(write(tmp_path / "x.ctedge", gates={}).path)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with one scan, of noise."""
    folder = tmp_path_factory.mktemp("scans")
    voxels = np.random.default_rng(4).integers(-1000, 400, (48, 48, 48)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([-6.0, 6.0, 6.0, 1.0])), folder / "1.nii.gz")
    (folder / "one.csv").write_text("path,label\n1.nii.gz,normal\n")
    return folder / "one.csv"


def test_scans_of_one_class_alone_say_that_there_is_no_auc(
    plain: ModelBundle, healthy: Path
) -> None:
    decided = [row.text for row in rows_of(plain, data=healthy) if row.gate == "task"]
    if len(runners(plain.model)) == 1:
        pytest.skip("no runtime here besides the reference")
    assert decided
    assert all("no AUC: the scans are of one class alone" in text for text in decided)


def staged(folder: Path, patch: pytest.MonkeyPatch) -> tuple[Stage, ModelBundle]:
    """A GPU whose engines answer as the network of the bundle does."""
    stage = set_stage(patch, folder, "10.3")
    bundle = write(folder / "plain.ctedge")
    stage.network.answer = OnnxRuntime(bundle.model, name="the engine").run
    return stage, bundle


def put_fp32(bundle: ModelBundle, name: str, stage: Stage, **changes: Any) -> Path:
    record = replace(
        stage.record,
        bundle=bundle.name,
        precision="fp32",
        onnx_member="model.onnx",
        onnx_sha256=hashlib.sha256(bundle.model).hexdigest(),
        device_gate=DeviceGate(),
    )
    name = f"fp32-tensorrt-10.3.0-{name}.engine"
    return put_engine(bundle, name, PLAN, replace(record, **changes))


def test_a_damaged_engine_is_said_at_once_and_stops_no_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, bundle = staged(tmp_path, monkeypatch)
    damaged, good, other = (put_fp32(bundle, name, stage) for name in ("a", "b", "c"))
    damaged.write_bytes(b"something else")
    put_fp32(bundle, "c", stage, onnx_sha256="0" * 64)
    said: list[str] = []
    shown: list[Row] = []
    with pytest.raises(GateFailed, match="is not the engine that its record") as caught:
        verify_bundle(bundle.path, say=said.append, show=shown.extend)
    assert caught.value.exit_code == 3
    assert "ctedge export build-engine" in str(caught.value.fix)
    _, first, second, third, *rest = said
    assert first.startswith(f"{damaged.name}: FAILED")
    assert second.startswith(f"{other.name}: FAILED")
    assert third.startswith("1 golden case on ")
    assert not any("FAILED" in line for line in rest)
    told = {row.runtime: row.passed for row in shown if row.gate == "identity"}
    assert told == {damaged.name: False, good.name: True, other.name: False}
    assert all(row.passed for row in shown if row.gate != "identity")
    assert read_record(good).device_gate.state == "passed"
    stage.clear()


def test_given_scans_reach_the_engines(
    tmp_path: Path, healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, bundle = staged(tmp_path, monkeypatch)
    path = put_fp32(bundle, "x", stage)
    said: list[str] = []
    verify_bundle(bundle.path, data=healthy, say=said.append)
    gate = read_record(path).device_gate
    assert gate.state == "passed"
    assert (gate.results["task"]["scans"], gate.results["task"]["source"]) == (
        1,
        "the user's scans",
    )
    assert "scan-2" in {one["name"] for one in gate.results["numeric"]["inputs"]}
    assert "no AUC" in said[-1]
    verify_bundle(bundle.path, say=said.append)
    assert read_record(path).device_gate.results["task"]["scans"] == 4  # phantoms again
    stage.clear()


@pytest.mark.skipif(find_device() is not None, reason="for machines without a GPU")
def test_engines_are_checked_where_no_gpu_is(tmp_path: Path) -> None:
    bundle = write_engine_bundle(tmp_path / "x.ctedge", variants=("fp16",))
    good = record_for(bundle, PLAN)
    put_engine(bundle, "fp16-tensorrt-10.3.0-good.engine", PLAN, good)
    names = {
        "fp16-tensorrt-10.3.0-damaged.engine": (b"other", good),
        "fp16-tensorrt-10.3.0-of-another.engine": (PLAN, replace(good, onnx_sha256="0" * 64)),
    }
    wanted = {"damaged": DigestMismatch, "of-another": EngineMismatch}
    for (name, (plan, record)), error in zip(names.items(), wanted.values(), strict=True):
        path = put_engine(bundle, name, plan, record)
        said: list[str] = []
        with pytest.raises(error):
            verify_engines(bundle, say=said.append)
        assert [line for line in said if line.startswith(f"{name}: FAILED")]
        checked = [line for line in said if "digest and model verified; not run here" in line]
        assert [line.partition(":")[0] for line in checked] == ["fp16-tensorrt-10.3.0-good.engine"]
        path.unlink()


def test_the_first_engine_that_fails_does_not_end_it(
    tmp_path: Path, few: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = set_stage(monkeypatch, tmp_path, "10.3")
    stage.network.answer = OnnxRuntime(stage.bundle.model, name="the engine").run
    damaged = stage.put("fp16", device_gate=DeviceGate())
    damaged.write_bytes(b"other")
    sha256 = hashlib.sha256(stage.bundle.model_bytes("int8")).hexdigest()
    good = stage.put("int8", device_gate=DeviceGate(), onnx_sha256=sha256)
    said: list[str] = []
    with pytest.raises(DigestMismatch):
        verify_engines(stage.bundle, say=said.append)
    assert read_record(good).device_gate.state == "passed"
    stage.clear()
