"""What long jobs show: lines of text, and a moving bar where standard error is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: What to call once for each step that is done.
Advance = Callable[[], None]

#: What to call with the number of steps, before the first.
Begin = Callable[[int], Advance]


def unseen(_total: int) -> Advance:
    """The `Begin` that shows nothing."""
    return _nothing


def _nothing(_line: str = "") -> None:
    """Say nothing."""


@contextlib.contextmanager
def bar(description: str, *, shown: bool | None = None) -> Iterator[Begin]:
    """A bar, which appears when its number of steps is told.

    Args:
        description: the word beside it.
        shown: None means where standard error is a terminal.
    """
    if not (sys.stderr.isatty() if shown is None else shown):
        yield unseen
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

        def begin(total: int) -> Advance:
            number = progress.add_task(description, total=total)
            return lambda: progress.advance(number)

        yield begin


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
        import typer

        return cls(say=typer.echo, bars=sys.stderr.isatty())

    @contextlib.contextmanager
    def bar(self, description: str, total: int) -> Iterator[Advance]:
        """A bar of `total` steps; call what it yields once a step."""
        with bar(description, shown=self.bars) as begin:
            yield begin(total)
