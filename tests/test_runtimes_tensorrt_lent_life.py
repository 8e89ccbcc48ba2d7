"""Lent inputs and the end of things: close, a lost GPU, a driver that refuses, a forked child."""

from __future__ import annotations

import gc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge import Classifier, DeviceLost, InferenceFailed
from ctedge.runtimes.pinned_inputs import MOST
from forked import in_forked_child, needs_fork
from tensorrt_stage import SHAPE, Stage, expected, stage_of, volumes

OUT_OF_MEMORY, LAUNCH_FAILED, NOT_SUPPORTED = 2, 719, 801


stage = stage_of("11")


def usable(array: np.ndarray | None) -> bool:
    """Whether memory can be written and read."""
    assert array is not None
    array[...] = volumes(1)
    return np.array_equal(array, volumes(1))


def test_memory_is_back_after_close_and_what_is_still_lent_stays_readable(stage: Stage) -> None:
    for _ in range(3):
        runtime = stage.open()
        held, gone = runtime.lend_input(), runtime.lend_input()
        assert stage.driver.left()["locked"] == 2
        del gone
        with ThreadPoolExecutor(2) as pool:
            for one in [pool.submit(runtime.close) for _ in range(2)]:
                one.result()
        assert stage.driver.left() == {}
        assert usable(held)
        assert runtime.lend_input() is None
        with pytest.raises(InferenceFailed, match="was closed"):
            runtime.run(held)
        del held  # comes back to a runtime that is closed
        assert runtime.lend_input() is None
        runtime.close()
        assert stage.driver.left() == {}


def test_a_lent_input_outlives_the_runtime_that_nobody_holds(stage: Stage) -> None:
    runtime = stage.open()
    held = runtime.lend_input()
    stage.opened.clear()
    del runtime
    gc.collect()
    assert stage.driver.left() == {}
    assert usable(held)


def test_a_door_is_closed_while_prepared_scans_wait(stage: Stage, rng: np.random.Generator) -> None:
    door = Classifier(stage.bundle, stage.open())
    scan = rng.integers(-1000, 800, (16, 16, 16)).astype(np.int16)
    answers = door.predict_iter([scan] * 9, ahead=4)
    next(answers)
    door.close()
    assert stage.driver.left() == {}
    with pytest.raises(InferenceFailed, match="was closed"):
        list(answers)


@pytest.mark.parametrize("code", [OUT_OF_MEMORY, NOT_SUPPORTED])
@pytest.mark.parametrize("had", [0, 2])
def test_where_the_driver_locks_no_more_the_rest_goes_the_old_way(
    stage: Stage, rng: np.random.Generator, code: int, had: int
) -> None:
    """As on a Tegra that is not coherent, or where the system allows no more."""
    runtime = stage.open()
    door = Classifier(stage.bundle, runtime)
    scan = rng.integers(-1000, 800, (16, 16, 16)).astype(np.int16)
    held = [runtime.lend_input() for _ in range(had)]
    stage.driver.fail("cuMemHostRegister_v2", code)
    first = door.predict(scan)
    assert door.predict(scan).logit == first.logit
    assert stage.driver.calls["cuMemHostRegister_v2"] == had + 1  # and is not asked again
    assert not {one.ctypes.data for one in held if one is not None} & {
        source for source, _ in stage.driver.uploads
    }
    del held
    assert (runtime.lend_input() is not None) == bool(had)
    door.close()
    assert stage.driver.left() == {}


def test_what_the_driver_does_not_unlock_is_said_and_stays_mapped(stage: Stage) -> None:
    runtime = stage.open()
    held, other = runtime.lend_input(), runtime.lend_input()
    stage.driver.fail("cuMemHostUnregister", OUT_OF_MEMORY)
    with pytest.warns(UserWarning, match=r"OUT_OF_MEMORY \(cuMemHostUnregister\)"):
        runtime.close()
    ((address, block),) = stage.driver.tables["locked"].items()
    del held, other
    gc.collect()
    assert bytes(block[:1]) == b"\0"  # nobody else has been given it
    stage.driver.tables["locked"].pop(address)


def test_of_a_lost_gpu_nothing_is_lent_and_nothing_freed(stage: Stage) -> None:
    runtime = stage.open()
    held = runtime.lend_input()
    assert usable(held)
    runtime.run(held)
    stage.driver.fail("cuStreamSynchronize", LAUNCH_FAILED)
    with pytest.raises(DeviceLost):
        runtime.run(held)
    stage.driver.calls.clear()
    assert runtime.lend_input() is None
    with pytest.raises(DeviceLost, match="lost in an earlier call"):
        runtime.run(held)
    assert not stage.driver.calls
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runtime.close()
    assert stage.driver.calls["cuMemHostUnregister"] == 0
    assert usable(held)


def test_a_gpu_that_is_lost_while_one_is_lent_is_said_where_it_runs(stage: Stage) -> None:
    runtime = stage.open()
    stage.driver.fail("cuMemHostRegister_v2", LAUNCH_FAILED)
    assert runtime.lend_input() is None
    with pytest.raises(DeviceLost):
        runtime.run(volumes(1))


@needs_fork
def test_a_forked_child_borrows_nothing_frees_nothing_and_does_not_crash(stage: Stage) -> None:
    runtime = stage.open()
    held = runtime.lend_input()

    def end_it() -> str:
        nonlocal held
        stage.driver.calls.clear()
        sound = usable(held) and runtime.lend_input() is None
        held = None
        runtime.close()
        gc.collect()
        return f"{sound} {sum(stage.driver.calls.values())}"

    assert in_forked_child(end_it) == "True 0"
    assert usable(held)
    assert np.array_equal(runtime.run(held)["logit"], expected(volumes(1))["logit"])
    assert held is not None
    assert stage.driver.uploads[-1] == (held.ctypes.data, 4 * int(np.prod(SHAPE)))
    assert len(stage.driver.tables["locked"]) == 1 <= MOST
