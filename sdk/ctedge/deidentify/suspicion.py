"""Images that may show who the patient is: burned into the pixels, where no table reaches.

Refused, never cleaned. The reasons name attributes and rules, never values.
"""

from __future__ import annotations

import re
from typing import Any

from ctedge.deidentify.actions import EXTRA, PURPOSE
from ctedge.deidentify.comments import is_foreign
from ctedge.deidentify.frames import Beyond, follow
from ctedge.deidentify.opaque import pixel_tag
from ctedge.extras import require

#: CT Image, Enhanced CT and Legacy Converted Enhanced CT Image Storage, PS3.4 B.5. Everything else
#: (secondary captures, reports, encapsulated documents, presentation states, …) is no CT slice.
CT_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "2.1", "2.2"))

#: The storage class of a DICOMDIR, PS3.4 B.5.
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

_PIXEL_DATA = 0x7FE00010
_SCREEN_WORDS = ("SCREEN", "SNAPSHOT", "DOSE", "REPORT", "CAPTURE", "PROTOCOL")
_DOSE_TEXT = re.compile(
    r"dose\s*(?:report|record|info|summary|page|screen)|patient\s*protocol|screen\s*(?:save|shot)",
    re.IGNORECASE,
)


def suspicions(dataset: Any) -> list[str]:
    """Why this image may carry identifying marks in its pixels, or is no CT image at all."""
    return [reason for reason, holds in _rules(dataset) if holds]


def _rules(dataset: Any) -> list[tuple[str, bool]]:
    kinds = [str(kind).strip().upper() for kind in _listed(dataset.get("ImageType"))]
    text = " ".join(
        str(dataset.get(keyword) or "")
        for keyword in ("SeriesDescription", "ProtocolName", "StudyDescription")
    )
    return [
        ("no CT image class", str(dataset.get("SOPClassUID", "")) not in CT_CLASSES),
        ("Modality is not CT", str(dataset.get("Modality", "")) != "CT"),
        ("BurnedInAnnotation is YES", _says_yes(dataset, "BurnedInAnnotation")),
        ("RecognizableVisualFeatures is YES", _says_yes(dataset, "RecognizableVisualFeatures")),
        (
            "ImageType names a screen, a capture or a dose page",
            any(word in kind for kind in kinds for word in _SCREEN_WORDS),
        ),
        ("ImageType is DERIVED and SECONDARY", {"DERIVED", "SECONDARY"} <= set(kinds)),
        ("the description names a dose page or a screen", bool(_DOSE_TEXT.search(text))),
        ("ConversionType of a secondary capture", bool(dataset.get("ConversionType"))),
        ("coloured pixels", _number(dataset.get("SamplesPerPixel"), 1) != 1),
        ("an overlay inside the pixels", _has_embedded_overlay(dataset)),
        ("more bytes than pixels", _has_spare_bytes(dataset)),
        ("marks in the bits beside the pixels' own", _has_marks_beside(dataset)),
        *_of_compressed(dataset),
    ]


def _of_compressed(dataset: Any) -> list[tuple[str, bool]]:
    if pixel_tag(dataset) != _PIXEL_DATA or not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return []
    try:
        foreign = is_foreign(follow(dataset).texts)
    except Beyond as error:
        return [(f"compressed pixels with {error}", True)]
    return [("a comment in the pixels that no known encoder writes", foreign)]


def _says_yes(dataset: Any, keyword: str) -> bool:
    return any(str(value).strip().upper() == "YES" for value in _listed(dataset.get(keyword)))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _number(value: Any, default: int) -> int:
    return default if value in (None, "") else int(value)


def _has_embedded_overlay(dataset: Any) -> bool:
    """An overlay without data of its own lies in unused bits of the pixels (retired, PS3.3)."""
    for group in range(0x6000, 0x6020, 2):
        planes = [tag for tag in dataset.keys() if tag.group == group]  # noqa: SIM118
        if planes and (group << 16 | 0x3000) not in planes:
            return True
    return False


def _has_spare_bytes(dataset: Any) -> bool:
    """Native pixel data that is longer than the image: something may stand behind it."""
    counts = native_bytes(dataset)
    return counts is not None and counts[0] > counts[1] + counts[1] % 2


def native_bytes(dataset: Any) -> tuple[int, int] | None:
    """How many bytes of native pixels are there, and how many the image has; None if compressed."""
    tag = pixel_tag(dataset)
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if tag is None or (compressed and tag == _PIXEL_DATA):
        return None
    bits = 1
    for keyword, default in (
        ("Rows", 0),
        ("Columns", 0),
        ("SamplesPerPixel", 1),
        ("NumberOfFrames", 1),
        ("BitsAllocated", 0),
    ):
        bits *= _number(dataset.get(keyword), default)
    return len(dataset.get_item(tag).value), -(-bits // 8)


def _has_marks_beside(dataset: Any) -> bool:
    """Whether bits that are not the pixels' hold more than zeros, or copies of the highest bit.

    Old overlays lie there, and can be told by nothing else where their group is gone.
    """
    counts = native_bytes(dataset)
    width = _number(dataset.get("BitsAllocated"), 0)
    stored = _number(dataset.get("BitsStored"), width)
    high = _number(dataset.get("HighBit"), stored - 1)
    if counts is None or pixel_tag(dataset) != _PIXEL_DATA or not 0 < stored < width <= 32:
        return False
    if width % 8 or width == 24 or not stored - 1 <= high < width:
        return True
    numpy = require("numpy", extra=EXTRA, purpose=PURPOSE)
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    if width == 8:
        order = "<"
    whole = counts[0] // (width // 8) * (width // 8)
    pixels = numpy.frombuffer(dataset.PixelData[:whole], f"{order}u{width // 8}")
    beyond = pixels >> (high + 1)
    ones = (1 << (width - 1 - high)) - 1
    own = (pixels >> high & 1) * ones
    below = pixels & ((1 << (high + 1 - stored)) - 1)
    marked = (beyond != 0) & (beyond != own)
    if marked.any() and (padding := dataset.get("PixelPaddingValue")) is not None:
        marked &= pixels != int(padding) % (1 << width)
    return bool(marked.any() or below.any())
