"""A TensorRT runtime from load to close: memory comes back, threads are waited for, no child."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.errors import InferenceFailed
from ctedge.runtimes.tensorrt_engine import TensorrtEngine
from forked import in_forked_child, needs_fork
from patience import PATIENCE_S
from tensorrt_stage import Stage, expected, stage_of, volumes

stage = stage_of("10.3")


def test_memory_is_back_after_close_however_often(stage: Stage) -> None:
    for _ in range(3):
        runtime = stage.open()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(runtime.run, [volumes(1)] * 8))
        assert stage.driver.left()["memory"] >= 3
        runtime.close()
        runtime.close()
        assert stage.driver.left() == {}
        with pytest.raises(InferenceFailed, match="was closed"):
            runtime.run(volumes(1))
        with pytest.raises(InferenceFailed, match="was closed"):
            runtime.information()


def test_a_runtime_that_nobody_holds_frees_its_memory(stage: Stage) -> None:
    runtime = stage.open()
    runtime.run(volumes(1))
    stage.opened.clear()
    del runtime
    gc.collect()
    assert stage.driver.left() == {}


def runs_until_closed(runtime: TensorrtEngine) -> None:
    while True:
        runtime.on_lane(lambda _lane: None)


def test_close_waits_for_the_call_that_runs(stage: Stage) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(batch: np.ndarray) -> dict[str, np.ndarray]:
        begun.set()
        assert go.wait(PATIENCE_S)
        return expected(batch)

    stage.network.answer = slow
    runtime = stage.open()
    batch = volumes(1)
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(runtime.run, batch)
        assert begun.wait(PATIENCE_S)
        closing = [pool.submit(runtime.close) for _ in range(2)]
        with pytest.raises(InferenceFailed, match="was closed"):
            runs_until_closed(runtime)
        assert not any(one.done() for one in closing)
        go.set()
        assert np.array_equal(running.result()["logit"], expected(batch)["logit"])
        for one in closing:
            one.result()
    assert stage.driver.left() == {}


@needs_fork
def test_a_forked_child_is_refused_and_frees_nothing(stage: Stage) -> None:
    runtime = stage.open()
    runtime.run(volumes(1))

    def use_it() -> str:
        stage.driver.calls.clear()
        try:
            runtime.run(volumes(1))
            text = "answered"
        except InferenceFailed as error:
            text = str(error)
        runtime.close()
        return f"{text}|{sum(stage.driver.calls.values())}"

    text, calls = in_forked_child(use_it).split("|")
    assert "forked" in text
    assert "load the model in the child" in text
    assert calls == "0"
    batch = volumes(1)
    assert np.array_equal(runtime.run(batch)["logit"], expected(batch)["logit"])
