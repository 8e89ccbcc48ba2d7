"""Reading the JSON of a manifest: nothing doubtful gets through, and each refusal names its key.

Refused: duplicate keys, NaN and infinity, numbers that overflow, lone surrogates, nesting beyond
the interpreter's limit, keys that are missing or unknown, values of another kind.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any, NoReturn

from ctedge.errors import InvalidBundle

#: Deeper JSON is refused: nothing of ours is, and walking it must not exhaust the stack.
MAX_DEPTH = 32


def parse_json(raw: bytes) -> object:
    """The document in these bytes.

    Raises:
        InvalidBundle: not UTF-8 JSON, or one of the doubtful things above.
    """
    try:
        document = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        _check_depth(document, MAX_DEPTH)
        # A lone surrogate escape parses, and would break the first print of it.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise InvalidBundle(
            "the manifest is no JSON that ctedge accepts",
            found=f"{type(error).__name__}: {shorten(str(error))}",
            fix="export the bundle again, or copy it again from where it came",
        ) from error
    return document


def _check_depth(value: object, left: int) -> None:
    if left == 0:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inside:
        _check_depth(part, left - 1)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} appears twice")
    return document


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def object_with(
    value: object, where: str, keys: set[str], *, optional: Collection[str] = ()
) -> dict[str, Any]:
    """`value` as an object with exactly these keys, and perhaps the optional ones."""
    if not isinstance(value, dict):
        refuse(where, value, "an object")
    if set(value) - set(optional) != keys:
        missing = sorted(keys - set(value))
        unknown = sorted(shorten(key) for key in set(value) - keys - set(optional))
        refuse(where, f"missing {missing}, unknown {unknown}", f"exactly the keys {sorted(keys)}")
    return value


def list_of(value: object, where: str, most: int) -> list[Any]:
    """`value` as a list of at most `most` items."""
    if not isinstance(value, list) or len(value) > most:
        refuse(where, value, f"a list of at most {most}")
    return value


def printable(value: object, where: str) -> str:
    """`value` as a short text without control characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= 128 or not value.isprintable():
        refuse(where, value, "a printable text of 1 to 128 characters")
    return value


def matching(value: object, where: str, pattern: re.Pattern[str], expected: str) -> str:
    """`value` as a text that matches a pattern as a whole."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        refuse(where, value, expected)
    return value


def refuse(where: str, found: object, expected: object) -> NoReturn:
    """Raise InvalidBundle for the key at `where`."""
    raise InvalidBundle(
        f"the manifest's key {where!r} is wrong" if where else "the manifest is wrong",
        found=shorten(found),
        expected=expected,
        fix="export the bundle again, or copy it again from where it came",
    )


def shorten(value: object) -> str:
    """A value for a message: ASCII, at most 200 characters."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 200 else f"{text[:200]}..."
