"""Where a scan's voxels are: in memory, or still in their files, read a plane at a time."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
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

    def each(self, indices: Sequence[int]) -> Generator[Voxels, None, None]:
        """(X, Y) HU of the planes asked for, in that order; only these are read.

        Closing it ends the reading.
        """


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

    def each(self, indices: Sequence[int]) -> Generator[Voxels, None, None]:
        """Views of the array."""
        return (self._voxels[:, :, index] for index in indices)


class PlanesInFiles(ABC):
    """Planes that are read when they are asked for, and turned to LAS as views.

    Args:
        shape: (I, J, K) of the file, planes across K.
        order, flips: from (I, J, K) to LAS, as `ctedge.scan.nearest_axes` says; K is the last.
    """

    #: Stored bytes kept for the next model: 128 planes of 512 x 512 and 16 bits, all that an input
    #: of 64 planes reads.
    kept_bytes = 64 << 20

    def __init__(
        self,
        shape: tuple[int, int, int],
        order: tuple[int, int, int],
        flips: tuple[bool, bool, bool],
    ) -> None:
        i, j, k = shape
        self._swapped = order[0] == 1
        self._flips = flips
        self._shape = (j, i, k) if self._swapped else (i, j, k)
        self._array: Voxels | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along Left, Anterior, Superior."""
        return self._shape

    def array(self) -> Voxels:
        """(X, Y, Z) HU; everything is read, once."""
        if self._array is None:
            self._array = _stack(self)
            self._forget()
        return self._array

    def each(self, indices: Sequence[int]) -> Generator[Voxels, None, None]:
        """(X, Y) HU of the planes asked for, and nothing else is read.

        Raises:
            UnreadableScan: a file is damaged, cut off, has changed since its header was read, or
                has gone.
            NonFiniteVoxels: a map to HU leads beyond what a number holds.
        """
        if self._array is not None:
            return (self._array[:, :, index] for index in indices)
        last = self._shape[2] - 1
        places = [last - index if self._flips[2] else index for index in indices]
        return self._walk(places)

    def _walk(self, places: Sequence[int]) -> Generator[Voxels, None, None]:
        with contextlib.closing(self._read(places)) as planes:  # also where it is broken off
            for plane in planes:
                yield self._turned(plane)

    @abstractmethod
    def _read(self, places: Sequence[int]) -> Generator[Voxels, None, None]:
        """(I, J) HU of the planes at these places of the file, in that order."""

    @abstractmethod
    def _forget(self) -> None:
        """Drop what was kept for the next reading: the whole array is there now."""

    def _turned(self, plane: Voxels) -> Voxels:
        """An (I, J) plane as (X, Y)."""
        view = plane.T if self._swapped else plane
        return view[tuple(slice(None, None, -1 if flip else 1) for flip in self._flips[:2])]


def in_memory(planes: Planes) -> Voxels | None:
    """The array of planes that are in memory already."""
    return planes.array() if isinstance(planes, PlanesInMemory) else None


def _stack(planes: Planes) -> Voxels:
    """All planes in one array, in the type that holds them all."""
    found = list(planes.each(range(planes.shape[2])))
    kind = np.result_type(*{plane.dtype for plane in found})
    # Planes lie in memory as they came, rows after rows: stacked so, nothing is turned.
    together = np.stack([plane.T for plane in found]).astype(kind, order="C", copy=False)
    return together.transpose(2, 1, 0)


def evenly_spaced(planes: int, most: int) -> list[int]:
    """The numbers of `most` planes out of so many, the first and, of several, the last among them;
    of all where there are fewer.
    """
    evenly = np.linspace(0, planes - 1, min(planes, most)).round().astype(int)
    # np.unique would import numpy.ma, and hashes in C++ that gives up Python's lock: a daemon
    # thread that the program's end meets there aborts it.
    return sorted(set(evenly.tolist()))
