"""Engines built with TensorRTs that cannot be had here, their builders played.

8.5 is weakly typed and times what it builds, 10.3 strongly typed; what a builder is told, what is
kept of it, and what is done with an engine that fails on its device are the real thing.
"""

from __future__ import annotations

import enum
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

import onnx
from typer.testing import CliRunner

from conftest import REPOSITORY
from ctedge.engines.files import read_record
from ctedge.errors import GateFailed, OutputError
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.cli import app
from ctedge_export.engine.build import build_plan
from ctedge_export.engine.flavours import Flavour
from ctedge_export.engine.make import build_engine
from ctedge_export.engine.settings import Settings, choose_target
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import gate_input
from engine_factory import SPEC, WORKSTATION, chain
from tensorrt_stage import Stage, set_stage

_KINDS = {"Conv": "CONVOLUTION", "Gemm": "MATRIX_MULTIPLY", "Cast": "CAST"}
_TYPES = {1: "FLOAT", 10: "HALF"}
#: What TensorRT says of a timing cache that is none; it then works with an empty one.
_NO_CACHE = "Failed to deserialize timing cache. Returning an empty timing cache."


class Network:
    """The layers of an ONNX file, by onnx."""

    def read(self, data: bytes) -> bool:
        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(data)).graph
        values = (*graph.input, *graph.value_info, *graph.output)
        types = {one.name: one.type.tensor_type.elem_type for one in values}

        def tensor(name: str) -> Any:
            return SimpleNamespace(name=name, dtype=SimpleNamespace(name=_TYPES[types[name]]))

        def layer(node: onnx.NodeProto) -> Any:
            kind = SimpleNamespace(name=_KINDS.get(node.op_type, "ACTIVATION"))
            return SimpleNamespace(
                name=node.name,
                type=kind,
                num_outputs=1,
                get_input=lambda index: tensor(node.input[index]),
                get_output=lambda index: tensor(node.output[index]),
            )

        layers, entry = [layer(node) for node in graph.node], graph.input[0]
        sizes = [size.dim_value for size in entry.type.tensor_type.shape.dim[1:]]
        source = SimpleNamespace(name=entry.name, shape=(-1, *sizes))
        self.num_layers, self.get_layer = len(layers), layers.__getitem__
        self.num_inputs, self.get_input = 1, lambda index: source
        self.num_outputs = len(graph.output)
        self.get_output = lambda index: tensor(graph.output[index].name)
        return True


class Config:
    """What a builder was told. A cache is text that begins with "timings"."""

    def __init__(self, log: Any) -> None:
        self.log, self.flags, self.cache = log, {"TF32"}, b""

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def set_memory_pool_limit(self, pool: Any, limit: int) -> None:
        self.limit = limit

    def add_optimization_profile(self, profile: Any) -> None:
        self.profile = profile

    def create_timing_cache(self, data: bytes) -> bytes:
        if data and not data.startswith(b"timings"):
            self.log.log(2, _NO_CACHE)
            return b""
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"timings" + self.cache)


def play_builder(trt: Any, *, strongly_typed: bool, configs: list[Config]) -> Any:
    """Give a module what builds engines; each build's config goes into `configs`."""

    class Builder:
        def __init__(self, log: Any) -> None:
            self.log = log

        def create_network(self, flags: int) -> Network:
            assert flags == 1  # the first flag of either kind
            return Network()

        def create_builder_config(self) -> Config:
            configs.append(Config(self.log))
            return configs[-1]

        def create_optimization_profile(self) -> Any:
            profile = SimpleNamespace()
            profile.set_shape = lambda name, *shapes: setattr(profile, "shapes", shapes)
            return profile

        def build_serialized_network(self, network: Network, config: Config) -> bytes:
            return b"an engine"

    flag = "STRONGLY_TYPED" if strongly_typed else "EXPLICIT_BATCH"
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("Flag", {flag: 0})
    trt.BuilderFlag = enum.IntEnum("BuilderFlag", {"FP16": 0, "INT8": 1, "TF32": 7})
    trt.ProfilingVerbosity = enum.IntEnum("Verbosity", {"DETAILED": 2})
    trt.MemoryPoolType = enum.IntEnum("Pool", {"WORKSPACE": 0})
    trt.Builder, trt.IBuilderConfig = Builder, Config
    trt.OnnxParser = lambda network, log: SimpleNamespace(parse=network.read, num_errors=0)
    return trt


@pytest.fixture
def configs() -> list[Config]:
    return []


def old_tensorrt(configs: list[Config]) -> Flavour:
    """8.5: types are hints, and there is no monitor."""

    class Log:
        pass

    trt = SimpleNamespace(__version__="8.5.3.1", ILogger=Log)
    return Flavour(runtime="tensorrt", trt=play_builder(trt, strongly_typed=False, configs=configs))


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
    stage: Stage, tmp_path: Path, configs: list[Config]
) -> None:
    cache = tmp_path / "my.cache"
    path = build_engine(stage.bundle.path, timing_cache=cache)
    record = read_record(path)
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
    assert _NO_CACHE in str(caught.value.found)
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
    assert engine["device_gate"] == "passed"
    assert engine["accuracy"]["numeric"]["passed"] is True
    for name in ("run_ms", "run_with_copies_ms"):
        assert 0 < engine["latency"][name]["least"] <= engine["latency"][name]["p50"]
    assert not (stage.bundle.path / "engines").exists()  # a copy was measured
    stage.clear()
