"""A loaded model ends with `close`, and does not follow into a child that is forked."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator

from ctedge.errors import InferenceFailed
from ctedge.interrupts import interruptions_let_through


def model_closed() -> InferenceFailed:
    """What is said to whoever asks a model that was closed."""
    return InferenceFailed("the model was closed", fix="load it again")


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
        raise InferenceFailed(
            "no thread can be started to judge scans in",
            found=str(error),
            expected="the main thread still at work, and fewer threads than the system allows",
            fix="call `predict`, which works in the thread that calls it, and wait for your threads"
            " before the program ends; or allow more threads (ulimit -u, pids.max of a container)",
        ) from error


def require_process(process: int) -> None:
    """Raise InferenceFailed in a child of the process that loaded a model."""
    if os.getpid() != process:
        raise InferenceFailed(
            "the model was loaded before this process was forked;"
            " neither its threads nor a GPU follow",
            fix="load the model in the child, or start processes with the method 'spawn'",
        )


def forget_frames(error: BaseException) -> None:
    """Empty the frames that an error came through: they hold scans, and what shall end with
    `close`, for as long as somebody keeps the error.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
