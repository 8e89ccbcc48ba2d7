"""The shipped severity network as a run folder again, with its scores calibrated along a line.

    python training/demo_severity.py BUNDLE DATA -o RUN

The run that it was exported from is gone, its weights are not: BUNDLE's ONNX file holds them, with
every BatchNorm folded into the layer that follows. Here they become a Keras network without
BatchNorm, which answers the same; a line from its scores to the true ones is fitted on DATA's
validation split and folded into the last layer; metrics are those of DATA's test split.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from ctedge import ModelBundle
from ctedge.progress import Reporter
from ctedge.run_folder import DOCUMENT_FILE, MODEL_FILE, SCHEMA_VERSION
from ctedge_training import run
from ctedge_training.backend import versions
from ctedge_training.datasets.source import Source
from ctedge_training.datasets.store import data_digest
from ctedge_training.judging import evaluate
from ctedge_training.judging.calibration import fit_line
from ctedge_training.learning.settings import Settings
from ctedge_training.run import Run
from ctedge_training.tasks import SEVERITY

if TYPE_CHECKING:
    import keras


def network_of(bundle: ModelBundle) -> keras.Model:
    """A Keras network of the weights in a bundle of the published network."""
    import keras
    from keras import layers

    graph = onnx.load_from_string(bundle.model).graph
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    tensor = inputs = keras.Input((*bundle.volume_spec.shape, 1), name="volume")
    held = []
    for number in range(1, 5):
        kernel, bias = (weights[f"conv{number}.{kind}"] for kind in ("weight", "bias"))
        layer = layers.Conv3D(len(bias), 3, activation="relu", name=f"conv_{number}")
        held.append((layer, [kernel.transpose(2, 3, 4, 1, 0), bias]))
        tensor = layers.MaxPooling3D(2, name=f"pool_{number}")(layer(tensor))
    tensor = layers.GlobalAveragePooling3D(name="average")(tensor)
    for number, (name, activation) in enumerate((("dense", "relu"), ("output", "linear")), 1):
        kernel, bias = (weights[f"dense{number}.{kind}"] for kind in ("weight", "bias"))
        dense = layers.Dense(len(bias), activation=activation, name=name)
        held.append((dense, [kernel, bias]))
        tensor = dense(tensor)
    network = keras.Model(inputs, tensor)
    for layer, values in held:
        layer.set_weights(values)
    return network


def calibrated(network: keras.Model, volumes: list[Any]) -> tuple[float, float]:
    """Fold the line into the network; its slope and intercept."""
    said, truth = [], []
    for volume in volumes:
        if volume.sample.split == "validation":
            shown = volume.load()[np.newaxis, ..., np.newaxis]
            said.append(float(np.asarray(network(shown, training=False)).item()))
            truth.append(volume.sample.answer)
    slope, intercept = fit_line(said, truth)
    kernel, bias = network.get_layer("output").get_weights()
    network.get_layer("output").set_weights(
        [kernel * np.float32(slope), bias * np.float32(slope) + np.float32(intercept)]
    )
    return slope, intercept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    bundle = ModelBundle.load(options.bundle, task="severity")
    opened = Source(folder=options.data).open(SEVERITY, Settings(), Reporter.silent())
    volumes = list(opened.volumes)
    network = network_of(bundle)
    slope, intercept = calibrated(network, volumes)
    options.output.mkdir(parents=True)
    network.save(options.output / MODEL_FILE)
    raw = (options.output / MODEL_FILE).read_bytes()
    before = bundle.provenance["run"]
    document = {
        "schema_version": SCHEMA_VERSION,
        "task": "severity",
        "spec": bundle.spec.to_json(),
        "labels": list(bundle.labels),
        "threshold": None,
        "input_shape": [*bundle.spec.shape, 1],
        "model_sha256": hashlib.sha256(raw).hexdigest(),
        "data": before["data"],
        "training": {
            **before["training"],
            "weights_of": {"manifest": bundle.digest, "run": before["model_sha256"]},
            "decision": {"slope": slope, "intercept": intercept},
        },
        "metrics": {},
        "versions": versions(),
    }
    trained = Run(
        folder=options.output,
        task=SEVERITY,
        spec=bundle.volume_spec,
        document=document,
        keras_bytes=raw,
    )
    rows = evaluate.judge(trained, volumes, "test")
    tested = (volume for volume in volumes if volume.sample.split == "test")
    document["metrics"] = {
        **evaluate.metrics_of_rows(trained, rows),
        "data_digest": data_digest(tested),
    }
    run.write_json(options.output / DOCUMENT_FILE, document)
    sys.stdout.write(f"line: {slope:.4f} x {intercept:+.3f}\n")
    sys.stdout.write(evaluate.as_text(document["metrics"]) + "\n")


if __name__ == "__main__":
    main()
