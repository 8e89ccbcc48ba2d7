"""Opaque bytes that are the image: one pixel element, its offset tables, its lookup tables.

None is longer than the numbers beside it say, so that nothing rides along behind.
"""

from __future__ import annotations

import struct
from typing import Any

from ctedge.deidentify.frames import Beyond, follow

#: What holds the image, PS3.3 C.7.6.3 and C.7.6.24: the first of these that is there.
PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)

#: Extended Offset Table and its Lengths, PS3.3 C.7.6.3.1.8: for encapsulated pixels.
OFFSETS = (0x7FE00001, 0x7FE00002)

#: LUT Data, PS3.3 C.11.1 and C.11.2. Palettes are no part of a CT's own image, and go.
LUT_DATA = 0x00283006


def pixel_tag(dataset: Any) -> int | None:
    """Which element holds the image."""
    for tag in PIXELS:
        raw = dataset.get_item(tag) if tag in dataset else None
        if raw is not None and raw.value not in (None, b""):
            return tag
    return None


def has_fitting_offsets(dataset: Any) -> bool:
    """Whether the extended offset table and its lengths are those of the frames."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    try:
        frames = follow(dataset)
        tables = [dataset[tag].value for tag in OFFSETS]
        offsets, lengths = (struct.unpack(f"<{len(frames.offsets)}Q", table) for table in tables)
    except (Beyond, KeyError, TypeError, struct.error):
        return False
    padded = [length + length % 2 for length in frames.lengths]
    near = all(map(tuple.__contains__, zip(frames.lengths, padded, strict=True), lengths))
    return frames.single and list(offsets) == frames.offsets and near


def lookup_table(item: Any, value: Any) -> Any | None:
    """LUT Data as long as its descriptor says; None where it is shorter, or has none.

    Args:
        item: of the sequence, with the LUT Descriptor: entries (0 for 65536), first, bits.
        value: bytes, or a list of numbers.
    """
    descriptor = item.get("LUTDescriptor")
    if descriptor is None or len(descriptor) != 3:
        return None
    entries, _, bits = (int(number) & 0xFFFF for number in descriptor)
    entries = entries or 1 << 16
    if not isinstance(value, bytes):
        numbers = list(value) if hasattr(value, "__len__") else [value]
        return numbers[:entries] if len(numbers) >= entries else None
    if bits == 8 and len(value) == entries + entries % 2 and len(value) < 2 * entries:
        return value[:entries] + bytes(entries % 2)
    return value[: 2 * entries] if len(value) >= 2 * entries else None
