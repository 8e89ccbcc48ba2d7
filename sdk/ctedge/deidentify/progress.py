"""A bar on the terminal, for jobs on many files."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(description: str) -> Iterator[Callable[[int], Callable[[], None]]]:
    """What to call with the number of files; what that returns is called once for each.

    Drawn only where standard error is a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda _total: lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:

        def begin(total: int) -> Callable[[], None]:
            number = progress.add_task(description, total=total)
            return lambda: progress.advance(number)

        yield begin
