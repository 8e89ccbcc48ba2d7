"""The job in MONAI's transforms and torch; the grid and the turn are the published ones.

python benchmarks/peers/monai_script.py WEIGHTS.npz SCAN.nii.gz
"""

import sys

import torch_network
from monai import transforms

PACKAGES = ("monai", "torch", "nibabel", "numpy")

_READ = transforms.LoadImage(image_only=True, ensure_channel_first=True)
_PREPARE = transforms.Compose(
    [
        transforms.ScaleIntensityRange(-1000, 400, 0, 1, clip=True),
        transforms.Rotate90(k=1, spatial_axes=(0, 1)),
        transforms.Resize((128, 128, 64), mode="trilinear", align_corners=True),
        transforms.ToTensor(track_meta=False),
    ]
)


def load(weights):
    return torch_network.build(weights)


def read(path):
    return _READ(path)


def prepare(volume):
    return _PREPARE(volume)


def infer(network, tensor):
    return torch_network.probability(network, tensor)


if __name__ == "__main__":
    network = load(sys.argv[1])
    print(f"abnormal {infer(network, prepare(read(sys.argv[2]))):.6f}")
