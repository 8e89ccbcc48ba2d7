"""Many scans through one door: batches, streams, threads, an event loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
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
from held_network import held_up
from patience import PATIENCE_S

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


@pytest.mark.parametrize("kind", KINDS)
def test_kept_errors_hold_no_scan(open_tiny, kind):
    door, alive = open_tiny(kind), weakref.WeakSet()

    class Flat:
        def __init__(self):
            alive.add(self)

        def __array__(self, dtype=None, copy=None):
            return np.zeros((3, 3, 3, 3))

    async def together():
        asked = (door.predict_async(Flat()) for _ in range(5))
        return await asyncio.gather(*asked, return_exceptions=True)

    kept = [*asyncio.run(together()), *door.predict_batch([Flat()], errors="return")]
    gc.collect()
    assert [type(one) for one in kept] == [UnsupportedGeometry] * 6
    assert len(alive) == 0


@pytest.mark.parametrize("ahead", [0.5, 2.0, float("nan"), float("inf"), "1", None])
def test_how_far_ahead_is_a_whole_number(open_tiny, scans, ahead):
    with pytest.raises(TypeError, match="integer"):
        open_tiny().predict_iter(scans, ahead=ahead)


def test_where_no_thread_starts_it_says_so(open_tiny, scans, monkeypatch):
    door = open_tiny()

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        for ask in (
            lambda: door.predict_batch(scans, errors="return"),
            lambda: asyncio.run(door.predict_async(scans[0])),
        ):
            with pytest.raises(InferenceFailed, match="no thread") as met:
                ask()
            assert met.value.found == "can't start new thread"
            assert "call `predict`" in met.value.fix
        alone = told(door.predict(scans[0]))
    assert told(door.predict_batch(scans)[0]) == alone
    assert told(asyncio.run(door.predict_async(scans[0]))) == alone


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


def test_slices_are_named_off_the_event_loop_too(open_tiny, scans):
    answer = asyncio.run(open_tiny(SliceClassifier).predict_async(scans[0], slices=[3, 5]))
    assert [one.index for one in answer.slices] == [3, 5]


def test_a_batch_prepares_the_next_scan_while_one_is_judged(open_tiny, scans, monkeypatch):
    door, begun_next = open_tiny(), threading.Event()
    begun, go = held_up(door, monkeypatch)

    class Next:
        def __array__(self, dtype=None, copy=None):
            begun_next.set()
            return scans[1]

    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(door.predict_batch, [scans[0], Next()])
        try:
            assert begun.wait(PATIENCE_S)
            assert begun_next.wait(PATIENCE_S)
            assert not answers.done()
        finally:
            go.set()
        assert len(answers.result()) == 2
