"""TensorFlow, imported without the chatter of its native libraries."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

from ctedge.errors import MissingExtra
from ctedge.extras import install_line

_PURPOSE = "exporting a Keras model"


def import_tensorflow() -> None:
    """Import TensorFlow, Keras and tf2onnx, with their greetings left out.

    Only the native libraries' lines of the import itself, TensorFlow's C++ log and tf2onnx's own
    logger are silenced; Python warnings are not touched. A failing import shows all it said.

    Raises:
        MissingExtra: one of them is not installed, or Keras runs on another backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with _native_stderr_held_back():
            import tensorflow  # noqa: F401
            import tf2onnx  # noqa: F401
            from keras import backend
    except ImportError as error:
        raise MissingExtra(
            f"{_PURPOSE} needs TensorFlow, Keras and tf2onnx",
            found=f"{type(error).__name__}: {error}",
            fix=install_line("export"),
        ) from error
    if backend.backend() != "tensorflow":
        raise MissingExtra(
            f"{_PURPOSE} needs Keras on its TensorFlow backend",
            found=f"the backend {backend.backend()}",
            expected="tensorflow",
            fix="set KERAS_BACKEND=tensorflow",
        )
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)


@contextlib.contextmanager
def _native_stderr_held_back() -> Iterator[None]:
    """Keep what native code writes to file descriptor 2; show it only when the block fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
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
