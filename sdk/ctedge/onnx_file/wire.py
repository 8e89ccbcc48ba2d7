"""A protobuf message's wire format, walked: fields of known numbers and kinds, nothing else.

A real parser forgives: it merges a message that comes twice, takes the last of two numbers,
skips what it does not know. Two parsers can then read one file differently. This walker refuses
all three, so what it saw is what a real parser will see.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class Kind(Enum):
    """How a field may be written: the wire types it takes, and whether it may come again."""

    INT = (frozenset((_VARINT,)), False)
    INTS = (frozenset((_VARINT, _LENGTH)), True)
    FLOAT = (frozenset((_FIXED32,)), False)
    FLOATS = (frozenset((_FIXED32, _LENGTH)), True)
    BYTES = (frozenset((_LENGTH,)), False)
    MANY = (frozenset((_LENGTH,)), True)

    def __init__(self, wire_types: frozenset[int], repeated: bool) -> None:
        self.wire_types = wire_types
        self.repeated = repeated


class MalformedError(ValueError):
    """The bytes are no message of this kind."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its number, and its value as an integer or as bytes (whichever it has)."""

    number: int
    integer: int
    data: memoryview

    @property
    def text(self) -> str:
        """The bytes as UTF-8 text."""
        try:
            return str(self.data, "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedError(f"field {self.number} is no UTF-8 text") from error


class Walker:
    """Yields the fields of messages, within a budget that bounds the time one file can take."""

    def __init__(self, most_fields: int = 1_000_000) -> None:
        self._left = most_fields

    def fields(self, data: memoryview, where: str, known: Mapping[int, Kind]) -> Iterator[Field]:
        """Yield each field of one message.

        Args:
            data: the message's bytes, without tag and length.
            where: the message's name, for error messages.
            known: the kinds of the fields that may occur, by field number.

        Raises:
            MalformedError: truncated, an unknown field, another wire type, or a single field twice.
        """
        position, end = 0, len(data)
        seen: set[int] = set()
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise MalformedError("more fields than any honest model has")
            tag, position = _varint(data, position)
            number, wire_type = tag >> 3, tag & 7
            kind = known.get(number)
            if kind is None or wire_type not in kind.wire_types:
                raise MalformedError(
                    f"{where} has an unknown field {number} of wire type {wire_type}"
                )
            if number in seen and not kind.repeated:
                raise MalformedError(f"{where} has its single field {number} twice")
            seen.add(number)
            value = 0
            start = position
            if wire_type == _VARINT:
                value, position = _varint(data, position)
            elif wire_type == _LENGTH:
                length, start = _varint(data, position)
                position = start + length
            else:
                position += 4
            if position > end:
                raise MalformedError(f"field {number} of {where} runs past its end")
            yield Field(number, value, data[start:position])


def numbers(field: Field) -> list[int]:
    """Signed whole numbers of a field: one, or several packed into its bytes.

    Raises:
        MalformedError: packed ones that are cut short.
    """
    values, position = [], 0
    while position < len(field.data):
        value, position = _varint(field.data, position)
        values.append(value - (1 << 64) if value >> 63 else value)
    return values


def encoded(number: int, value: int | bytes | memoryview) -> bytes:
    """One field as it is written: a number as a varint, bytes with their length before them."""
    if isinstance(value, int):
        return _number(number << 3 | _VARINT) + _number(value)
    return b"".join((head(number, len(value)), value))


def head(number: int, length: int) -> bytes:
    """What stands before so many bytes of a field: whoever joins megabytes joins them once."""
    return _number(number << 3 | _LENGTH) + _number(length)


def _number(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64 or (byte == 0 and shift):
                break  # more than 64 bits, or padded: no writer does either
            return value, position
    raise MalformedError("truncated or overlong number")
