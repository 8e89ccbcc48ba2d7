"""Threads that read beside the one that asks, as long as any are to be had."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ctedge.interrupts import interrupts_deferred

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Answer = TypeVar("Answer")


class Threads:
    """A pool that gives work back once it can take no more; closing it waits for what runs.

    None is to be had where the system has no more threads for this user. And once the main thread
    has ended, others may go on, but Python starts none for a pool, nor can one be imported then.

    Args:
        count: at most; at least 1.
        name: of the threads.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._takes = False
        self._count, self._started = count, list[None]()
        with contextlib.suppress(RuntimeError):
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(
                count, thread_name_prefix=name, initializer=self._started.append, initargs=(None,)
            )
            self._takes = True

    def begin(self, work: Callable[[], Answer]) -> Future[Answer] | None:
        """Have something done in a thread; None where the caller has to do it, from now on all.

        Args:
            work: may be done though None is returned, by a thread that runs already.
        """
        if self._pool is None or not self._takes:
            return None
        with contextlib.ExitStack() as begun:
            if len(self._started) < self._count:  # a signal's handler might leave it half started
                begun.enter_context(interrupts_deferred())
            with contextlib.suppress(RuntimeError):
                return self._pool.submit(work)
        self._takes = False
        return None

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
