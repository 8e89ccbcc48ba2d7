"""Hands out work to a pool, and has Ctrl-C pressed meanwhile; says what became of it.

`python pool_interrupted.py PRESS FOLDER`: each item that was worked on is a file in FOLDER.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ctedge import pool


class Interrupting(Sequence[Path]):
    """Items of which asking for the third is when Ctrl-C is pressed."""

    def __init__(self, folder: Path, count: int, press: Callable[[], None]) -> None:
        self._items = [folder / str(number) for number in range(count)]
        self._press = press

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        if index == 2:
            self._press()
        return self._items[index]


def touch_slowly(path: Path) -> None:
    path.touch()
    time.sleep(0.05)


def press_here() -> None:
    signal.raise_signal(signal.SIGINT)


def press_where_another_thread_hears() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    other.start()  # as a thread of BLAS: it was started before, without the mask
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert other.ident is not None
    signal.pthread_kill(other.ident, signal.SIGINT)
    time.sleep(0.1)
    done.set()
    other.join()


def main(press: Callable[[], None], folder: Path) -> list[str]:
    """What held afterwards."""
    held = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        list(pool.each(touch_slowly, Interrupting(folder, 300, press), workers=2))
    except KeyboardInterrupt:
        held.append("interrupted")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        held.append("handler-restored")
    if signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []):
        held.append("mask-restored")
    return held


if __name__ == "__main__":
    sys.stdout.write(" ".join(main(globals()[sys.argv[1]], Path(sys.argv[2]))))
