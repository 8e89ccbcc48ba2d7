"""What `latency.py` shows to all: synthetic scans, and one network in the files that peers take.

    python benchmarks/latency_inputs.py FOLDER --shape 512x512x40 --dicom 512x512x300 [--bf16]

The weights are those of the shipped pneumonia bundle. Its normalisations were folded away when it
was exported; here they are put back, drawn from a seed and cancelled in the layer that follows, so
that the peers run the published layers and still give ctedge's answers. What is there is kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge import CTEdgeError, ModelBundle
from ctedge.files import atomic_file
from ctedge.phantom import draw_patient, render, write_dicom, write_nifti

BUNDLE = "pneumonia"
KERAS, ONNX, WEIGHTS = "network.keras", "network.onnx", "network.npz"
WITH_BF16 = f"{BUNDLE}.ctedge"

#: Of `keras.layers.BatchNormalization`.
EPSILON = 1e-3

#: Of the patient, and of the normalisations that are put back.
SEED = 0

#: So little disease that the shipped network is of two minds: where an answer is 0.998, peers that
#: differ do not show it.
_LESION_SHARE = 0.01
_BLOCKS = 4

Shape = tuple[int, int, int]
Floats = npt.NDArray[np.floating[Any]]


def scan_name(shape: Shape, *, dicom: bool = False) -> str:
    return f"phantom-{'x'.join(map(str, shape))}{'-dicom' if dicom else '.nii.gz'}"


def write_scan(said: str, folder: Path, *, dicom: bool) -> None:
    """A phantom of "512x512x40": a .nii.gz, or a folder of uncompressed slices."""
    x, y, z = map(int, said.split("x"))
    path = folder / scan_name((x, y, z), dicom=dicom)
    if not path.exists():
        phantom = render(draw_patient(SEED, lesion_share=_LESION_SHARE), shape=(x, y, z))
        (write_dicom if dicom else write_nifti)(phantom, path)


def unfolded(folded: Mapping[str, Floats]) -> dict[str, Floats]:
    """The published layers' weights, "layer/variable" as Keras has them, of a folded network.

    Args:
        folded: weights by name, as `ctedge export onnx` writes them.
    """
    rng = np.random.default_rng(SEED)
    weights: dict[str, Floats] = {}
    scale: Floats = np.ones(1)
    shift: Floats = np.zeros(1)
    for number in range(1, _BLOCKS + 1):
        kernel = folded[f"conv{number}.weight"].transpose(2, 3, 4, 1, 0) / scale[:, np.newaxis]
        weights[f"conv_{number}/kernel"] = kernel
        taken: Floats = np.einsum("abcio,i->o", kernel, shift)
        weights[f"conv_{number}/bias"] = folded[f"conv{number}.bias"] - taken
        channels = (int(kernel.shape[-1]),)
        gamma, variance = rng.uniform(0.5, 1.5, channels), rng.uniform(0.5, 1.5, channels)
        beta, mean = rng.uniform(-0.1, 0.1, channels), rng.uniform(0.0, 0.2, channels)
        scale = gamma / np.sqrt(variance + EPSILON)
        shift = beta - mean * scale
        for name, values in zip(
            ("gamma", "beta", "moving_mean", "moving_variance"),
            (gamma, beta, mean, variance),
            strict=True,
        ):
            weights[f"norm_{number}/{name}"] = values
    kernel = folded["dense1.weight"] / scale[:, np.newaxis]
    weights["dense/kernel"] = kernel
    taken = np.tensordot(shift, kernel, 1)
    weights["dense/bias"] = folded["dense1.bias"] - taken
    weights["output/kernel"] = folded["dense2.weight"]
    weights["output/bias"] = folded["dense2.bias"]
    return {name: values.astype(np.float32) for name, values in weights.items()}


def write_networks(folder: Path) -> None:
    """The same network for Keras, for torch, and as tf2onnx writes it, left as it comes."""
    if all((folder / name).exists() for name in (KERAS, ONNX, WEIGHTS)):
        return
    import keras
    import onnx
    import tensorflow as tf
    import tf2onnx
    from onnx import numpy_helper

    from ctedge_training.learning.networks import build_network
    from ctedge_training.tasks import CLASSIFIER

    bundle = ModelBundle.load(BUNDLE)
    graph = onnx.load_from_string(bundle.model).graph
    weights = unfolded({one.name: numpy_helper.to_array(one) for one in graph.initializer})
    network: keras.Model = build_network(CLASSIFIER, bundle.volume_spec.shape)
    for layer in network.layers:
        variables = [name for name in weights if name.startswith(f"{layer.name}/")]
        if variables:
            layer.set_weights([weights[name] for name in variables])
    signature = [tf.TensorSpec((None, *network.input_shape[1:]), tf.float32, name="volume")]
    converted, _ = tf2onnx.convert.from_function(
        tf.function(lambda volume: network(volume, training=False)),
        input_signature=signature,
        opset=17,
    )
    with atomic_file(folder / KERAS) as path:
        network.save(path)
    with atomic_file(folder / ONNX) as path:
        path.write_bytes(converted.SerializeToString())
    with atomic_file(folder / WEIGHTS) as path, path.open("wb") as stream:
        np.savez(stream, **weights)  # type: ignore[arg-type]


def write_bf16(folder: Path) -> None:
    """The shipped bundle with its network in bfloat16 as well, where its gates pass here."""
    if (folder / WITH_BF16).exists():
        return
    from ctedge_export.precision.precision import export_precision

    export_precision(BUNDLE, ["bf16"], output=folder / WITH_BF16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", action="append", default=[], help="of a .nii.gz")
    parser.add_argument("--dicom", action="append", default=[], help="shape of a series")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    for said in options.shape:
        write_scan(said, options.folder, dicom=False)
    for said in options.dicom:
        write_scan(said, options.folder, dicom=True)
    write_networks(options.folder)
    if options.bf16:
        try:
            write_bf16(options.folder)
        except CTEdgeError as error:  # the row of bf16 says so, too
            print(error, file=sys.stderr)


if __name__ == "__main__":
    main()
