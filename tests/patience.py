"""How long a test waits for a process of its own, before it fails by itself."""

from __future__ import annotations

import subprocess
import threading

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
