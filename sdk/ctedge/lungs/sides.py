"""Which lung is which: the septum between them, and the parts on its two sides."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from ctedge.lungs.grid import Labels, Mask, WorkingGrid
from ctedge.lungs.mask import LEFT, RIGHT

#: The septum is looked for this far to either side of the middle, mm.
STRIP_MM = 45.0

#: What lies to this part on one side of the septum belongs there altogether.
ONE_SIDED = 0.85

Columns = npt.NDArray[np.intp]


def septum(grid: WorkingGrid, middle: float, ndimage: ModuleType) -> Columns:
    """The column of the septum in each slice and row (Z, Y): the densest way from front to back.

    The method is that of Hu, Hoffman and Reinhardt (2001), who find the junction lines of touching
    lungs by dynamic programming in every slice.
    """
    depth, height, width = grid.hu.shape
    reach = max(2, round(STRIP_MM / grid.size_mm[2]))
    low = int(np.clip(round(middle) - reach, 0, width - 1))
    high = int(np.clip(round(middle) + reach + 1, low + 1, width))
    dense = np.clip(grid.hu[:, :, low:high], -1000, 0).astype(np.float32)
    # Neighbouring slices agree about the septum; ways off the middle have to be worth it.
    dense = ndimage.uniform_filter1d(dense, 3, axis=0, mode="nearest")
    dense -= np.abs(np.arange(low, high) - middle).astype(np.float32) * np.float32(2.0)
    steps = np.empty(dense.shape, dtype=np.int8)
    best = dense[:, 0]
    for row in range(1, height):
        padded = np.pad(best, ((0, 0), (1, 1)), constant_values=-np.inf)
        choices = np.stack([padded[:, 1:-1], padded[:, :-2], padded[:, 2:]])
        chosen = choices.argmax(axis=0)
        steps[:, row] = np.array([0, -1, 1], dtype=np.int8)[chosen]
        best = choices.max(axis=0) + dense[:, row]
    columns = np.empty((depth, height), dtype=np.intp)
    slices = np.arange(depth)
    columns[:, -1] = best.argmax(axis=1)
    for row in range(height - 1, 0, -1):
        columns[:, row - 1] = columns[:, row] + steps[slices, row, columns[:, row]]
    return columns + low


def divide(parts: npt.NDArray[np.int32], before: Mask) -> Labels:
    """Numbered parts (Z, Y, X) to sides: 1 right, 2 left; a part across both is cut.

    Args:
        parts: 0 is background.
        before: what lies before the septum. Columns grow towards Left: that is the right side.
    """
    total = np.bincount(parts.ravel())
    right = np.bincount(parts[before], minlength=len(total))
    share = right / np.maximum(total, 1)
    side = np.where(before, np.uint8(RIGHT), np.uint8(LEFT))
    whole = np.where(share >= ONE_SIDED, RIGHT, np.where(share <= 1 - ONE_SIDED, LEFT, 0))
    owner = whole.astype(np.uint8)[parts]
    side = np.where(owner > 0, owner, side)
    side[parts == 0] = 0
    return side
