"""Many items, one after another: the next is prepared while one is judged."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ctedge.errors import CTEdgeError
from ctedge.lifetime import forget_frames, require_process

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")


def in_step(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared],
    judge: Callable[[Prepared], Answer],
    *,
    ahead: int = 1,
) -> Generator[Answer | CTEdgeError, None, None]:
    """Yield judge(prepare(item)) of each item, in order; the next is prepared in a thread.

    Closing the generator, or an error, ends that thread: it waits for the item that is being
    prepared, and not for `items` to give one more, which nobody would look at.

    Args:
        items: where they come from, also without end; asked in the thread, so that the answer to
            one item never waits for the next to come.
        prepare: runs in the thread.
        judge: runs where the generator is asked.
        ahead: how many prepared items may wait, beyond the one that is being judged.

    Yields:
        An answer, or the CTEdgeError that preparing or judging this item raised. Any other error,
        and every error of `items` itself, is raised in its place, and nothing follows.
    """
    worker = _Worker(items, prepare, ahead)
    try:
        while worker.has_more():
            # Neither is held here while the next one is waited for.
            yield _light(_judged(worker.take(), judge))
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


def _light(outcome: Answer | CTEdgeError) -> Answer | CTEdgeError:
    """An answer as it is; an error that holds the item no longer, however long it is kept."""
    if isinstance(outcome, CTEdgeError):
        forget_frames(outcome)
    return outcome


class _Worker(Generic[Item, Prepared]):
    """A thread that asks for items and prepares them, in order, and no more than it may."""

    def __init__(
        self, items: Iterable[Item], prepare: Callable[[Item], Prepared], ahead: int
    ) -> None:
        self._items, self._prepare = iter(items), prepare
        self._changed = threading.Condition()
        self._ready: deque[_Ready[Prepared] | _Failed] = deque()
        self._may = ahead
        self._asking = self._ended = self._stopped = False
        self._process = os.getpid()
        # A daemon: who gives the items may never give another, and the program must end.
        self._thread = threading.Thread(target=self._work, name="ctedge-prepare", daemon=True)
        self._thread.start()

    def has_more(self) -> bool:
        """Let the thread prepare one more, and wait for the next one; False where there is none."""
        require_process(self._process)
        with self._changed:
            self._may += 1
            self._changed.notify_all()
            while not self._ready and not self._ended:
                self._changed.wait()
            return bool(self._ready)

    def take(self) -> _Ready[Prepared] | _Failed:
        """The next one, in order."""
        return self._ready.popleft()

    def stop(self) -> None:
        """Prepare nothing more, and wait until nothing is being prepared."""
        if os.getpid() != self._process:
            return  # the thread did not follow into this child, and its lock may be held for ever
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()
            asking = self._asking
        # The thread itself comes here where it collects a generator that nobody holds.
        if not asking and threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while self._allowed() and self._put(self._step()):
            pass
        with self._changed:
            self._ended, self._asking = True, False
            self._changed.notify_all()

    def _allowed(self) -> bool:
        """Wait until one more may be prepared; False where none shall be."""
        with self._changed:
            while not self._may and not self._stopped:
                self._changed.wait()
            self._may -= 1
            self._asking = not self._stopped
            return self._asking

    def _step(self) -> _Ready[Prepared] | _Failed | None:
        """Ask for an item and prepare it; None where there is none, or it is no longer wanted."""
        try:
            item = next(self._items)
        except StopIteration:
            return None
        except BaseException as error:  # noqa: BLE001 - raised where the item is waited for
            return _Failed(error, final=True)
        with self._changed:
            self._asking = False
            if self._stopped:
                return None
        try:
            return _Ready(self._prepare(item))
        except BaseException as error:  # noqa: BLE001 - raised where the item is waited for
            return _Failed(error, final=False)

    def _put(self, step: _Ready[Prepared] | _Failed | None) -> bool:
        """Hand a step over; whether there may be another."""
        with self._changed:
            if step is None or self._stopped:
                return False
            self._ready.append(step)
            self._changed.notify_all()
            return isinstance(step, _Ready) or not step.final
