"""The published network in torch, with the weights of the Keras model."""

import numpy as np
import torch
from torch import nn

CHANNELS = (1, 64, 64, 128, 256)

#: Keras' default, which torch's differs from.
EPSILON = 1e-3


def build(weights):
    """(N, 1, A, B, C) to the logit; `weights` is an .npz of "layer/variable" as Keras has them."""
    with np.load(weights) as file:
        values = {name: torch.from_numpy(file[name]) for name in file.files}
    layers = []
    for number in range(1, len(CHANNELS)):
        conv = nn.Conv3d(CHANNELS[number - 1], CHANNELS[number], 3)
        norm = nn.BatchNorm3d(CHANNELS[number], eps=EPSILON)
        conv.weight.data = values[f"conv_{number}/kernel"].permute(4, 3, 0, 1, 2).contiguous()
        conv.bias.data = values[f"conv_{number}/bias"]
        norm.weight.data = values[f"norm_{number}/gamma"]
        norm.bias.data = values[f"norm_{number}/beta"]
        norm.running_mean = values[f"norm_{number}/moving_mean"]
        norm.running_var = values[f"norm_{number}/moving_variance"]
        layers += [conv, nn.ReLU(), nn.MaxPool3d(2), norm]
    layers += [nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    dense, output = nn.Linear(CHANNELS[-1], 512), nn.Linear(512, 1)
    for layer, name in ((dense, "dense"), (output, "output")):
        layer.weight.data = values[f"{name}/kernel"].T.contiguous()
        layer.bias.data = values[f"{name}/bias"]
    return nn.Sequential(*layers, dense, nn.ReLU(), nn.Dropout(0.3), output).eval()


@torch.inference_mode()
def probability(network, tensor):
    """Of (1, A, B, C), one channel."""
    return torch.sigmoid(network(tensor[None])).item()
