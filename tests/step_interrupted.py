"""Ctrl-C at a chosen step of some files' code: to try whatever may stay behind at each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def comes_through(work: Callable[[], object], steps: int, *files: str) -> bool:
    """Do some work; press Ctrl-C at a step of files whose names end so. Whether it came so far."""

    def step(frame: Any, _event: str, _arg: Any) -> Any:
        nonlocal steps
        if not frame.f_code.co_filename.endswith(files):
            return None
        steps -= 1
        if steps == 0:
            raise KeyboardInterrupt
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        work()
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(before)
    return True
