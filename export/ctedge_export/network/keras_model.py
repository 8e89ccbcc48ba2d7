"""The trained network as Keras reads it, from bytes that were checked before."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ctedge.errors import InvalidBundle
from ctedge.run_folder import MODEL_FILE, RunFolder

if TYPE_CHECKING:
    import keras


def load_keras(run: RunFolder) -> keras.Model:
    """The network of a run, from exactly the bytes whose digest was checked.

    `safe_mode` keeps Keras from running code that a file may carry (Lambda layers).

    Raises:
        InvalidBundle: Keras cannot read it, or it takes another input than the spec gives.
    """
    import keras

    with tempfile.TemporaryDirectory(prefix="ctedge-") as private:
        path = Path(private) / MODEL_FILE
        path.write_bytes(run.keras_bytes)
        try:
            model = keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever its zip, JSON and HDF5 readers raise
            raise InvalidBundle(
                f"Keras cannot read {MODEL_FILE} of {run.folder}",
                found=f"{type(error).__name__}: {str(error)[:300]}",
                fix="train again, or use the Keras version that wrote it",
            ) from error
    shape = getattr(model, "input_shape", None)
    if shape != (None, *run.spec.input_shape):
        raise InvalidBundle(
            f"the network in {run.folder} takes another input than its spec gives",
            found=shape,
            expected=(None, *run.spec.input_shape),
            fix="train again with this version of `ctedge train`",
        )
    return model
