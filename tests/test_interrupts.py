"""Handlers of signals that raise at the worst moments: none is lost, no thread is half started."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType

import numpy as np
import pytest

from ctedge import KERAS_EXAMPLE, CTScan, preprocess, read_scan
from ctedge.interrupts import interrupts_deferred
from ctedge.planes import PlanesInMemory
from ctedge.preprocessing import resample
from scan_factory import write_scan

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals of its own")

#: A thread that works still when the one that started it is interrupted, seconds.
AT_WORK_S = 0.3


class LateError(Exception):
    """What a handler raises: a time limit, for instance."""


def late(_number: int, _frame: FrameType | None) -> None:
    raise LateError


def later(_number: int, _frame: FrameType | None) -> None:
    raise LateError


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, late), signal.signal(signal.SIGUSR2, later)
    yield
    for number, one in zip((signal.SIGUSR1, signal.SIGUSR2), before, strict=True):
        signal.signal(number, one)


def are_set() -> bool:
    found = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)
    return found == (late, later)


@pytest.fixture
def press_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """The signal comes when handlers are set for the nth time."""

    def prepare(nth: int) -> list[int]:
        real, calls = signal.signal, list[int]()

        def counted(number, handler):
            calls.append(number)
            if len(calls) == nth:
                signal.raise_signal(signal.SIGUSR1)
            return real(number, handler)

        monkeypatch.setattr(signal, "signal", counted)
        return calls

    return prepare


def test_every_handler_is_set_again_whenever_one_raises(press_at, monkeypatch):
    calls = press_at(0)
    with interrupts_deferred():
        pass
    often = len(calls)
    monkeypatch.undo()
    assert often >= 4  # both are taken over, and set again
    for nth in range(1, often + 1):
        press_at(nth)
        with pytest.raises(LateError), interrupts_deferred():
            pass
        monkeypatch.undo()
        assert are_set(), nth


def test_what_is_heard_within_is_raised_behind():
    reached = []

    def within() -> None:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGUSR1)
            reached.append("the end")

    with pytest.raises(LateError):
        within()
    assert reached
    assert are_set()


def test_another_thread_changes_no_handler():
    def within() -> None:
        with interrupts_deferred():
            seen.append(are_set())

    seen: list[bool] = []
    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    assert seen == [True]


class Slow(np.ndarray):
    """Its planes take a while in any thread but the main one."""

    def __getitem__(self, key):
        if isinstance(key, int) and threading.current_thread() is not threading.main_thread():
            time.sleep(AT_WORK_S)
        return np.asarray(self)[key] if isinstance(key, int) else super().__getitem__(key)


@pytest.fixture
def interrupted_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes behind the start of a thread, before who started it knows."""
    start = threading.Thread.start

    def pressed(thread: threading.Thread) -> None:
        start(thread)
        signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(threading.Thread, "start", pressed)


def test_preprocessing_waits_for_a_thread_that_was_interrupted_at_its_start(
    interrupted_start, monkeypatch, rng
):
    voxels = rng.integers(-1000, 400, (64, 60, 48)).astype(np.int16)
    scan = CTScan.from_array(voxels)
    slow = replace(scan, planes=PlanesInMemory(voxels.view(Slow)))
    before = set(threading.enumerate())
    with pytest.raises(LateError):
        resample(slow, KERAS_EXAMPLE, threads=2)
    assert set(threading.enumerate()) <= before
    monkeypatch.undo()
    np.testing.assert_array_equal(
        resample(scan, KERAS_EXAMPLE, threads=2).volume, preprocess(voxels)
    )


def test_reading_leaves_no_thread_where_it_was_interrupted(interrupted_start, tmp_path):
    scan = read_scan(write_scan(tmp_path / "scan.nii.gz", 1))
    before = set(threading.enumerate())
    with pytest.raises(LateError):
        preprocess(scan)
    assert set(threading.enumerate()) <= before
