"""Ctrl-C where native code would swallow it: held back meanwhile, or found among the causes."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
import traceback
from collections.abc import Container, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hear of Ctrl-C when the block ends: a module whose initialisation it met would be half there.

    So with every other signal that the program has a handler for, which may raise as well. Python
    runs its handlers in the main thread, whichever thread the system chose.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    standing_in = _StandingIn()
    try:
        standing_in.take_over()
        yield
    finally:
        standing_in.give_back()


class _StandingIn:
    """In the place of handlers, any of which may raise at any moment that they are set."""

    def __init__(self) -> None:
        # `valid_signals` makes an object of each, which takes longer than all the rest.
        handlers = {one: signal.getsignal(one) for one in range(1, signal.NSIG)}
        self._before = {one: set_ for one, set_ in handlers.items() if _is_deferred(one, set_)}
        self._heard: list[int] = []
        self._over = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._over:
            self._heard.append(number)
        else:  # one that was set before raised, and this stayed
            signal.signal(number, self._before[number])
            signal.raise_signal(number)

    def take_over(self) -> None:
        """From here on signals are kept; none is in a sub-interpreter, which gets none."""
        try:
            for one in self._before:
                signal.signal(one, self)
        except ValueError:
            if any(signal.getsignal(one) is self for one in self._before):
                raise  # a handler's own

    def give_back(self) -> None:
        """Set every handler again, then let them hear what they missed."""
        left = list(self._before)
        raised: BaseException | None = None
        while left:
            try:
                self._over = True
                while left:
                    signal.signal(left[-1], self._before[left[-1]])
                    left.pop()
            except BaseException as error:  # noqa: BLE001 - one that is set; the others come first
                raised = raised or error
        with contextlib.ExitStack() as each:  # also where an earlier one raises
            for number in reversed(self._heard):
                each.callback(signal.raise_signal, number)
            if raised is not None:
                raise raised


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
