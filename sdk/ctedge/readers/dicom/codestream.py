"""What a compressed frame says of itself, before a codec allocates memory and time for it.

A frame of a hundred bytes may claim 4 294 967 295 columns; a codec would believe it. Layouts:
ISO/IEC 15444-1 A.5.1 (SIZ), ISO/IEC 10918-1 B.2.2 (SOF), ISO/IEC 14495-1 C.2.2 (JPEG-LS).
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass

from ctedge.errors import counted


class Family(enum.Enum):
    """Kinds of frames, with the markers of the JPEG ones."""

    JPEG = frozenset({0xC0, 0xC1})  # baseline and extended: one scan
    PROGRESSIVE = frozenset({0xC2})
    LOSSLESS = frozenset({0xC3})
    JPEG_LS = frozenset({0xF7})
    JPEG_2000 = frozenset[int]()


@dataclass(frozen=True, kw_only=True)
class Codestream:
    """What a frame says of itself.

    Attributes:
        rows, columns, components: of the picture.
        bits: of a pixel.
        signed: False where the codec knows no sign.
        start: where the codestream begins.
        family: of codecs.
    """

    rows: int
    columns: int
    components: int
    bits: int
    signed: bool
    start: int
    family: Family


_J2K_START = b"\xff\x4f\xff\x51"
_JPEG_START = b"\xff\xd8"

#: SOF0 to SOF15 without DHT, JPG and DAC, and the SOF55 of JPEG-LS.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}

#: Tables, start of scan, end of image.
_TABLES, _SCAN, _END = 0xC4, 0xDA, 0xD9

#: In coded data, 0xFF comes with a stuffed zero (JPEG-LS: a zero bit) or a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_LS_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")

#: Markers that stand alone, without a length.
_ALONE = {0x01, *range(0xD0, 0xD8)}

#: Each scan costs a pass over the picture; the usual script for one component has six.
_MAX_SCANS = 64

#: Each tile of JPEG 2000 costs memory before its first bit; writers for DICOM make one, or tiles of
#: 64 pixels and more.
_LEAST_TILE = 32


def check_codestream(
    frame: bytes,
    *,
    rows: int,
    columns: int,
    bits_allocated: int,
    family: tuple[Family, ...] = tuple(Family),
) -> Codestream:
    """Refuse a JPEG, JPEG-LS or JPEG 2000 frame that is not what the DICOM header promises.

    Args:
        frame: compressed.
        rows, columns, bits_allocated: of the header.
        family: what the transfer syntax allows.

    Raises:
        ValueError: no frame of these codecs, another size, several components, more bits, or a
            frame that does not reach its end.
    """
    try:
        found = _jpeg(frame) if frame.startswith(_JPEG_START) else _jpeg_2000(frame)
        _check_promise(found, rows, columns, bits_allocated)
        if found.family not in family:
            raise ValueError(f"a compressed frame of {found.family.name}, not of its syntax")
        if found.family is Family.JPEG_2000:
            _check_tiles(frame, found)
        else:
            _check_scans(frame, found.family)
    except struct.error as error:
        raise ValueError("a compressed frame that ends in its header") from error
    return found


def _check_promise(found: Codestream, rows: int, columns: int, bits_allocated: int) -> None:
    same = (found.rows, found.columns, found.components) == (rows, columns, 1)
    if not same or not 2 <= found.bits <= bits_allocated:
        raise ValueError(
            f"a compressed frame of {found.rows} x {found.columns} pixels, {found.components}"
            f" components of {found.bits} bits; the header promises {rows} x {columns} of at most"
            f" {bits_allocated} bits"
        )


def _jpeg(frame: bytes) -> Codestream:
    """The frame header of JPEG and JPEG-LS."""
    at = len(_JPEG_START)
    while True:
        start, marker = struct.unpack_from(">BB", frame, at)
        if start != 0xFF:
            raise ValueError("a compressed frame with something else in the place of a marker")
        if marker in _FRAME_MARKERS:
            break
        if marker in (_SCAN, _END):
            raise ValueError("a compressed frame that lacks its header")
        at = _next(frame, at, marker)
    bits, height, width, components = struct.unpack_from(">BHHB", frame, at + 4)
    families = [one for one in Family if marker in one.value]
    if not families:
        raise ValueError(f"a compressed frame of JPEG's process {marker - 0xC0}")
    return Codestream(
        rows=height,
        columns=width,
        components=components,
        bits=bits,
        signed=False,
        start=0,
        family=families[0],
    )


def _check_scans(frame: bytes, family: Family) -> None:
    """Every segment to the end of the image.

    What a cut frame lacks, libjpeg fills silently, and CharLS looks for without end.
    """
    at, frames, scans, tables = len(_JPEG_START), 0, 0, family is Family.JPEG_LS
    following = _LS_MARKER if family is Family.JPEG_LS else _MARKER
    while True:
        start, marker = struct.unpack_from(">BB", frame, at)
        if start != 0xFF:
            raise ValueError("a compressed frame with something else in the place of a marker")
        frames += marker in _FRAME_MARKERS
        tables = tables or marker == _TABLES
        scans += marker == _SCAN
        if frames > 1 or scans > (_MAX_SCANS if family is Family.PROGRESSIVE else 1):
            raise ValueError(
                f"a compressed frame of {counted(frames, 'header')} and {counted(scans, 'scan')}"
            )
        if marker == _END and scans:
            return
        if marker == _END or (marker == _SCAN and not (frames and tables)):
            raise ValueError("a compressed frame that lacks its header, tables or coded data")
        at = _next(frame, at, marker)
        if marker == _SCAN:
            coded = following.search(frame, at)
            if coded is None:
                raise ValueError("a compressed frame whose coded data do not reach its end")
            at = coded.start()


def _next(frame: bytes, at: int, marker: int) -> int:
    """Where the segment of a marker ends."""
    if marker == 0xFF:  # a fill byte
        return at + 1
    if marker in _ALONE:
        return at + 2
    (length,) = struct.unpack_from(">H", frame, at + 2)
    return int(at + 2 + max(length, 2))


def _jpeg_2000(frame: bytes) -> Codestream:
    """The image and tile size segment."""
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
    return Codestream(
        rows=lower - upper,
        columns=right - left,
        components=components,
        bits=(bits & 0x7F) + 1,
        signed=bool(bits & 0x80),
        start=at,
        family=Family.JPEG_2000,
    )


def _check_tiles(frame: bytes, found: Codestream) -> None:
    width, height = struct.unpack_from(">II", frame, found.start + 24)
    if width < min(_LEAST_TILE, found.columns) or height < min(_LEAST_TILE, found.rows):
        raise ValueError(f"a compressed frame in tiles of {height} x {width} pixels")
