"""Wall time of the stages of a prediction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Times named stages."""

    def __init__(self) -> None:
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        start = time.perf_counter()
        yield
        self._stages[name] = (time.perf_counter() - start) * 1e3

    def finish(self) -> dict[str, float]:
        """Milliseconds of every stage, and their sum: what lies between them is not counted."""
        total = sum(self._stages.values())
        return {name: round(ms, 3) for name, ms in {**self._stages, "total": total}.items()}
