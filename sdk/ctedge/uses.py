"""One loaded model that many use: threads that share it, scans in a row, and its end."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, Protocol, TypeVar

from ctedge.cpus import usable_cpus
from ctedge.errors import CTEdgeError, unusable_model
from ctedge.interrupts import interruptions_let_through, interrupts_deferred
from ctedge.lifetime import (
    forget_frames,
    given_to_runtime,
    model_closed,
    require_process,
    starting_threads,
)
from ctedge.pipeline import InStep

if TYPE_CHECKING:
    from ctedge.bundle.model_bundle import ModelBundle
    from ctedge.runtimes import Runtime

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")
Asked = ParamSpec("Asked")


class Uses:
    """Who uses a loaded model: it is closed under nobody, and not used in a child process.

    Args:
        model: what is used; a child process holds it to its end. Freed there, ONNX Runtime would
            wait for threads that did not follow, and hang.
    """

    def __init__(self, model: object) -> None:
        self._model = model
        _uses.add(self)
        self._process = os.getpid()
        self._running: dict[Any, int] = {}  # by the lock of each use: its thread
        self._closed = False
        self._pool: ThreadPoolExecutor | None = None
        self._opening_pool = threading.Lock()

    def run(
        self, work: Callable[Asked, Answer], /, *args: Asked.args, **named: Asked.kwargs
    ) -> Answer:
        """Do some work while the model is kept open.

        A use that is never over would hold up `end` for ever, and Ctrl-C may come between any two
        steps. So each has a lock of its own, which no other thread can give back and which may be
        given back twice, and it is left twice: the second time where the first was interrupted.

        Raises:
            InferenceFailed: it was closed, or this is a child of the process that loaded it.
        """
        require_process(self._process)
        use = threading.RLock()
        try:
            try:
                use.acquire()
                # Either `end` sees it here, or it sees below that the model was closed before.
                self._running[use] = threading.get_ident()
                self._require_open()
                with interruptions_let_through():  # else a failure hides them
                    return work(*args, **named)
            finally:
                self._leave(use)
        finally:
            self._leave(use)

    def _leave(self, use: Any) -> None:
        self._running.pop(use, None)
        with contextlib.suppress(RuntimeError):  # it was given back
            use.release()

    async def off_loop(self, work: Callable[[], Answer]) -> Answer:
        """Run work in one of as many threads as there are CPUs; what finds none free waits.

        An error of ours that comes of it holds the scan no longer, however long it is kept.

        Raises:
            InferenceFailed: as `run`; or no thread is to be had.
        """
        import asyncio

        waiting = [work]
        del work
        try:
            with starting_threads():
                future = self.run(self._submit, waiting)
            return await asyncio.wrap_future(future)
        except CTEdgeError as error:
            forget_frames(error)
            raise

    def _submit(self, waiting: list[Callable[[], Answer]]) -> Future[Answer]:
        with self._opening_pool:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(usable_cpus(), thread_name_prefix="ctedge-predict")
        with interrupts_deferred():  # else a thread may be left half started
            try:
                return self._pool.submit(_done, waiting)
            except RuntimeError:  # no thread was started, and yet it is in the queue
                waiting.clear()
                raise

    def end(self) -> bool:
        """Refuse new uses and wait for those that run; whether the model may be freed then.

        In a child process it may not: the threads that it would wait for are not there.

        Raises:
            InferenceFailed: it would wait for a use that waits for it, both in this thread.
        """
        if os.getpid() != self._process:
            return False
        if threading.get_ident() in list(self._running.values()):
            raise unusable_model(
                "the model cannot be closed within a prediction, which it would wait for",
                found=f"both in the thread {threading.current_thread().name}",
                expected="close after the prediction; of a signal handler, too",
                fix="in the handler, set a flag or call sys.exit(), and close the model behind the"
                " prediction: `with` does so",
            )
        self._closed = True
        for use in list(self._running):
            with use:
                pass
        if self._pool is not None:
            self._pool.shutdown()  # what waits in its queue is refused, each by itself
        return True

    def answers(
        self,
        items: Iterable[Item],
        prepare: Callable[[Item], Prepared],
        judge: Callable[[Prepared], Answer],
        *,
        ahead: int,
        keep: bool,
    ) -> Generator[Answer | CTEdgeError, None, None]:
        """What `InStep` yields, the model kept open while one is prepared or judged.

        An item's own error is raised, unless it is to be kept. Of a model that is over, that is
        said whatever else was wrong.
        """
        self._require_usable()

        def failed(error: CTEdgeError) -> CTEdgeError:
            self._require_usable()
            if keep and error.of_one_scan:
                return error
            raise error

        return InStep(
            items,
            lambda item: self.run(prepare, item),
            lambda prepared: self.run(judge, prepared),
            ahead=ahead,
            failed=failed,
        )

    def _require_usable(self) -> None:
        require_process(self._process)
        self._require_open()

    def _require_open(self) -> None:
        if self._closed:
            raise model_closed()


def _done(waiting: list[Callable[[], Answer]]) -> Answer:
    return waiting.pop()()


class Loaded:
    """A loaded model: threads may share it; it is not copied, and not sent to another process."""

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise unusable_model(
            "a loaded model cannot be copied, nor sent to another process",
            found=f"{kind} on its way through copy or pickle, as multiprocessing and Ray use it",
            expected="the path of its bundle",
            fix=f"send the path, and call {kind}.load(path) once in each process; threads may"
            " share one",
        )


def holding(
    kind: Callable[[ModelBundle, Runtime], Answer], bundle: ModelBundle, runtime: Runtime
) -> Answer:
    """A loaded model that holds an open runtime; where it cannot be made, the runtime is closed."""
    try:
        return kind(bundle, runtime)
    except BaseException:
        given_to_runtime(runtime.close)
        raise


class _HasUses(Protocol):
    _uses: Uses


Model = TypeVar("Model", bound=_HasUses)


def in_use(
    method: Callable[Concatenate[Model, Asked], Answer],
) -> Callable[Concatenate[Model, Asked], Answer]:
    """A method of a loaded model, which is kept open while it runs: see `Uses.run`."""

    @functools.wraps(method)
    def used(model: Model, /, *args: Asked.args, **named: Asked.kwargs) -> Answer:
        return model._uses.run(method, model, *args, **named)

    return used


_uses: weakref.WeakSet[Uses] = weakref.WeakSet()


def _hold_what_was_inherited() -> None:
    """Models are never freed in a child, not even when its interpreter frees everything at its end.

    A reference that Python does not know of is not taken away from them.
    """
    for uses in list(_uses):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(uses))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hold_what_was_inherited)
