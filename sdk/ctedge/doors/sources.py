"""What may be given to a door: one source, or several; and what a source may fail of here."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from ctedge.errors import InputError
from ctedge.scan import CTScan

Source = str | os.PathLike[str] | CTScan | npt.ArrayLike

Door = TypeVar("Door")
Asked = ParamSpec("Asked")
Prepared = TypeVar("Prepared")


def several(sources: Iterable[Source]) -> Iterable[Source]:
    """The sources as they are, where they can be several.

    Raises:
        InputError: a path, a scan or an array: Python would take its letters, or its planes.
    """
    if not isinstance(sources, str | bytes | os.PathLike | CTScan | np.ndarray):
        return sources
    shown = sources.shape if isinstance(sources, np.ndarray) else _name(sources)
    raise InputError(
        "one thing was given where several scans are asked for",
        found=f"{type(sources).__name__} {shown}",
        expected="a list, or another iterable, of what `predict` takes",
        fix="give a list: predict_batch([scan]); one scan alone takes `predict`",
    )


def axes(source: npt.ArrayLike) -> int | None:
    """How many axes an array has, 0 of what is none; None of lists whose lengths differ."""
    try:
        return np.ndim(source)
    except ValueError:
        return None


def with_memory_errors(
    prepare: Callable[Concatenate[Door, Source, Asked], Prepared],
) -> Callable[Concatenate[Door, Source, Asked], Prepared]:
    """A scan that is too large for this machine fails alone: what it took is free afterwards."""

    @functools.wraps(prepare)
    def prepared(
        door: Door, source: Source, /, *args: Asked.args, **named: Asked.kwargs
    ) -> Prepared:
        try:
            return prepare(door, source, *args, **named)
        except MemoryError as error:
            raise InputError(
                f"{_name(source)}: not enough memory to read and prepare this scan",
                found=str(error) or "no more to be had",
                fix="free memory, judge fewer at once (ahead=0), or cut the scan to the chest",
            ) from error

    return prepared


def _name(source: Source) -> str:
    if isinstance(source, str | bytes | os.PathLike):
        return str(os.fspath(source))
    return source.source if isinstance(source, CTScan) else "array"
