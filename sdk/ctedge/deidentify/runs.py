"""Run lengths (PackBits, PS3.5 G.3): where a segment of so many bytes ends."""

from __future__ import annotations

#: A count byte above this repeats the next byte; this one does nothing, and no encoder writes it.
_NOTHING = 128


def end_of_runs(data: bytes, at: int, end: int, size: int) -> int | None:
    """Where the runs that make `size` bytes end.

    Args:
        data: run lengths.
        at: where they begin.
        end: where they have to end at the latest.
        size: of what they stand for, in bytes.

    Returns:
        The place behind the last run; None where they end early, make more, or do nothing.
    """
    made = 0
    while made < size:
        if at >= end:
            return None
        count = data[at]
        if count < _NOTHING:
            at += count + 2
            made += count + 1
        elif count > _NOTHING:
            at += 2
            made += 257 - count
        else:
            return None
    return at if made == size and at <= end else None
