"""Tapering round rods (vessels, airways, bones) drawn into a volume of coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctedge.phantom.lattice import Floats, Points

Coverage = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Rods:
    """Rods with round ends. `start` and `end` are (N, 3) in mm, the radii (N,) in mm."""

    start: Points
    end: Points
    radius_start: Points
    radius_end: Points

    @classmethod
    def path(cls, points: Sequence[Sequence[float]], radii: Sequence[float]) -> Rods:
        """Rods along a polyline."""
        line, widths = np.asarray(points, dtype=float), np.asarray(radii, dtype=float)
        return cls(start=line[:-1], end=line[1:], radius_start=widths[:-1], radius_end=widths[1:])

    @classmethod
    def joined(cls, parts: Sequence[Rods]) -> Rods:
        """All rods of several."""
        return cls(
            start=np.concatenate([part.start for part in parts] or [np.zeros((0, 3))]),
            end=np.concatenate([part.end for part in parts] or [np.zeros((0, 3))]),
            radius_start=np.concatenate([part.radius_start for part in parts] or [np.zeros(0)]),
            radius_end=np.concatenate([part.radius_end for part in parts] or [np.zeros(0)]),
        )

    def resized(self, *, factor: float = 1.0, plus_mm: float = 0.0) -> Rods:
        """The same rods with other radii."""
        return Rods(
            start=self.start,
            end=self.end,
            radius_start=self.radius_start * factor + plus_mm,
            radius_end=self.radius_end * factor + plus_mm,
        )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Voxel centres in mm (each ascending) and the extent a voxel averages over."""

    x_mm: Points
    y_mm: Points
    z_mm: Points
    edge_mm: float
    thickness_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        return (len(self.z_mm), len(self.y_mm), len(self.x_mm))


def draw(rods: Rods, grid: Grid) -> Coverage:
    """Coverage of every voxel by the rods, 0..255, uint8 (Z, Y, X); the larger where they meet.

    Through each pixel runs a line along z: the chord that a rod cuts from it is averaged over the
    slice, so a thin vessel that lies in a thick slice fades as it does in a scanner, and one that
    crosses the slice stays a bright dot.
    """
    volume = np.zeros(grid.shape, dtype=np.uint8)
    reach = np.maximum(rods.radius_start, rods.radius_end)[:, None]
    margin = reach + np.array([grid.edge_mm, grid.edge_mm, grid.thickness_mm / 2])
    low = np.minimum(rods.start, rods.end) - margin
    high = np.maximum(rods.start, rods.end) + margin
    axes = (grid.x_mm, grid.y_mm, grid.z_mm)
    first = np.stack([np.searchsorted(axis, low[:, i]) for i, axis in enumerate(axes)], axis=1)
    last = np.stack([np.searchsorted(axis, high[:, i]) for i, axis in enumerate(axes)], axis=1)
    x_mm, y_mm, z_mm = (axis.astype(np.float32) for axis in axes)
    half_slice = np.float32(grid.thickness_mm / 2)
    for i in np.flatnonzero((last > first).all(axis=1)):
        (x0, y0, z0), (x1, y1, z1) = first[i].tolist(), last[i].tolist()
        top, bottom, share = _chords(
            rods, int(i), x_mm[None, x0:x1], y_mm[y0:y1, None], grid.edge_mm
        )
        z = z_mm[z0:z1, None, None]
        overlap = np.minimum(top, z + half_slice)
        overlap -= np.maximum(bottom, z - half_slice)
        overlap *= share * np.float32(255 / grid.thickness_mm)
        np.clip(overlap, 0, 255, out=overlap)
        box = volume[z0:z1, y0:y1, x0:x1]
        np.maximum(box, overlap.astype(np.uint8), out=box)
    return volume


def _chords(
    rods: Rods, i: int, x_mm: Floats, y_mm: Floats, edge_mm: float
) -> tuple[Floats, Floats, Floats]:
    """Upper and lower end of the chord along z in every pixel, mm, and the pixel's share of it."""
    ax, ay, az = rods.start[i].tolist()
    bx, by, bz = (rods.end[i] - rods.start[i]).tolist()
    r0, r1 = float(rods.radius_start[i]), float(rods.radius_end[i])
    flat2 = max(bx * bx + by * by, 1e-6)
    px, py = x_mm - np.float32(ax), y_mm - np.float32(ay)
    along = px * np.float32(bx / flat2) + py * np.float32(by / flat2)
    # The end of a steep rod is a disc that lies nearly flat: it reaches beyond the end point.
    beyond = max(r0, r1) * abs(bz) / np.sqrt((flat2 + bz * bz) * flat2)
    np.clip(along, -beyond, 1 + beyond, out=along)
    away2 = np.square(px - along * np.float32(bx)) + np.square(py - along * np.float32(by))
    away = np.sqrt(away2)
    radius = r0 + np.clip(along, 0, 1) * np.float32(r1 - r0)
    half_edge = np.float32(edge_mm / 2)
    share = np.minimum(away + half_edge, radius) - np.maximum(away - half_edge, -radius)
    share *= np.float32(1 / edge_mm)
    # A soft pixel beside a rod still sees part of a chord: its length is bounded from below.
    least = radius * np.minimum(np.float32(0.36) * radius, half_edge / 2)
    cap = np.sqrt(np.maximum(radius * radius - away2, least))
    half = cap * np.float32(np.sqrt(1 + bz * bz / flat2))
    middle = np.float32(az) + along * np.float32(bz)
    top = np.minimum(middle + half, np.float32(max(az, az + bz)) + cap)
    bottom = np.maximum(middle - half, np.float32(min(az, az + bz)) - cap)
    return top, bottom, np.clip(share, 0, 1, out=share)
