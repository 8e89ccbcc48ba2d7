"""How strong the noise is, and how fine: from small blocks of soft tissue.

The strength is the global noise level of Christianson et al., "Automated Technique to Measure
Noise in Clinical CT Examinations", AJR 205, 2015: the most frequent of the local standard
deviations in soft tissue. Edges raise some of these, and do not move the most frequent one.

The fineness comes from neighbours. Noise of frequency f (cycles a pixel) makes pixels differ from
their neighbour by 1 - cos(2 pi f), and from the next but one by 1 - cos(4 pi f), in squares and up
to one factor; the quotient of the two gives f. A slow trend of the tissue cancels in neither, but
weighs little in both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

#: Pixels a side of a block, as in Kuo et al., "global noise level measurement", PMB 69, 2024 (10).
_BLOCK = 8

#: A block is soft tissue where its mean lies here: muscle, blood and organs, enhanced or not.
_TISSUE_HU = (0.0, 150.0)

#: Fewer blocks say nothing.
_LEAST_BLOCKS = 50

#: The histogram of standard deviations: bins of this many HU, smoothed over so many.
_BIN_HU, _SMOOTH, _MOST_HU = 0.5, 7, 250.0

#: Blocks whose deviation lies this near to the most frequent one are taken as noise alone.
_NEAR = 0.25

#: Values rounded to whole HU hold this variance of their own.
_ROUNDING = 1.0 / 12.0


class NoiseMeter:
    """Takes planes in, one after another, and answers when all are there."""

    def __init__(self) -> None:
        self._deviations: list[npt.NDArray[np.float32]] = []
        self._near: list[npt.NDArray[np.float32]] = []
        self._far: list[npt.NDArray[np.float32]] = []

    def add(self, plane: npt.NDArray[Any]) -> None:
        """Take in a plane (rows, columns) of HU; the noise is followed along its last axis."""
        rows, columns = (count // _BLOCK * _BLOCK for count in plane.shape)
        blocks = plane[:rows, :columns].astype(np.float32, copy=False)
        blocks = blocks.reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
        blocks = blocks.swapaxes(1, 2)
        means = blocks.mean(axis=(2, 3))
        low, high = _TISSUE_HU
        blocks = blocks[(means >= low) & (means <= high)]
        if not len(blocks):
            return
        rounding = _ROUNDING if plane.dtype.kind in "iu" else 0.0
        self._deviations.append(blocks.std(axis=(1, 2), ddof=1))
        for kept, step in ((self._near, 1), (self._far, 2)):
            squares = np.square(blocks[:, :, step:] - blocks[:, :, :-step]).mean(axis=(1, 2))
            kept.append(squares - np.float32(2 * rounding))

    def answer(self) -> tuple[float | None, float | None]:
        """Standard deviation in HU, and frequency in cycles a pixel; None where none is told."""
        if sum(map(len, self._deviations)) < _LEAST_BLOCKS:
            return None, None
        deviations = np.concatenate(self._deviations)
        bins = (np.minimum(deviations, _MOST_HU) / _BIN_HU).astype(np.intp)
        counts = np.convolve(np.bincount(bins), np.ones(_SMOOTH), "same")
        level = (float(counts.argmax()) + 0.5) * _BIN_HU
        alike = np.abs(deviations - level) <= max(_NEAR * level, _BIN_HU)
        near, far = (float(np.concatenate(kept)[alike].mean()) for kept in (self._near, self._far))
        return level, _frequency(near, far)


def _frequency(near: float, far: float) -> float | None:
    """Of mean squares between neighbours and between next but one."""
    if near <= 0 or far <= 0:
        return None  # less than rounding alone: no noise to speak of
    return math.acos(min(max(far / (2 * near) - 1, -1.0), 1.0)) / (2 * math.pi)
