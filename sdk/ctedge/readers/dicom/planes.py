"""The planes of a DICOM volume, decoded in threads when they are asked for, and no others."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctedge.cpus import usable_cpus
from ctedge.planes import PlanesInFiles
from ctedge.readers.dicom.pixels import decode
from ctedge.readers.dicom.volume import Plane, Volume
from ctedge.readers.threads import Threads

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Codecs leave Python while they decode; more threads than this only wait for the disk.
MAX_THREADS = 8

#: Planes that are under way beyond the one in use, per thread.
_AHEAD = 2


class DicomPlanes(PlanesInFiles):
    """Planes of a `Volume`; only the slices that they are made of are decoded.

    Args:
        volume: the slices in order.
        order, flips: from (column, row, plane) to LAS, as `ctedge.scan.nearest_axes` says.
    """

    def __init__(
        self, volume: Volume, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
    ) -> None:
        first = volume.slices[0]
        super().__init__((first.columns, first.rows, len(volume.planes)), order, flips)
        self._volume = volume
        self._kept: dict[int, npt.NDArray[Any]] = {}
        self._room = self.kept_bytes

    def _read(self, places: Sequence[int]) -> Generator[npt.NDArray[Any], None, None]:
        return self._decoded([self._volume.planes[place] for place in places])

    def _forget(self) -> None:
        self._kept.clear()

    def _decoded(self, planes: Sequence[Plane]) -> Generator[npt.NDArray[Any], None, None]:
        count = max(min(usable_cpus(), MAX_THREADS, len(planes)), 1)
        under_way: dict[int, Future[npt.NDArray[Any]]] = {}
        with Threads(count, "ctedge-dicom") as threads:
            for at, plane in enumerate(planes):
                for coming in planes[at : at + _AHEAD * count + 1]:
                    for place in _needs(coming):
                        if place not in under_way and place not in self._kept:
                            begun = threads.begin(partial(decode, self._volume.slices[place]))
                            if begun is not None:  # else it is decoded here, in its turn
                                under_way[place] = begun
                pixels = [self._taken(place, under_way) for place in _needs(plane)]
                yield _mixed(pixels, plane.share).T

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


def _needs(plane: Plane) -> tuple[int, ...]:
    return (plane.lower,) if plane.lower == plane.upper else (plane.lower, plane.upper)


def _mixed(pixels: Sequence[npt.NDArray[Any]], share: float) -> npt.NDArray[Any]:
    if len(pixels) == 1:
        return pixels[0]
    lower, upper = (one.astype(np.float32) for one in pixels)
    return lower + np.float32(share) * (upper - lower)
