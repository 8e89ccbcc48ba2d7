"""Lanes while one more is made: those that run are not held up, and nobody fails who could wait."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from ctedge.errors import DeviceLost, InferenceFailed
from ctedge.runtimes.cuda_memory import CudaFailure
from ctedge.runtimes.tensorrt_pool import LanePool
from patience import PATIENCE_S
from step_interrupted import comes_through

ILLEGAL_ADDRESS, OUT_OF_MEMORY = 700, 2

#: What gives out lanes. Where one more is made or one is freed, the system's Ctrl-C would wait.
FILES = ("tensorrt_pool.py", "contextlib.py")


class Lane:
    """One that notes what was asked of it."""

    uncaptured = None

    def __init__(self) -> None:
        self.closed = False

    def reset(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class Gpu:
    """A driver whose context is always current."""

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        yield


class Slowly:
    """Makes a second lane, when it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go, self.lane = threading.Event(), threading.Event(), Lane()

    def __call__(self) -> Any:
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        return self.lane


def pool_of(first: Lane, more: Callable[[], Any]) -> LanePool:
    gpu: Any = Gpu()
    lane: Any = first
    return LanePool(gpu, lane, more)


def use(pool: LanePool) -> object:
    return pool.run(lambda lane: lane)


def use_until_closed(pool: LanePool) -> None:
    while True:
        use(pool)


def ends(work: Callable[[], object]) -> bool:
    """Whether work in another thread comes to its end."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return not thread.is_alive()


def interrupted(pool: LanePool, what: str, steps: int) -> bool:
    """Press Ctrl-C at a step of a call; whether the call came so far."""
    if what == "take":
        return comes_through(lambda: use(pool), steps, *FILES)
    if what == "close":
        return comes_through(pool.close, steps, *FILES)
    return pool.run(lambda _: comes_through(lambda: use(pool), steps, *FILES))


@pytest.mark.parametrize("what", ["take", "make", "close"])
def test_an_interrupt_at_any_step_leaves_lanes_for_all_and_an_end(what: str) -> None:
    for steps in itertools.count(1):
        first = Lane()
        pool = pool_of(first, Lane)
        whole = interrupted(pool, what, steps)
        if what != "close":
            both: list[object] = []
            assert ends(lambda pool=pool, both=both: pool.run(lambda _: both.append(use(pool))))
            assert both[0] is not first, steps
        assert ends(pool.close), steps
        assert first.closed
        if whole:
            break
    assert steps > 20


def test_a_lane_comes_back_while_another_is_made() -> None:
    first, more = Lane(), Slowly()
    pool = pool_of(first, more)
    with ThreadPoolExecutor(1) as threads:

        def until_one_is_made(_: object) -> Future[object]:
            growing = threads.submit(use, pool)
            assert more.begun.wait(PATIENCE_S)
            return growing

        growing = pool.run(until_one_is_made)
        assert use(pool) is first
        assert not growing.done()
        more.go.set()
        assert growing.result(PATIENCE_S) in (first, more.lane)
    assert pool.close() == []
    assert first.closed
    assert more.lane.closed


def test_two_threads_do_not_make_two_lanes_where_one_is_missing() -> None:
    first, more = Lane(), Slowly()
    made: list[object] = []

    def counted() -> Any:
        made.append(None)
        return more()

    pool = pool_of(first, counted)
    with ThreadPoolExecutor(2) as threads:

        def two_more(_: object) -> list[object]:
            waiting = [threads.submit(use, pool) for _ in range(2)]
            assert more.begun.wait(PATIENCE_S)
            more.go.set()
            return [one.result(PATIENCE_S) for one in waiting]

        assert pool.run(two_more) == [more.lane] * 2
    assert len(made) == 1


def test_close_waits_for_the_lane_that_is_made_and_frees_it() -> None:
    first, more = Lane(), Slowly()
    pool = pool_of(first, more)
    with ThreadPoolExecutor(2) as threads:

        def until_both_have_begun(_: object) -> tuple[Future[object], Future[list[str]]]:
            growing = threads.submit(use, pool)
            assert more.begun.wait(PATIENCE_S)
            return growing, threads.submit(pool.close)

        growing, closing = pool.run(until_both_have_begun)
        with pytest.raises(InferenceFailed, match="was closed"):
            use_until_closed(pool)
        assert not closing.done()
        more.go.set()
        assert closing.result(PATIENCE_S) == []
        assert "was closed" in str(growing.exception(PATIENCE_S))
    assert first.closed
    assert more.lane.closed


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("pybind11"),
        MemoryError("std::bad_alloc"),
        InferenceFailed("TensorRT refuses the address of volume"),
        CudaFailure("cuMemAlloc_v2", OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_call_waits_where_no_second_lane_can_be_made(failure: Exception) -> None:
    first, begun = Lane(), threading.Event()
    tried: list[object] = []

    def more() -> Any:
        tried.append(None)
        begun.set()
        raise failure

    pool = pool_of(first, more)
    with ThreadPoolExecutor(2) as threads:

        def until_one_is_tried(_: object) -> list[Future[object]]:
            waiting = [threads.submit(use, pool) for _ in range(2)]
            assert begun.wait(PATIENCE_S)
            return waiting

        waiting = pool.run(until_one_is_tried)
        assert [one.result(PATIENCE_S) for one in waiting] == [first] * 2
    assert len(tried) == 1
    assert pool.close() == []


def test_a_gpu_lost_while_a_lane_is_made_is_lost_for_all() -> None:
    def more() -> Any:
        raise CudaFailure("cuMemAlloc_v2", ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS")

    pool = pool_of(Lane(), more)
    with pytest.raises(DeviceLost, match="the GPU failed"):
        pool.run(lambda _: use(pool))
    with pytest.raises(DeviceLost, match="lost in an earlier call"):
        use(pool)


def test_ctrl_c_while_a_lane_is_made_leaves_a_pool_that_makes_it_later() -> None:
    second, interrupted = Lane(), [KeyboardInterrupt()]

    def more() -> Any:
        if interrupted:
            raise interrupted.pop()
        return second

    pool = pool_of(Lane(), more)

    def interrupted_once(_: object) -> object:
        with pytest.raises(KeyboardInterrupt):
            use(pool)
        return use(pool)

    assert pool.run(interrupted_once) is second
    assert pool.close() == []
