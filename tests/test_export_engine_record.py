"""An engine's identity: six mismatches, each in its own words, before TensorRT sees a byte."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import find_engine, read_engine, read_record, record_path
from ctedge.engines.machine import Machine
from ctedge.engines.record import DeviceGate, EngineRecord, Site, Target, parse_record
from ctedge.errors import (
    DigestMismatch,
    EngineMismatch,
    EngineUnverified,
    InvalidBundle,
    RuntimeUnavailable,
)
from engine_factory import WORKSTATION, put_engine, record_for, write_engine_bundle

PLAN = b"an engine"
NAME = "fp16-tensorrt-10.3.0-sm86-rtx-a4000.engine"
SHOWN = {"numeric": {"passed": True}, "task": {"passed": True}}
HERE = Machine(versions={"tensorrt": "10.3.0"}, site=WORKSTATION)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    folder = tmp_path_factory.mktemp("record") / "small.ctedge"
    return write_engine_bundle(folder, variants=("fp16",))


@pytest.fixture
def bundle(shared: ModelBundle) -> ModelBundle:
    for left in (shared.path / "engines").glob("*"):
        left.unlink()
    return shared


def find(bundle: ModelBundle, machine: Machine = HERE, **options: Any) -> EngineRecord:
    wanted = {"precision": "fp16", "runtime": "tensorrt", "machine": machine} | options
    record, plan = find_engine(bundle, **wanted)
    assert plan == PLAN
    return record


def on(**changes: Any) -> Machine:
    return replace(HERE, site=replace(WORKSTATION, **changes))


def test_an_engine_of_this_machine_is_given(bundle: ModelBundle) -> None:
    record = record_for(bundle, PLAN)
    put_engine(bundle, NAME, PLAN, record)
    assert find(bundle) == record


MISMATCHES = {
    "TensorRT": ({}, replace(HERE, versions={"tensorrt": "10.16.1.11"}), "10.16.1.11"),
    "TensorRT of another flavour": ({}, replace(HERE, versions={"tensorrt-rtx": "10.3.0"}), "rtx"),
    "no TensorRT": ({}, replace(HERE, versions={}), "no TensorRT"),
    "GPU": ({}, on(gpu="NVIDIA RTX A2000"), "A2000"),
    "compute capability": ({}, on(gpu="NVIDIA RTX 4090", compute_capability="8.9"), "8.9"),
    "no GPU": ({}, replace(HERE, site=Site()), "no GPU"),
    "driver": ({}, on(driver="590.1"), "590.1"),
    "CUDA": ({}, on(cuda="13.1"), "13.1"),
    "ONNX file": ({"onnx_sha256": "0" * 64}, HERE, "0" * 64),
    "precision": ({"precision": "int8"}, HERE, "int8"),
    "shape": ({"input_shape": (1, 64, 64, 64)}, HERE, "64, 64, 64"),
    "outputs": ({"outputs": ("score",)}, HERE, "score"),
}
SAYS = {
    "TensorRT of another flavour": "TensorRT",
    "no TensorRT": "TensorRT",
    "compute capability": "GPU",
    "no GPU": "GPU",
    "CUDA": "driver",
    "outputs": "shape",
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_each_mismatch_has_its_own_message_and_the_command_that_mends_it(
    bundle: ModelBundle, case: str
) -> None:
    changes, machine, shown = MISMATCHES[case]
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, **changes))
    with pytest.raises(EngineMismatch, match=f"another {SAYS.get(case, case)}") as caught:
        find(bundle, machine)
    assert shown in f"{caught.value.found} {caught.value.expected}"
    wanted = "--precision fp16 --runtime tensorrt --max-batch 4 --overwrite"
    verify = f"ctedge export verify {bundle.path}, or build it again: "
    rebuild = f"ctedge export build-engine {bundle.path} {wanted}"
    asks_again = SAYS.get(case, case) == "driver"
    assert caught.value.fix == f"{verify if asks_again else ''}{rebuild}"


def test_the_messages_differ(bundle: ModelBundle) -> None:
    said = set()
    for case in ("TensorRT", "GPU", "driver", "ONNX file", "precision", "shape"):
        changes, machine, _ = MISMATCHES[case]
        put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, **changes))
        with pytest.raises(EngineMismatch) as caught:
            find(bundle, machine)
        said.add(caught.value.what)
    assert len(said) == 6


def test_a_larger_batch_is_another_shape(bundle: ModelBundle) -> None:
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    assert find(bundle, batch=4)
    with pytest.raises(EngineMismatch, match="shape") as caught:
        find(bundle, batch=5)
    assert str(caught.value.fix).endswith(" --runtime tensorrt --max-batch 5 --overwrite")


def test_a_changed_driver_asks_for_the_gate_again(bundle: ModelBundle) -> None:
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    with pytest.raises(EngineMismatch) as caught:
        find(bundle, on(driver="590.1"))
    assert f"ctedge export verify {bundle.path}" in str(caught.value.fix)


@pytest.mark.parametrize(("then", "now"), [("10.16.1", "10.3.0"), ("10.16.1", "11.4.0")])
def test_a_version_compatible_engine_goes_only_upwards_within_a_major(
    bundle: ModelBundle, then: str, now: str
) -> None:
    builder = {"version_compatible": True}
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, runtime_version=then, builder=builder))
    with pytest.raises(EngineMismatch, match="TensorRT"):
        find(bundle, replace(HERE, versions={"tensorrt": now}))


@pytest.mark.parametrize(("capability", "fits"), [("8.0", True), ("12.0", True), ("7.5", False)])
def test_a_portable_engine_runs_on_newer_gpus(
    bundle: ModelBundle, capability: str, *, fits: bool
) -> None:
    target = Target(name="portable", gpu=None, compute_capabilities=("8.0",), or_newer=True)
    machine = on(gpu="another", compute_capability=capability)
    gate = DeviceGate(state="passed", machine=machine.site, results=SHOWN)
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, target=target, device_gate=gate))
    if fits:
        assert find(bundle, machine)
    else:
        with pytest.raises(EngineMismatch, match="GPU"):
            find(bundle, machine)


@pytest.mark.parametrize(
    "gate",
    [
        DeviceGate(),
        DeviceGate(state="failed", machine=WORKSTATION),
        DeviceGate(
            state="passed", machine=replace(WORKSTATION, gpu="another of that kind"), results=SHOWN
        ),
    ],
    ids=lambda gate: gate.state,
)
def test_an_engine_that_did_not_pass_here_itself_is_refused(
    bundle: ModelBundle, gate: DeviceGate
) -> None:
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, device_gate=gate))
    with pytest.raises(EngineUnverified, match="its own gate") as caught:
        find(bundle)
    wanted = f"on the machine that shall run it: ctedge export verify {bundle.path}"
    if gate.state == "failed":  # the same file fails again
        wanted = f"build it again: ctedge export build-engine {bundle.path} --precision fp16"
        wanted += " --runtime tensorrt --max-batch 4 --overwrite"
    assert caught.value.fix == wanted


def test_of_several_the_one_that_fits_is_taken(bundle: ModelBundle) -> None:
    other = record_for(bundle, PLAN, runtime_version="10.2.0")
    put_engine(bundle, "fp16-tensorrt-10.2.0-sm86-rtx-a4000.engine", PLAN, other)
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    assert find(bundle).runtime_version == "10.3.0"


def test_one_flavours_engine_is_not_given_for_the_other(bundle: ModelBundle) -> None:
    machine = replace(HERE, versions={"tensorrt": "10.3.0", "tensorrt-rtx": "1.7.1"})
    record = record_for(bundle, PLAN, runtime="tensorrt-rtx", runtime_version="1.7.1")
    path = put_engine(bundle, "fp16-tensorrt-rtx-1.7.1-sm86.engine", PLAN, record)
    with pytest.raises(RuntimeUnavailable, match="no engine for tensorrt in"):
        find(bundle, machine)
    assert find(bundle, machine, runtime="tensorrt-rtx") == record
    path.unlink()
    put_engine(bundle, NAME, PLAN, record)  # under a name that says otherwise
    with pytest.raises(EngineMismatch, match="TensorRT"):
        find(bundle, machine)


def test_what_waits_for_its_gate_is_named_before_what_is_for_another_machine(
    bundle: ModelBundle,
) -> None:
    other = record_for(bundle, PLAN, runtime_version="10.2.0")
    put_engine(bundle, "fp16-tensorrt-10.2.0-sm86-rtx-a4000.engine", PLAN, other)
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, device_gate=DeviceGate()))
    with pytest.raises(EngineUnverified):
        find(bundle)


def test_no_engine_names_the_command_that_builds_one(bundle: ModelBundle) -> None:
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    with pytest.raises(RuntimeUnavailable, match="int8") as caught:
        find(bundle, precision="int8")
    wanted = f"ctedge export build-engine {bundle.path} --precision int8 --runtime tensorrt"
    assert caught.value.fix == wanted


def test_a_changed_byte_is_found(bundle: ModelBundle) -> None:
    path = put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    path.write_bytes(b"An engine")
    with pytest.raises(DigestMismatch, match="is not the engine"):
        find(bundle)
    with pytest.raises(DigestMismatch, match="is not the engine"):
        read_engine(path, read_record(path))


def test_an_engine_without_its_record_is_refused(bundle: ModelBundle) -> None:
    path = put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    record_path(path).unlink()
    with pytest.raises(InvalidBundle, match=r"\.json"):
        find(bundle)


@pytest.mark.parametrize("part", ["engine", "record"])
def test_a_link_is_not_followed(bundle: ModelBundle, tmp_path: Path, part: str) -> None:
    path = put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    linked = path if part == "engine" else record_path(path)
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidBundle):
        find(bundle)


def test_a_record_is_read_as_it_was_written(bundle: ModelBundle) -> None:
    record = record_for(bundle, PLAN)
    raw = record.to_bytes()
    assert parse_record(raw, name="x") == record
    assert parse_record(raw, name="x").to_bytes() == raw


WRONG: dict[str, Any] = {
    "schema_version": 2,
    "engine.sha256": "A" * 64,
    "engine.bytes": -1,
    "runtime.name": "tensorflow",
    "runtime.version": "",
    "machine.compute_capability": "eight",
    "machine.gpu": "a\x1b[2J",
    "target.compute_capabilities": [],
    "target.or_newer": 1,
    "onnx.member": "../model.onnx",
    "precision": "fp8",
    "layers.source": "hearsay",
    "layers.shares": {"fp16": 1.5},
    "layers.listed": [["conv1", "CONVOLUTION"]],
    "input.shape": [0],
    "max_batch": True,
    "builder": [],
    "gates": None,
    "device_gate.state": "PASSED",
    "device_gate.machine": None,
    "device_gate.results": 3,
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_key_is_named(bundle: ModelBundle, key: str) -> None:
    document = json.loads(record_for(bundle, PLAN).to_bytes())
    *parts, last = key.split(".")
    inside = document
    for part in parts:
        inside = inside[part]
    inside[last] = WRONG[key]
    with pytest.raises(InvalidBundle, match="no identity record") as caught:
        parse_record(json.dumps(document).encode(), name="x.json")
    assert re.search(last, str(caught.value))
    assert "build-engine" in str(caught.value.fix)


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"{}", b'{"a": NaN}', b"[" * 9999])
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidBundle, match="no identity record"):
        parse_record(raw, name="x.json")
