"""One loaded model that many use: threads that share it, scans in a row, and its end."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ctedge.cpus import usable_cpus
from ctedge.errors import CTEdgeError
from ctedge.lifetime import model_closed, require_process
from ctedge.pipeline import in_step

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")


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
        self._changed = threading.Condition()
        self._running, self._closed = 0, False
        self._pool: ThreadPoolExecutor | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep the model open while a block runs.

        Raises:
            InferenceFailed: it was closed, or this is a child of the process that loaded it.
        """
        require_process(self._process)
        with self._changed:
            self._require_open()
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    async def off_loop(self, work: Callable[[], Answer]) -> Answer:
        """Run work in one of as many threads as there are CPUs; what finds none free waits.

        Raises:
            InferenceFailed: as `running`.
        """
        import asyncio

        require_process(self._process)
        with self._changed:
            self._require_open()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(usable_cpus(), thread_name_prefix="ctedge-predict")
            future = self._pool.submit(work)
        return await asyncio.wrap_future(future)

    def end(self) -> bool:
        """Refuse new uses and wait for those that run; whether the model may be freed then.

        In a child process it may not: the threads that it would wait for are not there.
        """
        if os.getpid() != self._process:
            return False
        with self._changed:
            self._closed = True
            while self._running:
                self._changed.wait()
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
        """What `in_step` yields, the model kept open while one is judged.

        An item's own error is raised, unless it is to be kept. Of a model that is over, that is
        said whatever else was wrong.
        """
        self._require_usable()

        def judge_here(prepared: Prepared) -> Answer:
            with self.running():
                return judge(prepared)

        def checked(outcome: Answer | CTEdgeError) -> Answer | CTEdgeError:
            if not isinstance(outcome, CTEdgeError):
                return outcome
            self._require_usable()
            if keep and outcome.of_one_scan:
                return outcome
            raise outcome

        with contextlib.closing(in_step(items, prepare, judge_here, ahead=ahead)) as outcomes:
            yield from map(checked, outcomes)

    def _require_usable(self) -> None:
        require_process(self._process)
        self._require_open()

    def _require_open(self) -> None:
        if self._closed:
            raise model_closed()


_uses: weakref.WeakSet[Uses] = weakref.WeakSet()
_inherited: list[Uses] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _inherited.extend(_uses))
