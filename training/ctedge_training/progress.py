"""What the user sees: one line an epoch, and a moving bar where a terminal shows one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import typer


def _nothing(_line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """Where lines go, and whether bars are drawn.

    Attributes:
        say: takes one line of text.
        bars: draw moving bars on standard error.
    """

    say: Callable[[str], object]
    bars: bool

    @classmethod
    def silent(cls) -> Reporter:
        """Shows nothing."""
        return cls(say=_nothing, bars=False)

    @classmethod
    def terminal(cls) -> Reporter:
        """Prints lines, and draws bars when standard error is a terminal."""
        return cls(say=typer.echo, bars=sys.stderr.isatty())

    @contextlib.contextmanager
    def bar(self, description: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar of `total` steps; call what it yields once a step."""
        if not self.bars:
            yield lambda: None
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
            number = progress.add_task(description, total=total)
            yield lambda: progress.advance(number)
