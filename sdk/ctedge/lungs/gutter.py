"""Dense lung beside the spine, where it may border on no aerated lung at all.

Behind the front of the spine, to its side and that of the aorta, above the diaphragm and within the
chest wall there is nothing but lung (and what may stand in its place: effusion). So what is soft
there counts as lung, however large it is. The spine is read from its bone. The wall stands where
aerated lung reaches it in the slices above and below, or in the other half of the chest. Above the
diaphragm is what lies higher than its dome, or beyond aerated lung as seen from there: from its
dome the diaphragm falls on all sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ctedge.lungs.cage import ANGLES, BONE_ABOVE_HU, DENT_MM, SOFT_ABOVE_HU, Cage, Table
from ctedge.lungs.grid import Labels, Mask, WorkingGrid
from ctedge.lungs.mask import LEFT, RIGHT

Line = npt.NDArray[np.float64]

#: Thoracic end plates are 25 to 39 mm wide (Panjabi et al., "Thoracic human vertebrae", Spine 16,
#: 1991); 5 mm of joints and fascia lie beside them. Half of the width, mm.
SPINE_MM = 25.0

#: The aorta, 25 mm wide (Hager et al., J Thorac Cardiovasc Surg 123, 2002), lies on the left side
#: of the spine: its far edge, from the middle, mm.
AORTA_MM = 45.0

#: Bones this near the middle of the chest, behind its centre, are those of the spine, mm.
STRIP_MM = 30.0

#: A vertebra with its disc is this high, mm: through a disc the spine has the shape of the next.
VERTEBRA_MM = 28.0

#: The wall is carried over dense lung of so many mm from top to bottom.
WALL_MM = 120.0

#: Patients lie turned by a few degrees: two walls are no further from even than this, mm.
UNEVEN_MM = 6.0

#: Where the dome of the diaphragm stands, as shares of the way from spine to ribs and from back to
#: front; what lies so far above it lies above the diaphragm altogether, mm.
SUMMIT = (0.35, 0.65)
MARGIN_MM = 10.0


@dataclass(frozen=True, kw_only=True)
class _Spine:
    """Of each slice: the column of the middle, the row of the front."""

    middle: Line
    front: Line


def find(grid: WorkingGrid, cage: Cage, aerated: Labels, ndimage: ModuleType) -> Labels:
    """Dense lung beside the spine.

    Args:
        grid: the scan.
        cage: how far aerated lung reaches.
        aerated: (Z, Y, X), 1 right lung, 2 left lung.
        ndimage: scipy.ndimage.

    Returns:
        (Z, Y, X): 1 and 2 where dense lung was found, 0 elsewhere and where no spine is seen.
    """
    found = np.zeros(aerated.shape, dtype=np.uint8)
    spine = _spine(grid, aerated, ndimage)
    if spine is None:
        return found
    wall = _wall(grid, cage, ndimage)
    soft = _soft(grid, ndimage) & (aerated == 0)
    soft &= cage.around.radius <= wall[:, cage.around.angle]
    for side in (RIGHT, LEFT):
        lung = aerated == side
        if lung.any():
            above = _above_diaphragm(grid, spine, lung, ndimage)
            beside = _beside(grid, spine, side) & soft & above
            if side == LEFT:  # a wide aorta reaches further out, but has aerated lung behind it
                beside &= (wall - cage.reached >= DENT_MM)[:, cage.around.angle]
            found[ndimage.binary_opening(beside)] = side
    return found


def _wall(grid: WorkingGrid, cage: Cage, ndimage: ModuleType) -> Table:
    """How far lung reaches at each angle; where it is aerated nowhere near, the other one says."""
    wall: Table = ndimage.grey_closing(
        cage.reached, (2 * grid.voxels(WALL_MM / 2, 0) + 1, 1), mode="constant"
    )
    other = np.maximum(wall[:, ::-1] - np.float32(UNEVEN_MM), 0)
    return np.where(wall > 0, wall, other)


def _soft(grid: WorkingGrid, ndimage: ModuleType) -> Mask:
    mean = ndimage.uniform_filter(grid.hu.astype(np.float32), 3)
    return np.asarray((mean > SOFT_ABOVE_HU) & (grid.hu < BONE_ABOVE_HU))


def _spine(grid: WorkingGrid, aerated: Labels, ndimage: ModuleType) -> _Spine | None:
    """The spine of each slice, from the bones in the strip behind the middle of the lungs."""
    rows, columns = (np.flatnonzero(aerated.any(axis=others)) for others in ((0, 2), (0, 1)))
    centre, middle = (rows[0] + rows[-1]) // 2, (columns[0] + columns[-1]) / 2
    reach = STRIP_MM / grid.size_mm[2]
    low, high = max(0, round(middle - reach)), round(middle + reach) + 1
    bone = grid.hu[:, :centre, low:high] > BONE_ABOVE_HU
    seen = np.flatnonzero(bone.any(axis=(1, 2)))
    if not len(seen):
        return None
    places = [np.nonzero(bone[z]) for z in seen]
    slices = np.arange(len(bone))
    lines = [
        np.interp(slices, seen, [np.median(x) + low for _, x in places]),
        np.interp(slices, seen, [_front(y) for y, _ in places]),
    ]
    window = 2 * grid.voxels(VERTEBRA_MM / 2, 0) + 1
    lines = [ndimage.median_filter(line, window, mode="nearest") for line in lines]
    return _Spine(middle=lines[0], front=lines[1])


def _front(rows: npt.NDArray[np.intp]) -> int:
    """The foremost row with bone: of three voxels, since one may be noise or calcium."""
    counts = np.bincount(rows)
    return int(np.flatnonzero(counts >= min(3, counts.max()))[-1])


def _beside(grid: WorkingGrid, spine: _Spine, side: int) -> Mask:
    """Behind the front of the spine, to one side of it and of the aorta."""
    _, height, width = grid.hu.shape
    out = (np.arange(width) - spine.middle[:, np.newaxis])[:, np.newaxis] * grid.size_mm[2]
    behind = (np.arange(height) < spine.front[:, np.newaxis])[:, :, np.newaxis]
    far = -out > SPINE_MM if side == RIGHT else out > AORTA_MM
    return np.asarray(behind & far)


def _above_diaphragm(grid: WorkingGrid, spine: _Spine, lung: Mask, ndimage: ModuleType) -> Mask:
    """Higher than the dome; or, seen from there, beyond aerated lung that lies at or below."""
    rows, columns = (np.flatnonzero(lung.any(axis=others)) for others in ((0, 2), (0, 1)))
    middle = float(np.median(spine.middle))
    edge = columns[0] if abs(columns[0] - middle) > abs(columns[-1] - middle) else columns[-1]
    near, far = sorted(middle + share * (edge - middle) for share in SUMMIT)
    back, front = (rows[0] + share * (rows[-1] - rows[0]) for share in SUMMIT)
    dome = lung[:, int(back) : int(front) + 1, int(max(near, 0)) : int(far) + 1]
    aerated = np.flatnonzero(dome.mean(axis=(1, 2)) > 0.5)
    high = np.zeros(len(lung), dtype=bool)
    if len(aerated):
        high[aerated[0] + grid.voxels(MARGIN_MM, 0) :] = True

    _, dy, dx = grid.size_mm
    y = ((np.arange(lung.shape[1]) - (back + front) / 2) * dy)[:, np.newaxis]
    x = ((np.arange(lung.shape[2]) - (near + far) / 2) * dx)[np.newaxis]
    turn = (np.arctan2(x, y) / (2 * np.pi) + 0.5) * ANGLES
    angle, radius = np.minimum(turn.astype(np.intp), ANGLES - 1), np.hypot(x, y)
    planes, ys, xs = np.nonzero(lung)
    nearest = np.full((len(lung), ANGLES), np.inf)
    np.minimum.at(nearest, (planes, angle[ys, xs]), radius[ys, xs])
    nearest = ndimage.minimum_filter1d(nearest, 5, axis=1, mode="wrap")
    nearest = np.minimum.accumulate(nearest, axis=0)
    return np.asarray((radius >= nearest[:, angle]) | high[:, np.newaxis, np.newaxis])
