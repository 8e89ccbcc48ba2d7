"""Where a scan's voxels are: in memory, or still in their files, read a plane at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Voxels = npt.NDArray[Any]


class Planes(Protocol):
    """The axial planes of a volume whose axes grow towards Left, Anterior and Superior (LAS)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along Left, Anterior, Superior."""

    def array(self) -> Voxels:
        """(X, Y, Z) HU, integer or float: all planes, kept once they are read."""

    def each(self, indices: Sequence[int]) -> Iterator[Voxels]:
        """(X, Y) HU of the planes asked for, in that order; only these are read."""


class PlanesInMemory:
    """Planes of an array.

    Args:
        voxels: (X, Y, Z) in LAS order.
    """

    def __init__(self, voxels: Voxels) -> None:
        self._voxels = voxels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along Left, Anterior, Superior."""
        x, y, z = self._voxels.shape
        return (x, y, z)

    def array(self) -> Voxels:
        """The array itself."""
        return self._voxels

    def each(self, indices: Sequence[int]) -> Iterator[Voxels]:
        """Views of the array."""
        return (self._voxels[:, :, index] for index in indices)


def in_memory(planes: Planes) -> Voxels | None:
    """The array of planes that are in memory already."""
    return planes.array() if isinstance(planes, PlanesInMemory) else None


def stack(planes: Planes) -> Voxels:
    """All planes in one array, in the type that holds them all."""
    found = list(planes.each(range(planes.shape[2])))
    kind = np.result_type(*{plane.dtype for plane in found})
    # Planes lie in memory as they came, rows after rows: stacked so, nothing is turned.
    together = np.stack([plane.T for plane in found]).astype(kind, order="C", copy=False)
    return together.transpose(2, 1, 0)
