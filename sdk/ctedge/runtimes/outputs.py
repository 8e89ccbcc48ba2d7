"""Which of a network's outputs are asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ctedge.errors import InferenceFailed


def require_known(names: Sequence[str], known: Collection[str]) -> None:
    """Raise InferenceFailed where an output is named that the network does not have."""
    if not set(names) <= set(known):
        raise InferenceFailed(
            "the network has no such output",
            found=", ".join(names),
            expected=f"of {', '.join(known)}",
        )
