"""RUN folders to export: the published networks with random weights and random statistics."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.spec import PreprocessSpec, SliceSpec, Spec
from ctedge_export.gates.keras_layers import KerasProbe
from ctedge_export.network.quiet import import_tensorflow
from ctedge_export.onnx_bundle import export_onnx

#: The smallest grid that four convolutions and poolings leave something of.
SMALL = PreprocessSpec(name="small", shape=(46, 48, 50), axes="PLS")

#: A slice that DenseNet121 leaves four pixels of, with a channel each its own.
SMALL_SLICE = SliceSpec(
    name="small-slice", shape=(64, 64), mean=(0.4, 0.5, 0.6), deviation=(0.2, 0.25, 0.3)
)

LABELS = {
    "classifier": ["normal", "abnormal"],
    "severity": ["Low", "Mild", "Severe"],
    "slices": ["normal", "abnormal"],
}


#: Nodes of the ONNX graph, in order, up to the logit or score.
NODES = [
    *(f"{kind}{n}" for n in range(1, 5) for kind in ("conv", "relu", "pool")),
    *("average", "flatten", "dense1", "relu5", "dense2"),
]


def build(shape: tuple[int, int, int], task: str = "classifier", *, seed: int = 4) -> Any:
    """A network whose every BatchNorm moves, scales and sometimes flips its input."""
    import keras
    from keras import layers

    tensor = inputs = keras.Input((*shape, 1))
    for number, filters in enumerate((64, 64, 128, 256), start=1):
        tensor = layers.Conv3D(filters, 3, activation="relu", name=f"conv_{number}")(tensor)
        tensor = layers.MaxPooling3D(2, name=f"pool_{number}")(tensor)
        tensor = layers.BatchNormalization(name=f"norm_{number}")(tensor)
    tensor = layers.GlobalAveragePooling3D(name="average")(tensor)
    tensor = layers.Dense(512, activation="relu", name="dense")(tensor)
    tensor = layers.Dropout(0.3, name="dropout")(tensor)
    end = "sigmoid" if task == "classifier" else "linear"
    model = keras.Model(inputs, layers.Dense(1, activation=end, name="output")(tensor))
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization):
            n = len(weights[0])
            layer.set_weights(
                [
                    rng.normal(1, 0.5, n),
                    rng.normal(0, 0.5, n),
                    rng.normal(0.2, 0.2, n),
                    rng.uniform(0.05, 1, n),
                ]
            )
        elif weights:
            fan_in = int(np.prod(weights[0].shape[:-1]))
            spread = np.sqrt((0.02 if layer.name == "output" else 2) / fan_in)
            layer.set_weights(
                [rng.normal(0, spread, weights[0].shape), rng.normal(0, 0.1, weights[1].shape)]
            )
    return model


def build_slices(shape: tuple[int, int], *, seed: int = 4) -> Any:
    """DenseNet121 whose BatchNorms have the statistics of noise, and scale and shift by chance."""
    import keras
    from keras import layers

    trunk = keras.applications.DenseNet121(
        include_top=False, weights=None, input_shape=(*shape, 3), pooling=None
    )
    tensor = layers.GlobalAveragePooling2D(name="average")(trunk.output)
    tensor = layers.Dense(1, activation="sigmoid", name="output")(tensor)
    model = keras.Model(trunk.input, tensor)
    rng = np.random.default_rng(seed)
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in model.layers:
        weights = layer.get_weights()
        if layer in norms:
            n, layer.momentum = len(weights[0]), 0.0
            layer.set_weights([rng.normal(1, 0.2, n), rng.normal(0, 0.2, n), *weights[2:]])
        elif weights:
            fan_in = int(np.prod(weights[0].shape[:-1]))
            spread = np.sqrt((0.002 if layer.name == "output" else 2) / fan_in)
            layer.set_weights(
                [rng.normal(0, spread, weights[0].shape)]
                + [rng.normal(0, 0.1, bias.shape) for bias in weights[1:]]
            )
    model(rng.normal(0, 1, (8, *shape, 3)).astype(np.float32), training=True)
    return model


def logit_of(trained: Any, batch: np.ndarray) -> float:
    """Keras' logit of a batch of one, as ONNX takes it, from before the sigmoid."""
    last = trained.layers[-1]
    (features,) = KerasProbe(trained, [last.input]).run(batch)
    return float((features @ np.asarray(last.kernel) + np.asarray(last.bias)).item())


def write_run(
    folder: Path, model: Any, spec: Spec, task: str = "classifier", **changes: Any
) -> Path:
    """Write `model.keras` and `model.json`; `changes` replace keys of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    document = {
        "schema_version": 2,
        "task": task,
        "spec": spec.to_json(),
        "labels": LABELS[task],
        "threshold": None if task == "severity" else 0.375,
        "input_shape": [*spec.input_shape],
        "model_sha256": hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest(),
        "data": {"digest": "0" * 64, "count": 9, "splits": {"test": 3}, "synthetic": True},
        "training": {"epochs": 2},
        "metrics": {"auc": {"value": 0.912345, "ci95": [0.8, 0.95]}, "count": 3},
        "versions": {"keras": "0"},
    }
    write_document(folder, {**document, **changes})
    return folder


# Built once in a session, whichever test file asks first; `base` is pytest's own folder.


@functools.cache
def small_network() -> Any:
    import_tensorflow()
    return build(SMALL.shape)


@functools.cache
def small_run(base: Path) -> Path:
    return write_run(base / "small-run", small_network(), SMALL)


@functools.cache
def small_bundle(base: Path) -> ModelBundle:
    return export_onnx(small_run(base), base / "small.ctedge")


@functools.cache
def slice_network() -> Any:
    import_tensorflow()
    return build_slices(SMALL_SLICE.shape)


@functools.cache
def slice_run(base: Path) -> Path:
    return write_run(base / "slice-run", slice_network(), SMALL_SLICE, "slices")


@functools.cache
def slice_bundle(base: Path) -> ModelBundle:
    return export_onnx(slice_run(base), base / "slices.ctedge")


def read_document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return document


def write_document(folder: Path, document: dict[str, Any]) -> None:
    (folder / "model.json").write_text(json.dumps(document))
