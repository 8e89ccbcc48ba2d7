"""What a gate measured: figures with their limits, and whatever broke a rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured value that may be at most `limit`; a value that is no number never holds."""

    name: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the value is a number within its limit."""
        return self.value <= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.holds else "> "
        return f"{self.name} {self.value:.2g} {sign.strip()} {self.limit:g}"


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate's verdict on one file, on one runtime.

    Attributes:
        gate: "structural", "numeric" or "task".
        figures: what was measured against a limit.
        broken: what broke a rule, in words; empty when none did.
        details: what else the manifest keeps, as plain JSON values; a "note" among it says what
            was not measured, and why.
    """

    gate: str
    figures: tuple[Figure, ...] = ()
    broken: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every figure holds and nothing broke a rule."""
        return not self.broken and all(figure.holds for figure in self.figures)

    @property
    def worst(self) -> float:
        """The largest share that a figure takes of its limit; infinite when one is no number."""
        shares = [
            figure.value / figure.limit if figure.limit else (math.inf if figure.value else 0.0)
            for figure in self.figures
        ]
        return max((s if math.isfinite(s) else math.inf for s in shares), default=0.0)

    def __str__(self) -> str:
        failing = [str(figure) for figure in self.figures if not figure.holds]
        said = [*self.broken, *failing] or [str(figure) for figure in self.figures]
        note = self.details.get("note")
        return "; ".join([*said, note] if note else said) or "in order"

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values, for the manifest."""
        return {
            "passed": self.passed,
            "figures": {
                figure.name: {"value": number(figure.value), "limit": figure.limit}
                for figure in self.figures
            },
            "broken": list(self.broken),
            **self.details,
        }


def number(value: float) -> float | None:
    """JSON has no infinity: null says that it was no number."""
    return value if math.isfinite(value) else None
