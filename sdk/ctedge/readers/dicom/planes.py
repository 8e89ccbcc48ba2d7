"""The planes of a DICOM volume, decoded in threads when they are asked for, and no others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.planes import stack
from ctedge.readers.dicom.pixels import decode
from ctedge.readers.dicom.volume import Plane, Volume

#: Codecs leave Python while they decode; more threads than this only wait for the disk.
MAX_THREADS = 8

#: Decoded slices kept for the next model: 128 of 512 x 512, all that an input of 64 planes reads.
KEPT_BYTES = 64 << 20

#: Planes that are under way beyond the one in use, per thread.
_AHEAD = 2


class DicomPlanes:
    """Planes of a `Volume`, as views whose axes grow towards Left, Anterior and Superior.

    Args:
        volume: the slices in order.
        order, flips: from (column, row, plane) to LAS, as `ctedge.scan.nearest_axes` says.
    """

    def __init__(
        self, volume: Volume, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
    ) -> None:
        first = volume.slices[0]
        sizes = (first.columns, first.rows, len(volume.planes))
        self._volume = volume
        self._swapped = order[0] == 1
        self._flips = flips
        self._shape = (sizes[order[0]], sizes[order[1]], sizes[order[2]])
        self._array: npt.NDArray[Any] | None = None
        self._kept: dict[int, npt.NDArray[Any]] = {}
        self._room = KEPT_BYTES

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along Left, Anterior, Superior."""
        return self._shape

    def array(self) -> npt.NDArray[Any]:
        """(X, Y, Z) HU; every slice is decoded, once."""
        if self._array is None:
            self._array = stack(self)
            self._kept.clear()
        return self._array

    def each(self, indices: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
        """(X, Y) HU of the planes asked for; only the slices they are made of are decoded.

        Raises:
            UnreadableScan: a file is damaged, or has gone.
            NonFiniteVoxels: a map to HU leads beyond what a number holds.
        """
        if self._array is not None:
            return (self._array[:, :, index] for index in indices)
        last = self._shape[2] - 1
        places = [last - index if self._flips[2] else index for index in indices]
        return self._decoded([self._volume.planes[place] for place in places])

    def _decoded(self, planes: Sequence[Plane]) -> Iterator[npt.NDArray[Any]]:
        threads = min(os.cpu_count() or 1, MAX_THREADS, len(planes))
        under_way: dict[int, Future[npt.NDArray[Any]]] = {}
        pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="ctedge-dicom")
        try:
            for at, plane in enumerate(planes):
                for coming in planes[at : at + _AHEAD * threads + 1]:
                    for place in _needs(coming):
                        if place not in under_way and place not in self._kept:
                            one = self._volume.slices[place]
                            under_way[place] = pool.submit(decode, one)
                pixels = [self._taken(place, under_way) for place in _needs(plane)]
                yield self._turned(_mixed(pixels, plane.share))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _taken(
        self, place: int, under_way: dict[int, Future[npt.NDArray[Any]]]
    ) -> npt.NDArray[Any]:
        """A slice's HU; kept for the next model that asks, as long as there is room."""
        if place in self._kept:
            return self._kept[place]
        coming = under_way.pop(place, None)
        pixels = decode(self._volume.slices[place]) if coming is None else coming.result()
        if self._room >= pixels.nbytes:
            self._room -= pixels.nbytes
            self._kept[place] = pixels
        return pixels

    def _turned(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of (rows, columns) as (X, Y)."""
        view = pixels if self._swapped else pixels.T
        steps = [slice(None, None, -1) if flip else slice(None) for flip in self._flips[:2]]
        return view[tuple(steps)]


def _needs(plane: Plane) -> tuple[int, ...]:
    return (plane.lower,) if plane.lower == plane.upper else (plane.lower, plane.upper)


def _mixed(pixels: Sequence[npt.NDArray[Any]], share: float) -> npt.NDArray[Any]:
    if len(pixels) == 1:
        return pixels[0]
    lower, upper = (one.astype(np.float32) for one in pixels)
    return lower + np.float32(share) * (upper - lower)
