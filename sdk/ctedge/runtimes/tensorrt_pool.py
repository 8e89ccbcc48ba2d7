"""The execution contexts of one engine, shared by threads: taken, given back, and closed once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from ctedge.errors import DeviceLost, InferenceFailed
from ctedge.lifetime import forget_frames, model_closed, require_process
from ctedge.runtimes.cuda_memory import Cuda, CudaFailure
from ctedge.runtimes.tensorrt_lane import Lane

#: Two batches at once: one is copied while the other is calculated. Each context costs as much GPU
#: memory as the network's largest layers; more of them have nothing left to overlap.
LANES = 2


class LanePool:
    """Gives each call a lane of its own; who finds none free waits.

    Args:
        cuda: the driver.
        first: a lane.
        more: makes another, inside the GPU's context; None where there can be no more.

    Attributes:
        lost: the failure after which nothing more is asked of the GPU.
    """

    def __init__(self, cuda: Cuda, first: Lane, more: Callable[[], Lane | None]) -> None:
        self._cuda, self._more = cuda, more
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._lanes, self._free = [first], [first]
        self._most, self._busy = LANES, 0
        self._growing = self._closed = False
        self.lost: CudaFailure | None = None

    @property
    def here(self) -> bool:
        """Whether this is the process that made it; a GPU does not follow into a child."""
        return os.getpid() == self._process

    @property
    def uncaptured(self) -> str | None:
        """The first lane's reason to run without a graph, if one has any."""
        return next((lane.uncaptured for lane in self._lanes if lane.uncaptured), None)

    @contextlib.contextmanager
    def lane(self) -> Iterator[Lane]:
        """A lane for this thread alone, with the GPU made current.

        Raises:
            DeviceLost: the GPU failed for good, now or in an earlier call.
            InferenceFailed: the GPU failed otherwise, TensorRT failed, the pool was closed, or this
                is a child of the process that made it.
        """
        require_process(self._process)
        with self._typed():
            lane = self._take()
            try:
                with self._cuda.current():
                    try:
                        yield lane
                    except BaseException as error:
                        forget_frames(error)
                        lane.reset()  # what the GPU says of it goes before what TensorRT says
                        raise
            finally:
                self._give_back(lane)

    def close(self) -> list[str]:
        """Refuse new calls, wait for those that run, free the lanes.

        Returns:
            What the driver refused.
        """
        failures: list[str] = []
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._busy or self._growing:
                self._changed.wait()
            lanes, self._lanes, self._free = self._lanes, [], []
            for lane in lanes:
                try:
                    with self._cuda.current():
                        lane.close()
                except CudaFailure as failure:
                    failures.append(str(failure))  # itself, it would hold this frame
                    lane.let_go()  # before the engine, and before the GPU's context is given up
        return failures

    def _take(self) -> Lane:
        with self._changed:
            while True:
                self._require_usable()
                if self._free:
                    self._busy += 1
                    return self._free.pop()  # the last one used is the one that has its graph
                if self._growing or len(self._lanes) >= self._most:
                    self._changed.wait()
                else:
                    self._grow()

    def _grow(self) -> None:
        """One more lane, or, where that cannot be had, no more of them from now on.

        The lock is let go meanwhile: TensorRT-RTX compiles for a new context, and those that run
        give their lanes back.
        """
        self._growing = True
        self._changed.release()
        try:
            lane = self._one_more()
        finally:
            self._changed.acquire()
            self._growing = False
            self._changed.notify_all()
        if lane is None:
            self._most = len(self._lanes)
        else:
            self._lanes.append(lane)
            self._free.append(lane)

    def _one_more(self) -> Lane | None:
        """A new lane; None where there is none to be had, which costs a call no more than a wait.

        Raises:
            CudaFailure: the GPU is lost.
        """
        with self._cuda.current():
            try:
                return self._more()
            except CudaFailure as failure:
                if failure.final:
                    raise
            except (InferenceFailed, RuntimeError, MemoryError):  # pybind11's own are the last two
                pass
        return None

    def _give_back(self, lane: Lane) -> None:
        with self._changed:
            self._busy -= 1
            self._free.append(lane)
            self._changed.notify_all()

    def _require_usable(self) -> None:
        if self._closed:
            raise model_closed()
        if self.lost is not None:
            raise DeviceLost(
                "the GPU was lost in an earlier call", found=self.lost, fix=self.lost.fix
            )

    @contextlib.contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except CudaFailure as failure:
            if failure.final:
                self.lost = failure
            kind = DeviceLost if failure.final else InferenceFailed
            raise kind("the GPU failed", found=failure, fix=failure.fix) from failure
        except RuntimeError as error:  # pybind11 raises these of its own
            raise InferenceFailed("TensorRT failed", found=error, fix="load it again") from error
