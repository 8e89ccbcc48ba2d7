"""The published job as a plain script: read, preprocess with scipy, predict with Keras.

python benchmarks/peers/keras_script.py MODEL.keras SCAN.nii.gz
"""

import sys

import keras
import numpy as np
from scipy_steps import prepare, read

PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "scipy", "nibabel", "numpy")

__all__ = ["infer", "load", "prepare", "read"]


def load(model):
    return keras.models.load_model(model)


def infer(network, tensor):
    return network.predict(np.expand_dims(tensor, axis=(0, -1)), verbose=0)[0][0]


if __name__ == "__main__":
    network = load(sys.argv[1])
    print(f"abnormal {infer(network, prepare(read(sys.argv[2]))):.6f}")
