"""Ctrl-C anywhere in a TensorRT runtime: it answers on, ends, and leaves no memory behind."""

from __future__ import annotations

import functools
import gc
import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.runtimes.pinned_inputs import MOST
from ctedge.runtimes.tensorrt_engine import TensorrtEngine
from step_interrupted import comes_through
from tensorrt_stage import Stage, expected, stage_of, volumes

stage = stage_of("11")


def answers(runtime: TensorrtEngine) -> bool:
    batch = volumes(1)
    return np.array_equal(runtime.run(batch)["logit"], expected(batch)["logit"])


def test_ctrl_c_leaves_a_runtime_that_answers(stage: Stage) -> None:
    runtime = stage.open()

    def interrupted(batch: np.ndarray) -> dict[str, np.ndarray]:
        raise KeyboardInterrupt

    for _ in range(3):
        stage.network.answer = interrupted
        with pytest.raises(KeyboardInterrupt):
            runtime.run(volumes(1))
        stage.network.answer = expected
        assert answers(runtime)
        assert answers(runtime)


@pytest.mark.parametrize("runs", [0, 1, 2])
def test_ctrl_c_at_any_step_of_a_run_leaves_a_runtime_that_answers(stage: Stage, runs: int) -> None:
    """Of the first run, of that which is captured, and of one that is launched as a graph."""
    for steps in itertools.count(1):
        runtime = stage.open()
        for _ in range(runs):
            runtime.run(volumes(1))
        run = functools.partial(runtime.run, volumes(1))
        whole = comes_through(run, steps, "tensorrt_lane.py")
        assert all(answers(runtime) for _ in range(3)), steps
        assert runtime.uncaptured is None
        runtime.close()
        stage.opened.clear()
        assert stage.driver.left() == {}
        if whole:
            break
    assert steps > 20


@pytest.fixture
def _sigint_interrupts() -> Iterator[None]:
    """A shell's background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_at(stage: Stage, index: int, work: Callable[[], object]) -> bool:
    """Do some work; press Ctrl-C after a call of the driver. Whether it interrupted the work."""
    answer, done = stage.driver.answer, itertools.count(1)

    def pressed(name: str, arguments: tuple[Any, ...]) -> int:
        found = answer(name, arguments)
        if next(done) == index:
            signal.raise_signal(signal.SIGINT)
        return found

    with pytest.MonkeyPatch.context() as patch:
        # At once: a real one might be heard where the work is over, by whoever runs the tests.
        patch.setattr(signal, "raise_signal", lambda one: signal.getsignal(one)(one, None))
        patch.setattr(stage.driver, "answer", pressed)
        try:
            work()
        except KeyboardInterrupt:
            return True
    return False


def nothing_left(stage: Stage) -> bool:
    """Close what was opened, and drop it; whether the GPU has all its memory back."""
    for one in stage.opened:
        one.close()
    stage.opened.clear()
    gc.collect()
    return stage.driver.left() == {}


@pytest.mark.usefixtures("_sigint_interrupts")
def test_ctrl_c_while_it_is_loaded_leaves_nothing_behind(stage: Stage) -> None:
    for index in itertools.count(1):
        interrupted = interrupted_at(stage, index, stage.open)
        assert nothing_left(stage), index
        if not interrupted:
            break
    assert index > 10


@pytest.mark.usefixtures("_sigint_interrupts")
def test_ctrl_c_while_it_is_closed_leaves_nothing_behind_once_it_is_closed_again(
    stage: Stage,
) -> None:
    for index in itertools.count(1):
        runtime = stage.open()
        runtime.run(runtime.lend_input())
        interrupted = interrupted_at(stage, index, runtime.close)
        assert nothing_left(stage), index
        if not interrupted:
            break
    assert index > 10


def test_an_interrupt_at_any_step_keeps_no_input(stage: Stage) -> None:
    """Where the driver locks pages, the system's Ctrl-C waits, and this one does not."""
    for steps in itertools.count(1):
        runtime = stage.open()
        whole = comes_through(runtime.lend_input, steps, "pinned_inputs.py")
        held = [runtime.lend_input() for _ in range(MOST)]
        assert all(one is not None for one in held), steps
        runtime.close()
        del held
        if whole:
            break
        stage.driver._stack().clear()
    assert steps > 20
