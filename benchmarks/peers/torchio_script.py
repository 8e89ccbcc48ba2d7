"""The job in TorchIO's transforms and torch.

    python benchmarks/peers/torchio_script.py WEIGHTS.npz SCAN.nii.gz

`Resize` puts the grid's borders, not its outermost points, where the scan's are: another answer.
"""

import sys

import torch
import torch_network
import torchio

PACKAGES = ("torchio", "torch", "simpleitk", "nibabel", "numpy")

_PREPARE = torchio.Compose(
    [
        torchio.Clamp(-1000, 400),
        torchio.RescaleIntensity(out_min_max=(0, 1), in_min_max=(-1000, 400)),
        torchio.Resize((128, 128, 64)),
    ]
)


def load(weights):
    return torch_network.build(weights)


def read(path):
    image = torchio.ScalarImage(path)
    image.load()
    return image


def prepare(image):
    return torch.rot90(_PREPARE(image).data.float(), 1, (1, 2))


def infer(network, tensor):
    return torch_network.probability(network, tensor)


if __name__ == "__main__":
    network = load(sys.argv[1])
    print(f"abnormal {infer(network, prepare(read(sys.argv[2]))):.6f}")
