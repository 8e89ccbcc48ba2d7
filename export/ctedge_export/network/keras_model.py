"""The trained network as Keras reads it, from bytes that were checked before."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ctedge.errors import InvalidBundle, counted
from ctedge.run_folder import MODEL_FILE, RunFolder

if TYPE_CHECKING:
    import keras


def load_keras(run: RunFolder) -> keras.Model:
    """The network of a run, from exactly the bytes whose digest was checked.

    `safe_mode` keeps Keras from running code that a file may carry (Lambda layers).

    Raises:
        InvalidBundle: Keras cannot read it, it is no functional model of one input in float32 with
            finite weights, or it takes another input than the spec gives.
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
    _require_kind(model, run)
    shape = getattr(model, "input_shape", None)
    if shape != (None, *run.spec.input_shape):
        raise InvalidBundle(
            f"the network in {run.folder} takes another input than its spec gives",
            found=shape,
            expected=(None, *run.spec.input_shape),
            fix="train again with this version of `ctedge train`",
        )
    return model


def _require_kind(model: keras.Model, run: RunFolder) -> None:
    """Refuse, by name, what cannot be taken apart layer by layer."""
    import keras

    if isinstance(model, keras.Sequential) or not isinstance(model, keras.Model):
        _refuse(
            run, "a Sequential model", type(model).__name__, "make it with keras.Model(inputs, x)"
        )
    if not hasattr(model, "operations"):
        fix = "make it with keras.Model(inputs, outputs): code of one's own is not exported"
        _refuse(run, "a subclassed model", type(model).__name__, fix)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        found = f"{counted(len(model.inputs), 'input')}, {counted(len(model.outputs), 'output')}"
        _refuse(run, "a model of several inputs or outputs", found, "train one network an answer")
    mixed = next((layer for layer in model.layers if layer.compute_dtype != "float32"), None)
    if mixed is not None:
        fix = (
            "set keras.config.set_dtype_policy('float32'), make the network again, load its weights"
        )
        found = f"{mixed.name!r} computes in {mixed.compute_dtype}"
        _refuse(run, "a model of mixed precision", found, fix)
    for layer in model.layers:
        if not all(np.isfinite(weight).all() for weight in layer.get_weights()):
            fix = "train again with a lower learning rate; --resume goes on from the best epoch"
            _refuse(run, "weights that are no numbers", f"NaN or infinity in {layer.name!r}", fix)


def _refuse(run: RunFolder, what: str, found: str, fix: str) -> NoReturn:
    raise InvalidBundle(
        f"the network in {run.folder} is, or has, {what}",
        found=found,
        expected="a functional Keras model of one input, float32, with finite weights",
        fix=fix,
    )
