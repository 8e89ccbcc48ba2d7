"""Random weights of the true U-Net R231 that follow intensity, and their answer in NumPy alone.

Three maps carry the intensity from the input to the last layer, which makes bands of HU of it: the
right lung around -850, the left one around -620, the rest neither. All other weights are random and
disturb the bands, so that every layer shows in the answer, and labels come in patches.
"""

from __future__ import annotations

import collections
import functools
from pathlib import Path

import numpy as np

from ctedge import CTScan, LungMaskSpec
from ctedge.phantom import draw_patient, render
from ctedge_export.lungmask.network import EPSILON, WIDTHS, shapes

#: Small enough for NumPy; the network is the same at every size.
SMALL = LungMaskSpec(name="small", shape=(48, 48))

RIGHT_HU, LEFT_HU = -850, -620

#: max(x - bend, 0) of the input x, 0..1, in the first maps of the uppermost level.
_BENDS = (0.0, 0.17, 0.26)
_BANDS = np.array([[0, 0, 0], [50, -100, 0], [100, 0, -261]], np.float32)
_AT_ZERO = np.array([0, -3, -11.5], np.float32)


@functools.cache
def random_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    weights = {name: _random(rng, name, shape) for name, shape in shapes().items()}
    down, up = "down_path.0.block", "up_path.3.conv_block.block"
    for block, first_source in ((down, 0), (up, WIDTHS[0])):
        for convolution, norm in ((0, 2), (3, 5)):
            for channel in range(len(_BENDS)):
                first_of_down = block == down and convolution == 0
                source = channel + (first_source if convolution == 0 else 0)
                kernel = weights[f"{block}.{convolution}.weight"][channel]
                kernel[:] = 0
                kernel[0 if first_of_down else source, 1, 1] = 1
                bias = -_BENDS[channel] if first_of_down else 0
                weights[f"{block}.{convolution}.bias"][channel] = bias
                for part, value in zip(_PARTS, (1, 0, 0, 1 - EPSILON), strict=True):
                    weights[f"{block}.{norm}.{part}"][channel] = value
    weights["last.weight"][:, : len(_BENDS), 0, 0] = _BANDS
    weights["last.bias"][:] = _AT_ZERO
    for values in weights.values():
        values.flags.writeable = False
    return weights


_PARTS = ("weight", "bias", "running_mean", "running_var")


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    values = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) == 1:
        return np.float32(0.1) * values + np.float32("norm" in name and name.endswith("weight"))
    gain = 0.3 if name == "last.weight" else 1.4
    return np.float32(gain / np.sqrt(np.prod(shape[1:]))) * values


def numpy_answer(batch: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Logarithms of the probabilities (N, 3, rows, columns), layer by layer as it was trained."""
    return np.stack([_answer(image, weights) for image in batch])


def _answer(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    down = []
    for level in range(len(WIDTHS)):
        if level:
            channels, rows, columns = x.shape
            x = x.reshape(channels, rows // 2, 2, columns // 2, 2).mean((2, 4))
        x = _block(x, f"down_path.{level}.block", weights)
        down.append(x)
    for step, joined in enumerate(reversed(down[:-1])):
        x = _doubled(_doubled(x, 1), 2)
        x = _convolved(x, f"up_path.{step}.up.1", weights)
        x = _block(np.concatenate([x, joined]), f"up_path.{step}.conv_block.block", weights)
    logits = _convolved(x, "last", weights).astype(np.float64)
    logits -= logits.max(0)
    return (logits - np.log(np.exp(logits).sum(0))).astype(np.float32)


def _block(x: np.ndarray, name: str, weights: dict[str, np.ndarray]) -> np.ndarray:
    for convolution, norm in ((0, 2), (3, 5)):
        x = np.maximum(_convolved(x, f"{name}.{convolution}", weights), 0)
        scale, shift, mean, variance = (
            weights[f"{name}.{norm}.{part}"][:, None, None] for part in _PARTS
        )
        x = (x - mean) / np.sqrt(variance + np.float32(EPSILON)) * scale + shift
    return x


def _convolved(x: np.ndarray, name: str, weights: dict[str, np.ndarray]) -> np.ndarray:
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    _, rows, columns = x.shape
    margin = kernel.shape[2] // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
    taps = [
        np.tensordot(kernel[:, :, i, j], padded[:, i : i + rows, j : j + columns], 1)
        for i in range(kernel.shape[2])
        for j in range(kernel.shape[3])
    ]
    return np.sum(taps, axis=0) + bias[:, None, None]


def _doubled(x: np.ndarray, axis: int) -> np.ndarray:
    """Linear, pixel edges aligned: output i lies at (i + 1/2) / 2 - 1/2, held at both ends."""
    count = x.shape[axis]
    place = np.clip((np.arange(2 * count) + 0.5) / 2 - 0.5, 0, count - 1)
    low = np.minimum(place.astype(int), max(count - 2, 0))
    high = np.minimum(low + 1, count - 1)
    shape = [-1 if dimension == axis else 1 for dimension in range(x.ndim)]
    part = (place - low).astype(np.float32).reshape(shape)
    return x.take(low, axis) * (1 - part) + x.take(high, axis) * part


@functools.cache
def two_sided(pixels: int = 96) -> tuple[CTScan, np.ndarray]:
    """The middle of a synthetic chest whose lungs differ in HU, and its labels (X, Y, Z)."""
    shape = (pixels, pixels, 20)
    phantom = render(draw_patient(2, lesion_share=0.0), shape=shape)
    labels = phantom.lung_mask.astype(np.uint8)
    labels[pixels // 2 :] *= 2  # LAS: X grows towards the patient's left
    voxels = phantom.voxels.copy()
    noise = np.random.default_rng(4).integers(-25, 26, shape)
    for side, hu in ((1, RIGHT_HU), (2, LEFT_HU)):
        voxels[labels == side] = (hu + noise)[labels == side]
    scan = CTScan.from_oriented(voxels[:, :, 7:13], phantom.affine, source="two-sided")
    return scan, labels[:, :, 7:13]


def save_weights(path: Path, weights: dict[str, np.ndarray], **options: bool) -> Path:
    """A state dict as torch saves it; needs torch."""
    import torch

    state = collections.OrderedDict(
        (name, torch.from_numpy(values.copy())) for name, values in weights.items()
    )
    torch.save(state, path, **options)
    return path


class Exploit:
    """What a hostile file of weights holds: unpickled, it runs code."""

    def __reduce__(self):
        return (print, ("code ran",))
