"""Engines built for real: TensorRT-RTX compiles them on any machine, with no GPU."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from ctedge.engines.files import read_engine, read_record
from ctedge.engines.record import Site, Target
from ctedge.errors import BuildFailed, GateFailed, InvalidBundle, RuntimeUnavailable
from ctedge.runtimes.cuda_driver import find_device
from ctedge_export.engine.build import Built, build_plan
from ctedge_export.engine.flavours import Flavour, load_flavour
from ctedge_export.engine.make import build_engine
from ctedge_export.engine.settings import PORTABLE, Settings, check_options, choose_target
from ctedge_export.engine.typed_network import LEAST_SHARE
from engine_factory import SIZE, chain, densenet, densenet121, write_engine_bundle
from patience import PATIENCE_S

without_gpu = pytest.mark.skipif(find_device() is not None, reason="for machines without a GPU")


@pytest.fixture(scope="module")
def flavour() -> Flavour:
    return load_flavour("tensorrt-rtx")


def build(flavour: Flavour, data: bytes, precision: str, **changes: Any) -> Built:
    settings = Settings(**changes.pop("settings", {}))
    target = changes.pop("target", PORTABLE)
    return build_plan(
        flavour, data, precision=precision, settings=settings, target=target, **changes
    )


def kinds(built: Built, kind: str) -> Counter[str]:
    return Counter(precision for _, type_, precision in built.layers.listed if type_ == kind)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(
    ("network", "convolutions"), [(chain, 4), (densenet, 8)], ids=["3d", "densenet"]
)
def test_every_convolution_works_in_the_precision_of_the_file(
    flavour: Flavour, network: Any, convolutions: int, precision: str
) -> None:
    built = build(flavour, network(precision), precision)
    assert len(built.plan) > 10_000
    assert built.layers.source == "typed network"
    assert kinds(built, "CONVOLUTION") == {precision: convolutions}
    assert kinds(built, "MATRIX_MULTIPLY") == {"fp32": 1}  # the head stays in float
    assert built.layers.convolutions == {precision: 1.0}
    assert built.outputs == ("logit", "probability")
    assert not built.settings["tf32"]
    assert built.settings["tactic_sources"] == ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_densenet121_is_built_as_it_is(flavour: Flavour, precision: str) -> None:
    built = build(flavour, densenet121(precision), precision)
    assert kinds(built, "CONVOLUTION") == {precision: 120}
    assert built.input_shape == (3, 224, 224)


@pytest.mark.parametrize("task", ["severity", "classifier"])
def test_a_repeated_build_is_the_same_network(flavour: Flavour, task: str) -> None:
    """Not the same bytes: the builder promises neither their order nor, once in many, how many."""
    data = chain("fp16", task=task)
    first, *others = (build(flavour, data, "fp16") for _ in range(3))
    for other in others:
        assert (other.layers, other.outputs, other.settings) == (
            first.layers,
            first.outputs,
            first.settings,
        )


def test_a_batch_changes_the_engine_and_its_record(flavour: Flavour) -> None:
    one = build(flavour, chain(), "fp32")
    four = build(flavour, chain(), "fp32", settings={"max_batch": 4})
    assert one.plan != four.plan
    assert one.input_shape == four.input_shape == (1, SIZE, SIZE, SIZE)


def test_an_engine_that_is_not_of_its_precision_is_not_built(flavour: Flavour) -> None:
    with pytest.raises(GateFailed, match="would not be int8") as caught:
        build(flavour, chain("int8", kept_float=1), "int8")
    assert "int8 75%" in str(caught.value.found)
    assert f"{LEAST_SHARE:.0%}" in str(caught.value.expected)
    # What the bundle's gate wanted in float does not count against its engine's name ...
    kept = build(flavour, chain("int8", kept_float=1), "int8", kept_float=("conv1",))
    assert kept.layers.convolutions == {"fp32": 0.25, "int8": 0.75}
    # ... but fp16 is all of it, or it is not called so.
    with pytest.raises(GateFailed, match="would not be fp16"):
        build(flavour, chain("fp32"), "fp16", kept_float=("conv1", "conv2", "conv3", "conv4"))
    with pytest.raises(GateFailed, match="would not be fp16"):
        build(flavour, chain("fp32"), "fp16")


TURING = Target(name="sm75", gpu=None, compute_capabilities=("7.5",), or_newer=False)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_turing_is_refused_by_name(flavour: Flavour, precision: str) -> None:
    with pytest.raises(BuildFailed, match=r"Turing .*no FP32 convolution or matrix product"):
        build(flavour, chain(precision), precision, target=TURING)


def test_too_little_workspace_is_said_to_be_that(flavour: Flavour) -> None:
    with pytest.raises(BuildFailed, match="too little memory") as caught:
        build(flavour, chain(), "fp32", settings={"workspace_bytes": 1024})
    assert "--workspace" in str(caught.value.fix)


@pytest.mark.parametrize("data", [b"", b"no onnx", chain()[:5000]], ids=["none", "other", "cut"])
def test_what_is_no_onnx_file_is_refused(flavour: Flavour, data: bytes) -> None:
    with pytest.raises((BuildFailed, InvalidBundle)):
        build(flavour, data, "fp32")


def test_a_version_compatible_build_says_what_it_lacks(flavour: Flavour) -> None:
    with pytest.raises(BuildFailed, match="lean runtime"):
        build(flavour, chain(), "fp32", settings={"version_compatible": True})


ADA = Site(gpu="NVIDIA RTX 4090", compute_capability="8.9")
HOPPER = Site(gpu="NVIDIA H100", compute_capability="9.0")


@pytest.mark.parametrize(
    ("asked", "site", "name"),
    [
        (None, Site(), "portable"),
        (None, ADA, "sm89"),
        (None, HOPPER, "portable"),
        ("portable", ADA, "portable"),
        ("SM120, sm86", Site(), "sm86-sm120"),
    ],
)
def test_targets_are_named_or_taken_from_here(
    flavour: Flavour, asked: str | None, site: Site, name: str
) -> None:
    assert choose_target(flavour, Settings(target=asked), site).name == name


@pytest.mark.parametrize("asked", ["sm90", "8.6", "", "sm86,", "portable,sm86"])
def test_another_target_is_refused_with_those_there_are(flavour: Flavour, asked: str) -> None:
    with pytest.raises(RuntimeUnavailable, match="does not build for that target") as caught:
        choose_target(flavour, Settings(target=asked), Site())
    assert "sm86" in str(caught.value.expected)


def test_several_targets_go_into_one_engine(flavour: Flavour) -> None:
    target = choose_target(flavour, Settings(target="sm86,sm89"), Site())
    one = choose_target(flavour, Settings(target="sm86"), Site())
    both = build(flavour, chain(), "fp32", target=target)
    assert len(both.plan) > len(build(flavour, chain(), "fp32", target=one).plan)


def test_a_hardware_compatible_level_is_not_pretended(flavour: Flavour) -> None:
    settings = Settings(hardware_compatible=True)
    with pytest.raises(RuntimeUnavailable, match="names its targets"):
        choose_target(flavour, settings, Site())
    check_options(flavour, Settings(optimization_level=5, version_compatible=True))


class Phases:
    """A Watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.seen: list[str] = []
        self.steps = 0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        assert parent is None or parent in self.open
        assert steps > 0
        self.open.append(phase)
        self.seen.append(phase)

    def step(self, phase: str, step: int) -> None:
        assert phase in self.open
        self.steps += 1

    def finish(self, phase: str) -> None:
        self.open.remove(phase)


def test_progress_comes_from_the_builder(flavour: Flavour) -> None:
    phases = Phases()
    build(flavour, chain(), "fp32", watcher=phases)
    assert "Building engine" in phases.seen
    assert phases.steps > len(phases.seen)
    assert not phases.open


def test_a_watcher_that_fails_does_not_end_the_build(flavour: Flavour) -> None:
    class Broken(Phases):
        def step(self, phase: str, step: int) -> None:
            raise OSError("the terminal is gone")

    assert build(flavour, chain(), "fp32", watcher=Broken()).plan


@without_gpu
def test_without_a_gpu_tensorrt_rtx_is_what_works(tmp_path: Path) -> None:
    bundle = write_engine_bundle(tmp_path / "small.ctedge", variants=("fp16",))
    said: list[str] = []
    path = build_engine(bundle.path, say=said.append)
    record = read_record(path)
    assert path.name == f"fp16-tensorrt-rtx-{record.runtime_version}-portable.engine"
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, path.stem + ".json"]
    assert record.device_gate.state == "not run"
    assert record.machine == Site()
    assert record.onnx_member == "model.fp16.onnx"
    assert len(read_engine(path, record)) == record.size_bytes
    assert any("device gate not run: no NVIDIA driver" in line for line in said)
    assert f"ctedge export verify {bundle.path}" in said[-1]


def test_the_compiler_needs_no_cuda_library() -> None:
    code = "import tensorrt_rtx as t; t.Builder(t.Logger(t.Logger.ERROR)).create_network(0)"
    answer = subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE_S)
    assert answer.returncode == 0
