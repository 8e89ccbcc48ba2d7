"""The same work on many items in several processes, with Ctrl-C left to the parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ctedge.errors import RuntimeUnavailable, WorkerLost
from ctedge.interrupts import interrupts_deferred

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

    Raises:
        RuntimeUnavailable: there can be no other processes here.
        WorkerLost: a process was killed, or ran out of memory.
    """
    if workers <= 1 or len(items) <= 1:
        for index, item in enumerate(items):
            yield index, work(item)
        return
    pool = executor(min(workers, len(items)))
    try:
        # The processes start here, and inherit that; one may be lost before all is handed out.
        with losses_named(), interrupts_held_back():
            futures = {pool.submit(work, item): index for index, item in enumerate(items)}
        for future in as_completed(futures):
            with losses_named():
                answer = future.result()
            yield futures[future], answer
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def executor(workers: int) -> ProcessPoolExecutor:
    """Processes that end with this one, even if it is killed.

    Start them (with the first `submit`) under `interrupts_held_back`.

    Raises:
        RuntimeUnavailable: the system gives no locks or pipes to share with them.
    """
    # "spawn": a process that has started threads (BLAS, TensorFlow) must not be forked.
    context = multiprocessing.get_context("spawn")
    try:
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_settle_in)
    except OSError as error:
        raise RuntimeUnavailable(
            "this process can share no work with others",
            found=error.strerror or error,
            expected="locks and pipes; on Linux a /dev/shm that this user may write, with space",
            fix="mount it (in a container: --shm-size=64m), or work in this process alone, with"
            " --workers 1 and in a training --feeders 0",
        ) from error


@contextlib.contextmanager
def losses_named() -> Iterator[None]:
    """Say what a broken pool of processes means.

    Raises:
        WorkerLost: inside, a worker was given work, or asked for its answer, and was gone.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerLost(
            "a worker process ended before its work was done",
            expected="enough memory for every worker; in a script, work that starts under"
            ' `if __name__ == "__main__":`',
            fix="use fewer workers, and look whether the system killed one (dmesg)",
        ) from error


#: How NumPy's linear algebra is told to stay on one thread, whichever library it was built with.
_THREAD_LIMITS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def _settle_in() -> None:
    """One BLAS thread a worker, and an end when the parent ends.

    The workers are the parallelism: BLAS threads that wait for each other on cores that are busy
    made phantoms ten times dearer (2.1 s of processor time instead of 0.2 s). It has to be said
    before NumPy is imported. A worker whose parent was killed would wait for work for ever.
    """
    for name in _THREAD_LIMITS:
        os.environ.setdefault(name, "1")
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_exit, args=(parent.sentinel,), daemon=True).start()


def _wait_and_exit(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Hold Ctrl-C back: this process hears of it when the block ends, one started inside never."""
    with _blocked_for_children(), interrupts_deferred():
        yield


@contextlib.contextmanager
def _blocked_for_children() -> Iterator[None]:
    """A process inherits the mask of the thread that starts it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
