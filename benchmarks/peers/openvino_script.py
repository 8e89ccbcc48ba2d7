"""The published preprocessing, and the network as tf2onnx writes it on OpenVINO.

    python benchmarks/peers/openvino_script.py MODEL.onnx SCAN.nii.gz

Nothing is said of precision: OpenVINO then takes bfloat16 where the processor has it.
"""

import sys

import openvino
from scipy_steps import prepare, read

PACKAGES = ("openvino", "scipy", "nibabel", "numpy")

__all__ = ["infer", "load", "prepare", "read"]


def load(model):
    return openvino.Core().compile_model(model, "CPU")


def infer(network, tensor):
    return network(tensor[None, ..., None])[0].item()


if __name__ == "__main__":
    network = load(sys.argv[1])
    print(f"abnormal {infer(network, prepare(read(sys.argv[2]))):.6f}")
