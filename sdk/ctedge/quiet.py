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
    sys.stderr.flush()
    with tempfile.TemporaryFile(dir=temporary_folder()) as sink:
        kept = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            os.dup2(kept, 2)
            sink.seek(0)
            os.write(2, sink.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def native_stderr_dropped() -> Iterator[None]:
    """Drop what native code, and whatever is started meanwhile, writes to file descriptor 2."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
