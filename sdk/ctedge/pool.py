"""The same work on many items in several processes, with Ctrl-C left to the parent."""

from __future__ import annotations

import contextlib
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
    ) as pool:
        with _interrupts_held_back():  # the processes start here, and inherit that
            futures = {pool.submit(work, item): index for index, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Block Ctrl-C: this process hears of it when the block ends, one started inside never."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
