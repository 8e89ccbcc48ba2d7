"""Whole programs around a loaded model: forked, ended with daemon threads at work."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from bundle_factory import write_tiny
from forked import needs_fork
from patience import PATIENCE_S


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.ctedge").path


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def told(program: str, *arguments: object) -> tuple[str, str, int]:
    """What a program printed, what it complained of, and its exit status."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return ended.stdout, ended.stderr, ended.returncode


FORKED = """
import asyncio, itertools, os, signal, sys
import numpy as np
from ctedge import Classifier
scan = np.random.default_rng(0).integers(-1000, 800, (20, 20, 16)).astype(np.int16)
door = Classifier.load(sys.argv[1], device="cpu", runtime=sys.argv[2])
answers = door.predict_iter(itertools.repeat(scan))
next(answers)
asyncio.run(door.predict_async(scan))
child = os.fork()
if not child:
    signal.alarm({patience})
    {end}
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), door.predict(scan).probability > 0)
door.close()
"""


@needs_fork
@pytest.mark.parametrize("end", ["pass", "del door, answers", "door.close()"])
def test_a_forked_child_ends_as_any_program_does(bundle, runtime, end):
    """Python frees what is left at its end, and a runtime waits for threads that did not follow."""
    program = FORKED.format(end=end, patience=PATIENCE_S // 2)
    assert told(program, bundle, runtime) == ("7 True\n", "", 0)


DAEMONS = """
import atexit, sys, threading
stop, threads = threading.Event(), []

@atexit.register  # before ctedge's own, so it is called behind it
def end():
    if {waits}:
        stop.set()
        for one in threads:
            one.join()

import numpy as np
from ctedge import Classifier
scan = np.random.default_rng(0).integers(-1000, 800, (20, 20, 16)).astype(np.int16)
door = Classifier.load(sys.argv[1], device="cpu", runtime=sys.argv[2])
begun = threading.Semaphore(0)

def work():
    while not stop.is_set():
        if {loads}:
            with Classifier.load(sys.argv[1], device="cpu", runtime=sys.argv[2]) as own:
                own.predict(scan)
        door.predict(scan)
        begun.release()

threads += [threading.Thread(target=work, daemon=True) for _ in range(4)]
for one in threads:
    one.start()
for _ in range(20):
    begun.acquire()
"""


@pytest.mark.parametrize(("loads", "waits"), [(False, False), (True, False), (False, True)])
def test_a_program_ends_while_daemon_threads_predict(bundle, runtime, loads, waits):
    """Python would end them within the runtime's C++, which aborts the process."""
    program = DAEMONS.format(loads=loads, waits=waits)
    assert told(program, bundle, runtime) == ("", "", 0)


LATE = """
import atexit, threading, time
from ctedge.lifetime import given_to_runtime
begun, ends = threading.Semaphore(0), []

def slow():
    begun.release()
    time.sleep(4)

def quick():
    begun.release()
    if ends and time.monotonic() > ends[0] + 2:  # one may have begun before
        print("given to the runtime while the end waits", flush=True)
    time.sleep(0.01)

def work(one):
    while True:
        given_to_runtime(one)

for one in (slow, quick):
    threading.Thread(target=work, args=[one], daemon=True).start()
    begun.acquire()
atexit.register(lambda: ends.append(time.monotonic()))  # called before ctedge's own
"""


def test_while_the_end_waits_for_a_slow_thread_the_others_give_the_runtime_nothing():
    """They would be within it when the wait is over."""
    assert told(LATE) == ("", "", 0)


NESTED = """
import atexit, threading, time
from ctedge.lifetime import given_to_runtime
begun, ending = threading.Event(), threading.Event()

def outer():
    begun.set()
    ending.wait()
    time.sleep(0.5)
    given_to_runtime(print, "within", flush=True)

threading.Thread(target=given_to_runtime, args=[outer], daemon=True).start()
begun.wait()
atexit.register(ending.set)  # called before ctedge's own
"""


def test_what_the_end_waits_for_waits_for_nothing_itself():
    """The collector may free a model in the middle of a prediction of another."""
    assert told(NESTED) == ("within\n", "", 0)


SIGNALLED = """
import signal, sys, threading
from ctedge import Classifier
first, second = (
    Classifier.load(sys.argv[1], device="cpu", runtime=sys.argv[2]) for _ in range(2)
)
for one in (first, second):
    closing = threading.Thread(target=one.close)
    closing.start() if {elsewhere} else closing.run()
    if {elsewhere}:
        closing.join()
signal.signal(signal.SIGALRM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGALRM)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_signals_are_handled_after_models_were_closed(bundle, runtime, elsewhere):
    """OpenVINO frees the stack of a thread's signals with the core that gave it one."""
    program = SIGNALLED.format(elsewhere=elsewhere)
    assert told(program, bundle, runtime) == ("handled\n", "", 0)


STUCK = """
import sys, threading
import numpy as np
from ctedge import Classifier
begun = threading.Event()

class Stuck:
    def __array__(self, dtype=None, copy=None):
        begun.set()
        threading.Event().wait()

door = Classifier.load(sys.argv[1], device="cpu", runtime="onnxruntime")
threading.Thread(target=door.predict, args=[Stuck()], daemon=True).start()
begun.wait()
"""


def test_a_program_ends_while_a_daemon_thread_reads_what_never_comes(bundle):
    assert told(STUCK, bundle) == ("", "", 0)


PREDICTS_IN_A_HANDLER = """
import signal, sys, time
import numpy as np
from ctedge import Classifier
scan = np.random.default_rng(0).integers(-1000, 800, (20, 20, 16)).astype(np.int16)
door = Classifier.load(sys.argv[1], device="cpu", runtime=sys.argv[2])
within = False

def handler(*_):
    global within
    if not within:
        within = True
        door.predict(scan)
        within = False

door.predict(scan)  # what NumPy imports when it is first asked for is there
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0013, 0.0007)
end = time.monotonic() + 3
while time.monotonic() < end:
    door.predict(scan)
signal.setitimer(signal.ITIMER_REAL, 0)
door.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no timer there")
def test_a_signal_handler_may_predict_within_a_prediction(bundle, runtime):
    """No lock is taken there that the thread may hold."""
    assert told(PREDICTS_IN_A_HANDLER, bundle, runtime) == ("", "", 0)


A_HANDLER_RAISES = """
import signal, sys, threading, traceback
import numpy as np
from ctedge import Classifier
scan = np.random.default_rng(0).integers(-1000, 800, (20, 20, 16)).astype(np.int16)
start = threading.Thread.start

def late(*_):
    raise TimeoutError

def interrupted(thread):
    signal.raise_signal(signal.SIGTERM)
    start(thread)

signal.signal(signal.SIGTERM, late)
with Classifier.load(sys.argv[1], device="cpu", runtime=sys.argv[2]) as door:
    threading.Thread.start = interrupted
    answers = door.predict_iter([scan])
    try:
        next(answers)
    except TimeoutError as error:
        names = {one.name for one in traceback.extract_tb(error.__traceback__)}
        print("late, within the start" if "interrupted" in names else "late")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends the process there")
def test_a_handler_that_raises_waits_until_the_thread_has_started(bundle, runtime):
    assert told(A_HANDLER_RAISES, bundle, runtime) == ("late\n", "", 0)
