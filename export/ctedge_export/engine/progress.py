"""How far a build is, from the builder's own monitor; and the way to stop it."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Watcher(Protocol):
    """Told of the phases of a build; phases nest, and several go on at once."""

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins."""

    def step(self, phase: str, step: int) -> None:
        """The step of that number is done."""

    def finish(self, phase: str) -> None:
        """A phase is over."""


class Unwatched:
    """The Watcher that shows nothing."""

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins."""

    def step(self, phase: str, step: int) -> None:
        """A step is done."""

    def finish(self, phase: str) -> None:
        """A phase is over."""


class _Bars:
    """One bar a phase, indented under its parent's."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._tasks: dict[str, tuple[Any, int]] = {}

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        depth = self._tasks[parent][1] + 1 if parent in self._tasks else 0
        task = self._progress.add_task(f"{'  ' * depth}{phase}", total=steps)
        self._tasks[phase] = (task, depth)

    def step(self, phase: str, step: int) -> None:
        if phase in self._tasks:
            self._progress.update(self._tasks[phase][0], completed=step + 1)

    def finish(self, phase: str) -> None:
        if phase in self._tasks:
            self._progress.remove_task(self._tasks.pop(phase)[0])


@contextlib.contextmanager
def bars(*, shown: bool | None = None) -> Iterator[Watcher]:
    """Bars on standard error.

    Args:
        shown: None means where standard error is a terminal.
    """
    if not (sys.stderr.isatty() if shown is None else shown):
        yield Unwatched()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bars(progress)


def monitor(trt: Any, watcher: Watcher, stop: threading.Event) -> Any:
    """An `IProgressMonitor` that tells the watcher, and ends the build once `stop` is set.

    It is called from native code, which nothing may be raised through: a watcher that fails is
    not asked again.
    """
    broken = threading.Event()

    def tell(call: Callable[[], None]) -> None:
        if broken.is_set():
            return
        try:
            call()
        except Exception:  # noqa: BLE001 (see above)
            broken.set()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc] # a class of the imported module
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            tell(lambda: watcher.start(name, parent, steps))

        def step_complete(self, name: str, step: int) -> bool:
            tell(lambda: watcher.step(name, step))
            return not stop.is_set()

        def phase_finish(self, name: str) -> None:
            tell(lambda: watcher.finish(name))

    return Monitor()
