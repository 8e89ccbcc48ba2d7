"""Keras and the engine under it: present, seeded, named."""

from __future__ import annotations

import importlib
import logging
import os
import platform

from ctedge import __version__
from ctedge.extras import require


def require_keras(purpose: str) -> None:
    """Import keras, or say which extra brings them.

    Raises:
        MissingExtra: keras or its backend is absent.
    """
    # TensorFlow fills the terminal with notes about itself otherwise; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    require("keras", extra="training", purpose=purpose)


def make_deterministic(seed: int) -> bool:
    """Seed everything; True where the same run on the same machine gives the same bits.

    On a CPU that costs nothing measurable. On a GPU some gradients have no deterministic kernel,
    so there the runs agree only to rounding.
    """
    import keras

    keras.utils.set_random_seed(seed)
    if keras.config.backend() == "jax":
        import jax

        return bool(jax.default_backend() == "cpu")
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow

    if tensorflow.config.list_physical_devices("GPU"):
        return False
    tensorflow.config.experimental.enable_op_determinism()
    return True


def versions() -> dict[str, str]:
    """What the training ran on: python, keras, backend, its version, numpy, ctedge."""
    import keras
    import numpy as np

    backend = keras.config.backend()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": backend,
        "backend_version": importlib.import_module(backend).__version__,
        "numpy": np.__version__,
        "ctedge": __version__,
    }
