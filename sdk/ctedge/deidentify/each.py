"""The same work on every file, where one file may take its worker down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ctedge import pool
from ctedge.errors import WorkerLost

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: How the loss of a worker over a file is named.
LOST = "a worker process ended over it, for want of memory perhaps"


def each_file(
    work: Callable[[Item], Answer], items: Sequence[Item], *, workers: int
) -> Iterator[tuple[Item, Answer | None]]:
    """Yield (item, work(item)), as `pool.each`; a lost worker costs its item alone: (item, None).

    Where a worker is lost, the next items are done one by one in a process that works on nothing
    else: the item that it is lost over again is to blame.

    Raises:
        WorkerLost: over each of several items alone: it is not their fault. It names the first.
    """
    left = list(items)
    while left:
        done = set()
        try:
            for index, answer in pool.each(work, left, workers=workers):
                done.add(index)
                yield left[index], answer
        except WorkerLost:
            left = [item for index, item in enumerate(left) if index not in done]
        else:
            return
        suspects, left = left[: 2 * workers], left[2 * workers :]
        answers = list(_one_by_one(work, suspects))
        if len(answers) > 1 and all(answer is None for _, answer in answers):
            raise WorkerLost(
                "a worker process ended before its work was done, whatever it worked on",
                found=f"{suspects[0]}, among others",
                expected="enough memory for every worker; in a script, work that starts under"
                ' `if __name__ == "__main__":`',
                fix="use fewer workers, and look whether the system killed one (dmesg)",
            )
        yield from answers


def _one_by_one(
    work: Callable[[Item], Answer], items: Sequence[Item]
) -> Iterator[tuple[Item, Answer | None]]:
    """In one process, and in another one after each that is lost; between two items it is over
    neither of them.
    """
    left = list(items)
    while left:
        executor, begun = pool.executor(1), False
        try:
            for item in tuple(left):
                begun = False
                with pool.losses_named(), pool.interrupts_held_back():
                    future = executor.submit(work, item)
                begun = True
                answer = executor.answer(future)
                del left[0]
                yield item, answer
        except WorkerLost:
            if begun:
                yield left.pop(0), None
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
