"""What a build leaves behind: nothing of TensorRT's, whoever keeps its error, and one logger."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from conftest import REPOSITORY
from ctedge.engines.record import Target
from ctedge.errors import BuildFailed, GateFailed
from ctedge_export.engine.build import build_plan
from ctedge_export.engine.flavours import Flavour, load_flavour
from ctedge_export.engine.log import captured_log
from ctedge_export.engine.settings import PORTABLE, Settings
from engine_factory import chain
from patience import PATIENCE_S

IN_ORDER = ["config", "network", "parser", "builder"]
TURING = Target(name="sm75", gpu=None, compute_capabilities=("7.5",), or_newer=False)


@pytest.fixture(scope="module")
def flavour() -> Flavour:
    return load_flavour("tensorrt-rtx")


@pytest.fixture
def released(flavour: Flavour, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What of TensorRT's is freed, in order; nothing is collected meanwhile."""
    trt, gone = flavour.trt, list[str]()

    def watched(kind: str, made: Any) -> Any:
        weakref.finalize(made, gone.append, kind)
        return made

    class Builder:
        def __init__(self, log: Any) -> None:
            self.real = watched("builder", real(log))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def create_network(self, flags: int) -> Any:
            return watched("network", self.real.create_network(flags))

        def create_builder_config(self) -> Any:
            return watched("config", self.real.create_builder_config())

    real, parser = trt.Builder, trt.OnnxParser
    monkeypatch.setattr(trt, "Builder", Builder)
    monkeypatch.setattr(trt, "OnnxParser", lambda *given: watched("parser", parser(*given)))
    gc.disable()
    yield gone
    gc.enable()


def build(flavour: Flavour, data: bytes, precision: str = "fp32", **changes: Any) -> bytes:
    target = changes.pop("target", PORTABLE)
    built = build_plan(
        flavour, data, precision=precision, settings=Settings(**changes), target=target
    )
    return built.plan


def test_a_build_frees_what_it_took_in_order(flavour: Flavour, released: list[str]) -> None:
    assert build(flavour, chain())
    assert released == IN_ORDER


ENDS: dict[str, tuple[type[Exception], Callable[[Flavour], object]]] = {
    "no engine": (BuildFailed, lambda it: build(it, chain(), target=TURING)),
    "too little memory": (BuildFailed, lambda it: build(it, chain(), workspace_bytes=1024)),
    "another precision": (GateFailed, lambda it: build(it, chain(), "fp16")),
    "no ONNX": (BuildFailed, lambda it: build(it, b"no onnx")),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_failed_one_does_too_while_its_error_is_kept(
    flavour: Flavour, released: list[str], end: str
) -> None:
    error, run = ENDS[end]
    with pytest.raises(error) as kept:
        run(flavour)
    assert released == IN_ORDER
    assert kept.value.__traceback__ is not None


def test_so_does_one_that_breaks_in_a_call(
    flavour: Flavour, released: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where layers, tensors and the network itself are in some function's hand."""

    def broken(tensor: Any) -> str:
        raise RuntimeError(tensor.name)

    monkeypatch.setattr("ctedge_export.engine.typed_network._dtype", broken)
    with pytest.raises(RuntimeError) as kept:
        build(flavour, chain())
    assert released == IN_ORDER
    assert kept.value.__traceback__ is not None


def test_all_builds_write_to_one_logger_each_its_own_lines(flavour: Flavour) -> None:
    log = captured_log(flavour.trt)
    for _ in range(2):
        with pytest.raises(BuildFailed, match="Turing") as caught:
            build(flavour, chain(), target=TURING)
        assert captured_log(flavour.trt) is log
    said = str(caught.value.found)
    build(flavour, chain())
    assert not [text for severity, text in log.lines if severity < 2]
    other = SimpleNamespace(ILogger=type("ILogger", (), {}))
    assert captured_log(other) is captured_log(other)
    assert captured_log(other) is not log
    assert said


def test_builds_in_several_threads_take_turns(flavour: Flavour) -> None:
    """The errors of one do not stand in the other's message."""
    refused: list[BuildFailed] = []
    both = threading.Barrier(2)

    def fails() -> None:
        both.wait(PATIENCE_S)
        with pytest.raises(BuildFailed) as caught:
            build(flavour, chain(), target=TURING)
        refused.append(caught.value)

    def succeeds() -> int:
        both.wait(PATIENCE_S)
        return len(build(flavour, chain()))

    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            good, bad = pool.submit(succeeds), pool.submit(fails)
            assert good.result(PATIENCE_S) > 10_000
            bad.result(PATIENCE_S)
    assert len(refused) == 3
    assert all("Turing" in error.what for error in refused)


#: As a user meets it, in a process of its own: what crashes there shows in its exit code.
INTERRUPTED = """
import gc, json, os, signal, sys, threading, weakref
from ctedge_export.engine.build import build_plan
from ctedge_export.engine.flavours import load_flavour
from ctedge_export.engine.progress import Unwatched
from ctedge_export.engine.settings import PORTABLE, Settings
from engine_factory import chain

class Interrupting(Unwatched):
    steps, seen, once = 0, [], threading.Lock()
    def start(self, phase, parent, steps):
        self.seen.append(phase)
    def step(self, phase, step):
        self.steps += 1
        if self.once.acquire(blocking=False):
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
                # Python delivers it to the main thread, which needs a moment of its own.
                threading.Event().wait(0.3)

gc.disable()
flavour, data, released = load_flavour("tensorrt-rtx"), chain(), []
real = flavour.trt.OnnxParser
def parser(*given):
    made = real(*given)
    weakref.finalize(made, released.append, "parser")
    return made
flavour.trt.OnnxParser = parser

before, watcher = signal.getsignal(signal.SIGINT), Interrupting()
told = dict(precision="fp32", settings=Settings(), target=PORTABLE)
kept = None
try:
    build_plan(flavour, data, watcher=watcher, **told)
except KeyboardInterrupt as error:
    kept = error
restored, freed = signal.getsignal(signal.SIGINT) is before, list(released)
again = len(build_plan(flavour, data, **told).plan)  # while the error of the first is kept
interrupted = kept is not None
del kept
gc.collect()
print(json.dumps({"interrupted": interrupted, "restored": restored, "freed": freed,
                  "seen": watcher.seen, "steps": watcher.steps, "again": again}))
"""


def test_ctrl_c_ends_the_build_at_the_next_step_however_often_it_is_pressed() -> None:
    path = os.pathsep.join([str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
    answer = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", INTERRUPTED],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert told["interrupted"]
    assert told["restored"]
    assert told["freed"] == ["parser"]  # which the network held, and the network its builder
    assert told["seen"][0] == "Building engine"
    assert told["seen"][-1] != "Building engine"
    assert told["steps"] < 60  # a whole build has more than a hundred
    assert told["again"] > 10_000
