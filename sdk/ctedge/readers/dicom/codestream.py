"""What a compressed frame says of its own size, before a codec allocates memory for it.

A frame of a hundred bytes may claim 4 294 967 295 columns; a codec would believe it. Layouts:
ISO/IEC 15444-1 A.5.1 (SIZ), ISO/IEC 10918-1 B.2.2 (SOF), ISO/IEC 14495-1 C.2.2 (JPEG-LS).
"""

from __future__ import annotations

import re
import struct

_J2K_START = b"\xff\x4f\xff\x51"
_JPEG_START = b"\xff\xd8"

#: SOF0 to SOF15 without DHT, JPG and DAC, and the SOF55 of JPEG-LS.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}

#: Lossless JPEG, which gdcm alone decodes; and tables, start of scan, end of image.
_LOSSLESS, _TABLES, _SCAN, _END = 0xC3, 0xC4, 0xDA, 0xD9

#: In coded data, 0xFF comes with a stuffed zero or a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

#: Markers that stand alone, without a length.
_ALONE = {0x01, *range(0xD0, 0xD8)}


def check_codestream(frame: bytes, *, rows: int, columns: int, bits_allocated: int) -> None:
    """Refuse a JPEG, JPEG-LS or JPEG 2000 frame that is not what the DICOM header promises.

    Args:
        frame: compressed.
        rows, columns, bits_allocated: of the header.

    Raises:
        ValueError: no frame of these codecs, another size, several components, or more bits.
    """
    try:
        found = _jpeg(frame) if frame.startswith(_JPEG_START) else _jpeg_2000(frame)
    except struct.error as error:
        raise ValueError("a compressed frame that ends in its header") from error
    height, width, components, bits = found
    if (height, width, components) != (rows, columns, 1) or not 2 <= bits <= bits_allocated:
        raise ValueError(
            f"a compressed frame of {height} x {width} pixels, {components} components of {bits}"
            f" bits; the header promises {rows} x {columns} of at most {bits_allocated} bits"
        )


def _jpeg(frame: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, components and their bits, of the frame header."""
    at, tables = len(_JPEG_START), False
    found: tuple[int, int, int, int] | None = None
    while True:
        start, marker = struct.unpack_from(">BB", frame, at)
        if start != 0xFF:
            raise ValueError("a compressed frame with something else in the place of a marker")
        if marker in _FRAME_MARKERS and found is None:
            bits, height, width, components = struct.unpack_from(">BHHB", frame, at + 4)
            found = (height, width, components, bits)
            if marker != _LOSSLESS:
                return found
        elif marker == _SCAN and found is not None and tables:
            _check_coded_data(frame, at)
            return found
        elif marker in (_SCAN, _END) or marker in _FRAME_MARKERS:
            raise ValueError("a compressed frame that lacks its header or tables, or has two")
        tables = tables or marker == _TABLES
        if marker == 0xFF:  # a fill byte
            at += 1
        else:
            at = at + 2 if marker in _ALONE else _past(frame, at)


def _check_coded_data(frame: bytes, at: int) -> None:
    """One scan of lossless JPEG, to its end: at anything else, gdcm may end the process."""
    found = _MARKER.search(frame, _past(frame, at))
    if found is None or found[0][1] != _END:
        raise ValueError("a compressed frame whose coded data do not reach its end")


def _past(frame: bytes, at: int) -> int:
    """Where the segment of a marker ends."""
    (length,) = struct.unpack_from(">H", frame, at + 2)
    return int(at + 2 + length)


def _jpeg_2000(frame: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, components and their bits, of the image and tile size segment."""
    at = 0
    while not frame.startswith(_J2K_START, at):  # in the boxes of a JP2 file, as some writers do
        length, kind = struct.unpack_from(">I4s", frame, at)
        if kind == b"jp2c":
            at += 8 if length != 1 else 16
            if not frame.startswith(_J2K_START, at):
                raise ValueError("a box of JPEG 2000 without a codestream")
        elif length < 8:
            raise ValueError("a compressed frame of no known codec")
        else:
            at += length
    right, lower, left, upper = struct.unpack_from(">IIII", frame, at + 8)
    components, bits = struct.unpack_from(">HB", frame, at + 40)
    return lower - upper, right - left, components, (bits & 0x7F) + 1
