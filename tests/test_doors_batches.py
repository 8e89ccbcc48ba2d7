"""Many scans through one door: batches, streams, threads, an event loop, a fork, and closing."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bundle_factory import write_tiny
from ctedge import (
    Classifier,
    InferenceFailed,
    RuntimeUnavailable,
    ScanNotFound,
    SeverityRegressor,
    SliceClassifier,
    UnfitScan,
    UnsupportedGeometry,
)

#: Nothing here takes a second; a test that fails ends all the same.
PATIENCE_S = 30

KINDS = [Classifier, SeverityRegressor, SliceClassifier]


@pytest.fixture
def open_tiny(tmp_path):
    opened = []

    def open_one(kind=Classifier):
        labels = list("abcde") if kind is SeverityRegressor else ["normal", "abnormal"]
        path = tmp_path / f"{kind.task}.ctedge"
        if not path.exists():
            write_tiny(path, task=kind.task, labels=labels)
        opened.append(kind.load(path, device="cpu", runtime="onnxruntime"))
        return opened[-1]

    yield open_one
    for door in opened:
        door.close()


@pytest.fixture
def scans(rng):
    return [rng.integers(-1000, 800, (20, 20, 16)).astype(np.int16) for _ in range(4)]


def told(answer):
    """An answer without the time it took."""
    return replace(answer, timings_ms={})


def held_up(door, monkeypatch):
    """Make the network wait in its first run: (it has begun, it may go on)."""
    begun, go, run = threading.Event(), threading.Event(), door._runtime.run

    def slow(*args, **named):
        begun.set()
        assert go.wait(PATIENCE_S)
        return run(*args, **named)

    monkeypatch.setattr(door._runtime, "run", slow)
    return begun, go


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_gives_the_same_answers(open_tiny, scans, kind):
    door = open_tiny(kind)
    alone = [told(door.predict(scan)) for scan in scans]

    async def together():
        return await asyncio.gather(*map(door.predict_async, scans))

    assert [told(one) for one in door.predict_batch(scans)] == alone
    assert [told(one) for one in door.predict_iter(iter(scans), ahead=2)] == alone
    assert [told(one) for one in asyncio.run(together())] == alone


def test_sixteen_threads_answer_bit_for_bit_as_one(open_tiny, scans):
    door, started = open_tiny(), threading.Barrier(16)
    alone = [door.predict(scan).logit for scan in scans] * 50

    def all_of_them(_number):
        started.wait(PATIENCE_S)
        return [door.predict(scan).logit for scan in scans * 50]

    with ThreadPoolExecutor(16) as pool:
        assert all(answers == alone for answers in pool.map(all_of_them, range(16)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_that_fails_leaves_the_others_their_answers(open_tiny, scans, kind):
    door = open_tiny(kind)
    sources = [scans[0], "no-such-scan.nii.gz", np.zeros((3, 3, 3, 3)), scans[1]]
    first, gone, flat, last = door.predict_batch(sources, errors="return")
    assert told(first) == told(door.predict(scans[0]))
    assert told(last) == told(door.predict(scans[1]))
    assert isinstance(gone, ScanNotFound)
    assert isinstance(flat, UnsupportedGeometry)
    with pytest.raises(ScanNotFound):
        door.predict_batch(sources)
    answers = door.predict_iter(sources)
    assert told(next(answers)) == told(first)
    with pytest.raises(ScanNotFound):
        next(answers)
    assert list(answers) == []


def test_an_endless_stream_is_read_no_further_than_said(open_tiny, scans):
    read = []

    def stream():
        for number in itertools.count(1):
            read.append(number)
            yield scans[0]

    door = open_tiny()
    with pytest.raises(ValueError, match="ahead"):
        door.predict_iter(stream(), ahead=-1)
    with pytest.raises(ValueError, match="'raise' or 'return'"):
        door.predict_iter(stream(), errors="ignore")
    answers = door.predict_iter(stream(), ahead=2)
    for number in range(1, 10):
        next(answers)
        assert len(read) <= number + 2
    answers.close()
    before = len(read)
    door.predict(scans[0])
    assert len(read) == before


def test_what_is_asked_for_reaches_every_scan(open_tiny, scans, rng):
    pytest.importorskip("scipy", exc_type=ImportError)
    door = open_tiny()
    with pytest.raises(RuntimeUnavailable, match="explain"):
        door.predict_iter(scans, explain=True)
    (unfit,) = door.predict_batch([scans[0]], assess=True, strict=True, errors="return")
    assert isinstance(unfit, UnfitScan)
    (answer,) = door.predict_batch([scans[0]], assess=True)
    stages = dict(answer.timings_ms)
    assert set(stages) == {"read", "preprocess", "assess", "inference", "total"}
    total = stages.pop("total")
    assert total == pytest.approx(sum(stages.values()), abs=0.01)


def test_the_wait_for_ones_turn_counts_for_nothing(open_tiny, scans, monkeypatch):
    """The second scan is ready an hour before the first is judged; that hour is the first one's."""
    door, clock, ready = open_tiny(), SimpleNamespace(now=0.0), threading.Event()
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr("ctedge.clock.time", clock)
    begun, go = held_up(door, monkeypatch)

    def two():
        yield from scans[:2]
        ready.set()  # asked for one more, the thread has prepared the second

    def an_hour_goes_by():
        assert begun.wait(PATIENCE_S)
        assert ready.wait(PATIENCE_S)
        clock.now += 3600.0
        go.set()

    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(an_hour_goes_by)
        first, second = door.predict_iter(two(), ahead=2)
        waited.result()
    assert first.timings_ms["inference"] == first.timings_ms["total"] == 3600e3
    assert second.timings_ms["total"] == 0.0


class TestClosing:
    def test_it_waits_for_what_runs_and_refuses_the_rest(self, open_tiny, scans, monkeypatch):
        door = open_tiny()
        begun, go = held_up(door, monkeypatch)
        with ThreadPoolExecutor(3) as pool:
            running = pool.submit(door.predict, scans[0])
            assert begun.wait(PATIENCE_S)
            closing = [pool.submit(door.close) for _ in range(2)]
            while not door._uses._closed:
                pass
            with pytest.raises(InferenceFailed, match="was closed"):
                door.predict(scans[1])
            with pytest.raises(InferenceFailed, match="was closed"):
                door.warm_up()
            assert not any(one.done() for one in closing)
            go.set()
            assert running.result().probability > 0
            for one in closing:
                one.result()

    def test_between_the_scans_of_a_stream(self, open_tiny, scans):
        """It waits for nobody who is not predicting, and no `errors` keeps a stream alive."""
        door = open_tiny()
        answers = door.predict_iter(itertools.cycle(scans), errors="return")
        next(answers)
        door.close()
        with pytest.raises(InferenceFailed, match="was closed"):
            next(answers)
        assert list(answers) == []

    def test_what_waits_for_a_thread_is_refused(self, open_tiny, scans, monkeypatch):
        monkeypatch.setattr("ctedge.uses.usable_cpus", lambda: 1)
        door = open_tiny()
        begun, go = held_up(door, monkeypatch)

        async def close_among_them():
            asked = [asyncio.ensure_future(door.predict_async(scan)) for scan in scans]
            await asyncio.to_thread(begun.wait, PATIENCE_S)
            closing = asyncio.ensure_future(asyncio.to_thread(door.close))
            while not door._uses._closed:
                await asyncio.sleep(0)
            with pytest.raises(InferenceFailed, match="was closed"):
                await door.predict_async(scans[0])
            go.set()
            await closing
            return await asyncio.gather(*asked, return_exceptions=True)

        first, *others = asyncio.run(close_among_them())
        assert first.probability > 0
        assert [type(one) for one in others] == [InferenceFailed] * 3


def test_what_is_cancelled_while_it_waits_is_never_read(open_tiny, scans, monkeypatch):
    monkeypatch.setattr("ctedge.uses.usable_cpus", lambda: 1)
    door = open_tiny()
    begun, go = held_up(door, monkeypatch)
    read = []

    class Waiting:
        def __array__(self, dtype=None, copy=None):
            read.append(self)
            return scans[1]

    async def cancel_one():
        first = asyncio.ensure_future(door.predict_async(scans[0]))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        second = asyncio.ensure_future(door.predict_async(Waiting()))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        return await first

    assert asyncio.run(cancel_one()).probability > 0
    door.close()
    assert read == []


def test_slices_are_named_off_the_event_loop_too(open_tiny, scans):
    answer = asyncio.run(open_tiny(SliceClassifier).predict_async(scans[0], slices=[3, 5]))
    assert [one.index for one in answer.slices] == [3, 5]


def in_child(door, scan, answers) -> list[str]:
    """What each way to use an inherited door says; then a door of the child's own."""
    said = []
    for use in (
        lambda: door.predict(scan),
        door.warm_up,
        lambda: next(answers),
        lambda: door.predict_batch([scan], errors="return"),
        lambda: asyncio.run(door.predict_async(scan)),
    ):
        try:
            use()
            said.append("answered")
        except InferenceFailed as error:
            said.append(str(error))
    door.close()
    with Classifier.load(door.bundle.path, device="cpu", runtime="onnxruntime") as own:
        said.append(str(own.predict(scan).logit))
    return said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_is_told_to_load_the_model_itself(open_tiny, scans):
    door = open_tiny()
    answers = door.predict_iter(itertools.cycle(scans))
    expected = next(answers).logit
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that threads are about is the point
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, "|".join(in_child(door, scans[0], answers)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        *refusals, answer = pipe.read().split("|")
    os.waitpid(child, 0)
    assert len(refusals) == 5
    for refusal in refusals:
        assert "forked" in refusal
        assert "load the model in the child" in refusal
    assert float(answer) == expected
    assert door.predict(scans[0]).logit == expected
    answers.close()
