"""Work that is done in a forked child of the process that tests."""

from __future__ import annotations

import gc
import os
import signal
import traceback
import warnings
from collections.abc import Callable

import pytest

from patience import PATIENCE_S

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def in_forked_child(work: Callable[[], str]) -> str:
    """What `work` says in a child, which must come to its end.

    What other tests have left to the garbage collector is freed before: a runtime whose threads
    did not follow hangs where it is freed in the child.
    """
    gc.collect()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that threads are about is the point
        child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE_S)
            try:
                said = work()
            except BaseException:  # noqa: BLE001 - it must not come out where the tests run
                said = traceback.format_exc()
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, f"it hung, or crashed, after {said!r}"
    return said
