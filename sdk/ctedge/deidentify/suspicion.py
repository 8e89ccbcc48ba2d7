"""Images that may show who the patient is: burned into the pixels, where no table reaches.

Refused, never cleaned. The reasons name attributes and rules, never values.
"""

from __future__ import annotations

import re
from typing import Any

from ctedge.deidentify.comments import has_foreign_comment

#: CT Image, Enhanced CT and Legacy Converted Enhanced CT Image Storage, PS3.4 B.5. Everything else
#: (secondary captures, reports, encapsulated documents, presentation states, …) is no CT slice.
CT_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "2.1", "2.2"))

#: The storage class of a DICOMDIR, PS3.4 B.5.
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

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
        ("a comment in the pixels that no known encoder writes", has_foreign_comment(dataset)),
    ]


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
    raw = dataset.get_item("PixelData") if "PixelData" in dataset else None
    if raw is None or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
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
    return len(raw.value or b""), -(-bits // 8)
