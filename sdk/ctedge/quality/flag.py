"""One thing that a reader of a result should know of its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Flag:
    """What stands out.

    Attributes:
        code: a short name that does not change between versions, for instance "lungs-cut-top".
        severity: "red" where the network's answer means nothing for such an input; "note" for
            what a reader should know and can weigh.
        message: one line with what was found and what it was held against.
        value: the number that was found; None where there is none.
        limit: the number it was held against.
    """

    code: str
    severity: Literal["note", "red"]
    message: str
    value: float | None = None
    limit: float | None = None

    @property
    def red(self) -> bool:
        """Whether the severity is "red"."""
        return self.severity == "red"

    def __str__(self) -> str:
        return self.message
