"""The grid that lungs are looked for on: voxels picked out of the scan, about 3 mm apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.scan import CTScan

HU = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Steps = tuple[int, int, int]

#: The networks see voxels of 2.3 to 3.8 mm: 128 x 128 over a field of 300 to 480 mm.
WORKING_MM = 3.0

#: Most samples of the working grid along X, Y and Z.
MOST_SAMPLES = (192, 192, 128)

#: What a chest measures along X, Y, Z where nothing states the size of a voxel, mm.
TYPICAL_FIELD_MM = (360.0, 360.0, 300.0)

#: Values are held as int16, clipped here: padding down to -3024 is air, metal is bone.
_HU_LIMITS = (-1100, 2000)


@dataclass(frozen=True, kw_only=True, eq=False)
class WorkingGrid:
    """Every n-th voxel of a scan.

    Attributes:
        hu: (Z, Y, X) int16, clipped to -1100..2000.
        size_mm: size of its voxels along Z, Y, X; of a typical chest where nothing states it.
        steps: along X, Y, Z: which voxels of the scan were picked, n for every n-th.
        affine: (4, 4), (x, y, z) index of the grid to mm in RAS+.
        stated: whether the scan states the size of its voxels.
    """

    hu: HU
    size_mm: tuple[float, float, float]
    steps: Steps
    affine: npt.NDArray[np.float64]
    stated: bool

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        z, y, x = self.size_mm
        return z * y * x / 1000.0

    def voxels(self, mm: float, axis: int) -> int:
        """How many voxels along Z, Y or X (0, 1, 2) make a length; at least one."""
        return max(1, round(mm / self.size_mm[axis]))


def pick(scan: CTScan) -> WorkingGrid:
    """Pick the working grid out of a scan; no other voxel is converted."""
    stated = states_spacing(scan)
    sizes = scan.spacing_mm if stated else _typical_sizes(scan)
    x, y, z = (
        max(1, round(WORKING_MM / size), -(-count // most))
        for size, count, most in zip(sizes, scan.shape, MOST_SAMPLES, strict=True)
    )
    return WorkingGrid(
        hu=np.stack(list(picked_planes(scan, (x, y, z)))),
        size_mm=(sizes[2] * z, sizes[1] * y, sizes[0] * x),
        steps=(x, y, z),
        affine=scan.affine @ np.diag([x, y, z, 1.0]),
        stated=stated,
    )


def picked_planes(scan: CTScan, steps: Steps) -> Iterator[HU]:
    """(Y, X) HU of every n-th plane, row and column, from inferior to superior."""
    x, y, z = steps
    for plane in scan.planes.each(range(0, scan.shape[2], z)):
        yield _as_hu(plane[::x, ::y].T)


def states_spacing(scan: CTScan) -> bool:
    """Whether voxels of 1 mm are a fact, and not what a bare array is given."""
    return not (scan.orientation_assumed and scan.spacing_mm == (1.0, 1.0, 1.0))


def _as_hu(block: npt.NDArray[Any]) -> HU:
    """The block as int16, clipped."""
    low, high = _HU_LIMITS
    if not np.can_cast(block.dtype, np.int16):
        block = np.clip(block.astype(np.float64), low, high)
    return np.clip(np.ascontiguousarray(block, dtype=np.int16), low, high)


def _typical_sizes(scan: CTScan) -> tuple[float, float, float]:
    x, y, z = (field / count for field, count in zip(TYPICAL_FIELD_MM, scan.shape, strict=True))
    return (x, y, z)
