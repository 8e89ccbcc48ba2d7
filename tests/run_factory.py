"""RUN folders to export: the published network with random weights and random statistics."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ctedge.spec import PreprocessSpec

#: The smallest grid that four convolutions and poolings leave something of.
SMALL = PreprocessSpec(name="small", shape=(46, 48, 50), axes="PLS")

LABELS = {"classifier": ["normal", "abnormal"], "severity": ["Low", "Mild", "Severe"]}


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


def write_run(
    folder: Path, model: Any, spec: PreprocessSpec, task: str = "classifier", **changes: Any
) -> Path:
    """Write `model.keras` and `model.json`; `changes` replace keys of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    document = {
        "schema_version": 1,
        "task": task,
        "spec": spec.to_json(),
        "labels": LABELS[task],
        "input_shape": [*spec.shape, 1],
        "model_sha256": hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest(),
        "data": {"digest": "0" * 64, "count": 9, "splits": {"test": 3}, "synthetic": True},
        "training": {"epochs": 2},
        "metrics": {"auc": {"value": 0.912345, "ci95": [0.8, 0.95]}, "count": 3},
        "versions": {"keras": "0"},
    }
    write_document(folder, {**document, **changes})
    return folder


def read_document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return document


def write_document(folder: Path, document: dict[str, Any]) -> None:
    (folder / "model.json").write_text(json.dumps(document))
