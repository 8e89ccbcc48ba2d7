"""Which parts of the air in a body are lung: not the table's foam, not gas in stomach or bowel."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ctedge.lungs.air import AIR_BELOW_HU, Air
from ctedge.lungs.grid import HU, Mask, WorkingGrid

#: A part of this volume may stand alone; smaller ones are islands in diseased lung, or nothing.
PART_ML = 60.0

#: Gas in stomach or bowel: nothing but air, all through. Parts larger than this are no stomach.
GAS_BELOW_HU, GAS_UP_TO_ML = -930, 1000.0

#: Gas is held by walls, a bulla by lung: of what lies 2 to 3 voxels around, this share is tissue.
WALLED = 0.6

#: Of a part this small that stands alone, a quarter below that limit says the same.
SMALL_ML = 300.0

#: Fragments smaller than this are not asked whether they are gas.
SPECK_ML = 4.0

#: Walls that lung borders on: from fat to muscle.
WALL_HU = (-150, 40)

#: The range of thresholds at a border.
RIM_THRESHOLDS_HU = (-500, AIR_BELOW_HU)

#: Lung and wall are looked for this far around a voxel, mm: half of a thick slice.
BORDER_MM = 3.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Attributes, all (Z, Y, X).

    lungs: large parts that are lung.
    fragments: small parts that may belong to them.
    other: air in the body that is no lung: gas, foam, the air of arms and table.
    threshold: HU below which a voxel at a border is lung.
    """

    lungs: Mask
    fragments: Mask
    other: Mask
    threshold: HU


def sort(grid: WorkingGrid, air: Air, airway: Mask, ndimage: ModuleType) -> Parts:
    """Sort the air in a body."""
    candidates = air.inside & ~airway
    gas = _gas(grid, candidates, ndimage) & candidates
    threshold = _rim_threshold(grid, ndimage)
    inner = ndimage.binary_erosion(candidates, border_value=1)
    candidates &= (inner | (grid.hu < threshold)) & ~gas
    labels, _ = ndimage.label(candidates)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    within = np.bincount(labels[air.body], minlength=len(sizes)) > 0.5 * sizes
    within &= _along(labels, sizes)
    # What is left of gas when its core is taken out is its half-filled rim.
    rim = ndimage.binary_dilation(gas, iterations=2)
    within &= np.bincount(labels[rim], minlength=len(sizes)) <= 0.5 * sizes
    volume = sizes * grid.voxel_ml
    boxes = ndimage.find_objects(labels)
    for number in np.flatnonzero(within & (volume >= SPECK_ML) & (volume < SMALL_ML)).tolist():
        box = boxes[number - 1]
        values = grid.hu[box][labels[box] == number]
        within[number] = np.percentile(values, 25) >= GAS_BELOW_HU
    return Parts(
        lungs=(within & (volume >= PART_ML))[labels],
        fragments=(within & (volume < PART_ML) & (sizes > 1))[labels],
        other=gas | (~within)[labels] & (labels > 0),
        threshold=threshold,
    )


def _gas(grid: WorkingGrid, candidates: Mask, ndimage: ModuleType) -> Mask:
    """Stomach and bowel, also where thin walls let their air touch that of a lung."""
    mean = ndimage.uniform_filter(grid.hu.astype(np.float32), 3)
    labels, _ = ndimage.label(candidates & (mean < GAS_BELOW_HU))
    volume = np.bincount(labels.ravel()) * grid.voxel_ml
    found = np.zeros(len(volume), dtype=bool)
    boxes = ndimage.find_objects(labels)
    wanted = (volume >= SPECK_ML) & (volume < GAS_UP_TO_ML)
    wanted[0] = False
    for number in np.flatnonzero(wanted).tolist():
        box = tuple(slice(max(part.start - 4, 0), part.stop + 4) for part in boxes[number - 1])
        core = labels[box] == number
        inner = ndimage.binary_dilation(core, iterations=2)
        around = grid.hu[box][ndimage.binary_dilation(inner) & ~inner]
        found[number] = len(around) > 0 and (around > AIR_BELOW_HU).mean() > WALLED
    if not found.any():
        return np.zeros(candidates.shape, dtype=bool)
    return np.asarray(ndimage.binary_dilation(found[labels], iterations=3))


def _along(labels: npt.NDArray[np.int32], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """The parts whose middle lies between top and bottom of the largest."""
    heights = np.flatnonzero((labels == sizes.argmax()).any(axis=(1, 2)))
    counts = np.bincount(labels.ravel(), minlength=len(sizes))
    rows = np.repeat(np.arange(labels.shape[0]), labels.shape[1] * labels.shape[2])
    middle = np.bincount(labels.ravel(), weights=rows) / np.maximum(counts, 1)
    return np.asarray((middle >= heights[0]) & (middle <= heights[-1]))


def _rim_threshold(grid: WorkingGrid, ndimage: ModuleType) -> HU:
    """Half-way between the wall and the darkest lung around: where a voxel is half lung."""
    low, high = WALL_HU
    size = tuple(2 * grid.voxels(BORDER_MM, axis) + 1 for axis in range(3))
    dense = grid.hu > low
    share = ndimage.uniform_filter(dense.astype(np.float32), size)
    values = np.where(dense, np.minimum(grid.hu, high), np.int16(0)).astype(np.float32)
    wall = ndimage.uniform_filter(values, size) / np.maximum(share, np.float32(1e-3))
    half = (ndimage.minimum_filter(grid.hu, size) + wall) / 2
    return np.asarray(np.clip(half, *RIM_THRESHOLDS_HU), dtype=np.int16)


def numbered(mask: Mask, ndimage: ModuleType) -> npt.NDArray[np.int32]:
    """The parts of a mask, numbered from 1."""
    labels: npt.NDArray[np.int32] = ndimage.label(mask)[0]
    return labels
