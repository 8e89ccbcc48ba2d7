"""Smooth 3D fields on a coarse grid, read at any voxel by linear interpolation.

Distances to organs and random textures vary slowly, so a few millimetres of grid step hold them;
two small matrix products a slice bring them to voxel resolution. Fields are float32 (Z, Y, X).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Fields and slices, float32; and coordinates in mm, float64.
Floats = NDArray[np.floating[Any]]
Points = NDArray[np.floating[Any]]

STEP_MM = 4.0


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """A regular grid of STEP_MM in image coordinates (x Left, y Anterior, z Superior, mm)."""

    x_mm: Points
    y_mm: Points
    z_mm: Points

    @property
    def shape(self) -> tuple[int, int, int]:
        """Points along (z, y, x)."""
        return (len(self.z_mm), len(self.y_mm), len(self.x_mm))

    @classmethod
    def covering(cls, *, half_fov_mm: float, z_low_mm: float, z_high_mm: float) -> Lattice:
        """The grid over a square field of view and a range of z, one step beyond either."""
        half = int(np.ceil(half_fov_mm / STEP_MM)) + 1
        plane = np.arange(-half, half + 1) * STEP_MM
        count = int(np.ceil((z_high_mm - z_low_mm) / STEP_MM)) + 4
        return cls(x_mm=plane, y_mm=plane, z_mm=z_low_mm + (np.arange(count) - 1.5) * STEP_MM)


@dataclass(frozen=True, kw_only=True)
class PlaneReader:
    """Reads lattice fields on the voxel rows and columns of one window of the image."""

    rows: Floats  # (voxel rows, lattice y)
    columns: Floats  # (lattice x, voxel columns)
    z_first_mm: float

    @classmethod
    def over(cls, lattice: Lattice, *, x_mm: Points, y_mm: Points) -> PlaneReader:
        """A reader at these voxel coordinates."""
        return cls(
            rows=linear_weights(y_mm, lattice.y_mm),
            columns=np.ascontiguousarray(linear_weights(x_mm, lattice.x_mm).T),
            z_first_mm=float(lattice.z_mm[0]),
        )

    def at(self, field: Floats, z_mm: float) -> Floats:
        """The field in the plane z, float32 (rows, columns)."""
        position = min(max((z_mm - self.z_first_mm) / STEP_MM, 0.0), len(field) - 1.001)
        below = int(position)
        share = np.float32(position - below)
        plane = field[below] + (field[below + 1] - field[below]) * share
        # The cheaper of the two products first: there are fewer lattice than voxel columns.
        return np.asarray((self.rows @ plane) @ self.columns, dtype=np.float32)


def linear_weights(wanted: Points, grid: Points) -> Floats:
    """(wanted, grid) matrix that reads a regular grid linearly; clamped at its ends."""
    position = np.clip((wanted - grid[0]) / (grid[1] - grid[0]), 0, len(grid) - 1 - 1e-9)
    below = position.astype(np.intp)
    share = (position - below).astype(np.float32)
    weights = np.zeros((len(wanted), len(grid)), dtype=np.float32)
    index = np.arange(len(wanted))
    weights[index, below] = 1 - share
    weights[index, below + 1] = share
    return weights


def smooth_noise(rng: np.random.Generator, lattice: Lattice, scale_mm: float) -> Floats:
    """A random field of unit variance whose blobs are about `scale_mm` wide."""
    bases = [_spline_weights(axis, scale_mm) for axis in (lattice.z_mm, lattice.y_mm, lattice.x_mm)]
    knots = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    field = np.einsum("zk,kji->zji", bases[0], knots, optimize=True)
    field = np.einsum("xi,zji->zjx", bases[2], field, optimize=True)
    field = np.einsum("yj,zjx->zyx", bases[1], field, optimize=True)
    return np.ascontiguousarray(field, dtype=np.float32)


def _spline_weights(axis: Points, scale_mm: float) -> Floats:
    """Quadratic B-spline basis (axis, knots), each row scaled to unit sum of squares."""
    position = (axis - axis[0]) / scale_mm
    nearest = np.floor(position + 0.5)
    t = position - nearest
    weights = np.zeros((len(axis), int(nearest.max()) + 3), dtype=np.float32)
    index = np.arange(len(axis))
    knot = nearest.astype(np.intp)
    weights[index, knot] = 0.5 * (0.5 - t) ** 2
    weights[index, knot + 1] = 0.75 - t**2
    weights[index, knot + 2] = 0.5 * (0.5 + t) ** 2
    scaled: Floats = weights / np.sqrt(np.square(weights).sum(axis=1, keepdims=True))
    return scaled


def cover(distance: Floats, width: float | Floats) -> Floats:
    """How much of a voxel lies inside a surface: 0 outside, 1 inside, soft over `width`.

    Args:
        distance: to the surface in mm, positive inside.
        width: extent of the voxel across the surface, mm.
    """
    share: Floats = distance / (np.float32(width) if isinstance(width, float) else width)
    share += np.float32(0.5)
    return np.clip(share, 0, 1, out=share)


def blend(hu: Floats, value: float | Floats, share: Floats) -> None:
    """Replace `share` of every voxel of `hu` by `value`, in place."""
    hu += (np.float32(value) - hu if isinstance(value, float) else value - hu) * share
