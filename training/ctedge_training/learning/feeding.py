"""Batches for Keras, made ahead in other processes while the network computes."""

from __future__ import annotations

import time
from concurrent.futures import Future
from types import TracebackType

import keras

from ctedge import pool
from ctedge_training.learning.batches import Batch, Plan, make

#: Batches that are under way beyond the one in use, per process.
_AHEAD = 2


class Feeder:
    """The processes that make batches; they live as long as the training.

    Args:
        processes: 0 makes every batch where it is asked for.
    """

    def __init__(self, processes: int) -> None:
        self._executor: pool.Workers | None = None
        self._ahead = _AHEAD * processes
        if processes > 0:
            self._executor = pool.executor(processes)

    def __enter__(self) -> Feeder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def batches(self, plan: Plan) -> Batches:
        """The batches of a plan, in its order."""
        return Batches(plan, self._executor, self._ahead)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """The batches of a plan: (batch, ...) inputs and (batch, 1) targets, float32.

    Args:
        plan: what stands in them.
        executor: makes them; None makes them here.
        ahead: how many are under way.

    Attributes:
        waited_s: seconds spent on waiting for batches that were not ready, or on making them.
    """

    def __init__(self, plan: Plan, executor: pool.Workers | None = None, ahead: int = 0) -> None:
        super().__init__()
        self._plan = plan
        self._executor = executor
        self._ahead = ahead
        self._under_way: dict[int, Future[Batch]] = {}
        self.waited_s = 0.0

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Batch:
        started = time.perf_counter()
        if self._executor is None:
            batch = self._plan.work(index).make()
        else:
            # A process may start here, and inherits that.
            with pool.losses_named(), pool.interrupts_held_back():
                self._hand_out(self._executor, index)
            batch = self._executor.answer(self._under_way.pop(index))
        self.waited_s += time.perf_counter() - started
        return batch

    def _hand_out(self, executor: pool.Workers, index: int) -> None:
        for later in range(index, min(index + self._ahead + 1, len(self._plan))):
            if later not in self._under_way:
                self._under_way[later] = executor.submit(make, self._plan.work(later))
