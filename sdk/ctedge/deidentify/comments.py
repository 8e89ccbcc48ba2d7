"""Text that an encoder, or somebody else, left in the headers of compressed frames.

Frames are carried over bit for bit, their comments with them. Only what encoders write of
themselves may pass; any other comment, and application data (Exif, for one), is suspicious.
"""

from __future__ import annotations

import re

from ctedge.deidentify.frames import Texts

#: JFIF without a thumbnail, SPIFF and the end of its directory, Adobe's and HP's marks: fixed
#: fields, no text.
_FIXED_FIELDS = re.compile(
    rb"JFIF\0.{7}\0\0|LJIF\0.{8}|SPIFF\0.{24}|\x00{3}\x01\xff\xd8|"
    rb"Adobe.{7}|mrfx[\0-\5]|HP\0?.{0,4}",
    re.DOTALL,
)

#: What encoders say of themselves: a name, a version, and rates.
_ENCODERS = re.compile(
    rb"(?:LEAD Technologies(?: Inc\.)?|Kakadu|Kdu-Layer-Info|Created by (?:GDCM/)?OpenJPEG|"
    rb"MITRA_DICOM_STANDARD|"
    rb"Creator: JasPer|CREATOR: gd-jpeg|CharLS|Lavc|AccuSoft|Aware|Pegasus)"
    rb"[\s\w.,:;=(){}/+|^-]{0,400}\0?",
)
_LONG_NUMBER = re.compile(rb"\d{6}")


def is_foreign(texts: Texts) -> bool:
    """Whether the headers of frames hold text that no encoder writes."""
    return not all(map(_is_harmless, texts))


def _is_harmless(text: tuple[bool, bytes]) -> bool:
    is_comment, content = text
    if not content.strip(b"\0 "):
        return True
    if not is_comment:
        return bool(_FIXED_FIELDS.fullmatch(content))
    return bool(_ENCODERS.fullmatch(content)) and not _LONG_NUMBER.search(content)
