"""RUN folders to export: the published networks with random weights and random statistics.

The network for whole scans has fewer channels than the published one where nothing is said.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.spec import PreprocessSpec, SliceSpec, Spec
from ctedge_export import onnx_bundle
from ctedge_export.gates import conversion
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import GOLDEN_NAMES, GateInput, gate_inputs
from ctedge_export.gates.keras_layers import KerasProbe
from ctedge_export.network.quiet import import_tensorflow
from made_once import made_once

#: Channels of the four convolutions: as published, and enough to tell them apart.
PUBLISHED, FEW = (64, 64, 128, 256), (8, 8, 16, 32)

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


#: Of the 32 inputs of a gate those that `few_inputs` leaves.
FEW_INPUTS = {"zeros", "ones", "noise", "low-noise", *GOLDEN_NAMES}

#: Nodes of the ONNX graph, in order, up to the logit or score.
NODES = [
    *(f"{kind}{n}" for n in range(1, 5) for kind in ("conv", "relu", "pool")),
    *("average", "flatten", "dense1", "relu5", "dense2"),
]


def build(
    shape: tuple[int, int, int],
    task: str = "classifier",
    *,
    channels: tuple[int, ...] = FEW,
) -> Any:
    """A network whose every BatchNorm moves, scales and sometimes flips its input."""
    import keras
    from keras import layers

    tensor = inputs = keras.Input((*shape, 1))
    for number, filters in enumerate(channels, start=1):
        tensor = layers.Conv3D(filters, 3, activation="relu", name=f"conv_{number}")(tensor)
        tensor = layers.MaxPooling3D(2, name=f"pool_{number}")(tensor)
        tensor = layers.BatchNormalization(name=f"norm_{number}")(tensor)
    tensor = layers.GlobalAveragePooling3D(name="average")(tensor)
    tensor = layers.Dense(512, activation="relu", name="dense")(tensor)
    tensor = layers.Dropout(0.3, name="dropout")(tensor)
    end = "sigmoid" if task == "classifier" else "linear"
    model = keras.Model(inputs, layers.Dense(1, activation=end, name="output")(tensor))
    rng = np.random.default_rng(4)
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


def build_slices(shape: tuple[int, int]) -> Any:
    """DenseNet121 whose BatchNorms have the statistics of noise, and scale and shift by chance."""
    import keras
    from keras import layers

    trunk = keras.applications.DenseNet121(
        include_top=False, weights=None, input_shape=(*shape, 3), pooling=None
    )
    tensor = layers.GlobalAveragePooling2D(name="average")(trunk.output)
    tensor = layers.Dense(1, activation="sigmoid", name="output")(tensor)
    model = keras.Model(trunk.input, tensor)
    rng = np.random.default_rng(4)
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


def logits_of(trained: Any, batch: np.ndarray) -> np.ndarray:
    """Keras' logits (N, 1) of a batch as ONNX takes it, from before the sigmoid."""
    last = trained.layers[-1]
    features, _ = KerasProbe(trained, [last.input, trained.output]).run(batch)
    logits: np.ndarray = features @ np.asarray(last.kernel) + np.asarray(last.bias)
    return logits


def logit_of(trained: Any, batch: np.ndarray) -> float:
    """The same of a batch of one."""
    return float(logits_of(trained, batch).item())


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


# `base` is pytest's own folder. What is written there is made once for all workers of a session.


@functools.cache
def small_network() -> Any:
    import_tensorflow()
    return build(SMALL.shape)


@functools.cache
def small_run(base: Path) -> Path:
    return made_once(base, "small-run", lambda path: write_run(path, small_network(), SMALL))


@functools.cache
def small_bundle(base: Path) -> ModelBundle:
    def make(path: Path) -> None:
        onnx_bundle.export_onnx(small_run(base), path)

    return ModelBundle.load(made_once(base, "small.ctedge", make))


@functools.cache
def slice_network() -> Any:
    import_tensorflow()
    return build_slices(SMALL_SLICE.shape)


@functools.cache
def slice_run(base: Path) -> Path:
    def make(path: Path) -> None:
        write_run(path, slice_network(), SMALL_SLICE, "slices")

    return made_once(base, "slice-run", make)


@functools.cache
def slice_bundle(base: Path) -> ModelBundle:
    def make(path: Path) -> None:
        with few_inputs():
            onnx_bundle.export_onnx(slice_run(base), path)

    return ModelBundle.load(made_once(base, "slices.ctedge", make))


def few_cases(spec: Spec) -> tuple[Case, ...]:
    """In the place of 24 phantoms, which take seconds to draw, the chests of the golden cases."""
    golden = [shown for shown in gate_inputs(spec) if shown.name in GOLDEN_NAMES]
    return tuple(
        Case(shown=one, positive="diseased" in one.name, score=30.0 * ("diseased" in one.name))
        for one in golden
    )


@contextmanager
def few_inputs() -> Iterator[None]:
    """Exports within are held against Keras on few inputs: the small volume's bundle is on all."""

    def few(spec: Spec) -> tuple[GateInput, ...]:
        return tuple(shown for shown in gate_inputs(spec) if shown.name in FEW_INPUTS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_bundle, "gate_inputs", few)
        patch.setattr(conversion, "gate_phantoms", few_cases)
        yield


def read_document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return document


def write_document(folder: Path, document: dict[str, Any]) -> None:
    (folder / "model.json").write_text(json.dumps(document))
