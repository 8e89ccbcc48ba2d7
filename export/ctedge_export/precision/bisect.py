"""Which layer breaks a gate? Found by halving, kept in float, until the gate holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def culprit(layers: Sequence[str], passes: Callable[[frozenset[str]], bool]) -> str:
    """The layer that, converted together with all before it, first breaks the gate.

    Args:
        layers: those that are converted, in an order in which they are worth it; with all of them
            the gate fails, with none it holds.
        passes: whether the gate holds when these layers are kept in float.
    """
    holds, breaks = 0, len(layers)  # numbers of converted layers, from the first on
    while breaks - holds > 1:
        middle = (holds + breaks) // 2
        if passes(frozenset(layers[middle:])):
            holds = middle
        else:
            breaks = middle
    return layers[breaks - 1]
