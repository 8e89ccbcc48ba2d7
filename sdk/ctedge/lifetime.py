"""A loaded model ends with `close`, and does not follow into a child that is forked."""

from __future__ import annotations

import os
import traceback

from ctedge.errors import InferenceFailed


def model_closed() -> InferenceFailed:
    """What is said to whoever asks a model that was closed."""
    return InferenceFailed("the model was closed", fix="load it again")


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
