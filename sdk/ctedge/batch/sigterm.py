"""SIGTERM, which a service manager sends, ends a batch as Ctrl-C does: with nothing lost.

Ray's own answer to it is a list of addresses, and an end at once.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

#: As a shell tells it of a process that SIGTERM ended.
TERMINATED = 128 + signal.SIGTERM


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[Callable[[], None]]:
    """Let SIGTERM interrupt what is done meanwhile; exit with `TERMINATED` then.

    Yields:
        What sets this again, where something else has set its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # Python lets no other thread decide on signals
        return
    heard: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
        heard.append(number)
        raise KeyboardInterrupt  # of all exceptions the one that Ray lets through

    def listen() -> None:
        signal.signal(signal.SIGTERM, interrupt)

    before = signal.getsignal(signal.SIGTERM)
    listen()
    try:
        yield listen
    except KeyboardInterrupt:
        if heard:
            sys.exit(TERMINATED)
        raise
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
