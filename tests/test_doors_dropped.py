"""A stream that is left unfinished: dropped anywhere it waits for nothing, closed it waits."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable

import nibabel as nib
import numpy as np
import pytest

from bundle_factory import write_tiny
from ctedge import Classifier
from patience import PATIENCE_S


class Held:
    """Scans whose reading, from the second on, waits until it may go on."""

    def __init__(self, voxels: np.ndarray) -> None:
        self.voxels = voxels
        self.begun, self.go, self.over = (threading.Event() for _ in range(3))

    def stream(self):
        yield self.voxels
        while True:
            yield self

    def __array__(self, dtype=None, copy=None):
        self.begun.set()
        self.go.wait(PATIENCE_S)
        self.over.set()
        return self.voxels


@pytest.fixture
def held(rng):
    scans = Held(rng.integers(-1000, 800, (20, 20, 16)).astype(np.int16))
    yield scans
    scans.go.set()


@pytest.fixture
def bundle(tmp_path):
    return write_tiny(tmp_path / "tiny.ctedge").path


@pytest.fixture
def door(bundle, held):
    with Classifier.load(bundle, device="cpu", runtime="onnxruntime") as opened:
        yield opened
        held.go.set()


def preparing_threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name == "ctedge-prepare"}


def it_waits_for_the_reading(close: Callable[[], None], held: Held) -> None:
    """Closing ends when what is being read has been, and not before."""
    assert held.begun.wait(PATIENCE_S)
    closing = threading.Thread(target=close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    held.go.set()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert held.over.is_set()


@pytest.mark.parametrize("in_a_cycle", [True, False])
def test_a_dropped_stream_waits_for_nothing(door, held, in_a_cycle):
    """The collector closes it in any thread, also in one that holds what the reading waits for."""
    earlier = preparing_threads()  # that a test before this one has dropped
    answers = door.predict_iter(held.stream())
    next(answers)
    assert held.begun.wait(PATIENCE_S)
    (thread,) = preparing_threads() - earlier
    if in_a_cycle:
        ring = [answers]
        ring.append(ring)
        del ring
    del answers
    gc.collect()
    assert not held.over.is_set()
    held.go.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


LEFT_BY_AN_ERROR = """
import itertools, sys
from ctedge import Classifier
door = Classifier.load(sys.argv[1], device="cpu", runtime="onnxruntime")

def job():  # frame, error, traceback: a cycle, which holds the stream until the collector comes by
    answers, failure = door.predict_iter(itertools.cycle(sys.argv[2:])), None
    try:
        for number, _ in enumerate(answers):
            if number == 2:
                raise ValueError
    except ValueError as error:
        failure = error

for _ in range(80):
    job()
door.close()
print("done")
"""


def test_the_collector_comes_by_while_others_read(bundle, tmp_path, chest, las_affine):
    """It comes within the starting of a thread, too, whose lock is everybody's."""
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(chest, las_affine), scan)
    told = subprocess.run(
        [sys.executable, "-c", LEFT_BY_AN_ERROR, bundle, scan],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (told.stdout, told.stderr, told.returncode) == ("done\n", "", 0)


def test_closing_a_stream_waits_for_what_is_being_read(door, held):
    answers = door.predict_iter(held.stream())
    next(answers)
    it_waits_for_the_reading(answers.close, held)
    assert list(answers) == []


def test_closing_the_model_waits_for_what_a_stream_is_reading(door, held):
    """So nothing is read behind a `with` that an error has left, whoever still holds the stream."""
    answers = door.predict_iter(held.stream())
    next(answers)
    it_waits_for_the_reading(door.close, held)
    answers.close()


INTERRUPTED = """
import signal, sys, threading
import numpy as np
from ctedge import Classifier
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
scan = np.random.default_rng(0).integers(-1000, 800, (20, 20, 16)).astype(np.int16)
start, started = threading.Thread.start, []

def interrupted(thread):
    signal.raise_signal(signal.SIGINT)
    start(thread)
    started.append(thread)

with Classifier.load(sys.argv[1], device="cpu", runtime="onnxruntime") as door:
    threading.Thread.start = interrupted
    try:
        next(door.predict_iter([scan]))
    except KeyboardInterrupt:
        (thread,) = started
        print("interrupted, and reads on" if thread.is_alive() else "interrupted")
"""


def test_ctrl_c_waits_until_the_thread_has_started(bundle):
    """Else the thread could be left half started, or the interruption be told as something else."""
    told = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, bundle],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (told.stdout, told.stderr, told.returncode) == ("interrupted\n", "", 0)


UNFINISHED = """
import itertools, sys
import numpy as np
from ctedge import Classifier
scans = np.random.default_rng(0).integers(-1000, 800, (4, 20, 20, 16)).astype(np.int16)
door = Classifier.load(sys.argv[1], device="cpu", runtime="onnxruntime")
streams = [door.predict_iter(itertools.cycle(scans), ahead=ahead) for ahead in range(3)]
for stream in streams:
    next(stream)
streams.append(streams)
del stream
for answer in door.predict_iter(itertools.cycle(scans)):
    print(answer.probability > 0, flush=True)
    break
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("del streams", 0), ("door.close()", 0), ("sys.exit(3)", 3)]
)
def test_a_program_ends_with_its_streams_unfinished(bundle, end, code):
    told = subprocess.run(
        [sys.executable, "-c", UNFINISHED.format(end=end), bundle],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (told.stdout, told.stderr, told.returncode) == ("True\n", "", code)
