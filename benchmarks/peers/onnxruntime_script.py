"""The published preprocessing, and the network as tf2onnx writes it on ONNX Runtime.

python benchmarks/peers/onnxruntime_script.py MODEL.onnx SCAN.nii.gz
"""

import sys

import onnxruntime
from scipy_steps import prepare, read

PACKAGES = ("onnxruntime", "scipy", "nibabel", "numpy")

__all__ = ["infer", "load", "prepare", "read"]


def load(model):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def infer(session, tensor):
    name = session.get_inputs()[0].name
    return session.run(None, {name: tensor[None, ..., None]})[0].item()


if __name__ == "__main__":
    session = load(sys.argv[1])
    print(f"abnormal {infer(session, prepare(read(sys.argv[2]))):.6f}")
