"""Linear interpolation along three axes: the arithmetic of preprocessing, in NumPy and threads.

A few planes at a time, of a size that stays in a CPU's cache. The rows that the output reads are
gathered first, which is the one time that they come from memory; then they are clipped, converted
and mixed, then planes are mixed, and columns last, of which few are left by then. Every number is
made by the same operations whichever thread makes it: the answer does not depend, to the last bit,
on how many there are.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from ctedge.cpus import usable_cpus
from ctedge.interrupts import interrupts_deferred
from ctedge.taps import Taps

Real = npt.NDArray[np.float32]
Answer = TypeVar("Answer")
Item = TypeVar("Item")

#: From an index along the slowest axis to the plane there, (middle, fast).
Fetch = Callable[[int], npt.NDArray[Any]]

#: Output planes that are made together, and what they may hold: four of 128 x 512. Between any two
#: steps a thread needs Python's lock, and to be woken for it takes tens of microseconds: where they
#: are shorter, as on a single plane, two threads take as long as one. More leaves the cache.
_TOGETHER = 8
_VOXELS_TOGETHER = 1 << 18

#: How `take` treats an index outside, of which there is none: unlike "raise" this buffers nothing,
#: and it costs a third less than "clip".
_INSIDE: Final = "wrap"

#: More threads than this wait for Python's lock, and for memory.
MAX_THREADS = 4

#: Voxels that are worth a thread: about a millisecond, several times what starting one costs.
VOXELS_A_THREAD = 1 << 20

#: Who comes first has the other CPUs to itself, and who comes meanwhile works alone: many callers
#: are threads enough. Should two come first, or a fork leave it taken, that does no harm.
_helped: object | None = None

#: A thread's working memory is kept for the next scan, up to so many bytes: had from the system
#: anew, it costs a fault for each of its pages, up to a quarter of all the time.
_KEPT = 16 << 20
_idle: deque[_Memory] = deque(maxlen=MAX_THREADS)


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """What is to be interpolated; axes are (slow, middle, fast), as the voxels lie in memory.

    Attributes:
        fetch: the planes across the slow axis.
        taps: of each axis.
        columns: of the input, along its fastest axis.
        window: HU outside are clipped; its ends become 0 and 1.
        mask: what lies outside of it becomes the window's lower end.
        volume: where the output goes.
    """

    fetch: Fetch
    taps: tuple[Taps, Taps, Taps]
    columns: int
    window: tuple[float, float]
    mask: npt.NDArray[np.bool_] | None
    volume: Real

    def run(self, threads: int) -> tuple[float, float]:
        """Fill the volume; the lowest and the highest HU of the rows that were read.

        Args:
            threads: at most. One fetches planes in the order of `Taps.inputs`, each once.
        """
        starts = deque(range(0, len(self.volume), self.together))

        def work() -> tuple[float, float]:
            worker = _Worker(self)
            try:
                while (start := _taken(starts)) is not None:
                    worker.fill(start)
            finally:  # after an error, or Ctrl-C, the other threads need not go on
                starts.clear()
                worker.end()
            return worker.lowest, worker.highest

        lowest, highest = zip(*_side_by_side(work, min(threads, len(starts))), strict=True)
        return min(lowest), max(highest)

    @property
    def together(self) -> int:
        """How many planes of the output are made together."""
        plane = len(self.taps[1]) * self.columns
        return max(min(_TOGETHER, _VOXELS_TOGETHER // plane), 1)

    def helpful_threads(self) -> int:
        """How many threads are worth starting."""
        slow, middle, _ = self.taps
        voxels = len(slow.inputs()) * 2 * len(middle) * self.columns
        return max(min(usable_cpus(), MAX_THREADS, voxels // VOXELS_A_THREAD), 1)


class _Memory:
    """Arrays that are used again and again, under names."""

    def __init__(self) -> None:
        self._bytes: dict[str, npt.NDArray[np.uint8]] = {}

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(one.nbytes for one in self._bytes.values())

    def array(
        self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32
    ) -> npt.NDArray[Any]:
        """The array of this name; it holds what the last of that name and shape was left with."""
        wanted = math.prod(shape) * np.dtype(dtype).itemsize
        if name not in self._bytes or self._bytes[name].nbytes < wanted:
            self._bytes[name] = np.empty(wanted, np.uint8)
        return self._bytes[name][:wanted].view(dtype).reshape(shape)


class _Worker:
    """One thread's share of the work."""

    def __init__(self, job: Resampling) -> None:
        self._job = job
        middle = job.taps[1]
        self._rows = np.stack([middle.lower, middle.upper])
        self._memory = _taken(_idle) or _Memory()
        plane = len(middle), job.columns
        self._mixed = self._memory.array("mixed", (2 * job.together, *plane))
        # Written out: NumPy is slower where it repeats a number along the fastest axis.
        self._row_share = np.broadcast_to(middle.share[:, np.newaxis], plane).copy()
        self._slots: dict[int, int] = {}
        self.lowest, self.highest = np.inf, -np.inf

    def fill(self, start: int) -> None:
        """A few planes of the output, from `start` on."""
        slow, _, fast = self._job.taps
        low, high = self._job.window
        part = slice(start, start + self._job.together)
        self._need(slow.inputs(part))
        wide = self._mixed_planes(part)
        side, block = (
            self._memory.array(name, (*wide.shape[:2], len(fast))) for name in ("side", "block")
        )
        wide.take(fast.lower, axis=2, out=side, mode=_INSIDE)
        wide.take(fast.upper, axis=2, out=block, mode=_INSIDE)
        _mix(side, block, fast.share, block)
        block -= np.float32(low)
        block *= np.float32(1.0 / (high - low))
        self._job.volume[part] = block

    def end(self) -> None:
        """Leave the working memory to the next."""
        if self._memory.size <= _KEPT:
            _idle.append(self._memory)

    def _need(self, indices: Sequence[int]) -> None:
        """Have these planes of the input mixed; those that still are from before are not fetched.

        Args:
            indices: each once, in the order in which planes may be fetched.
        """
        kept = [index for index in indices if index in self._slots]
        missing = [index for index in indices if index not in self._slots]
        if kept:
            self._mixed[: len(kept)] = self._mixed[[self._slots[index] for index in kept]]
        self._slots = {index: slot for slot, index in enumerate(kept + missing)}
        fetched = ((index, self._job.fetch(index)) for index in missing)
        # Slices of a DICOM series may differ in type, each with a rescaling of its own.
        for _, alike in itertools.groupby(list(fetched), key=lambda one: one[1].dtype):
            self._mix_rows(dict(alike))

    def _mix_rows(self, planes: Mapping[int, npt.NDArray[Any]]) -> None:
        """Clip planes of one type, and mix those rows of them that the output reads."""
        raw = self._gathered(list(planes.values()))
        self.lowest = min(self.lowest, float(raw.min()))
        self.highest = max(self.highest, float(raw.max()))
        clipped = _clip(raw, self._job.window, self._memory.array("real", raw.shape))
        if self._job.mask is not None:
            for part, index in zip(clipped, planes, strict=True):
                part[~self._job.mask[index][self._rows]] = self._job.window[0]
        first = self._slots[next(iter(planes))]
        out = self._mixed[first : first + len(planes)]
        _mix(clipped[:, 0], clipped[:, 1], self._row_share, out)

    def _gathered(self, planes: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """A copy of the rows that are read: (planes, lower and upper, output rows, columns)."""
        shape = (len(planes), *self._rows.shape, self._job.columns)
        raw = self._memory.array("raw", shape, planes[0].dtype)
        for plane, out in zip(planes, raw, strict=True):
            if plane.flags.c_contiguous:
                plane.take(self._rows, axis=0, out=out, mode=_INSIDE)
            else:  # `take` would copy the whole plane first
                out[...] = plane[self._rows]
        return raw

    def _mixed_planes(self, part: slice) -> Real:
        """Planes of the output before their columns are mixed: (planes, output rows, columns)."""
        slow = self._job.taps[0]
        share = slow.share[part]
        lower, upper = (
            [self._slots[index] for index in taps[part].tolist()]
            for taps in (slow.lower, slow.upper)
        )
        wide = self._memory.array("wide", (len(share), *self._mixed.shape[1:]))
        if [*lower, *upper] == [*range(0, 2 * len(share), 2), *range(1, 2 * len(share), 2)]:
            below, above = (self._mixed[first : 2 * len(share) : 2] for first in (0, 1))
            _mix(below, above, share[:, np.newaxis, np.newaxis], wide)
        else:  # some planes of the input are read by several of the output
            for plane, low, high, weight in zip(wide, lower, upper, share, strict=True):
                _mix(self._mixed[low], self._mixed[high], weight, plane)
        return wide


def _mix(
    lower: npt.NDArray[Any], upper: npt.NDArray[Any], share: np.float32 | Real, out: Real
) -> None:
    """Lower + share * (upper - lower); `out` may be `upper`, and integers are used up."""
    difference = out if upper.dtype == out.dtype else upper
    np.subtract(upper, lower, out=difference)
    np.multiply(difference, share, out=out)
    np.add(out, lower, out=out)


def _clip(raw: npt.NDArray[Any], window: tuple[float, float], real: Real) -> npt.NDArray[Any]:
    """Clip, in place where the numbers' own type holds what is inside the window, else to `real`.

    int16 stays what it is, half the bytes of float32, as long as it holds differences too.
    """
    low, high = window
    if raw.dtype == np.float32:
        return raw.clip(low, high, out=raw)
    working: type[np.floating[Any]] | None = None  # their own, which is fastest
    if raw.dtype.kind == "f":
        working = np.float32 if raw.dtype.itemsize < real.itemsize else None
    elif low == int(low) and high == int(high):
        info = np.iinfo(raw.dtype)
        low, high = (min(max(int(end), info.min), info.max) for end in window)
        if raw.dtype == np.int16 and (low, high) == window and high - low <= info.max:
            return raw.clip(low, high, out=raw)
    else:
        working = np.float64
    return np.clip(raw, low, high, out=real, dtype=working, casting="same_kind")


def _taken(some: deque[Item]) -> Item | None:
    """The next one; None where another thread has taken the last."""
    try:
        return some.popleft()
    except IndexError:
        return None


def _side_by_side(work: Callable[[], Answer], threads: int) -> list[Answer]:
    """Run the same in this thread and in others beside it; an error of any of them is raised."""
    global _helped  # noqa: PLW0603
    if threads < 2 or _helped is not None:
        return [work()]
    this = object()
    try:
        _helped = this  # a lock might be taken, and a signal's handler raise before the `try`
        with ThreadPoolExecutor(threads - 1, thread_name_prefix="ctedge-preprocess") as pool:
            others: list[Future[Answer]] = []
            # Else a thread may be left half started; and no more to be had, fewer will do.
            with interrupts_deferred(), contextlib.suppress(RuntimeError):
                others.extend(pool.submit(work) for _ in range(threads - 1))
            return [work(), *(one.result() for one in others)]
    finally:
        if _helped is this:
            _helped = None
