"""Ctrl-C where native code would swallow it: held back meanwhile, or found among the causes."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import traceback
from collections.abc import Container, Iterator
from types import CodeType, TracebackType
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


def interruptions_let_through() -> contextlib.AbstractContextManager[None]:
    """Raise the KeyboardInterrupt or SystemExit that a failure within the block was made of.

    So with whatever else a handler of signals raised, as TimeoutError of SIGALRM. A native module
    whose initialisation is interrupted raises ImportError("initialization failed"), as if it were
    damaged; what interrupted it is the cause of that error.

    Source: github.com/pybind/pybind11, PYBIND11_CATCH_INIT_EXCEPTIONS in detail/common.h.
    """
    return _LettingThrough()


class _LettingThrough(contextlib.AbstractContextManager[None]):
    def __enter__(self) -> None:
        self._outside = sys.exc_info()[1]  # what is handled already: older than the block

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        found = _interruption(error, self._outside) if isinstance(error, Exception) else None
        if found is None or found is error:
            return
        before = found.__context__
        try:
            raise found
        finally:  # else cycles hold a scan until the collector comes by
            found.__context__ = before
            del error, found, _trace


def _interruption(error: BaseException, outside: BaseException | None) -> BaseException | None:
    """What interrupted, among the causes of an error; None where nothing did."""
    handlers = [_code_of(signal.getsignal(one)) for one in signal.valid_signals()]
    seen = {id(outside)}
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        if not isinstance(link, Exception | GeneratorExit) or _passed(link, handlers):
            return link
        seen.add(id(link))
        links += [link.__context__, link.__cause__]
    return None


def _passed(error: BaseException, handlers: Container[CodeType | None]) -> bool:
    """Whether an error came out of one of the handlers of signals that are set now."""
    return any(frame.f_code in handlers for frame, _line in traceback.walk_tb(error.__traceback__))


def _code_of(handler: Any) -> CodeType | None:
    """The code that runs when a handler is called; None where it is none of Python's."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if callable(handler) and not hasattr(handler, "__code__"):  # a method has its function's
        handler = type(handler).__call__
    code = getattr(handler, "__code__", None)
    return code if isinstance(code, CodeType) else None
