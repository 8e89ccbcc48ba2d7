"""How many answers are timed, and when that ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Fewer repeats have no spread worth the name; taken even where the time budget is used up.
LEAST_REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one runtime is asked for.

    Attributes:
        repeats: timed answers at most.
        warm_up: answers before them that are not timed, at most.
        seconds: the repeats end when they have taken this long, and the warm-up after a quarter of
            it; one answer of warm-up (where it is asked for) and `LEAST_REPEATS`, or all repeats
            where those are fewer, are made in any case.
    """

    repeats: int = 50
    warm_up: int = 5
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.repeats < 2 or self.warm_up < 0 or not 0 < self.seconds < math.inf:
            raise ValueError(
                f"repeats from 2, warm_up from 0, seconds above 0 and finite; got {self}"
            )
