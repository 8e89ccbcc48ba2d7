"""Carrying lungs that were found on the working grid over to every voxel of the scan."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from ctedge.extras import require
from ctedge.lungs.grid import HU, Labels, Mask, WorkingGrid, picked_planes
from ctedge.scan import CTScan


def refine(scan: CTScan, grid: WorkingGrid, labels: Labels, other: Mask, threshold: HU) -> Labels:
    """Labels of every voxel.

    Along the rim of a lung, one voxel of the working grid to either side, the threshold that held
    there decides again. Inside, and where the rim was drawn through dense tissue, the nearest
    voxel of the working grid does. Only one plane of the scan is held at a time.

    Args:
        scan: (X, Y, Z) voxels.
        grid: what was picked of it.
        labels: (Z, Y, X) on the working grid.
        other: air that is no lung, on the working grid.
        threshold: HU, on the working grid.

    Returns:
        (Z, Y, X) uint8.
    """
    ndimage = require("scipy.ndimage", extra="lungs", purpose="finding the lungs")
    near, change = _rim(grid.hu, labels, other, threshold, ndimage)
    x, y, z = (_nearest(count, step) for count, step in zip(scan.shape, grid.steps, strict=True))
    result = np.empty(scan.shape[::-1], dtype=np.uint8)
    place = np.ix_(np.minimum(y, labels.shape[1] - 1), np.minimum(x, labels.shape[2] - 1))
    for index, plane in enumerate(picked_planes(scan, (1, 1, 1))):
        height = min(int(z[index]), len(labels) - 1)
        rim = change[height][place]
        lung = near[height][place]
        lung[rim & (plane >= threshold[height][place])] = 0
        result[index] = np.where(rim, lung, labels[height][place])
    return result


def _rim(
    hu: HU, labels: Labels, other: Mask, threshold: HU, ndimage: ModuleType
) -> tuple[Labels, Mask]:
    """Which lung is nearest, and where the threshold decides again."""
    near = ndimage.maximum_filter(labels, 3)
    lung = labels > 0
    rim = (near > 0) & ~ndimage.binary_erosion(lung, np.ones((3, 3, 3), bool), border_value=1)
    # Lung that was filled in is as dense as its wall: no threshold tells them apart.
    solid = lung & (hu >= threshold)
    rim &= ~ndimage.binary_dilation(solid) & ~ndimage.binary_dilation(other)
    return near, np.asarray(rim)


def _nearest(count: int, step: int) -> npt.NDArray[np.intp]:
    return (np.arange(count) + (step - 1) // 2) // step
