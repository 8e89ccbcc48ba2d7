"""TensorFlow, imported without the chatter of its native libraries."""

from __future__ import annotations

import logging
import os

from ctedge.errors import MissingExtra
from ctedge.extras import require
from ctedge.quiet import native_stderr_held_back

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
    with native_stderr_held_back():
        require("tensorflow", extra="export", purpose=_PURPOSE)
        require("tf2onnx", extra="export", purpose=_PURPOSE)
        keras = require("keras", extra="export", purpose=_PURPOSE)
    if keras.config.backend() != "tensorflow":
        raise MissingExtra(
            f"{_PURPOSE} needs Keras on its TensorFlow backend",
            found=f"the backend {keras.config.backend()}",
            expected="tensorflow",
            fix="set KERAS_BACKEND=tensorflow",
        )
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
