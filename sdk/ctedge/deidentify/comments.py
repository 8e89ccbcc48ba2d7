"""Text that an encoder, or somebody else, left in the headers of compressed frames.

Frames are carried over bit for bit, their comments with them. Only what encoders write of
themselves may pass, to the letter; any other comment, also behind an encoder's name, and
application data (Exif, for one) are suspicious.
"""

from __future__ import annotations

import re

from ctedge.deidentify.frames import Texts

#: Versions of JFIF and SPIFF, and what a resolution is stated in.
_VERSION, _UNIT = rb"[\1\2][\0-\2]", rb"[\0-\2]"

#: Across and down: no picture has 8192 dots an inch, so no two letters stand side by side.
_DENSITY = rb"(?:[\0-\x1f].){2}"

#: Two numbers of four bytes, for sizes and resolutions that need no more than two.
_TWO_SMALL = rb"(?:\0\0..){2}"

#: Application data that is fixed fields, no text: JFIF (T.871) and its lossless kin without a
#: thumbnail, SPIFF (T.84) and the end of its directory, and the colour transforms of Adobe and of
#: JPEG-LS (HP's).
_FIXED_FIELDS = re.compile(
    rb"JFIF\0" + _VERSION + _UNIT + _DENSITY + rb"\0\0|"
    rb"LJIF\0" + _VERSION + _UNIT + _DENSITY + rb"\0|"
    rb"SPIFF\0"
    + _VERSION
    + rb"[\0-\4][\1-\4]"
    + _TWO_SMALL
    + rb"[\0-\x0f][\1-\x20][\0-\x0a]"
    + _UNIT
    + _TWO_SMALL
    + rb"|"
    rb"\x00{3}\x01\xff\xd8|"
    rb"Adobe\0[\x64-\x66][\0\x40\x80\xc0]\0\0\0[\0-\2]|"
    rb"mrfx[\0-\5]",
    re.DOTALL,
)

#: What encoders say of themselves, as their sources or their files show it.
_ENCODERS = re.compile(
    rb"(?:"
    rb"LEAD Technologies Inc\. V\d\.\d\d|"
    rb"MITRA_DICOM_STANDARD|"
    rb"Kakadu-v?[1-9](?:\.\d{1,2}){1,2}|"
    rb"Kdu-Layer-Info: log_2\{Delta-D\((?:MSE|squared-error)\)/"
    rb"(?:\[2\^16\*Delta-L\(bytes\)\]|Delta-L\(bytes\))\}, L\(bytes\)\n"
    rb"(?: {0,3}-?\d{1,3}\.\d, {1,2}\d\.\de[+-]\d{2,3}\n){1,64}|"
    rb"Created by (?:GDCM/)?OpenJPEG version [0-3](?:\.\d{1,2}){1,2}(?: with JPWL)?|"
    rb"OpenJPH Ver \d(?:\.\d{1,2}){2}\.|"
    rb"Creator: JasPer Version [1-9]\.\d{1,3}\.\d{1,2}|"
    rb"CREATOR: gd-jpeg v\d\.\d \(using IJG JPEG v\d\d\),"
    rb" (?:quality = (?:100|\d{1,2})|default quality)\n|"
    rb"charls [1-9](?:\.\d{1,2}){2}|"
    rb"Lavc\d\d\.\d{1,3}\.\d{3}"
    rb")\0?",
)


def is_foreign(texts: Texts) -> bool:
    """Whether the headers of frames hold text that no encoder writes."""
    return not all(map(_is_harmless, texts))


def _is_harmless(text: tuple[bool, bytes]) -> bool:
    is_comment, content = text
    if not content.strip(b"\0 "):
        return True
    return bool((_ENCODERS if is_comment else _FIXED_FIELDS).fullmatch(content))
