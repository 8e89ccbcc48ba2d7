"""What `ctedge export inspect` shows of an engine or an ONNX file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from command_line import run
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import record_path
from ctedge.errors import DigestMismatch, InvalidBundle, UnsafeModel
from ctedge.runtimes.cuda_driver import find_device
from ctedge_export.engine.inspect import inspect_file
from ctedge_export.engine.make import build_engine
from engine_factory import chain, write_engine_bundle

pytestmark = pytest.mark.skipif(find_device() is not None, reason="for machines without a GPU")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    folder = tmp_path_factory.mktemp("inspect") / "small.ctedge"
    return write_engine_bundle(folder, variants=("fp16",))


def test_the_command_prints_the_path_and_inspect_reads_it(bundle: ModelBundle) -> None:
    answer = run("export", "build-engine", bundle.path, "--target", "sm86,sm120", "--max-batch", 2)
    assert answer.returncode == 0, answer.stderr
    path = Path(answer.stdout.strip())
    assert path.name.endswith("-sm86-sm120-batch2.engine")
    assert "device_gate: not run" in answer.stderr
    shown = run("export", "inspect", path)
    assert shown.returncode == 0, shown.stderr
    for text in ("by its identity record", "not opened here", "no NVIDIA driver", "conv4"):
        assert text in shown.stdout
    assert "not known from the identity record: format, tactic, weights" in shown.stdout
    found = json.loads(run("export", "inspect", path, "--json").stdout)
    assert found["record"]["max_batch"] == 2
    assert found["record"]["device_gate"]["state"] == "not run"
    assert found["convolutions"] == {"fp16": 1.0}
    assert found["shares_by"] == "typed network"


def test_a_changed_engine_is_not_inspected(bundle: ModelBundle, tmp_path: Path) -> None:
    built = build_engine(bundle.path, runtime="tensorrt-rtx", output=tmp_path / "small.engine")
    copy = tmp_path / "copy.engine"
    copy.write_bytes(built.read_bytes()[:-1] + b"x")
    record_path(copy).write_bytes(record_path(built).read_bytes())
    with pytest.raises(DigestMismatch):
        inspect_file(copy)
    record_path(copy).unlink()
    with pytest.raises(InvalidBundle, match=r"copy\.json"):
        inspect_file(copy)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_onnx_file_is_inspected_without_tensorrt(tmp_path: Path, precision: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(chain(precision))
    found = inspect_file(path)
    assert found.layers.convolutions == {precision: 1.0}
    assert found.memory["file"] == path.stat().st_size
    assert 0 < found.memory["weights"] < found.memory["file"]
    assert found.unopened is None
    (dense,) = (row for row in found.rows if row.kind == "Gemm")
    assert dense.precision == "fp32"


def test_the_command_shows_an_onnx_file(bundle: ModelBundle) -> None:
    shown = run("export", "inspect", bundle.path / "model.onnx")
    assert shown.returncode == 0, shown.stderr
    assert "by its ONNX file" in shown.stdout
    assert "conv4" in shown.stdout


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "model.keras"
    other.write_bytes(b"")
    with pytest.raises(InvalidBundle, match="neither an engine nor an ONNX file"):
        inspect_file(other)
    unsafe = tmp_path / "model.onnx"
    unsafe.write_bytes(chain().replace(b"GlobalAveragePool", b"GlobalAverageFool"))
    with pytest.raises(UnsafeModel):
        inspect_file(unsafe)
