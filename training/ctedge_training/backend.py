"""Keras and the engine under it: present, seeded, named."""

from __future__ import annotations

import logging
import os
import platform
import sys

from ctedge import __version__
from ctedge.errors import RuntimeUnavailable
from ctedge.extras import import_package, require
from ctedge.quiet import native_stderr_held_back


def require_keras(purpose: str) -> None:
    """Import keras, or say which extra brings them.

    Raises:
        MissingExtra: keras or its backend is absent.
    """
    # TensorFlow fills the terminal with notes about itself otherwise; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if "keras" not in sys.modules:
        with native_stderr_held_back():
            require("keras", extra="training", purpose=purpose)


def forget_networks() -> None:
    """Let Keras free what it keeps of networks that nobody uses any more."""
    import keras

    keras.utils.clear_session(free_memory=True)


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

    if on_gpu():
        return False
    tensorflow.config.experimental.enable_op_determinism()
    return True


def distribute() -> None:
    """Split every batch over all devices of this machine, and of all machines of the job.

    Source: Keras' distribution API (data parallel), which its JAX backend implements. On several
    machines each process sets KERAS_DISTRIBUTION_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID as
    `keras.distribution.initialize` describes.

    Raises:
        RuntimeUnavailable: another backend, or a single device.
    """
    import keras

    if keras.config.backend() != "jax":
        raise RuntimeUnavailable(
            "training on several devices needs Keras' JAX backend",
            found=keras.config.backend(),
            expected="jax",
            fix='pip install "jax[cuda13]", and set KERAS_BACKEND=jax',
        )
    if os.environ.get("KERAS_DISTRIBUTION_ADDRESSES"):
        keras.distribution.initialize()
    devices = keras.distribution.list_devices()
    if len(devices) < 2:
        raise RuntimeUnavailable(
            "there is nothing to distribute over",
            found=", ".join(devices) or "no device",
            expected="two devices or more",
            fix="leave out --data-parallel",
        )
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))


def on_gpu() -> bool:
    """Whether Keras' backend computes on a GPU."""
    require_keras("training")
    import keras

    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return bool(jax.default_backend() == "gpu")
    if backend == "torch":
        return bool(import_package("torch").cuda.is_available())
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))


def versions() -> dict[str, str]:
    """What the training ran on: python, keras, backend, its version, numpy, ctedge."""
    import keras
    import numpy as np

    backend = keras.config.backend()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": backend,
        "backend_version": import_package(backend).__version__,
        "numpy": np.__version__,
        "ctedge": __version__,
    }
