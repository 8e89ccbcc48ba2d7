"""What a signal's handler raises while a model is loaded or predicts is no failure of the model."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import itertools
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bundle_factory import write_tiny
from ctedge import Classifier, InferenceFailed
from patience import PATIENCE_S

if not hasattr(signal, "SIGALRM"):
    pytest.skip("no alarm on this system", allow_module_level=True)

#: What of a runtime's Python answers a batch.
ANSWERS = {"onnxruntime": ("InferenceSession", "run"), "openvino": ("InferRequest", "infer")}

#: Wherever a prediction is at that moment, mostly in the network, it hears that its time is over.
RINGS = """
import signal, sys, time
import numpy as np
from ctedge import Classifier

class SoftLimit(Exception):  # no TimeoutError: whatever copes with an OSError copes with that
    pass

def over(number, frame):
    raise SoftLimit

signal.signal(signal.SIGALRM, over)
voxels = np.random.default_rng(1).integers(-1000, 800, (20, 20, 20)).astype(np.int16)
heard = 0
with Classifier.load("pneumonia", device="cpu", runtime=sys.argv[1], precision="fp32") as door:
    for ring in range(4):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2 + ring / 10)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                door.predict(voxels)
        except SoftLimit:
            heard += 1
print(heard)
"""

Ring = Callable[[], None]


class SoftLimit(Exception):
    """As job queues raise it when a job's time is over."""


def over(_number: int, _frame: object) -> NoReturn:
    raise SoftLimit


class Limit:
    """The other things that may be set as a handler."""

    def over(self, _number: int, _frame: object) -> NoReturn:
        raise SoftLimit

    def __call__(self, _number: int, _frame: object) -> NoReturn:
        raise SoftLimit


def over_at(_limit_s: int, _number: int, _frame: object) -> NoReturn:
    raise SoftLimit


HANDLERS = {
    "function": over,
    "lambda": lambda *_: over(0, None),
    "method": Limit().over,
    "object": Limit(),
    "partial": functools.partial(over_at, 5),
}


@pytest.fixture(params=ANSWERS)
def runtime(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param, exc_type=ImportError)
    return str(request.param)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.ctedge").path


@pytest.fixture
def door(bundle: Path, runtime: str) -> Iterator[Classifier]:
    with Classifier.load(bundle, device="cpu", runtime=runtime) as opened:
        yield opened


@pytest.fixture
def meanwhile(runtime: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterable[Ring]], None]:
    """Has things happen within the runtime, one whenever it has calculated an answer."""
    owner, name = ANSWERS[runtime]
    kind = getattr(importlib.import_module(runtime), owner)
    real = getattr(kind, name)

    def happen(rings: Iterable[Ring]) -> None:
        left = iter(rings)

        def answer(*args: Any, **named: Any) -> Any:
            answers = real(*args, **named)
            for ring in itertools.islice(left, 1):
                ring()
            return answers

        monkeypatch.setattr(kind, name, answer)

    return happen


@pytest.fixture
def handled_by() -> Iterator[Callable[[Any], None]]:
    before = signal.getsignal(signal.SIGALRM)

    def handle(handler: Any) -> None:
        signal.signal(signal.SIGALRM, handler)

    yield handle
    signal.signal(signal.SIGALRM, before)


def alarm() -> None:
    """What Python does when the signal has come, in the very step that a test means."""
    handler: Any = signal.getsignal(signal.SIGALRM)
    handler(signal.SIGALRM, sys._getframe())


def fail() -> None:
    raise RuntimeError("out of memory")


def test_the_end_of_ones_time_comes_at_any_time(runtime):
    told = subprocess.run(
        [sys.executable, "-c", RINGS, runtime],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) in range(1, 5)  # in a destructor Python itself drops what is raised


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_whatever_hears_of_it(door, chest, meanwhile, handled_by, handler):
    handled_by(handler)
    meanwhile(itertools.repeat(alarm))
    for use in (
        functools.partial(door.predict, chest),
        functools.partial(door.predict_batch, [chest], errors="return"),
        door.warm_up,
    ):
        with pytest.raises(SoftLimit):
            use()


def test_so_it_is_while_a_model_is_loaded(bundle, runtime, meanwhile, handled_by):
    handled_by(over)
    meanwhile(itertools.repeat(alarm))
    with pytest.raises(SoftLimit):
        Classifier.load(bundle, device="cpu", runtime=runtime).warm_up()


def test_the_model_goes_on_afterwards(door, chest, meanwhile, handled_by):
    expected = door.predict(chest).logit
    handled_by(over)
    meanwhile([alarm])
    with pytest.raises(SoftLimit):
        door.predict(chest)
    assert door.predict(chest).logit == expected


def test_it_holds_no_scan_until_the_collector_comes_by(door, chest, meanwhile, handled_by):
    handled_by(over)
    meanwhile([alarm])
    scan = chest.copy()
    gone = weakref.ref(scan)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(SoftLimit):
            door.predict(scan)
        del scan
        assert gone() is None
    finally:
        gc.enable()


def test_a_runtime_that_fails_is_no_end_of_ones_time(door, chest, meanwhile, handled_by):
    """Not even where a handler is set, nor within what is done about an earlier end."""
    handled_by(over)
    meanwhile(itertools.repeat(fail))
    with pytest.raises(InferenceFailed, match="out of memory"):
        door.predict(chest)
    try:
        alarm()
    except SoftLimit:
        with pytest.raises(InferenceFailed, match="out of memory"):
            door.predict(chest)


def test_an_error_of_what_a_handler_predicts_is_told_once(door, chest, meanwhile, handled_by):
    def predict(_number: int, _frame: object) -> None:
        door.predict(chest)

    handled_by(predict)
    meanwhile([alarm, fail])
    with pytest.raises(InferenceFailed) as met:
        door.predict(chest)
    assert str(met.value).count("failed") == 1
