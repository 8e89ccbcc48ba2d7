"""The planes of a NIfTI file, read when they are asked for; gzip is walked through once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import UnreadableScan
from ctedge.planes import stack
from ctedge.readers.inflate import is_gzip, pieces
from ctedge.readers.nifti_header import Layout
from ctedge.readers.rescale import to_hu

#: Stored planes kept for the next model: 128 of 512 x 512, all that an input of 64 planes reads.
KEPT_BYTES = 64 << 20


class NiftiPlanes:
    """Planes across the last axis of a file of whole numbers, turned to LAS.

    Args:
        path: the file.
        layout: its header.
        order, flips: from (I, J, K) to LAS, as `ctedge.scan.nearest_axes` says; K is the last.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        order: tuple[int, int, int],
        flips: tuple[bool, bool, bool],
    ) -> None:
        self._path = path
        self._layout = layout
        self._swapped = order[0] == 1
        self._flips = flips
        i, j, k = layout.shape
        self._shape = (j, i, k) if self._swapped else (i, j, k)
        self._array: npt.NDArray[Any] | None = None
        self._kept: dict[int, bytes | bytearray] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along Left, Anterior, Superior."""
        return self._shape

    def array(self) -> npt.NDArray[Any]:
        """(X, Y, Z) HU; the whole file is read, once."""
        if self._array is None:
            self._array = stack(self)
            self._kept.clear()
        return self._array

    def each(self, indices: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
        """(X, Y) HU of the planes asked for.

        Raises:
            UnreadableScan: the file is damaged, cut off, or has gone.
        """
        if self._array is not None:
            return (self._array[:, :, index] for index in indices)
        last = self._shape[2] - 1
        places = [last - index if self._flips[2] else index for index in indices]
        return self._read(places)

    def _read(self, places: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
        missing = {place for place in places if place not in self._kept}
        try:
            if is_gzip(self._path):
                stored = self._kept | self._walked(missing) if missing else self._kept
                room = KEPT_BYTES // self._layout.plane_bytes
                self._kept = dict(list(stored.items())[:room])
                for place in places:
                    yield self._turned(stored[place])
            else:
                yield from map(self._turned, self._sought(places))
        except OSError as error:
            raise UnreadableScan(
                f"{self._path}: cannot be read",
                found=error.strerror or error,
                fix="check that the file is still there and that the medium is sound",
            ) from error

    def _sought(self, places: Sequence[int]) -> Iterator[bytes]:
        size = self._layout.plane_bytes
        with self._path.open("rb") as stream:
            for place in places:
                stream.seek(self._layout.offset + place * size)
                plane = stream.read(size)
                if len(plane) < size:
                    raise too_short(self._path, self._layout, stream.tell())
                yield plane

    def _walked(self, wanted: Collection[int]) -> dict[int, bytes | bytearray]:
        """The stored bytes of some planes, gathered while the file is inflated to its checksum."""
        size, offset = self._layout.plane_bytes, self._layout.offset
        found: dict[int, bytes | bytearray] = {place: bytearray() for place in sorted(wanted)}
        position = 0
        for piece in pieces(self._path, most=self._layout.file_bytes):
            end = position + len(piece)
            first = max((position - offset) // size, 0)
            for place in range(first, max(end - 1 - offset, -1) // size + 1):
                if place in wanted:
                    start = offset + place * size
                    part = memoryview(piece)[max(start - position, 0) : start + size - position]
                    found[place] += part
            position = end
        if position < self._layout.file_bytes:
            raise too_short(self._path, self._layout, position)
        return found

    def _turned(self, stored: bytes | bytearray) -> npt.NDArray[Any]:
        """(X, Y) HU of a stored plane."""
        layout = self._layout
        plane = np.frombuffer(stored, layout.dtype).reshape(layout.shape[:2], order="F")
        if layout.slope is not None:
            plane = to_hu(plane, slope=layout.slope, intercept=layout.intercept)
        view = plane.T if self._swapped else plane
        steps = (slice(None, None, -1) if flip else slice(None) for flip in self._flips[:2])
        return view[tuple(steps)]


def too_short(path: Path, layout: Layout, found: int) -> UnreadableScan:
    """What to raise for a file that ends before its voxels do."""
    return UnreadableScan(
        f"{path}: fewer voxels than the header promises",
        found=f"{max(found - layout.offset, 0)} bytes of voxels",
        expected=f"{layout.file_bytes - layout.offset} bytes for shape {layout.shape} of"
        f" {layout.dtype}",
        fix="copy the scan again; the file is cut off or its header is wrong",
    )
