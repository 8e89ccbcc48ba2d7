"""The planes of a NIfTI file, read when they are asked for; gzip is walked through once."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import NonFiniteVoxels, UnreadableScan
from ctedge.planes import PlanesInFiles
from ctedge.readers.inflate import is_gzip, pieces
from ctedge.readers.nifti_header import CONVERT, Layout
from ctedge.readers.rescale import to_hu


class NiftiPlanes(PlanesInFiles):
    """Planes across the last axis of a file of whole numbers.

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
        super().__init__(layout.shape, order, flips)
        self._path = path
        self._layout = layout
        self._kept: dict[int, bytes | bytearray] = {}

    def _forget(self) -> None:
        self._kept.clear()

    def _read(self, places: Sequence[int]) -> Generator[npt.NDArray[Any], None, None]:
        missing = {place for place in places if place not in self._kept}
        try:
            if is_gzip(self._path):
                stored = self._kept | self._walked(missing) if missing else self._kept
                room = self.kept_bytes // self._layout.plane_bytes
                self._kept = dict(list(stored.items())[:room])
                for place in places:
                    yield self._hu(stored[place])
            else:
                yield from map(self._hu, self._sought(places))
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
                    raise too_short(self._path, self._layout, f"{stream.tell()} bytes")
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
            raise too_short(self._path, self._layout, f"{position} bytes")
        return found

    def _hu(self, stored: bytes | bytearray) -> npt.NDArray[Any]:
        """(I, J) HU of a stored plane."""
        layout = self._layout
        plane = np.frombuffer(stored, layout.dtype).reshape(layout.shape[:2], order="F")
        if layout.slope is None:
            return plane
        hu = to_hu(plane, slope=layout.slope, intercept=layout.intercept)
        if hu.dtype.kind == "f" and not np.isfinite(hu).all():
            raise NonFiniteVoxels(
                f"{self._path}: HU beyond what a number holds",
                found=f"scl_slope {layout.slope:g}, scl_inter {layout.intercept:g}",
                fix=CONVERT,
            )
        return hu


def too_short(path: Path, layout: Layout, found: str) -> UnreadableScan:
    """What to raise for a file that ends before its voxels do."""
    return UnreadableScan(
        f"{path}: fewer voxels than the header promises",
        found=found,
        expected=f"{layout.file_bytes} bytes for shape {layout.shape} of {layout.dtype}",
        fix="copy the scan again; the file is cut off or its header is wrong",
    )
