"""Text that an encoder, or somebody else, left in the headers of compressed frames.

Frames are carried over bit for bit, their comments with them. Only what encoders write of
themselves may pass; any other comment, and application data (Exif, for one), is suspicious.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ctedge.deidentify.actions import EXTRA, PURPOSE
from ctedge.extras import require

# JPEG and JPEG-LS (ITU-T T.81 B.1.1.3, T.87), JPEG 2000 (T.800 A.1): two bytes open a frame, then
# come segments with their length, until the first that opens coded data.
_JPEG, _JPEG2000 = b"\xff\xd8", b"\xff\x4f"
_CODED_DATA = frozenset({0xDA, 0xD9, 0x90})
_JPEG_COMMENT, _JPEG2000_COMMENT = 0xFE, 0x64

#: JFIF without a thumbnail, SPIFF, Adobe's and HP's marks: fixed fields, no text.
_FIXED_FIELDS = re.compile(
    rb"JFIF\0.{7}\0\0|LJIF\0.{8}|SPIFF\0.{24}|Adobe.{7}|mrfx[\0-\5]|HP\0?.{0,4}", re.DOTALL
)

#: What encoders say of themselves: a name, a version, and rates.
_ENCODERS = re.compile(
    rb"(?:LEAD Technologies(?: Inc\.)?|Kakadu|Kdu-Layer-Info|Created by (?:GDCM/)?OpenJPEG|"
    rb"MITRA_DICOM_STANDARD|"
    rb"Creator: JasPer|CREATOR: gd-jpeg|CharLS|Lavc|AccuSoft|Aware|Pegasus)"
    rb"[\s\w.,:;=(){}/+|^-]{0,400}\0?",
)
_LONG_NUMBER = re.compile(rb"\d{6}")


def has_foreign_comment(dataset: Any) -> bool:
    """Whether a compressed frame's header holds text that no encoder writes."""
    if "PixelData" not in dataset or not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    encaps = require("pydicom.encaps", extra=EXTRA, purpose=PURPOSE)
    little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    fragments = encaps.generate_fragments(
        dataset.PixelData[_length_of_table(dataset.PixelData) :],
        endianness="<" if little else ">",
    )
    return any(not _is_harmless(text) for fragment in fragments for text in _texts(fragment))


def _length_of_table(data: bytes) -> int:
    """The basic offset table, an item of its own (PS3.5 A.4)."""
    return 8 + int.from_bytes(data[4:8], "little")


def _texts(frame: bytes) -> Iterator[tuple[bool, bytes]]:
    """Comments and application data before the coded data: (is a comment, content)."""
    if frame[:2] not in (_JPEG, _JPEG2000):
        return
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF and frame[at + 1] not in _CODED_DATA:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        content = frame[at + 4 : at + 2 + length]
        if frame[:2] == _JPEG2000:
            if marker == _JPEG2000_COMMENT:
                yield True, content[2:]
        elif marker == _JPEG_COMMENT or 0xE0 <= marker <= 0xEF:
            yield marker == _JPEG_COMMENT, content
        at += 2 + max(length, 2)


def _is_harmless(text: tuple[bool, bytes]) -> bool:
    is_comment, content = text
    if not content.strip(b"\0 "):
        return True
    if not is_comment:
        return bool(_FIXED_FIELDS.fullmatch(content))
    return bool(_ENCODERS.fullmatch(content)) and not _LONG_NUMBER.search(content)
