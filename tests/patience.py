"""How long a test waits for what it began, a process mostly, before it fails by itself."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable

#: Seconds: more than any of them takes on a busy machine, and less than `faulthandler_timeout`,
#: which ends the worker and with it every test that was still to come.
PATIENCE_S = 300

#: The same for what trains, exports and measures in one go.
LONG_PATIENCE_S = 570


def first_line(process: subprocess.Popen[str]) -> str:
    """What a process says first; one that says nothing in time is killed, and has said nothing."""
    timer = threading.Timer(PATIENCE_S, process.kill)
    timer.start()
    try:
        return process.stdout.readline().strip() if process.stdout else ""
    finally:
        timer.cancel()


def wait_for(what: Callable[[], object], *, of: subprocess.Popen[str] | None = None) -> None:
    """Until `what()` is true; fails where the process ends before, or nothing comes of it."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "nothing came of it"
        if of is not None and of.poll() is not None:
            said = of.communicate(timeout=PATIENCE_S)
            raise AssertionError(f"ended before, with {of.returncode}: {said}")
        time.sleep(0.01)
