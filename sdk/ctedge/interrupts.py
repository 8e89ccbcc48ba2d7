"""Ctrl-C where native code would swallow it: held back meanwhile, or found among the causes."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hear of Ctrl-C when the block ends: a module whose initialisation it met would be half there.

    So with every other signal that the program has a handler for, which may raise as well. Python
    runs its handlers in the main thread, whichever thread the system chose.
    """
    handlers = {one: signal.getsignal(one) for one in signal.valid_signals()}
    held = {one: before for one, before in handlers.items() if _is_deferred(one, before)}
    heard: list[int] = []
    try:
        for one in held:
            signal.signal(one, lambda number, _frame: heard.append(number))
    except ValueError:  # not the main thread, or a sub-interpreter: neither is interrupted
        held = {}
    try:
        yield
    finally:
        for one, before in held.items():
            signal.signal(one, before)
        with contextlib.ExitStack() as each:  # also where an earlier one raises
            for number in reversed(heard):
                each.callback(signal.raise_signal, number)


def _is_deferred(number: int, handler: Any) -> bool:
    """Whether Python would run something; None was set by other means than Python's, and stays."""
    return callable(handler) or (number == signal.SIGINT and handler is not None)


@contextlib.contextmanager
def interruptions_let_through() -> Iterator[None]:
    """Raise the KeyboardInterrupt or SystemExit that a failure within the block was made of.

    A native module whose initialisation is interrupted raises ImportError("initialization failed"),
    as if it were damaged; what interrupted it is the cause of that error.

    Source: github.com/pybind/pybind11, PYBIND11_CATCH_INIT_EXCEPTIONS in detail/common.h.
    """
    outside = sys.exc_info()[1]  # what the caller is handling already: older than the block
    try:
        yield
    except Exception as error:
        interruption = _interruption(error, outside)
        if interruption is None:
            raise
    else:
        return
    raise interruption


def _interruption(error: BaseException, outside: BaseException | None) -> BaseException | None:
    """What is no Exception among the causes of an error; None where there is none."""
    seen = {id(outside)}
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        if not isinstance(link, Exception):
            return link
        seen.add(id(link))
        links += [link.__context__, link.__cause__]
    return None
