"""Protocol buffers in their text format, as far as a model's `config.pbtxt` needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias


class Word(str):
    """The name of an enumeration's value: written without quotation marks."""

    __slots__ = ()


Scalar: TypeAlias = str | int  # a bool is an int
Value: TypeAlias = "Scalar | Sequence[Scalar] | Message | Sequence[Message]"
Message: TypeAlias = Mapping[str, Value]


def render(message: Message) -> str:
    """A message as text; fields in the order given, a repeated message once for each.

    Raises:
        TypeError: a value that the format does not have.
    """
    return "".join(f"{line}\n" for line in _lines(message))


def entries(values: Mapping[str, Scalar | Message]) -> list[Message]:
    """A map field, which the format writes as repeated pairs of key and value."""
    return [{"key": key, "value": value} for key, value in values.items()]


def _lines(message: Message) -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, Mapping):
            yield from _block(name, value)
        elif isinstance(value, str | int):
            yield f"{name}: {_scalar(value)}"
        elif isinstance(value, Sequence):
            scalars = [item for item in value if not isinstance(item, Mapping)]
            for item in value:
                if isinstance(item, Mapping):
                    yield from _block(name, item)
            if scalars:
                yield f"{name}: [ {', '.join(map(_scalar, scalars))} ]"
        else:
            raise TypeError(f"{name}: {type(value).__name__} has no place in the text format")


def _block(name: str, message: Message) -> Iterator[str]:
    yield f"{name} {{"
    yield from (f"  {line}" for line in _lines(message))
    yield "}"


def _scalar(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} has no place in the text format")
    if isinstance(value, Word):
        return str(value)
    return f'"{"".join(map(_escaped, value.encode()))}"'


def _escaped(byte: int) -> str:
    """One byte of UTF-8: as it is where that is plain ASCII, else in octal."""
    if byte in b'"\\':
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
