"""The planes of a NIfTI file, read when they are asked for; gzip is walked through once.

A thread inflates what comes next while planes that have come are used.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import NonFiniteVoxels, UnreadableScan, counted
from ctedge.planes import PlanesInFiles
from ctedge.readers.inflate import pieces
from ctedge.readers.nifti_header import CONVERT, Layout
from ctedge.readers.rescale import to_hu
from ctedge.readers.same_file import SameFile
from ctedge.readers.threads import Threads

if TYPE_CHECKING:
    from concurrent.futures import Future

_Bytes = bytes | bytearray

#: Pieces of 4 MiB that are inflated beyond the one in use.
_AHEAD = 2


class NiftiPlanes(PlanesInFiles):
    """Planes across the last axis of a file of whole numbers.

    Args:
        file: of which the header was read.
        layout: its header.
        order, flips: from (I, J, K) to LAS, as `ctedge.scan.nearest_axes` says; K is the last.
        packed: whether it is gzip.
    """

    def __init__(
        self,
        file: SameFile,
        layout: Layout,
        order: tuple[int, int, int],
        flips: tuple[bool, bool, bool],
        *,
        packed: bool,
    ) -> None:
        super().__init__(layout.shape, order, flips)
        self._file = file
        self._path = file.path
        self._packed = packed
        self._layout = layout
        self._kept: dict[int, _Bytes] = {}

    def _forget(self) -> None:
        self._kept.clear()

    def _read(self, places: Sequence[int]) -> Generator[npt.NDArray[Any], None, None]:
        try:
            stored = self._inflated(places) if self._packed else self._sought(places)
            with contextlib.closing(stored):
                yield from map(self._hu, stored)
        except OSError as error:
            raise UnreadableScan(
                f"{self._path}: cannot be read",
                found=error.strerror or error,
                fix="check that the file is still there and that the medium is sound",
            ) from error

    def _sought(self, places: Sequence[int]) -> Generator[_Bytes, None, None]:
        """The stored bytes of planes; the last is held back as that of gzip is, for `check`."""
        size = self._layout.plane_bytes
        with self._file.opened() as stream:
            for number, place in enumerate(places, 1):
                stream.seek(self._layout.offset + place * size)
                plane = stream.read(size)
                if len(plane) < size:
                    raise too_short(self._path, self._layout, counted(stream.tell(), "byte"))
                if number == len(places):
                    self._file.check(stream)
                yield plane

    def _inflated(self, places: Sequence[int]) -> Generator[_Bytes, None, None]:
        """The stored bytes of planes, each as soon as the walk through the file has come by.

        The last is held back until the checksum was compared: of a damaged file nobody gets all
        that was asked for, wherever the damage is.
        """
        kept, still = dict(self._kept), Counter(places)
        found = {place: kept[place] for place in still if place in kept}
        room = self.kept_bytes // self._layout.plane_bytes
        with contextlib.closing(self._walked(still.keys() - kept.keys())) as walk:
            for number, place in enumerate(places, 1):
                while place not in found or number == len(places):
                    passed, stored = next(walk, (None, b""))
                    if passed is None:  # to the end, and sound
                        self._kept = kept
                        break
                    found[passed] = stored
                    if len(kept) < room:
                        kept[passed] = stored
                still[place] -= 1
                yield found[place] if still[place] else found.pop(place)

    def _walked(self, wanted: Collection[int]) -> Generator[tuple[int, _Bytes], None, None]:
        """Some planes and their places, in order, while the file is inflated to its checksum."""
        if not wanted:
            return
        size, offset = self._layout.plane_bytes, self._layout.offset
        position, found = 0, bytearray()
        with contextlib.closing(_ahead(pieces(self._file, most=self._layout.file_bytes))) as coming:
            for piece in coming:
                end = position + len(piece)
                first = max((position - offset) // size, 0)
                for place in range(first, max(end - 1 - offset, -1) // size + 1):
                    if place in wanted:
                        start = offset + place * size
                        part = slice(max(start - position, 0), start + size - position)
                        found += memoryview(piece)[part]
                        if len(found) == size:
                            yield place, found
                            found = bytearray()
                position = end
        if position < self._layout.file_bytes:
            raise too_short(self._path, self._layout, counted(position, "byte"))

    def _hu(self, stored: _Bytes) -> npt.NDArray[Any]:
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


def _ahead(items: Iterator[bytes]) -> Generator[bytes, None, None]:
    """The same items in order, the next ones asked for in a thread; closing it ends the thread."""
    coming: deque[Future[bytes | None]] = deque()
    with Threads(1, "ctedge-inflate") as thread:  # one: what it did not take, nobody does
        while True:
            while len(coming) <= _AHEAD and (begun := thread.begin(lambda: next(items, None))):
                coming.append(begun)
            item = coming.popleft().result() if coming else next(items, None)
            if item is None:
                return
            yield item
