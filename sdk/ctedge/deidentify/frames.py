"""Compressed pixels, followed from the first byte to the last: nothing rides along beside frames.

Frames are not decoded. What their coded data hold is the image's; between, behind and before them
there is nothing but what the standards put there (PS3.5 A.4 and annex G, ITU-T T.81 annex B, T.87
annex C, T.800 annex A).
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ctedge.deidentify.runs import end_of_runs
from ctedge.readers.dicom.opening import MAX_ITEMS

#: Comments and application data: (is a comment, content).
Texts = list[tuple[bool, bytes]]

_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"

# Markers of JPEG, in T.81's order; 0xF7 and 0xF8 are those of JPEG-LS.
_START, _SCAN, _END, _COMMENT, _APPLICATION = 0xD8, 0xDA, 0xD9, 0xFE, range(0xE0, 0xF0)
_FRAME_LS, _PRESET_LS = 0xF7, 0xF8
_TABLES, _ARITHMETIC, _QUANTIZATION, _LINES, _RESTART = 0xC4, 0xCC, 0xDB, 0xDC, 0xDD
_SEGMENTS = {*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, 0xF7, 0xF8, 0xFE, *_APPLICATION} - {0xC8}

#: In coded data, 0xFF comes with a stuffed zero (JPEG-LS: a zero bit) or a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_LS_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")

# JPEG 2000, T.800 table A.1: what may stand before the first tile-part, and in a tile-part.
_SOT_BYTES = 8
_SOC, _SOT, _SOD, _EOC, _COM = b"\xff\x4f", 0x90, 0x93, 0xD9, 0x64
_IN_MAIN = {
    0x50,
    0x51,
    0x52,
    0x53,
    0x55,
    0x56,
    0x57,
    0x59,
    0x5C,
    0x5D,
    0x5E,
    0x5F,
    0x60,
    0x63,
    _COM,
}
_IN_PART = {0x52, 0x53, 0x58, 0x5C, 0x5D, 0x5E, 0x5F, 0x61}


class Beyond(ValueError):
    """Compressed pixels that hold more than their frames, or cannot be followed to the end."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """Compressed pixels that hold their frames and nothing else.

    Attributes:
        texts: comments and application data of the frames' headers.
        offsets: of each frame's first item, from the end of the basic offset table.
        lengths: of each frame in bytes, without the byte that pads it.
        single: every frame is one fragment.
    """

    texts: Texts
    offsets: list[int]
    lengths: list[int]
    single: bool


def follow(dataset: Any) -> Followed:
    """Follow the encapsulated pixels of a dataset.

    Raises:
        Beyond: naming what is too much, without its content.
    """
    walk = _WALKS.get(str(dataset.file_meta.TransferSyntaxUID))
    if walk is None:
        raise Beyond("a codec that is not supported")
    table, fragments = _fragments(dataset.PixelData or b"")
    coded = b"".join(content for _, content in fragments)
    starts = [0]
    for _, content in fragments:
        starts.append(starts[-1] + len(content))
    frames = int(dataset.get("NumberOfFrames") or 1)
    offsets, lengths, texts, at = [], [], Texts(), 0
    for _ in range(frames):
        place = bisect_right(starts, at) - 1
        if starts[place] != at or place == len(fragments):
            raise Beyond("frames that do not begin with a fragment each")
        try:
            end = walk(_Frame(coded, at, dataset, starts[place + 1], texts))
        except (struct.error, IndexError) as error:
            raise Beyond("a frame that does not reach its end") from error
        offsets.append(fragments[place][0])
        lengths.append(end - at)
        at = _behind_pad(starts, end)
    if at != len(coded):
        raise Beyond("more fragments than its frames need")
    if table and table != struct.pack(f"<{frames}I", *offsets):
        raise Beyond("a basic offset table that is not that of its frames")
    return Followed(texts=texts, offsets=offsets, lengths=lengths, single=len(fragments) == frames)


def _behind_pad(starts: list[int], end: int) -> int:
    """Where the next frame begins: here, or behind one byte that fills the fragment up.

    Its value is nobody's: encoders leave there what their memory held.
    """
    for at in (end, end + 1):
        if starts[bisect_right(starts, at) - 1] == at:
            return at
    raise Beyond("bytes behind the end of a frame")


def _fragments(data: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The basic offset table, and (offset of the item, content) of each fragment."""
    items: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data) and not (len(data) - at == 8 and data[at:] == _DELIMITER):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length
        if data[at : at + 4] != _ITEM or end > len(data) or (items and (not length or length % 2)):
            raise Beyond("something else in the place of a fragment")
        items.append((at, data[at + 8 : end]))
        if len(items) > MAX_ITEMS:
            raise Beyond("fragments without end")
        at = end
    if len(items) < 2:
        raise Beyond("no fragment")
    first = items[1][0]
    return items[0][1], [(begin - first, content) for begin, content in items[1:]]


@dataclass(frozen=True)
class _Frame:
    """Where a frame begins, and what is known of it."""

    coded: bytes
    at: int
    dataset: Any
    end_of_fragment: int
    texts: Texts


def _jpeg(frame: _Frame) -> int:
    """The end of a JPEG or JPEG-LS frame."""
    data, at = frame.coded, frame.at
    if data[at : at + 2] != bytes([0xFF, _START]):
        raise Beyond("a frame that does not begin as one of its codec")
    at += 2
    scanned, following = False, _MARKER
    while True:
        marker = _marker(data, at)
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _END and scanned:
            return at + 2
        if marker not in _SEGMENTS:
            raise Beyond("a marker that its codec has no use for")
        content, at = _segment(data, at)
        if marker == _COMMENT or marker in _APPLICATION:
            if scanned:
                raise Beyond("a comment behind coded data")
            frame.texts.append((marker == _COMMENT, content))
        elif not _is_exact(marker, content):
            raise Beyond("a segment that says more than it needs")
        elif marker == _FRAME_LS:
            following = _LS_MARKER
        elif marker == _SCAN:
            scanned = True
            coded = following.search(data, at)
            if coded is None:
                raise Beyond("a frame that does not reach its end")
            at = coded.start()


def _is_exact(marker: int, content: bytes) -> bool:
    """Whether a segment of JPEG is as long as the numbers in it say (T.81 B.2)."""
    if marker in (_TABLES, _QUANTIZATION):
        at = 0
        while at < len(content):
            if marker == _TABLES:
                at += 17 + sum(content[at + 1 : at + 17])
            else:
                at += 129 if content[at] >> 4 else 65
        return at == len(content)
    if marker == _SCAN:
        return len(content) == 4 + 2 * content[0]
    if marker in (_RESTART, _LINES):
        return len(content) == 2
    return marker in (_ARITHMETIC, _PRESET_LS) or len(content) == 6 + 3 * content[5]


def _jpeg_2000(frame: _Frame) -> int:
    """The end of a JPEG 2000 codestream; boxes of a JP2 file around it are none of DICOM's."""
    data, at = frame.coded, frame.at
    if data[at : at + 2] != _SOC:
        raise Beyond("a frame that does not begin as one of its codec")
    at += 2
    while (marker := _marker(data, at)) != _SOT:
        if marker not in _IN_MAIN:
            raise Beyond("a marker that its codec has no use for")
        content, at = _segment(data, at)
        if marker == _COM:
            frame.texts.append((True, content[2:]))
    while marker == _SOT:
        at = _end_of_tile_part(data, at)
        marker = _marker(data, at)
    if marker != _EOC:
        raise Beyond("a marker that its codec has no use for")
    return at + 2


def _end_of_tile_part(data: bytes, start: int) -> int:
    (length,) = struct.unpack_from(">I", data, start + 6)
    content, at = _segment(data, start)
    if len(content) != _SOT_BYTES:
        raise Beyond("a segment that says more than it needs")
    while (marker := _marker(data, at)) != _SOD:
        if marker == _COM:
            raise Beyond("a comment behind coded data")
        if marker not in _IN_PART:
            raise Beyond("a marker that its codec has no use for")
        _, at = _segment(data, at)
    end = start + length if length else data.find(bytes([0xFF, _EOC]), at)
    if not at + 2 <= end <= len(data):
        raise Beyond("a frame that does not reach its end")
    return end


def _rle(frame: _Frame) -> int:
    """The end of a frame of run lengths: each segment ends where its pixels do, PS3.5 G.5."""
    data = frame.coded[frame.at : frame.end_of_fragment]
    count, *offsets = struct.unpack_from("<16I", data)
    image = frame.dataset
    segments = int(image.get("SamplesPerPixel", 1)) * int(image.BitsAllocated) // 8
    ends = [*offsets[1:segments], len(data)]
    if count != segments or not 1 <= count <= len(offsets) or offsets[0] != 64:
        raise Beyond("a header of run lengths that is not the image's")
    if any(offsets[count:]) or any(map(int.__ge__, offsets[:count], ends)):
        raise Beyond("a header of run lengths that says more than it needs")
    pixels = int(image.Rows) * int(image.Columns)
    for start, end in zip(offsets, ends, strict=False):
        last = end_of_runs(data, start, end, pixels)
        if last is None:
            raise Beyond("run lengths that are not the image's")
        if data[last:end].strip(b"\0"):  # some writers fill a segment up
            raise Beyond("bytes behind the run lengths")
    return frame.end_of_fragment


def _marker(data: bytes, at: int) -> int:
    start, marker = struct.unpack_from(">BB", data, at)
    if start != 0xFF:
        raise Beyond("something else in the place of a marker")
    return int(marker)


def _segment(data: bytes, at: int) -> tuple[bytes, int]:
    """The content of a marker's segment, and where it ends."""
    (length,) = struct.unpack_from(">H", data, at + 2)
    end = at + 2 + length
    if length < 2 or end > len(data):
        raise Beyond("a segment that does not reach its end")
    return data[at + 4 : end], end


_STANDARD = "1.2.840.10008.1.2"
_WALKS: dict[str, Callable[[_Frame], int]] = {
    **{f"{_STANDARD}.4.{n}": _jpeg for n in (*range(50, 67), 70, 80, 81)},
    **{f"{_STANDARD}.4.{n}": _jpeg_2000 for n in (90, 91, 92, 93, 201, 202, 203)},
    f"{_STANDARD}.5": _rle,
}

#: Encapsulated transfer syntaxes whose frames can be followed, PS3.6 table A-1.
SYNTAXES = frozenset(_WALKS)
