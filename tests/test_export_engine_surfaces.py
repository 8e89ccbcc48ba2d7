"""Engines built with TensorRTs that cannot be had here, their builders played.

8.5 is weakly typed and times what it builds, 10.3 strongly typed; what a builder is told, what is
kept of it, and what is done with an engine that fails on its device are the real thing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

from typer.testing import CliRunner

from conftest import REPOSITORY
from ctedge.engines.files import read_record
from ctedge.errors import GateFailed, OutputError
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.cli import app
from ctedge_export.engine.build import build_plan
from ctedge_export.engine.make import build_engine
from ctedge_export.engine.settings import Settings, choose_target
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import gate_input
from engine_factory import SPEC, WORKSTATION, chain
from tensorrt_builder import EXTERNAL, NO_CACHE, OWN, Config, old_tensorrt, play_builder
from tensorrt_stage import Stage, set_stage


@pytest.fixture
def configs() -> list[Config]:
    return []


def test_a_weakly_typed_tensorrt_is_let_use_the_precision_of_the_file(
    configs: list[Config],
) -> None:
    flavour = old_tensorrt(configs)
    settings = Settings(max_batch=3, workspace_bytes=64 << 20)
    built = build_plan(
        flavour,
        chain("fp16"),
        precision="fp16",
        settings=settings,
        target=choose_target(flavour, settings, WORKSTATION),
        timings=b"timings of before",
    )
    (config,) = configs
    assert config.flags == {"FP16"}  # and not TF32
    assert config.limit == 64 << 20
    assert [shape[0] for shape in config.profile.shapes] == [1, 3, 3]
    assert config.cache == b"timings of before"
    assert built.plan == b"an engine"
    assert built.timings == b"timingstimings of before"
    assert built.layers.source == "declared network"
    assert built.layers.convolutions == {"fp16": 1.0}
    assert built.outputs == ("logit", "probability")
    assert built.settings["permits"] == ["FP16"]
    assert built.settings["strongly_typed"] is False
    assert built.settings["optimization_level"] is None


def opened(patch: pytest.MonkeyPatch, *here: str) -> list[str]:
    """The CUDA libraries that are asked for, of which only these are here."""
    asked, real = list[str](), ctypes.CDLL

    def opens(name: str, *more: Any, **named: Any) -> Any:
        if not str(name).startswith(("libcudnn", "libcublas")):
            return real(name, *more, **named)
        asked.append(name)
        if name not in here:
            raise OSError(f"{name}: cannot open shared object file")
        return None

    patch.setattr(ctypes, "CDLL", opens)
    return asked


@pytest.mark.parametrize(
    ("here", "allowed"),
    {
        (): [],
        ("libcudnn.so.8",): ["CUDNN"],
        ("libcublas.so.11", "libcublasLt.so.11"): ["CUBLAS", "CUBLAS_LT"],
        ("libcudnn.so.8", "libcublas.so.12", "libcublasLt.so.12"): ["CUBLAS", "CUBLAS_LT", "CUDNN"],
        ("libcudnn.so.9",): [],
    }.items(),
    ids=str,
)
def test_a_builder_asks_no_library_that_is_not_here(
    configs: list[Config],
    monkeypatch: pytest.MonkeyPatch,
    here: tuple[str, ...],
    allowed: list[str],
) -> None:
    opened(monkeypatch, *here)
    flavour = old_tensorrt(configs)
    target = choose_target(flavour, Settings(), WORKSTATION)
    data = chain("fp16")
    built = build_plan(flavour, data, precision="fp16", settings=Settings(), target=target)
    own = ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
    assert built.settings["tactic_sources"] == [*allowed, *own]
    (config,) = configs
    assert config.sources & OWN == OWN
    assert bool(config.sources & EXTERNAL) is bool(allowed)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configs: list[Config]) -> Stage:
    """TensorRT 10.3 on a GPU, whose engine is the half-precision file on the CPU."""
    stage = set_stage(monkeypatch, tmp_path, "10.3")
    play_builder(stage.trt, strongly_typed=True, configs=configs)
    stage.trt.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
    stage.network.answer = OnnxRuntime(stage.bundle.model_bytes("fp16"), name="the engine").run
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    noise = np.random.default_rng(3).random((4, *SPEC.shape))
    shown = tuple(gate_input(f"noise {n}", values, SPEC) for n, values in enumerate(noise))
    cases = tuple(Case(shown=one, positive=n > 1, score=None) for n, one in enumerate(shown))
    monkeypatch.setattr("ctedge_export.engine.verify.gate_inputs", lambda spec: shown)
    monkeypatch.setattr("ctedge_export.engine.verify.undecided_inputs", lambda *_, **__: ())
    monkeypatch.setattr("ctedge_export.engine.verify.gate_phantoms", lambda spec: cases)
    return stage


def test_timings_are_kept_for_the_next_build(
    stage: Stage, tmp_path: Path, configs: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = opened(monkeypatch)
    cache = tmp_path / "my.cache"
    path = build_engine(stage.bundle.path, timing_cache=cache)
    record = read_record(path)
    assert asked == []  # 10 has these sources, and does not use them of itself
    assert record.builder["tactic_sources"] == ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
    assert record.device_gate.state == "passed"
    assert record.builder["strongly_typed"] is True
    assert configs[0].flags == set()
    assert cache.read_bytes() == b"timings"
    build_engine(stage.bundle.path, timing_cache=cache, overwrite=True)
    assert configs[1].cache == b"timings"
    stage.clear()


def test_what_is_no_timing_cache_is_not_overwritten(stage: Stage, tmp_path: Path) -> None:
    theirs = tmp_path / "thesis.txt"
    theirs.write_text("years of work")
    with pytest.raises(OutputError, match="the timing cache is none") as caught:
        build_engine(stage.bundle.path, timing_cache=theirs)
    assert NO_CACHE in str(caught.value.found)
    assert "--timing-cache" in str(caught.value.fix)
    assert theirs.read_text() == "years of work"
    assert not (stage.bundle.path / "engines").exists()


def wrong(run: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Any:
    return lambda batch: {name: one + np.float32(0.5) for name, one in run(batch).items()}


def test_an_engine_that_fails_on_its_device_is_kept_where_that_is_asked(
    stage: Stage, tmp_path: Path
) -> None:
    stage.network.answer = wrong(stage.network.answer)
    failed = tmp_path / "small.failed"
    for options in ([], ["--keep-failed"]):
        answer = CliRunner().invoke(app, ["build-engine", str(stage.bundle.path), *options])
        assert isinstance(answer.exception, GateFailed)
        assert "--keep-failed" in str(answer.exception.fix)
        assert failed.exists() is bool(options)
        assert not (stage.bundle.path / "engines").exists()
    assert "kept in" in answer.stderr
    (plan,) = failed.glob("*.engine")
    assert plan.read_bytes() == b"an engine"
    told = json.loads((failed / "gate.json").read_text())
    assert told["device_gate"]["state"] == "failed"
    assert "max |dprobability|" in told["error"]["found"]
    elsewhere = tmp_path / "out" / "x.engine"
    with pytest.raises(GateFailed):
        build_engine(stage.bundle.path, output=elsewhere, keep_failed=True)
    assert (elsewhere.parent / "small.failed" / "x.engine").is_file()
    assert not elsewhere.exists()
    stage.clear()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = REPOSITORY / "benchmarks" / "gpu_engine.py"
    spec = importlib.util.spec_from_file_location("gpu_engine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RUNS", 4)
    monkeypatch.setattr(module, "WARM_UP", 1)
    monkeypatch.setattr(module, "SCAN_SHAPE", (64, 64, 40))
    return module


def test_the_gpu_measurement_measures_every_runtime_here(
    stage: Stage, script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "found.json"
    words = [str(stage.bundle.path), "-o", str(output), "--precision", "fp16"]
    monkeypatch.setattr(sys, "argv", ["gpu_engine.py", *words])
    script.main()
    found = json.loads(output.read_text())
    assert found["runs"] == 4
    (engine,) = (one["fp16"] for one in found["engines"].values())
    assert list(found["engines"]) == ["tensorrt"]
    assert "error" not in engine, engine["error"]
    assert engine["device_gate"] == "passed"
    assert engine["accuracy"]["numeric"]["passed"] is True
    for name in ("run_ms", "run_as_graph_ms", "run_with_copies_ms"):
        assert 0 < engine["latency"][name]["least"] <= engine["latency"][name]["p50"]
    assert engine["latency"]["predict_ms"] == "small has no golden case to check"
    assert not (stage.bundle.path / "engines").exists()  # a copy was measured
    stage.clear()
