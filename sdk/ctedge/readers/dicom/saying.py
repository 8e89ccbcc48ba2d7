"""How messages name an option of `read_scan`: with the places that take it, for not all do."""

from __future__ import annotations


def places_of(option: str, value: object) -> str:
    """Where a user can name an option.

    Args:
        option: of `read_scan`.
        value: that a user might choose.
    """
    return (
        f"read_scan(..., {option}={value!r}), `--{option.replace('_', '-')} {value}` of"
        f" `ctedge predict`, `assess` or `bench`, or a column `{option}` in the table of"
        " `ctedge batch`"
    )
