"""What the files of one folder have to share, and what their names may say."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Any

from ctedge.deidentify.findings import Facts, Finding, Kind
from ctedge.deidentify.uids import REFERENCE_CHARACTERS
from ctedge.deidentify.words import KNOWN_WORDS
from ctedge.errors import counted

#: What tells patients, studies, series and instances apart.
_IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")

#: What slices of one series share; numbers within this, in their own unit (pixels, mm, cosines).
_NUMBERS = (
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_TEXTS = ("Modality", "ConvolutionKernel")
_TOLERANCE = 1e-4

#: Nearer than this, two slices are at one position: no CT has thinner slices than 0.1 mm.
_SAME_MM = 0.01
#: A slice that is missing doubles the gap; half of that is neither.
_MISSING = 1.5

#: What files and folders of data sets are called, besides the words of imaging.
_NEUTRAL = frozenset("data dataset dcm dicom ima img test train training val validation".split())  # noqa: SIM905
_HEX = re.compile(r"(?=.*\d)[0-9a-fA-F]+")
_LETTERS = re.compile(r"[^\W\d_]{3,}")


def identity(dataset: Any) -> dict[str, str]:
    """Digests of what tells patients, studies, series and instances apart."""
    return {name: _digest(dataset.get(name)) for name in _IDENTITY}


def texts(dataset: Any) -> dict[str, str]:
    """Digests of texts that the slices of a series share."""
    return {name: _digest(dataset.get(name)) for name in _TEXTS}


def _digest(value: object) -> str:
    return hashlib.sha256(str(value or "").encode("utf-8", "surrogatepass")).hexdigest()


def numbers(dataset: Any) -> dict[str, tuple[float, ...]]:
    """Numbers that the slices of a series share."""
    return {name: _floats(dataset.get(name)) for name in _NUMBERS}


def position(dataset: Any) -> float | None:
    """Where a slice lies along its normal, in mm."""
    place = _floats(dataset.get("ImagePositionPatient"))
    axes = _floats(dataset.get("ImageOrientationPatient"))
    if len(place) != 3 or len(axes) != 6:
        return None
    a, b = axes[:3], axes[3:]
    normal = [a[i - 2] * b[i - 1] - a[i - 1] * b[i - 2] for i in range(3)]
    return sum(x * y for x, y in zip(place, normal, strict=True))


def _floats(value: Any) -> tuple[float, ...]:
    values = [] if value in (None, "") else value if hasattr(value, "__len__") else [value]
    return tuple(float(number) for number in values)


def of_folder(place: str, members: list[Facts]) -> list[Finding]:
    """What does not fit together among the files of one folder."""
    known = [one for one in members if one.same]
    found = [
        _finding("slices", place, f"{len(values)} different {name} in one folder")
        for name in _IDENTITY[:3]
        if len(values := {one.same[name] for one in known}) > 1
    ]
    instances = [one.same["SOPInstanceUID"] for one in known]
    if len(set(instances)) < len(instances):
        found.append(_finding("slices", place, "SOPInstanceUID repeats"))
    by_series: dict[str, list[Facts]] = defaultdict(list)
    for one in known:
        by_series[one.same["SeriesInstanceUID"]].append(one)
    for slices in by_series.values():
        unlike = _unlike_in(slices)
        found += [
            _finding("slices", place, f"the slices of a series differ in {name}") for name in unlike
        ]
        if "ImageOrientationPatient" not in unlike:
            found += [_finding("slices", place, what) for what in _gaps(slices)]
    fits = {one.reference_fits for one in known}
    if False in fits:
        count = sum(one.reference_fits is False for one in known)
        what = f"(0040,0275)[0](0040,0009) is not the folder's name in {counted(count, 'file')}"
        found.append(_finding("reference", place, what))
    if None in fits and len(fits) > 1:
        found.append(_finding("reference", place, "some files have no reference number"))
    return found


def _unlike_in(slices: list[Facts]) -> list[str]:
    pairs = list(pairwise(slices))
    unlike = [
        name
        for name in _NUMBERS
        if any(_unlike(a.numbers[name], b.numbers[name]) for a, b in pairs)
    ]
    return unlike + [
        name for name in _TEXTS if any(a.texts[name] != b.texts[name] for a, b in pairs)
    ]


def _unlike(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return len(a) != len(b) or any(abs(x - y) > _TOLERANCE for x, y in zip(a, b, strict=True))


def _gaps(slices: list[Facts]) -> list[str]:
    """Repeated positions, and slices that are missing between others."""
    places = sorted(one.position for one in slices if one.position is not None)
    steps = [b - a for a, b in pairwise(places)]
    apart = [step for step in steps if step >= _SAME_MM]
    found = ["slices of a series lie at the same position"] if len(apart) < len(steps) else []
    if apart and max(apart) > _MISSING * median_low(apart):
        found.append("slices of a series are missing, or lie unevenly")
    return found


def of_names(root: Path, folders: list[Path], facts: list[Facts]) -> list[Finding]:
    """Names that may be somebody's, folders without a DICOM file, and files that are none.

    Args:
        root: what is checked; its own name is not judged.
        folders: all below it.
        facts: of all files.
    """
    full = {above for one in facts if one.dicom for above in one.path.parents}
    numbered = {one.path.parent for one in facts if one.reference_fits}
    found = []
    for folder in folders:
        where = str(folder.relative_to(root))
        if folder not in full:
            found.append(_finding("names", where, "a folder without a DICOM file"))
        elif _may_be_a_name(folder.name[REFERENCE_CHARACTERS if folder in numbered else 0 :]):
            found.append(_finding("names", where, "its name may be somebody's"))
    for one in facts:
        where = str(one.path.relative_to(root))
        if one.dicom and _may_be_a_name(one.path.name):
            found.append(_finding("names", where, "its name may be somebody's"))
    return found


def _may_be_a_name(name: str) -> bool:
    """Whether a name holds a word that is none of imaging; hexadecimal numbers have no words."""
    parts = [part for part in re.split(r"[\W_]+", name) if not _HEX.fullmatch(part)]
    words = {word.casefold() for part in parts for word in _LETTERS.findall(part)}
    return not words <= KNOWN_WORDS | _NEUTRAL


def _finding(kind: Kind, where: str, what: str) -> Finding:
    return Finding(kind=kind, where=where, what=what)
