"""The tensor that a network takes, made of what preprocessing gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ctedge.spec import SliceSpec, Spec


def network_batch(inputs: npt.NDArray[np.float32], spec: Spec) -> npt.NDArray[np.float32]:
    """Give preprocessed volumes or slices their channels, which come first in an ONNX file.

    Args:
        inputs: (N, *spec.shape) float32, 0..1.
        spec: the contract of the network.

    Returns:
        Volumes (N, 1, *spec.shape); slices (N, 3, rows, columns), each channel normalised.
    """
    if not isinstance(spec, SliceSpec):
        return inputs[:, np.newaxis]
    from ctedge.slice_input import three_channels

    return np.ascontiguousarray(np.moveaxis(three_channels(inputs, spec), -1, 1))
