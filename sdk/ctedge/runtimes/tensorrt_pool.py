"""The execution contexts of one engine, shared by threads: taken, given back, and closed once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TypeVar

from ctedge.errors import DeviceLost, InferenceFailed
from ctedge.interrupts import interrupts_deferred
from ctedge.lifetime import forget_frames, model_closed, require_process
from ctedge.runtimes.cuda_memory import Cuda, CudaFailure
from ctedge.runtimes.tensorrt_lane import Lane

#: Two batches at once: one is copied while the other is calculated. Each context costs as much GPU
#: memory as the network's largest layers; more of them have nothing left to overlap.
LANES = 2

Answer = TypeVar("Answer")


class _Call(SimpleQueue[None]):
    """Whose something is; it is told, as a queue is, when something has come back."""


class LanePool:
    """Gives each call a lane of its own; who finds none free waits.

    Ctrl-C may come between any two steps, and so may a signal handler or a destructor that predicts
    as well. So there is no lock: whatever is taken is taken in one step and known to be the call's,
    and a call gives back all that is its, twice: the second time where the first was interrupted.

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
        self._lanes, self._most = [first], LANES
        self._taken: dict[Lane | None, _Call] = {}  # None: the right to change what lanes there are
        self._calls: set[_Call] = set()
        self._closed = False
        self.lost: CudaFailure | None = None

    @property
    def here(self) -> bool:
        """Whether this is the process that made it; a GPU does not follow into a child."""
        return os.getpid() == self._process

    @property
    def uncaptured(self) -> str | None:
        """The first lane's reason to run without a graph, if one has any."""
        return next((lane.uncaptured for lane in list(self._lanes) if lane.uncaptured), None)

    def run(self, work: Callable[[Lane], Answer]) -> Answer:
        """Do some work with a lane for this thread alone, the GPU made current.

        Raises:
            DeviceLost: the GPU failed for good, now or in an earlier call.
            InferenceFailed: the GPU failed otherwise, TensorRT failed, the pool was closed, or this
                is a child of the process that made it.
        """
        require_process(self._process)

        def with_lane(call: _Call) -> Answer:
            with self._at_work(self._take(call)) as lane:
                return work(lane)

        with self._typed():
            return self._called(with_lane)

    def close(self) -> list[str]:
        """Refuse new calls, wait for those that run, free the lanes; interrupted, call it again.

        Returns:
            What the driver refused.
        """
        return self._called(self._close)

    def _called(self, work: Callable[[_Call], Answer]) -> Answer:
        call = _Call()
        try:
            try:
                return work(call)
            finally:
                self._leave(call)
        finally:
            self._leave(call)

    @contextlib.contextmanager
    def _at_work(self, lane: Lane) -> Iterator[Lane]:
        with self._cuda.current():
            try:
                yield lane
            except BaseException as error:
                forget_frames(error)
                lane.reset()  # what the GPU says of it goes before what TensorRT says
                raise

    def _take(self, call: _Call) -> Lane:
        self._calls.add(call)  # before it looks: it is told of what comes back behind its look
        while True:
            for lane in list(self._lanes):  # the first runs most often, and has its graph
                if self._takes(call, lane):
                    return lane
            if len(self._lanes) < self._most and self._takes(call, None):
                self._grow()
            else:
                self._require_usable()
                call.get()

    def _takes(self, call: _Call, wanted: Lane | None) -> bool:
        """Take something; whether it was free."""
        if self._taken.setdefault(wanted, call) is not call:
            return False
        self._require_usable()  # either `close` sees that it is taken, or it has closed before
        return True

    def _leave(self, call: _Call) -> None:
        """Give back what is a call's."""
        self._calls.discard(call)
        for one in list(self._taken):
            if self._taken.get(one) is call:
                del self._taken[one]
        self._tell()

    def _tell(self) -> None:
        for call in list(self._calls):
            call.put(None)

    def _grow(self) -> None:
        """One more lane, or, where that cannot be had, no more of them from now on.

        TensorRT-RTX compiles for a new context, which takes a while.
        """
        with interrupts_deferred():  # else a lane that is made may be lost with its memory
            if len(self._lanes) < self._most:
                lane = self._one_more()
                if lane is None:
                    self._most = len(self._lanes)
                else:
                    self._lanes.append(lane)
        self._taken.pop(None)
        self._tell()

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

    def _close(self, call: _Call) -> list[str]:
        self._closed = True
        self._calls.add(call)
        self._tell()
        while self._taken.setdefault(None, call) is not call or len(self._taken) > 1:
            call.get()
        failures: list[str] = []
        with interrupts_deferred():  # else what is being freed may be forgotten
            while self._lanes:
                failures += self._free(self._lanes[-1])
                self._lanes.pop()
        return failures

    def _free(self, lane: Lane) -> list[str]:
        try:
            with self._cuda.current():
                lane.close()
        except CudaFailure as failure:
            lane.let_go()  # before the engine, and before the GPU's context is given up
            return [str(failure)]  # itself, it would hold this frame
        return []

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
