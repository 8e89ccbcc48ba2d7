"""Morphology in millimetres, at the price of the box around a shape."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ctedge.lungs.grid import Mask

Box = tuple[slice, slice, slice]
Sizes = tuple[float, float, float]


def closed(mask: Mask, radius_mm: float, size_mm: Sizes, ndimage: ModuleType) -> Mask:
    """Closing with a ball. The volume goes on above its last and below its first plane."""
    box = box_around(mask)
    if box is None:
        return mask.copy()
    margin = [int(np.ceil(radius_mm / size)) + 1 for size in size_mm]
    padded = np.pad(mask[box], [(width, width) for width in margin])
    for edge, reached in ((0, box[0].start == 0), (-1, box[0].stop == mask.shape[0])):
        if reached:
            beyond = slice(None, margin[0]) if edge == 0 else slice(-margin[0], None)
            padded[beyond] = padded[margin[0] if edge == 0 else -margin[0] - 1]
    padded = ndimage.distance_transform_edt(~padded, sampling=size_mm) <= radius_mm
    padded = ndimage.distance_transform_edt(padded, sampling=size_mm) > radius_mm
    result = mask.copy()
    result[box] |= padded[tuple(slice(width, -width) for width in margin)]
    return result


def filled(mask: Mask, ndimage: ModuleType) -> Mask:
    """The mask with the holes that it encloses on all sides."""
    box = box_around(mask)
    if box is None:
        return mask
    # One voxel of surroundings, so that everything outside is one part: the first.
    around = np.pad(~mask[box], 1, constant_values=True)
    labels, _ = ndimage.label(around)
    result = mask.copy()
    result[box] = (labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return result


def box_around(mask: Mask) -> Box | None:
    """The box that holds all of a mask; None of an empty one."""
    box = []
    for others in ((1, 2), (0, 2), (0, 1)):
        held = np.flatnonzero(mask.any(axis=others))
        if not len(held):
            return None
        box.append(slice(int(held[0]), int(held[-1]) + 1))
    z, y, x = box
    return (z, y, x)
