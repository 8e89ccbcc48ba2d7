"""How a door's work ends: closed while it predicts, cancelled while it waits, forked."""

from __future__ import annotations

import asyncio
import functools
import itertools
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bundle_factory import write_tiny
from ctedge import Classifier, InferenceFailed
from forked import in_forked_child, needs_fork
from held_network import held_up
from patience import PATIENCE_S
from step_interrupted import comes_through


@pytest.fixture
def door(tmp_path):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    with Classifier.load(bundle.path, device="cpu", runtime="onnxruntime") as opened:
        yield opened


@pytest.fixture
def scans(rng):
    return [rng.integers(-1000, 800, (20, 20, 16)).astype(np.int16) for _ in range(4)]


def test_closing_waits_for_what_runs_and_refuses_the_rest(door, scans, monkeypatch):
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


def test_closing_between_the_scans_of_a_stream_ends_it(door, scans):
    """It waits for nobody who is not predicting, and no `errors` keeps a stream alive."""
    answers = door.predict_iter(itertools.cycle(scans), errors="return")
    next(answers)
    door.close()
    with pytest.raises(InferenceFailed, match="was closed"):
        next(answers)
    assert list(answers) == []


def test_what_waits_for_a_thread_is_refused_by_closing(door, scans, monkeypatch):
    monkeypatch.setattr("ctedge.uses.usable_cpus", lambda: 1)
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


def test_what_is_cancelled_while_it_waits_is_never_read(door, scans, monkeypatch):
    monkeypatch.setattr("ctedge.uses.usable_cpus", lambda: 1)
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


def test_what_was_told_that_there_is_no_thread_is_gone_and_never_read(door, scans, monkeypatch):
    """Python's pool keeps it in its queue all the same, for the thread that the next one starts."""
    read = []

    class Refused:
        def __array__(self, dtype=None, copy=None):
            read.append(1)
            return scans[0]

    def no_more(_thread):
        raise RuntimeError("can't start new thread")

    refused = Refused()
    gone = weakref.ref(refused)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(InferenceFailed, match="no thread can be started") as met:
            asyncio.run(door.predict_async(refused))
    del refused
    assert gone() is None
    assert met.value.__cause__ is not None
    assert asyncio.run(door.predict_async(scans[1])).probability > 0
    door.close()
    assert read == []


CLOSED_BY_A_SIGNAL = """
import signal, sys
import numpy as np
from ctedge import Classifier, CTEdgeError

class Scan:
    def __array__(self, dtype=None, copy=None):
        signal.raise_signal(signal.SIGTERM)
        return np.random.default_rng(0).integers(-1000, 800, (20, 20, 16)).astype(np.int16)

with Classifier.load(sys.argv[1], device="cpu", runtime="onnxruntime") as door:
    signal.signal(signal.SIGTERM, lambda *_: door.close())
    try:
        door.predict(Scan())
    except CTEdgeError as error:
        print(type(error).__name__, error.what, error.fix)
    signal.signal(signal.SIGTERM, lambda *_: None)
    print(door.predict(Scan()).probability > 0, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    door.predict(Scan())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends the process there")
def test_closing_within_a_prediction_is_refused(door):
    """By a signal handler of the thread that predicts: it would wait for itself."""
    told = subprocess.run(
        [sys.executable, "-c", CLOSED_BY_A_SIGNAL, door.bundle.path],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    refusal, answered = told.stdout.splitlines()
    assert refusal.startswith("InferenceFailed the model cannot be closed within a prediction")
    assert "sys.exit()" in refusal
    assert (answered, told.stderr, told.returncode) == ("True", "", 7)


def test_an_interrupt_at_any_step_leaves_a_model_that_closes(door, scans):
    door.predict(scans[0])
    for steps in itertools.count(1):
        one = Classifier.load(door.bundle.path, device="cpu", runtime="onnxruntime")
        predict = functools.partial(one.predict, scans[0])
        whole = comes_through(predict, steps, "uses.py", "contextlib.py")
        closing = threading.Thread(target=one.close, daemon=True)
        closing.start()
        closing.join(PATIENCE_S)
        assert not closing.is_alive(), steps
        if whole:
            break
    assert steps > 10


def said_of_inherited(door, scan, answers) -> list[str]:
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


@needs_fork
def test_a_forked_child_is_told_to_load_the_model_itself(door, scans):
    answers = door.predict_iter(itertools.cycle(scans))
    expected = next(answers).logit
    said = in_forked_child(lambda: "|".join(said_of_inherited(door, scans[0], answers)))
    *refusals, answer = said.split("|")
    assert len(refusals) == 5
    for refusal in refusals:
        assert "forked" in refusal
        assert "load the model in the child" in refusal
    assert float(answer) == expected
    assert door.predict(scans[0]).logit == expected
    answers.close()
