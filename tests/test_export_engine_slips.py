"""Ways past an engine's gate that somebody in a hurry could take without noticing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from ctedge.bundle.manifest import ENGINES_NAME
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import find_engine, list_engines, read_engine, read_record, record_path
from ctedge.engines.machine import Machine
from ctedge.errors import EngineUnverified, InvalidBundle, OutputError
from ctedge_export.engine.make import build_engine
from ctedge_export.triton.export import export_triton
from engine_factory import WORKSTATION, put_engine, record_for, write_engine_bundle
from patience import PATIENCE_S

PLAN, NAME = b"an engine", "fp16-tensorrt-10.3.0-sm86-rtx-a4000.engine"
UNGATED = {"nothing": {}, "one that failed": {"onnx": {"passed": True}, "task": {"passed": False}}}

as_a_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everywhere")


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return write_engine_bundle(tmp_path / "small.ctedge", variants=("fp16",))


def under(version: str, bundle: ModelBundle) -> bytes:
    machine = Machine(versions={"tensorrt": version}, site=WORKSTATION)
    return find_engine(bundle, precision="fp16", runtime="tensorrt", machine=machine)[1]


def build(bundle: ModelBundle, **options: Any) -> Path:
    return build_engine(bundle.path, runtime="tensorrt-rtx", **options)


@pytest.mark.parametrize("gated", ["10.3.0", "10.16.1"])
def test_a_gate_under_one_tensorrt_says_nothing_of_another(bundle: ModelBundle, gated: str) -> None:
    record = record_for(bundle, PLAN, builder={"version_compatible": True})
    results = {**record.device_gate.results, "version": f"tensorrt {gated}"}
    record = replace(record, device_gate=replace(record.device_gate, results=results))
    put_engine(bundle, NAME, PLAN, record)
    assert under(gated, bundle) == PLAN
    (other,) = {"10.3.0", "10.16.1"} - {gated}
    with pytest.raises(EngineUnverified, match="its own gate") as caught:
        under(other, bundle)
    assert f"tensorrt {gated}" in str(caught.value.found)
    assert f"tensorrt {other}" in str(caught.value.expected)
    assert str(caught.value.fix).endswith(f"ctedge export verify {bundle.path}")


@pytest.mark.parametrize("gates", UNGATED.values(), ids=UNGATED)
@pytest.mark.parametrize("options", [{}, {"precision": "fp16"}, {"runtime": "tensorrt"}])
def test_a_server_gets_no_model_that_did_not_pass(
    tmp_path: Path, gates: dict[str, Any], options: dict[str, Any]
) -> None:
    bundle = write_engine_bundle(tmp_path / "small.ctedge", variants=("fp16",), gates=gates)
    document = json.loads((bundle.path / "manifest.json").read_text())
    assert document["gates"] == gates
    if "runtime" in options:
        put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    with pytest.raises(InvalidBundle, match="gate") as caught:
        export_triton(bundle.path, tmp_path / "models", **options)
    assert "ctedge export onnx" in str(caught.value.fix)
    assert not (tmp_path / "models").exists()


def test_what_a_killed_build_left_is_no_engine(bundle: ModelBundle) -> None:
    path = put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    path.with_name(".partial-0123456789ab.engine").write_bytes(PLAN[:4])
    assert list_engines(bundle) == (path,)


#: A build that is killed while its engine is on its way to the disk.
KILLED = """
import os, signal, sys
from ctedge_export.engine.make import build_engine
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
build_engine(sys.argv[1], runtime="tensorrt-rtx", output=sys.argv[2])
"""


def test_the_next_build_removes_it(bundle: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "out" / "x.engine"
    command = [sys.executable, "-c", KILLED, str(bundle.path), str(path)]
    assert subprocess.run(command, check=False, timeout=PATIENCE_S).returncode == -signal.SIGKILL
    assert sorted(left.suffix for left in path.parent.glob(".partial-*")) == [".engine", ".json"]
    build(bundle, output=path)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["x.engine", "x.json"]


@pytest.mark.parametrize("place", ["engine", "record"])
def test_a_link_or_folder_is_not_replaced(bundle: ModelBundle, tmp_path: Path, place: str) -> None:
    path = tmp_path / "x.engine"
    one = path if place == "engine" else record_path(path)
    said: list[str] = []
    one.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is a link") as caught:
        build(bundle, output=path, overwrite=True, say=said.append)
    assert "--overwrite" not in str(caught.value.fix)
    one.unlink()
    one.mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        build(bundle, output=path, overwrite=True, say=said.append)
    assert said == []


def test_an_engine_stays_where_a_new_one_cannot_be_written(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build(bundle, output=tmp_path / "x.engine")
    before = path.read_bytes(), record_path(path).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="cannot write"):
        build(bundle, output=path, overwrite=True)
    assert (path.read_bytes(), record_path(path).read_bytes()) == before
    assert read_engine(path, read_record(path)) == before[0]


def test_an_engine_that_cannot_be_read_is_built_again(bundle: ModelBundle) -> None:
    path = put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN))
    record = read_record(path)
    path.unlink()
    path.symlink_to(record_path(path))
    with pytest.raises(InvalidBundle, match="cannot be read") as caught:
        read_engine(path, record)
    assert f"ctedge export build-engine {bundle.path}" in str(caught.value.fix)


@as_a_user
def test_engines_that_cannot_be_listed_are_not_none(bundle: ModelBundle) -> None:
    folder = put_engine(bundle, NAME, PLAN, record_for(bundle, PLAN)).parent
    folder.chmod(0)
    try:
        with pytest.raises(InvalidBundle, match="cannot be listed") as caught:
            list_engines(bundle)
    finally:
        folder.chmod(0o755)
    assert "chmod" in str(caught.value.fix)


@as_a_user
def test_a_folder_that_takes_no_engine_is_refused_before_the_build(bundle: ModelBundle) -> None:
    said: list[str] = []
    folder = bundle.path / ENGINES_NAME
    folder.mkdir()
    folder.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="cannot write"):
            build(bundle, say=said.append)
    finally:
        folder.chmod(0o755)
    assert said == []
