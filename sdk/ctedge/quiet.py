"""Chatter of native libraries, held back unless something fails."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ctedge.files import temporary_folder


@contextlib.contextmanager
def native_stderr_held_back() -> Iterator[None]:
    """Keep what native code writes to file descriptor 2; show it only when the block fails.

    Raises:
        OutputError: there is no folder for temporary files.
    """
    kept = _second_stderr()
    if kept is None:
        yield
        return
    try:
        _flush()
        with tempfile.TemporaryFile(dir=temporary_folder()) as sink:
            try:
                os.dup2(sink.fileno(), 2)
                yield
            except BaseException:
                _flush()
                os.dup2(kept, 2)
                with contextlib.suppress(OSError):  # nobody reads it; what failed is to be told
                    sink.seek(0)
                    os.write(2, sink.read())
                raise
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def native_stderr_dropped() -> Iterator[None]:
    """Drop what native code, and whatever is started meanwhile, writes to file descriptor 2."""
    kept = _second_stderr()
    if kept is None:
        yield
        return
    try:
        with Path(os.devnull).open("wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _second_stderr() -> int | None:
    """Another descriptor of standard error; None where it is closed: 2 may be any file by now."""
    if sys.stderr is None or sys.__stderr__ is None:
        return None
    try:
        return os.dup(2)
    except OSError:
        return None


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it; it is closed
        sys.stderr.flush()
