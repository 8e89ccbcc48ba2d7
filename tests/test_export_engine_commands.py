"""The commands that messages about engines print are whole, and mend what they are printed for."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from typer.main import get_command

from conftest import REPOSITORY
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import engine_name, find_engine, read_engine, read_record, record_path
from ctedge.engines.machine import Machine
from ctedge.engines.record import DeviceGate, EngineRecord, Target
from ctedge.errors import CTEdgeError, DigestMismatch, EngineMismatch, InvalidBundle
from ctedge_export.cli import app
from ctedge_export.engine.inspect import inspect_file
from engine_factory import WORKSTATION, put_engine, record_for, write_engine_bundle

PLAN = b"an engine"
NAME = "fp16-tensorrt-10.3.0-sm86-rtx-a4000-batch4.engine"
HERE = Machine(versions={"tensorrt": "10.3.0"}, site=WORKSTATION)
RTX = {
    "runtime": "tensorrt-rtx",
    "runtime_version": "1.7.1",
    "target": Target(
        name="sm86-sm120", gpu=None, compute_capabilities=("8.6", "12.0"), or_newer=False
    ),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    folder = tmp_path_factory.mktemp("of engines") / "small.ctedge"  # a path that needs quoting
    return write_engine_bundle(folder, variants=("fp16", "int8"))


@pytest.fixture
def bundle(shared: ModelBundle) -> ModelBundle:
    for left in (shared.path / "engines").glob("*"):
        left.unlink()
    return shared


def refusal(bundle: ModelBundle, machine: Machine = HERE, **options: Any) -> CTEdgeError:
    wanted = {"precision": "fp16", "runtime": "tensorrt", "machine": machine} | options
    with pytest.raises(CTEdgeError) as caught:
        find_engine(bundle, **wanted)
    return caught.value


def building(error: CTEdgeError) -> list[str]:
    """The words of the command that a message ends with; the command takes every one."""
    command = "ctedge export build-engine "
    words = shlex.split(str(error.fix)[str(error.fix).index(command) :])
    parser = get_command(app).commands["build-engine"]  # type: ignore[attr-defined]
    parser.make_context("build-engine", words[3:])  # raises on what it does not know
    return words[3:]


def test_a_bundle_whose_path_has_a_space_is_one_argument(bundle: ModelBundle) -> None:
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    words = building(refusal(bundle, replace(HERE, versions={})))
    assert words[0] == str(bundle.path)
    assert refusal(bundle, precision="int8").fix == (
        f"ctedge export build-engine {shlex.quote(str(bundle.path))}"
        " --precision int8 --runtime tensorrt"
    )


def test_what_was_asked_for_is_built_and_not_what_lies_there(bundle: ModelBundle) -> None:
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, precision="int8"))
    error = refusal(bundle)
    assert "another precision" in error.what
    assert building(error)[1:] == [
        "--precision",
        "fp16",
        "--runtime",
        "tensorrt",
        "--max-batch",
        "4",
        "--overwrite",
    ]
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, **RTX))
    error = refusal(bundle)
    assert "another TensorRT" in error.what
    assert building(error)[1:] == [
        "--precision",
        "fp16",
        "--runtime",
        "tensorrt",
        "--max-batch",
        "4",
        "--overwrite",
    ]


TOLD = {
    "explain": True,
    "workspace_bytes": 256 << 20,
    "optimization_level": 5,
    "version_compatible": True,
    "hardware_compatible": False,
}
OPTIONS = "--explain --workspace 256 --optimization-level 5 --version-compatible --overwrite"


def test_a_rebuild_has_every_option_of_the_build(bundle: ModelBundle) -> None:
    record = record_for(bundle, PLAN, **RTX, max_batch=8, builder=TOLD, onnx_sha256="0" * 64)
    machine = replace(HERE, versions={"tensorrt-rtx": "1.7.1"})
    put_engine(bundle, "fp16-tensorrt-rtx-1.7.1-sm86-sm120-batch8.engine", PLAN, record)
    error = refusal(bundle, machine, runtime="tensorrt-rtx")
    assert "another ONNX file" in error.what
    wanted = f"--precision fp16 --runtime tensorrt-rtx --max-batch 8 --target sm86,sm120 {OPTIONS}"
    assert building(error)[1:] == wanted.split()


def test_for_another_gpu_the_target_of_the_old_one_is_not_named(bundle: ModelBundle) -> None:
    put_engine(
        bundle,
        "fp16-tensorrt-rtx-1.7.1-sm86-sm120.engine",
        PLAN,
        record_for(bundle, PLAN, **RTX, max_batch=1),
    )
    ada = replace(WORKSTATION, gpu="NVIDIA L4", compute_capability="8.9")
    for versions in ({"tensorrt-rtx": "1.7.1"}, {"tensorrt-rtx": "1.8.0"}):
        error = refusal(bundle, Machine(versions=versions, site=ada), runtime="tensorrt-rtx")
        wanted = "--precision fp16 --runtime tensorrt-rtx --overwrite"
        assert building(error)[1:] == wanted.split()


def test_options_of_a_record_that_are_no_options_are_left_out(bundle: ModelBundle) -> None:
    told = {"explain": "yes; rm -rf", "workspace_bytes": "all", "optimization_level": 99}
    record = record_for(bundle, PLAN, onnx_sha256="0" * 64, max_batch=1, builder=told)
    put_engine(bundle, NAME, PLAN, record)
    wanted = "--precision fp16 --runtime tensorrt --overwrite"
    assert building(refusal(bundle))[1:] == wanted.split()


def rebuilt(bundle: ModelBundle, words: list[str], **changes: Any) -> EngineRecord:
    """What those words build, without the building: the same file name, from the same options."""
    given = dict(zip(words[1::2], words[2::2], strict=False))
    batch = int(given.get("--max-batch", 1))
    record = record_for(bundle, b"built again", max_batch=batch, **changes)
    name = engine_name(
        precision=given["--precision"],
        runtime=record.runtime,
        version=record.runtime_version,
        target=record.target.name,
        max_batch=batch,
    )
    put_engine(bundle, name, b"built again", record)
    return record


def test_a_damaged_engine_is_mended_by_the_command_that_is_printed(bundle: ModelBundle) -> None:
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN)).write_bytes(b"damaged")
    error = refusal(bundle)
    assert isinstance(error, DigestMismatch)
    words = building(error)
    wanted = "--precision fp16 --runtime tensorrt --max-batch 4 --overwrite"
    assert words == [str(bundle.path), *wanted.split()]
    record = rebuilt(bundle, words)
    assert find_engine(bundle, precision="fp16", runtime="tensorrt", machine=HERE) == (
        record,
        b"built again",
    )


@pytest.mark.parametrize("harm", ["damaged", "no record", "broken record"])
def test_a_file_of_no_use_does_not_hide_a_good_engine(bundle: ModelBundle, harm: str) -> None:
    first = put_engine(bundle, "fp16-tensorrt-10.2.0-x.engine", PLAN, record_for(bundle, PLAN))
    if harm == "damaged":
        first.write_bytes(b"other")
    elif harm == "no record":
        record_path(first).unlink()
    else:
        record_path(first).write_text("{}")
    good = record_for(bundle, PLAN)
    assert isinstance(refusal(bundle), DigestMismatch | InvalidBundle)
    put_engine(bundle, NAME, PLAN, good)
    found, plan = find_engine(bundle, precision="fp16", runtime="tensorrt", machine=HERE)
    assert (found, plan) == (good, PLAN)


def test_damage_is_told_before_what_is_for_another_machine(bundle: ModelBundle) -> None:
    other = record_for(bundle, PLAN, runtime_version="10.2.0")
    put_engine(bundle, "fp16-tensorrt-10.2.0-x.engine", PLAN, other)
    assert isinstance(refusal(bundle), EngineMismatch)
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN)).write_bytes(b"damaged")
    assert isinstance(refusal(bundle), DigestMismatch)


def test_an_engine_outside_a_bundle_names_its_bundle_and_itself(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    path = tmp_path / "copy" / "my.engine"
    path.parent.mkdir()
    record = record_for(bundle, PLAN)
    path.write_bytes(b"damaged")
    record_path(path).write_bytes(record.to_bytes())
    with pytest.raises(DigestMismatch) as caught:
        read_engine(path, read_record(path))
    wanted = f"small.ctedge --precision fp16 --runtime tensorrt --max-batch 4 --output {path}"
    assert building(caught.value) == [*wanted.split(), "--overwrite"]
    shipped = replace(record, bundle="pneumonia")
    with pytest.raises(DigestMismatch) as caught:
        read_engine(path, shipped)
    assert building(caught.value)[0] == "pneumonia"


def test_an_engine_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    for name in ("missing.engine", "missing.onnx"):
        with pytest.raises(InvalidBundle, match="there is no file") as caught:
            inspect_file(tmp_path / name)
        assert "check the path" in str(caught.value.fix)
    with pytest.raises(InvalidBundle, match="there is no engine"):
        read_record(tmp_path / "missing.engine")


def test_an_engine_without_its_record_is_told_to_be_built_again(bundle: ModelBundle) -> None:
    path = put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    record_path(path).unlink()
    with pytest.raises(InvalidBundle, match="has no identity record beside it") as caught:
        inspect_file(path)
    words = building(caught.value)
    wanted = "--precision fp16 --runtime tensorrt --overwrite"
    assert words == [str(bundle.path), *wanted.split()]


def test_an_engine_in_the_place_of_a_bundle_is_not_called_an_archive(bundle: ModelBundle) -> None:
    path = put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    with pytest.raises(InvalidBundle, match="no bundle") as caught:
        ModelBundle.load(path)
    assert "name the bundle that the engine belongs to" in str(caught.value.fix)


def test_a_gate_that_was_not_run_still_asks_for_it(bundle: ModelBundle) -> None:
    put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN, device_gate=DeviceGate()))
    wanted = f"ctedge export verify {shlex.quote(str(bundle.path))}"
    assert refusal(bundle).fix == f"on the machine that shall run it: {wanted}"


def test_the_page_names_commands_and_options_that_exist() -> None:
    page = (REPOSITORY / "docs" / "engines.md").read_text()
    fences = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = [line for code in fences for line in code.splitlines()]
    group = get_command(app)
    for line in lines:
        command, _, rest = line.removeprefix("ctedge export ").partition(" ")
        if line.startswith("ctedge export "):
            group.commands[command].make_context(command, rest.split())  # type: ignore[attr-defined]
    script = (REPOSITORY / "benchmarks" / "gpu_engine.py").read_text()
    named = {word for line in lines if "gpu_engine" in line for word in re.findall(r"--\w+", line)}
    assert named
    assert all(f'"{option}"' in script for option in named)
