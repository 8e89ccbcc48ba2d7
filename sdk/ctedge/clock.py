"""Wall time of the stages of a prediction."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Clock:
    """Times named stages.

    Attributes:
        stages_ms: milliseconds of each stage so far.
    """

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        start = time.perf_counter()
        yield
        self.stages_ms[name] = (time.perf_counter() - start) * 1e3

    def finish(self) -> dict[str, float]:
        """Milliseconds of every stage, and their sum: what lies between them is not counted."""
        return _summed(self.stages_ms)


def with_earlier(
    timings_ms: Mapping[str, float], earlier_ms: Mapping[str, float]
) -> dict[str, float]:
    """The timings of an answer, some stages of which were done before the door was asked.

    Args:
        timings_ms: as `Clock.finish` gives them; of those stages next to nothing.
        earlier_ms: what they took.
    """
    stages = {name: earlier_ms.get(name, ms) for name, ms in timings_ms.items() if name != "total"}
    return _summed(stages)


def _summed(stages_ms: Mapping[str, float]) -> dict[str, float]:
    total = sum(stages_ms.values())
    return {name: round(ms, 3) for name, ms in {**stages_ms, "total": total}.items()}
