"""The same work on many items in several processes, with Ctrl-C left to the parent."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def each(
    work: Callable[[Item], Answer], items: Sequence[Item], *, workers: int
) -> Iterator[tuple[int, Answer]]:
    """Yield (index, work(item)) as the answers come in; with one worker, in this process.

    Args:
        work: a module-level function, or a `functools.partial` of one.
        items: what to work on; sent to the other processes by pickle.
        workers: processes. The first error stops what has not begun, and is raised.
    """
    if workers <= 1 or len(items) <= 1:
        for index, item in enumerate(items):
            yield index, work(item)
        return
    # "spawn": a process that has started threads (BLAS, TensorFlow) must not be forked.
    with ProcessPoolExecutor(
        min(workers, len(items)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_leave_interrupts_to_the_parent,
    ) as pool:
        futures = {pool.submit(work, item): index for index, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
