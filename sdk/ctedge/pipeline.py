"""Many items, one after another: the next is prepared while one is judged."""

from __future__ import annotations

import inspect
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from ctedge.errors import CTEdgeError
from ctedge.interrupts import interrupts_deferred
from ctedge.lifetime import forget_frames, require_process, starting_threads

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")


def _kept(error: CTEdgeError) -> CTEdgeError:
    return error


class InStep(Generator[Answer | CTEdgeError, None, None]):
    """Yields judge(prepare(item)) of each item, in order; the next is prepared in a thread.

    Closed, at its end, or left by an error that it raises, it ends that thread: it waits for the
    item that is being prepared, and not for `items` to give one more, which nobody would look at.

    Dropped, it waits for nothing, and the thread ends by itself after that item: the garbage
    collector may drop it in any thread, under any lock, also one that the preparing waits for.

    Args:
        items: where they come from, also without end; asked in the thread, so that the answer to
            one item never waits for the next to come.
        prepare: runs in the thread.
        judge: runs where the generator is asked.
        ahead: how many prepared items may wait, beyond the one that is being judged.
        failed: what stands in the place of an item, of the CTEdgeError that preparing or judging
            it raised; or raises. Any other error, and every error of `items` itself, is raised in
            its place. After what is raised nothing follows.
    """

    def __init__(
        self,
        items: Iterable[Item],
        prepare: Callable[[Item], Prepared],
        judge: Callable[[Prepared], Answer],
        *,
        ahead: int = 1,
        failed: Callable[[CTEdgeError], Answer | CTEdgeError] = _kept,
    ) -> None:
        self._worker: _Worker[Any, Any] = _Worker(items, prepare, ahead)
        self._outcomes = _outcomes(self._worker, judge, failed)

    def send(self, _value: None = None) -> Answer | CTEdgeError:
        """The next outcome."""
        try:
            return next(self._outcomes)
        except BaseException:  # the end, too; but not where two threads ask at once
            if inspect.getgeneratorstate(self._outcomes) == inspect.GEN_CLOSED:
                self.close()
            raise

    def throw(self, *error: Any) -> Answer | CTEdgeError:
        """Close it, and raise the error."""
        self.close()
        return super().throw(*error)

    def close(self) -> None:
        """Prepare nothing more, and wait until nothing is being prepared."""
        self._outcomes.close()
        self._worker.stop()  # also where Ctrl-C kept the line above, or its own end, from it
        self._worker.wait()


def _outcomes(
    worker: _Worker[Item, Prepared],
    judge: Callable[[Prepared], Answer],
    failed: Callable[[CTEdgeError], Answer | CTEdgeError],
) -> Generator[Answer | CTEdgeError, None, None]:
    try:
        worker.start()
        while worker.has_more():
            # Neither is held here while the next one is waited for.
            yield _settled(_judged(worker.take(), judge), failed)
    finally:
        worker.stop()


@dataclass(frozen=True)
class _Ready(Generic[Prepared]):
    """A prepared item."""

    prepared: Prepared


@dataclass(frozen=True)
class _Failed:
    """Why there is none; `final` where it is not this one item's failure."""

    error: BaseException
    final: bool


def _judged(
    step: _Ready[Prepared] | _Failed, judge: Callable[[Prepared], Answer]
) -> Answer | CTEdgeError:
    if isinstance(step, _Failed):
        if isinstance(step.error, CTEdgeError) and not step.final:
            return step.error
        raise step.error
    try:
        return judge(step.prepared)
    except CTEdgeError as error:
        return error


def _settled(
    outcome: Answer | CTEdgeError, failed: Callable[[CTEdgeError], Answer | CTEdgeError]
) -> Answer | CTEdgeError:
    """An answer as it is; an error that holds the item no longer, however long it is kept."""
    if not isinstance(outcome, CTEdgeError):
        return outcome
    forget_frames(outcome)
    return failed(outcome)


class _Worker(Generic[Item, Prepared]):
    """A thread that asks for items and prepares them, in order, and no more than it may.

    `stop` may be called by the garbage collector, in any thread and between any two steps, so it
    takes no lock: what is shared is written by one side at a time, or is a queue of the kind that
    destructors may put to.
    """

    def __init__(
        self, items: Iterable[Item], prepare: Callable[[Item], Prepared], ahead: int
    ) -> None:
        self._items, self._prepare, self._ahead = iter(items), prepare, ahead
        self._orders: SimpleQueue[None] = SimpleQueue()
        self._handed: SimpleQueue[bool] = SimpleQueue()
        self._ready: deque[_Ready[Prepared] | _Failed] = deque()
        self._asking = self._stopped = False
        self._process = os.getpid()
        # A daemon: who gives the items may never give another, and the program must end.
        self._thread = threading.Thread(target=self._work, name="ctedge-prepare", daemon=True)

    def start(self) -> None:
        """Start the thread.

        Raises:
            InferenceFailed: there is none to be had, or this is a child of the process.
        """
        require_process(self._process)
        with starting_threads(), interrupts_deferred():  # else it may be left half started
            self._thread.start()

    def has_more(self) -> bool:
        """Let the thread prepare one more, and wait for the next one; False where there is none."""
        require_process(self._process)
        self._orders.put(None)
        return self._handed.get()

    def take(self) -> _Ready[Prepared] | _Failed:
        """The next one, in order."""
        return self._ready.popleft()

    def stop(self) -> None:
        """Prepare nothing more; what is being prepared is thrown away. Waits for nothing."""
        self._stopped = True
        self._ready.clear()
        self._orders.put(None)

    def wait(self) -> None:
        """Wait, after `stop`, until nothing is being prepared."""
        if os.getpid() != self._process or self._asking:
            return  # no thread of this process; or it prepares nothing when it has its item
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        for number in itertools.count():
            if number >= self._ahead:
                self._orders.get()
            if self._stopped or not self._hand_over(self._step()):
                break
        self._handed.put(False)

    def _step(self) -> _Ready[Prepared] | _Failed | None:
        """Ask for an item and prepare it; None where there is none, or it is no longer wanted."""
        # Either `wait` sees that it asks, or it sees here that it was stopped before.
        self._asking = True
        try:
            if self._stopped:
                return None
            item = next(self._items)
        except StopIteration:
            return None
        except BaseException as error:  # noqa: BLE001 - raised where the item is waited for
            return _Failed(error, final=True)
        finally:
            self._asking = False
        if self._stopped:
            return None
        try:
            return _Ready(self._prepare(item))
        except BaseException as error:  # noqa: BLE001 - raised where the item is waited for
            return _Failed(error, final=False)

    def _hand_over(self, step: _Ready[Prepared] | _Failed | None) -> bool:
        """Hand a step over; whether there may be another."""
        if step is None:
            return False
        self._ready.append(step)
        if self._stopped:  # maybe after `stop` has thrown away what there was
            self._ready.clear()
            return False
        self._handed.put(True)
        return isinstance(step, _Ready) or not step.final
