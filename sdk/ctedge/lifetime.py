"""A loaded model ends with `close`, or with its program, and does not follow into a fork."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from ctedge.errors import CTEdgeError, InferenceFailed, unusable_model
from ctedge.interrupts import interruptions_let_through

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

#: A program's end waits so long for what daemon threads have given to a runtime, seconds.
_PATIENCE_S = 20.0

#: What they would give it meanwhile is held up for so long behind that wait, seconds: by then the
#: program has ended, or one of its own `atexit` functions waits for the thread.
_HELD_UP_S = 5.0


def model_closed() -> InferenceFailed:
    """What is said to whoever asks a model that was closed."""
    return unusable_model("the model was closed", fix="load it again")


@contextlib.contextmanager
def starting_threads() -> Iterator[None]:
    """Start threads within.

    Raises:
        InferenceFailed: Python starts none: there are too many, or its end has begun.
    """
    try:
        with interruptions_let_through():  # Python's own locks make other errors of them
            yield
    except RuntimeError as error:
        raise unusable_model(
            "no thread can be started to judge scans in",
            found=str(error),
            expected="the main thread still at work, and fewer threads than the system allows",
            fix="call `predict`, which works in the thread that calls it, and wait for your threads"
            " before the program ends; or allow more threads (ulimit -u, pids.max of a container)",
        ) from error


def require_process(process: int) -> None:
    """Raise InferenceFailed in a child of the process that loaded a model."""
    if os.getpid() != process:
        raise unusable_model(
            "the model was loaded before this process was forked;"
            " neither its threads nor a GPU follow",
            fix="load the model in the child, or start processes with the method 'spawn'",
        )


def forget_frames(error: BaseException) -> None:
    """Empty the frames that an error came through: they hold scans, and what shall end with
    `close`, for as long as somebody keeps the error.

    One of ours, which says by itself what happened, loses its traceback and those of its causes,
    too: a frame that is empty still holds what its function closes over. Raised again, it has one
    from there on. Any other keeps its own, which says where a program is wrong.
    """
    links: list[object] = [error]
    seen: set[int] = set()
    while links:
        link = links.pop()
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        traceback.clear_frames(link.__traceback__)
        if isinstance(error, CTEdgeError):
            link.__traceback__ = None
        links += [link.__cause__, link.__context__, getattr(link, "found", None)]


def given_to_runtime(
    work: Callable[Asked, Answer], /, *args: Asked.args, **named: Asked.kwargs
) -> Answer:
    """Have a runtime do something, and have the program's end wait for it.

    Before 3.14 Python ends a daemon thread where it comes back to Python after the end has begun;
    within a runtime's C++ that aborts the process.
    """
    if not threading.current_thread().daemon or getattr(_this_thread, "given", False):
        return work(*args, **named)
    running = threading.Lock()
    with running:
        # Either the end sees it here, or it is seen below that the end has begun.
        _running.add(running)
        try:
            if not _ending.is_set():
                _this_thread.given = True
                return work(*args, **named)
        finally:
            _this_thread.given = False
            _running.discard(running)
    _hold_up()
    return work(*args, **named)


# Daemon threads share this with the program's end: what a runtime works at, whether the end has
# begun, and when it waited for it no longer.
_this_thread = threading.local()
_running: set[threading.Lock] = set()
_ending = threading.Event()
_waited = threading.Event()
_waited_at = 0.0


def _hold_up() -> None:
    _waited.wait()
    time.sleep(max(_waited_at + _HELD_UP_S - time.monotonic(), 0))


@atexit.register
def _wait_for_runtimes() -> None:
    global _waited_at  # noqa: PLW0603
    _ending.set()
    until = time.monotonic() + _PATIENCE_S
    try:
        with contextlib.suppress(KeyboardInterrupt):
            for running in list(_running):
                running.acquire(timeout=max(until - time.monotonic(), 0))
    finally:
        _waited_at = time.monotonic()
        _waited.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)  # its threads did not follow
