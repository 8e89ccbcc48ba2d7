"""The TensorRT runtime when the GPU or TensorRT fails: a typed error, and nothing stays behind."""

from __future__ import annotations

import gc
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.errors import (
    CTEdgeError,
    DeviceLost,
    EngineMismatch,
    InferenceFailed,
    InvalidBundle,
    RuntimeUnavailable,
)
from ctedge.runtimes.cuda_memory import PROTOTYPES
from tensorrt_stage import Stage, expected, stage_of, volumes

OUT_OF_MEMORY, LAUNCH_FAILED = 2, 719


stage = stage_of("11")


@pytest.fixture
def collecting_is_quick() -> Iterator[None]:
    """What is here from before, TensorFlow perhaps, is not looked through again and again."""
    gc.freeze()
    yield
    gc.unfreeze()


def answers(stage: Stage, runtime: object, *, seed: int = 1) -> bool:
    batch = volumes(1, seed=seed)
    return np.array_equal(runtime.run(batch)["logit"], expected(batch)["logit"])  # type: ignore[attr-defined]


def live(stage: Stage) -> tuple[list[CTEdgeError], str | None]:
    """Load, run four times, close: the errors on the way, and why it ran without a graph."""
    met: list[CTEdgeError] = []
    try:
        runtime = stage.open()
    except RuntimeUnavailable as error:
        return [error], None
    for seed in range(4):
        try:
            assert answers(stage, runtime, seed=seed)
        except InferenceFailed as error:
            met.append(error)
    uncaptured = runtime.uncaptured
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        runtime.close()
    return [*met, *(CTEdgeError(str(one.message)) for one in said)], uncaptured


def calls_of_a_life(stage: Stage) -> Counter[str]:
    before = Counter(stage.driver.calls)
    assert live(stage) == ([], None)
    return stage.driver.calls - before


@pytest.mark.usefixtures("collecting_is_quick")
@pytest.mark.parametrize("code", [OUT_OF_MEMORY, LAUNCH_FAILED])
def test_whichever_driver_call_fails_the_error_is_typed(stage: Stage, code: int) -> None:
    for name, count in calls_of_a_life(stage).items():
        if name not in PROTOTYPES or name == "cuDeviceGet":  # of the probe: no GPU at all
            continue
        for index in range(count):
            stage.driver.faults.clear()
            left = stage.driver.left()
            stage.driver.fail(name, code, after=index)
            met, uncaptured = live(stage)
            where = f"{name}, call {index}"
            assert met or "OUT_OF_MEMORY" in str(uncaptured), where
            assert all("CUDA_ERROR_" in str(error) for error in met), where
            gives = re.search("Free|Destroy|Release|Push|Pop", name)  # what is to give back failed
            if code == OUT_OF_MEMORY:
                assert len(met) <= 1, where
                assert stage.driver.left() == left or gives, where
            elif len(met) > 1 and isinstance(met[0], InferenceFailed):
                assert all("load the model again" in str(error) for error in met), where
            stage.driver.lost = None
            stage.driver.tables = {table: {} for table in stage.driver.tables}
            stage.driver.retained, stage.driver._own = 0, threading.local()
            stage.driver._capturing.clear()
            gc.collect()
            stage.opened.clear()
    stage.driver.misuse.clear()


def test_out_of_memory_while_it_runs_passes(stage: Stage) -> None:
    runtime = stage.open()
    stage.driver.fail("cuMemcpyHtoDAsync_v2", OUT_OF_MEMORY)
    with pytest.raises(InferenceFailed) as met:
        runtime.run(volumes(1))
    assert "CUDA_ERROR_OUT_OF_MEMORY" in str(met.value.found)
    assert "smaller batches" in str(met.value.fix)
    assert answers(stage, runtime)


@pytest.mark.parametrize("code", [46, 100, 214, 700, LAUNCH_FAILED])
def test_a_lost_gpu_is_said_once_and_ever_after(stage: Stage, code: int) -> None:
    runtime = stage.open()
    assert answers(stage, runtime)
    stage.driver.fail("cuStreamSynchronize", code)
    with pytest.raises(InferenceFailed, match="the GPU failed") as met:
        runtime.run(volumes(1))
    stage.driver.calls.clear()
    for _ in range(2):
        with pytest.raises(InferenceFailed, match="lost in an earlier call") as met:
            runtime.run(volumes(1))
        assert "CUDA_ERROR_" in str(met.value.found)
        assert "load the model again" in str(met.value.fix)
    assert not stage.driver.calls  # nothing more is asked of it
    runtime.close()


def test_who_waits_for_a_context_hears_of_the_loss_as_well(stage: Stage) -> None:
    stage.network.max_contexts = 1
    runtime = stage.open()
    stage.driver.fail("cuStreamSynchronize", LAUNCH_FAILED)
    with ThreadPoolExecutor(4) as pool:
        met = [one.exception() for one in [pool.submit(runtime.run, volumes(1)) for _ in range(4)]]
    assert [type(error) for error in met] == [DeviceLost] * 4


def test_a_gpu_lost_while_a_second_context_is_made_is_lost(stage: Stage) -> None:
    runtime = stage.open()

    def another_at_once(_lane: object) -> None:
        stage.driver.fail("cuMemAlloc_v2", LAUNCH_FAILED)
        runtime.run(volumes(1))

    with pytest.raises(InferenceFailed, match="the GPU failed"):
        runtime.on_lane(another_at_once)
    with pytest.raises(InferenceFailed, match="lost in an earlier call"):
        runtime.run(volumes(1))


def test_a_run_that_tensorrt_refuses_fails_and_the_next_is_whole(stage: Stage) -> None:
    runtime = stage.open()
    for _ in range(3):
        stage.network.refuses = 1
        with pytest.raises(InferenceFailed, match="TensorRT refuses to run") as met:
            runtime.run(volumes(2))
        assert "execution refused" in str(met.value.found)
        assert answers(stage, runtime)


def test_what_the_gpu_says_goes_before_what_tensorrt_says(stage: Stage) -> None:
    runtime = stage.open()
    stage.network.refuses = 1
    stage.driver.fail("cuStreamSynchronize", LAUNCH_FAILED)
    with pytest.raises(InferenceFailed) as met:
        runtime.run(volumes(1))
    assert "CUDA_ERROR_LAUNCH_FAILED" in str(met.value.found)


def test_an_exception_of_the_bindings_is_ours(stage: Stage) -> None:
    runtime = stage.open()

    def breaks(batch: np.ndarray) -> dict[str, np.ndarray]:
        raise RuntimeError("pybind11")

    stage.network.answer = breaks
    with pytest.raises(InferenceFailed, match="TensorRT failed"):
        runtime.run(volumes(1))
    stage.network.answer = expected
    assert answers(stage, runtime)


def test_errors_that_somebody_keeps_keep_no_gpu_memory(stage: Stage) -> None:
    runtime = stage.open()
    stage.network.refuses = 1
    with pytest.raises(InferenceFailed) as met:
        runtime.run(volumes(1))
    stage.network.said = "no"
    with pytest.raises(InvalidBundle) as second:
        stage.open()
    runtime.close()
    assert stage.driver.left() == {}
    assert met.value.__traceback__ is not None
    assert second.value.__traceback__ is not None


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("The engine plan file is not compatible with this version of TensorRT", EngineMismatch),
        ("Serialization assertion failed. Version tag does not match.", EngineMismatch),
        ("Cuda Runtime (out of memory)", RuntimeUnavailable),
        ("magicTag does not match", InvalidBundle),
    ],
)
def test_what_tensorrt_says_of_an_engine_is_understood(
    stage: Stage, said: str, kind: type[CTEdgeError]
) -> None:
    stage.network.said = said
    with pytest.raises(kind) as met:
        stage.open()
    assert said in str(met.value.found)
    assert stage.driver.left() == {}


@pytest.mark.parametrize("what", ["outputs", "shape", "type", "batch", "context", "bindings"])
def test_an_engine_that_is_not_its_record_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    network, kind = stage.network, InvalidBundle
    if what == "outputs":
        network.outputs = {"score": (1,)}
    elif what == "shape":
        network.shape = (1, 8, 8, 8)
    elif what == "type":
        network.dtypes = {"logit": "INT32"}
    elif what == "batch":
        network.max_batch = 2
    elif what == "context":
        network.max_contexts, kind = 0, RuntimeUnavailable  # type: ignore[assignment]
    else:
        broken = "pybind11::init(): factory function returned nullptr"

        def fails(log: object) -> None:
            raise TypeError(broken)

        monkeypatch.setattr(stage.trt, "Runtime", fails)
    with pytest.raises(kind):
        stage.open()
    assert stage.driver.left() == {}
