"""Hands out work where the system starts too few threads or processes; says what came of it.

`python pool_starved.py MISSING WHO`: WHO, "pool" or "feeder", works without the MISSING one.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import process
from multiprocessing import popen_spawn_posix, queues
from typing import Any

from ctedge import CTEdgeError, pool


def without_manager() -> None:
    """The thread that hands out the work, once the first process is there."""
    process._ExecutorManagerThread.start = no_thread  # type: ignore[attr-defined]


def without_feeder() -> None:
    """The thread that the manager starts: it ends with that."""
    queues.Queue._start_thread = no_thread  # type: ignore[attr-defined]


def without_second_process() -> None:
    """The second worker."""
    launch = popen_spawn_posix.Popen._launch
    launched: list[Any] = []

    def once(self: Any, started: Any) -> None:
        launched.append(started)
        if len(launched) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        launch(self, started)

    popen_spawn_posix.Popen._launch = once  # type: ignore[method-assign]


def no_thread(_self: object) -> None:
    raise RuntimeError("can't start new thread")


class Three:
    """A plan of three batches that nobody comes to make."""

    def __len__(self) -> int:
        return 3

    def work(self, index: int) -> int:
        return index


def fed() -> None:
    from ctedge_training.learning.feeding import Feeder

    with Feeder(2) as feeder:
        _ = feeder.batches(Three())[0]  # type: ignore[arg-type]


def pooled() -> None:
    list(pool.each(abs, [1, -2, 3], workers=2))


def main(starve: Callable[[], None], work: Callable[[], None]) -> str:
    """The error, and how many processes are left while it is kept."""
    starve()
    try:
        work()
    except CTEdgeError as error:
        return f"{error.as_dict()['type']} {len(multiprocessing.active_children())} {error}"
    return "nothing"


if __name__ == "__main__":
    works = {"pool": pooled, "feeder": fed}
    sys.stdout.write(main(globals()[f"without_{sys.argv[1]}"], works[sys.argv[2]]))
