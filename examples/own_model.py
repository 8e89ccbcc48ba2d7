"""Bring your own Keras model: train it your way, hand it over as two files, run it in one call.

    python examples/own_model.py OUTPUT

What ctedge asks of a network for whole scans: a functional model in float32, one chain of Conv3D
(valid), MaxPooling3D, BatchNormalization, a global average, Dense and Dropout, from (A, B, C, 1) to
one sigmoid (for a score: one linear output). What it asks of your training: `ctedge.preprocess`
makes the inputs, so that the box beside the scanner shows the network what it learnt from.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import layers

from ctedge import (
    KERAS_EXAMPLE,
    Classifier,
    GateFailed,
    MissingExtra,
    RuntimeUnavailable,
    preprocess,
    read_scan,
)
from ctedge.phantom import draw_patient, render, write_nifti
from ctedge_export.engine.make import build_engine
from ctedge_export.onnx_bundle import export_onnx
from ctedge_export.precision.precision import export_precision
from ctedge_export.verify import verify_bundle

out = Path(sys.argv[1])
keras.utils.set_random_seed(7)

# 1. The data: here synthetic chests, rendered small. Yours: NIfTI files or DICOM folders in HU.
scans, labels = [], []
for seed in range(8):
    phantom = render(draw_patient(seed, lesion_share=0.3 * (seed % 2)), shape=(64, 64, 40))
    scans.append(write_nifti(phantom, out / "scans" / f"synthetic_{seed}.nii.gz"))
    labels.append(float(phantom.label == "abnormal"))

# 2. The preprocessing contract, at a size of your own; it travels with the model from here on.
spec = replace(KERAS_EXAMPLE, name="own-46x46x46", shape=(46, 46, 46))
inputs = np.stack([preprocess(read_scan(scan), spec) for scan in scans])[..., np.newaxis]

# 3. Your network and your training: plain Keras, nothing of ctedge. Here the published layers.
x = volume = keras.Input(spec.input_shape)
for filters in (64, 64, 128, 256):
    x = layers.Conv3D(filters, 3, activation="relu")(x)
    x = layers.MaxPooling3D(2)(x)
    x = layers.BatchNormalization(momentum=0.8)(x)  # so few steps: its statistics must follow
x = layers.GlobalAveragePooling3D()(x)
x = layers.Dense(512, activation="relu")(x)
x = layers.Dropout(0.3)(x)
network = keras.Model(volume, layers.Dense(1, activation="sigmoid")(x))
network.compile(keras.optimizers.Adam(1e-4), "binary_crossentropy", metrics=["accuracy"])
network.fit(inputs, np.array(labels), batch_size=4, epochs=8, verbose=2)

# 4. The hand-over: `model.keras`, and a `model.json` that says what it is.
#    (`ctedge train classifier DATA -o RUN` writes both, and trains the published network.)
run = out / "run"
run.mkdir()
network.save(run / "model.keras")
description = {
    "schema_version": 2,
    "task": "classifier",  # or "severity": a score of 0 to 100, and threshold None
    "labels": ["normal", "abnormal"],  # the positive one last
    "threshold": 0.5,  # abnormal from this probability on; choose it on validation scans
    "spec": spec.to_json(),
    "input_shape": list(spec.input_shape),
    "model_sha256": hashlib.sha256((run / "model.keras").read_bytes()).hexdigest(),
    # The rest is for people: it goes into the bundle and onto its model card.
    "data": {"digest": None, "count": len(scans), "splits": {"train": 8}, "synthetic": True},
    "training": {"epochs": 8},
    "metrics": {},
    "versions": {"keras": keras.__version__},
}
(run / "model.json").write_text(json.dumps(description, indent=2))

# 5. The bundle. It exists only if ONNX Runtime answers as Keras does.
#    ctedge export onnx RUN -o own.ctedge
bundle = out / "own.ctedge"
export_onnx(run, bundle, say=print)

# 6. Half precision, gated against FP32. A network that does not stand it stays as it is.
#    ctedge export precision own.ctedge --to fp16
precision = "fp16"
try:
    export_precision(bundle, [precision], say=print)
except GateFailed as error:
    print(error)
    precision = "fp32"

# 7. A TensorRT engine, where TensorRT or TensorRT-RTX is installed; the latter needs no GPU for it.
#    ctedge export build-engine own.ctedge
try:
    build_engine(bundle, precision=precision, say=print)
except (GateFailed, MissingExtra, RuntimeUnavailable) as error:
    print(error)  # says what is missing or wrong, and the command that mends it

# 8. Every digest and every gate once more, as one does on the machine that is to run it.
#    ctedge export verify own.ctedge
verify_bundle(bundle, say=print)

# 9. Beside the scanner: no Keras, no TensorFlow.
#    ctedge predict scan.nii.gz --model own.ctedge
with Classifier.load(bundle, device="cpu") as classifier:
    answer = classifier.predict(scans[-1])
print(f"{answer.model} on {answer.runtime}: {answer.label} {answer.probability:.4f}")
