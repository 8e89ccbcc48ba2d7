"""Trachea and main bronchi: followed downwards, slice by slice, until they enter a lung."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ctedge.lungs.air import Air
from ctedge.lungs.grid import Mask, WorkingGrid

#: Cross sections of the trachea, mm2: diameters of 8 to 32 mm.
SECTION_MM2 = (50.0, 800.0)

#: At the carina both main bronchi lie in one section.
WIDEST_MM2 = 1400.0

#: The trachea's centre lies this near the middle of the body, mm.
OFF_MIDDLE_MM = 35.0

#: An open windpipe holds air alone, a lung's apex does not.
OPEN_BELOW_HU = -800

#: A cross section is followed for at least this long, mm, or it was none.
LEAST_LENGTH_MM = 30.0

#: From one slice to the next a section grows by no more than this, or it has entered a lung.
GROWTH = 1.7


@dataclass(frozen=True, kw_only=True, eq=False)
class _Slices:
    grid: WorkingGrid
    inside: Mask
    middle: float  # column of the body's middle
    ndimage: ModuleType

    @property
    def pixel_mm2(self) -> float:
        return self.grid.size_mm[1] * self.grid.size_mm[2]


def find(grid: WorkingGrid, air: Air, ndimage: ModuleType) -> Mask:
    """Air of the windpipe and the main bronchi; nothing where no windpipe is seen."""
    slices = _Slices(grid=grid, inside=air.inside, middle=air.middle, ndimage=ndimage)
    best = np.zeros(grid.hu.shape, dtype=bool)
    seen = best.copy()
    for top in range(grid.hu.shape[0] - 1, -1, -1):
        for section in _sections(slices, top):
            if (seen[top] & section).any():
                continue
            track = _follow(slices, top, section)
            seen |= track
            if track.any(axis=(1, 2)).sum() > best.any(axis=(1, 2)).sum():
                best = track
        if best.any(axis=(1, 2)).sum() * grid.size_mm[0] > 2 * LEAST_LENGTH_MM:
            break
    length = best.any(axis=(1, 2)).sum() * grid.size_mm[0]
    return best if length >= LEAST_LENGTH_MM else np.zeros_like(best)


def _sections(slices: _Slices, z: int) -> list[Mask]:
    """What may be the windpipe in a slice: round, open, of its size, in the middle."""
    labels, _ = slices.ndimage.label(slices.inside[z])
    found = []
    for number, box in enumerate(slices.ndimage.find_objects(labels), start=1):
        section = labels == number
        area = section[box].sum() * slices.pixel_mm2
        _, dy, dx = slices.grid.size_mm
        height, width = (
            (part.stop - part.start) * size for part, size in zip(box, (dy, dx), strict=True)
        )
        off = abs((box[1].start + box[1].stop - 1) / 2 - slices.middle) * dx
        round_enough = max(height, width) <= 2.2 * min(height, width)
        if (
            SECTION_MM2[0] <= area <= SECTION_MM2[1]
            and round_enough
            and off <= OFF_MIDDLE_MM
            and np.percentile(slices.grid.hu[z][section], 25) < OPEN_BELOW_HU
        ):
            found.append(section)
    return found


def _follow(slices: _Slices, top: int, section: Mask) -> Mask:
    """The section and what continues it downwards."""
    track = np.zeros(slices.grid.hu.shape, dtype=bool)
    track[top] = section
    for z in range(top - 1, -1, -1):
        track[z] = _next(slices, z, track[z + 1])
        if not track[z].any():
            break
    return track


def _next(slices: _Slices, z: int, above: Mask) -> Mask:
    ndimage = slices.ndimage
    labels, areas = ndimage.label(slices.inside[z])
    branches, count = ndimage.label(above)
    result = np.zeros_like(above)
    for branch in range(1, count + 1):
        before = branches == branch
        touched = np.zeros(areas + 1, dtype=bool)
        touched[labels[before]] = True
        touched[0] = False
        section = touched[labels]
        if not _grows_slowly(slices, section, before):
            # It touches a lung: only what lies straight below, as long as that is no lung either.
            near = ndimage.binary_dilation(before)
            section &= near & (slices.grid.hu[z] < OPEN_BELOW_HU - 50)
            if not _grows_slowly(slices, section, before):
                continue
        result |= section
    return result


def _grows_slowly(slices: _Slices, section: Mask, before: Mask) -> bool:
    area = section.sum() * slices.pixel_mm2
    limit = max(GROWTH * before.sum() * slices.pixel_mm2, SECTION_MM2[0])
    return bool(area <= min(limit, WIDEST_MM2))
