"""Linear interpolation along three axes: the arithmetic of preprocessing, in NumPy and threads.

Plane after plane, at a size that stays in a CPU's cache. The rows that the output reads are
gathered first, which is the one time that they come from memory; then they are clipped, converted
and mixed, then planes are mixed, and columns last, of which few are left by then. Every number is
made by the same operations whichever thread makes it: the answer does not depend, to the last bit,
on how many there are.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ctedge.cpus import usable_cpus

Real = npt.NDArray[np.float32]
Answer = TypeVar("Answer")

#: From an index along the slowest axis to the plane there, (middle, fast).
Fetch = Callable[[int], npt.NDArray[Any]]

#: A step on a plane takes 5 to 30 microseconds, and between any two a thread needs Python's lock:
#: more threads than this wait for it.
MAX_THREADS = 4

#: Voxels that are worth a thread: about a millisecond, several times what starting one costs.
VOXELS_A_THREAD = 1 << 20

#: Output planes that are put in place together. Where they lie along the output's fastest axis,
#: eight float32 are half a cache line; with one alone, each line would be fetched sixteen times.
_TOGETHER = 8

#: Who comes first has the other CPUs to itself, and who comes meanwhile works alone: many callers
#: are threads enough. Nobody waits for it, so a fork that leaves it locked does no harm.
_helpers = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Taps:
    """For each output index of one axis: the two input indices it reads, and the upper's share."""

    lower: npt.NDArray[np.intp]
    upper: npt.NDArray[np.intp]
    share: Real

    @classmethod
    def of(cls, n_in: int, n_out: int) -> Taps:
        """Aligned ends: output i reads i * (n_in - 1) / (n_out - 1)."""
        step = (n_in - 1) / (n_out - 1) if n_out > 1 else 0.0
        position = np.minimum(np.arange(n_out) * step, n_in - 1)
        lower = np.floor(position).astype(np.intp)
        upper = np.minimum(lower + 1, n_in - 1)
        return cls(lower=lower, upper=upper, share=(position - lower).astype(np.float32))

    def turned(self, n_in: int) -> Taps:
        """The same where the input runs the other way."""
        return Taps(lower=n_in - 1 - self.lower, upper=n_in - 1 - self.upper, share=self.share)

    def __len__(self) -> int:
        return len(self.lower)

    def inputs(self) -> list[int]:
        """The input indices, each once, in the order in which they are first asked for."""
        return list(dict.fromkeys(np.stack([self.lower, self.upper], axis=1).ravel().tolist()))


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """What is to be interpolated; axes are (slow, middle, fast), as the voxels lie in memory.

    Attributes:
        fetch: the planes across the slow axis.
        taps: of each axis.
        window: HU outside are clipped; its ends become 0 and 1.
        mask: what lies outside of it becomes the window's lower end.
        volume: where the output goes.
    """

    fetch: Fetch
    taps: tuple[Taps, Taps, Taps]
    window: tuple[float, float]
    mask: npt.NDArray[np.bool_] | None
    volume: Real

    def run(self, threads: int) -> tuple[float, float]:
        """Fill the volume; the lowest and the highest HU of the rows that were read.

        Args:
            threads: at most. One fetches planes in the order of `Taps.inputs`, each once.
        """
        starts = deque(range(0, len(self.volume), _TOGETHER))

        def work() -> tuple[float, float]:
            worker = _Worker(self)
            try:
                while (start := _taken(starts)) is not None:
                    worker.fill(start)
            finally:  # after an error, or Ctrl-C, the other threads need not go on
                starts.clear()
            return worker.lowest, worker.highest

        lowest, highest = zip(*_side_by_side(work, min(threads, len(starts))), strict=True)
        return min(lowest), max(highest)

    def helpful_threads(self, columns: int) -> int:
        """How many threads are worth starting, for planes of so many columns."""
        slow, middle, _ = self.taps
        voxels = len(slow.inputs()) * 2 * len(middle) * columns
        return max(min(usable_cpus(), MAX_THREADS, voxels // VOXELS_A_THREAD), 1)


class _Worker:
    """One thread's share of the work, in arrays of its own that it uses again and again."""

    def __init__(self, job: Resampling) -> None:
        self._job = job
        _, middle, fast = job.taps
        self._rows = np.concatenate([middle.lower, middle.upper])
        self._row_share = middle.share[:, np.newaxis]
        self._kept: dict[int, Real] = {}
        self._spare: list[Real] = []
        self._block = np.empty((_TOGETHER, len(middle), len(fast)), np.float32)
        self._side = np.empty(self._block.shape[1:], np.float32)
        self._raw = np.empty((0, 0))
        self.lowest, self.highest = np.inf, -np.inf

    def fill(self, start: int) -> None:
        """A few planes of the output, from `start` on."""
        low, high = self._job.window
        part = self._job.volume[start : start + _TOGETHER]
        block = self._block[: len(part)]
        for index, plane in enumerate(block, start):
            self._make(index, plane)
        block -= np.float32(low)
        block *= np.float32(1.0 / (high - low))
        part[...] = block

    def _make(self, index: int, out: Real) -> None:
        """One output plane, in HU."""
        slow, _, fast = self._job.taps
        below, above = self._read_by(index)
        for old in self._kept.keys() - {below, above}:
            self._spare.append(self._kept.pop(old))
        lower, upper = self._plane(below), self._plane(above)
        last_use = above != below and above not in self._read_by(index + 1)
        wide = self._kept.pop(above) if last_use else self._empty_plane()
        _mix(lower, upper, slow.share[index], wide)
        wide.take(fast.lower, axis=1, out=self._side, mode="clip")
        wide.take(fast.upper, axis=1, out=out, mode="clip")
        _mix(self._side, out, fast.share, out)
        self._spare.append(wide)

    def _read_by(self, index: int) -> list[int]:
        """The two planes of the input that one of the output reads; none after the last."""
        slow = self._job.taps[0]
        return [int(taps[index]) for taps in (slow.lower, slow.upper) if index < len(slow)]

    def _plane(self, index: int) -> Real:
        """(output rows, input columns) of HU inside the window. Not to be changed."""
        if index not in self._kept:
            raw = self._gathered(self._job.fetch(index))
            self.lowest = min(self.lowest, float(raw.min()))
            self.highest = max(self.highest, float(raw.max()))
            clipped = _clip(raw, self._job.window, self._real)
            if self._job.mask is not None:
                inside = self._job.mask[index].take(self._rows, axis=0)
                clipped[~inside] = self._job.window[0]
            lower, upper = np.split(clipped, 2)
            self._kept[index] = self._empty_plane()
            _mix(lower, upper, self._row_share, self._kept[index])
        return self._kept[index]

    def _gathered(self, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy of the rows that are read: first all lower ones, then all upper ones."""
        shape = len(self._rows), plane.shape[1]
        if (self._raw.shape, self._raw.dtype) != (shape, plane.dtype):
            self._raw = np.empty(shape, plane.dtype)
            self._real = np.empty(shape, np.float32)
        if plane.flags.c_contiguous:
            # "clip" only in that it buffers nothing, as "raise" would: no index is outside.
            plane.take(self._rows, axis=0, out=self._raw, mode="clip")
        else:  # `take` would copy the whole plane first
            self._raw[...] = plane[self._rows]
        return self._raw

    def _empty_plane(self) -> Real:
        if self._spare:
            return self._spare.pop()
        return np.empty((len(self._row_share), self._raw.shape[1]), np.float32)


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


def _taken(starts: deque[int]) -> int | None:
    """The next one; None where another thread has taken the last."""
    try:
        return starts.popleft()
    except IndexError:
        return None


def _side_by_side(work: Callable[[], Answer], threads: int) -> list[Answer]:
    """Run the same in this thread and in others beside it; an error of any of them is raised."""
    if threads < 2 or not _helpers.acquire(blocking=False):
        return [work()]
    try:
        with ThreadPoolExecutor(threads - 1, thread_name_prefix="ctedge-preprocess") as pool:
            others = []
            with contextlib.suppress(RuntimeError):  # no more threads to be had: fewer will do
                others += [pool.submit(work) for _ in range(threads - 1)]
            return [work(), *(one.result() for one in others)]
    finally:
        _helpers.release()
