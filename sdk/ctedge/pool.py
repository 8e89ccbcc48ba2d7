"""The same work on many items in several processes, with Ctrl-C left to the parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ParamSpec, TypeVar

from ctedge.errors import RuntimeUnavailable, WorkerLost
from ctedge.interrupts import interrupts_deferred

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Asked = ParamSpec("Asked")

#: How often it is looked whether anybody still works on what is waited for, seconds.
_LOOK_S = 1.0


def each(
    work: Callable[[Item], Answer], items: Sequence[Item], *, workers: int
) -> Iterator[tuple[int, Answer]]:
    """Yield (index, work(item)) as the answers come in; with one worker, in this process.

    Args:
        work: a module-level function, or a `functools.partial` of one.
        items: what to work on; sent to the other processes by pickle.
        workers: processes. The first error stops what has not begun, and is raised.

    Raises:
        RuntimeUnavailable: there can be no other processes here, or too few of them or of threads.
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
            places = {pool.submit(work, item): index for index, item in enumerate(items)}
        done: queue.SimpleQueue[Future[Answer]] = queue.SimpleQueue()
        for future in places:
            future.add_done_callback(done.put)
        while places:
            future = pool.next_of(done)
            with losses_named():
                answer = future.result()
            yield places.pop(future), answer
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Workers(ProcessPoolExecutor):
    """Processes that work; too few of them, or of threads, are an error of ours.

    Python's own then hangs: where its manager, the thread that hands out the work, is lost, nobody
    tells those that wait for an answer, nor the processes that wait for work.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        self._process = os.getpid()
        super().__init__(*args, **named)

    def submit(
        self, work: Callable[Asked, Answer], /, *args: Asked.args, **named: Asked.kwargs
    ) -> Future[Answer]:
        """As of any executor.

        Raises:
            RuntimeUnavailable: the process or the thread that it takes is not to be had.
        """
        try:
            return super().submit(work, *args, **named)
        except OSError as error:
            raise _too_few(error.strerror or error) from error
        except RuntimeError as error:
            if "start new thread" not in str(error):
                raise
            raise _too_few(error) from error

    def answer(self, future: Future[Answer]) -> Answer:
        """What a future of `submit` answers; waits for it.

        Raises:
            RuntimeUnavailable: nobody hands out the work any more.
            WorkerLost: a process was killed, or ran out of memory.
        """
        done: queue.SimpleQueue[Future[Answer]] = queue.SimpleQueue()
        future.add_done_callback(done.put)
        with losses_named():
            return self.next_of(done).result()

    def next_of(self, done: queue.SimpleQueue[Future[Answer]]) -> Future[Answer]:
        """The next of the futures of `submit` that add themselves to a queue when they are done.

        Raises:
            RuntimeUnavailable: nobody hands out the work any more.
        """
        while True:
            manager = self._manager()
            lost = manager is not None and not manager.is_alive()
            try:
                return done.get(timeout=_LOOK_S)
            except queue.Empty:
                if lost:  # before the wait: what it did last has come in
                    raise _too_few("the thread that hands out the work has ended") from None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of any executor; processes that nobody would tell to end are killed."""
        manager, workers = self._manager(), [*(self._processes or {}).values()]
        if manager is not None and manager.ident is None:
            self._executor_manager_thread: Any = None  # it was not started: there is none to join
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        if os.getpid() == self._process and (manager is None or not manager.is_alive()):
            for worker in workers:
                worker.kill()
                worker.join()

    def _manager(self) -> threading.Thread | None:
        manager: threading.Thread | None = getattr(self, "_executor_manager_thread", None)
        return manager


def _too_few(found: object) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        "this process cannot start the processes and threads that it is to share work with",
        found=found,
        expected="a process of two threads for each worker, and a few more",
        fix="allow more processes and threads (ulimit -u; pids.max of a container), or use fewer"
        " workers; --workers 1, and in a training --feeders 0, work in this process alone",
    )


def executor(workers: int) -> Workers:
    """Processes that end with this one, even if it is killed.

    Start them (with the first `submit`) under `interrupts_held_back`.

    Raises:
        RuntimeUnavailable: the system gives no locks or pipes to share with them, or no process.
    """
    # "spawn": a process that has started threads (BLAS, TensorFlow) must not be forked.
    context = multiprocessing.get_context("spawn")
    try:
        return Workers(workers, mp_context=context, initializer=_settle_in)
    except BlockingIOError as error:  # Python starts a process of its own with the first lock
        raise _too_few(error.strerror or error) from error
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
            expected="enough memory and threads for every worker; in a script, work that starts"
            ' under `if __name__ == "__main__":`',
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
