"""Weights rounded to INT8 so that a layer's results change least, not the weights themselves.

Column after column of a layer's weights is rounded, and what the rounding did to the layer's
results is taken back by the columns that are still to come, as far as they can: on the calibration
scans the inputs of a convolution are far from independent of each other.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (ICLR 2023), section 3, after Hassibi and Stork, "Second order derivatives for network
pruning: Optimal Brain Surgeon" (NIPS 1992).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The largest level; -128 is not used, so that no negation overflows.
LEVELS = 127

#: Share of the mean second moment that is added to each: inputs that no calibration scan shows
#: count for something too. 1 % as in the source.
_DAMPING = 0.01

#: Columns between two updates of all that follow, as in the source.
_BLOCK = 128

_Floats = npt.NDArray[np.float64]
_Levels = npt.NDArray[np.int8]
_Scales = npt.NDArray[np.float32]


def nearest(values: npt.NDArray[np.float32]) -> tuple[_Levels, _Scales]:
    """int8 levels (channels, ...), each the nearest; and the size of one level by channel."""
    scales = _scales(values)
    levels = np.rint(values / scales.reshape(-1, *(1 for _ in values.shape[1:])))
    return np.clip(levels, -LEVELS, LEVELS).astype(np.int8), scales


def compensating(
    values: npt.NDArray[np.float32], moments: _Floats
) -> tuple[_Levels, _Scales]:  # fmt: skip
    """int8 levels (channels, ...) that change a layer's results least; and the sizes of a level.

    Args:
        values: weights (channels, ...), the rest flattened being the inputs of one result.
        moments: mean product of each two inputs, on calibration scans.
    """
    scales = _scales(values)
    order = np.argsort(-np.diag(moments))
    left = (values.reshape(len(values), -1) / scales[:, np.newaxis]).astype(np.float64)[:, order]
    upper = _inverse_root(moments[np.ix_(order, order)])
    levels = np.zeros_like(left)
    for start, end in _blocks(left.shape[1]):
        errors = np.zeros((len(left), end - start))
        for column in range(start, end):
            levels[:, column] = np.clip(np.rint(left[:, column]), -LEVELS, LEVELS)
            error = (left[:, column] - levels[:, column]) / upper[column, column]
            left[:, column:end] -= np.outer(error, upper[column, column:end])
            errors[:, column - start] = error
        left[:, end:] -= errors @ upper[start:end, end:]
    placed = np.empty_like(levels)
    placed[:, order] = levels
    return placed.reshape(values.shape).astype(np.int8), scales


def _inverse_root(moments: _Floats) -> _Floats:
    """The upper triangular root of the inverse of damped moments."""
    damped = moments + np.eye(len(moments)) * max(_DAMPING * np.diag(moments).mean(), 1e-12)
    root: _Floats = np.linalg.cholesky(np.linalg.inv(damped)).T
    return root


def _scales(values: npt.NDArray[np.float32]) -> _Scales:
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)))
    scales: _Scales = (np.where(largest > 0, largest, 1) / LEVELS).astype(np.float32)
    return scales


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, _BLOCK):
        yield start, min(start + _BLOCK, count)
