"""From a network's labels, slice by slice, to two lungs: patches given away, the largest kept.

The method is that of the package `lungmask` 0.2.22. A patch is a set of voxels with one label that
touch each other, at corners too. One that is not its label's largest goes to the patch with which
it shares the longest border; what is then left beside the largest is dropped, and holes are filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ctedge.lungs.grid import Labels, Mask
from ctedge.lungs.mask import LEFT, RIGHT

#: Smaller patches are given to no neighbour, voxels.
LEAST_PATCH = 3

#: Holes in a slice that stands alone are filled when they are smaller, pixels.
HOLE_PIXELS = 64

#: A patch is looked at with so many voxels around it.
_MARGIN = 2

_TOUCHING = np.ones((3, 3, 3), dtype=bool)

Box = tuple[slice, ...]


@dataclass(kw_only=True, eq=False)
class _Patches:
    """Patches numbered from 1 in the order of their first voxels; 0 is the background.

    Attributes:
        numbers: (Z, Y, X), whose patch a voxel is.
        label, size: of each patch; of number 0 both are 0.
        boxes: where each lies, by number.
    """

    numbers: npt.NDArray[np.int32]
    label: npt.NDArray[np.uint8]
    size: npt.NDArray[np.int64]
    boxes: list[Box]


def two_lungs(labels: Labels, ndimage: ModuleType) -> Labels:
    """Two connected lungs without holes.

    Args:
        labels: (Z, Y, X): 0, 1 right lung, 2 left lung, as a network gives them.
        ndimage: scipy.ndimage.

    Returns:
        (Z, Y, X), a label more or less; without the other where one lung alone was found.
    """
    patches = _numbered(labels, ndimage)
    counted = _give_away(patches, ndimage)
    sides = counted[patches.numbers]
    result = np.zeros_like(labels)
    for side in (RIGHT, LEFT):
        lung = _largest(sides == side, ndimage)
        if lung is not None:
            _fill(lung, ndimage)
            result[lung] = side
    return result


def _numbered(labels: Labels, ndimage: ModuleType) -> _Patches:
    numbers = np.zeros(labels.shape, dtype=np.int32)
    count = 0
    for side in (RIGHT, LEFT):
        found, more = ndimage.label(labels == side, _TOUCHING)
        found[found > 0] += count
        numbers += found
        count += more
    places = np.flatnonzero(numbers)[::-1]
    first = np.full(count + 1, -1)
    first[numbers.ravel()[places]] = places  # of several voxels the last one written stays
    order = np.argsort(first)
    rank = np.empty(count + 1, dtype=np.int32)
    rank[order] = np.arange(count + 1)
    label = np.zeros(count + 1, dtype=np.uint8)
    label[1:] = labels.ravel()[first[order[1:]]]
    numbers = rank[numbers]
    size = np.bincount(numbers.ravel(), minlength=count + 1)
    size[0] = 0
    boxes: list[Box] = [(), *ndimage.find_objects(numbers)]
    return _Patches(numbers=numbers, label=label, size=size, boxes=boxes)


def _give_away(patches: _Patches, ndimage: ModuleType) -> npt.NDArray[np.uint8]:
    """Give small patches to their neighbours, the smallest first; the label of each number."""
    largest = np.zeros(256, dtype=np.int64)
    np.maximum.at(largest, patches.label, patches.size)
    order = np.argsort(patches.size, kind="stable")[1:].tolist()
    counted = _first_of_each_size(patches, order)
    for number in order:
        size = patches.size[number]
        if size < LEAST_PATCH or size >= largest[patches.label[number]]:
            continue
        taker = _neighbour(patches, number, ndimage)
        if taker is None:
            continue
        if patches.size[taker] == largest[patches.label[taker]]:
            largest[patches.label[taker]] += size
        patches.size[taker] += size
    return counted


def _first_of_each_size(patches: _Patches, order: list[int]) -> npt.NDArray[np.uint8]:
    """Labels by number, where of equally large patches of a label `lungmask` counts the first."""
    counted = np.zeros_like(patches.label)
    seen: set[tuple[int, int]] = set()
    for number in order:
        kind = (int(patches.label[number]), int(patches.size[number]))
        if kind not in seen:
            seen.add(kind)
            counted[number] = patches.label[number]
    return counted


def _neighbour(patches: _Patches, number: int, ndimage: ModuleType) -> int | None:
    """Give a patch to the one with the longest border to it, and say which; None without any."""
    box = tuple(
        slice(max(part.start - _MARGIN, 0), part.stop + _MARGIN) for part in patches.boxes[number]
    )
    around = patches.numbers[box]
    own = around == number
    numbers, border = np.unique(around[ndimage.binary_dilation(own)], return_counts=True)
    border[(numbers == 0) | (numbers == number)] = 0
    if not border.any():
        return None
    taker = int(numbers[border.argmax()])
    around[own] = taker
    patches.boxes[taker] = tuple(
        slice(min(one.start, other.start), max(one.stop, other.stop))
        for one, other in zip(patches.boxes[taker], patches.boxes[number], strict=True)
    )
    return taker


def _largest(mask: Mask, ndimage: ModuleType) -> Mask | None:
    parts, count = ndimage.label(mask, _TOUCHING)
    if not count:
        return None
    return np.asarray(parts == np.bincount(parts.ravel())[1:].argmax() + 1)


def _fill(lung: Mask, ndimage: ModuleType) -> None:
    """Fill what a lung encloses; in a slice that stands alone, small holes."""
    (box,) = ndimage.find_objects(lung.view(np.uint8))
    part = lung[box]
    holes, count = ndimage.label(~part)
    hole = np.ones(count + 1, dtype=bool)
    alone = len(lung) == 1
    for axis in (1, 2) if alone else (0, 1, 2):
        for end in (0, -1):
            hole[holes.take(end, axis)] = False
    if alone:
        hole &= np.bincount(holes.ravel(), minlength=count + 1) < HOLE_PIXELS
    hole[0] = False
    part |= hole[holes]
