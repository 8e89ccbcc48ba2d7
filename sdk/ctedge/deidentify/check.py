"""Checking a folder that is said to be de-identified: what identifies, what does not fit together.

What identifies is what the same rules would still remove or change: each file is cleaned once more,
under the options that it declares, and nothing of it is written. Findings name attributes, files
and folders, never values.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from ctedge import pool
from ctedge.deidentify.actions import (
    CHARACTERISTICS_CODE,
    DATES_CODE,
    DESCRIPTORS_CODE,
    Action,
    Options,
    action_table,
)
from ctedge.deidentify.clean import Cleaning, Rules
from ctedge.deidentify.instance import NotForUs, check_pixels, pydicom_held_back, read
from ctedge.deidentify.suspicion import suspicions
from ctedge.deidentify.uids import REFERENCE_CHARACTERS, Keyed
from ctedge.errors import CTEdgeError, ScanNotFound

Kind = Literal["identifying", "pixels", "slices", "reference", "unreadable"]

#: What slices of one series share; numbers within this, in their own unit (pixels, mm, cosines).
_SHARED = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")
_TOLERANCE = 1e-4

#: Changes that say nothing of a file that declares itself de-identified: a new pseudonym for a
#: pseudonym, a new UID for a new UID, another shift of shifted dates.
_EXPECTED = frozenset({Action.PSEUDONYM.value, Action.UID.value, Action.SHIFT.value})

#: File meta information that names machines or people (PS3.10 Table 7.1-1).
_META_LEFT = (
    "SourceApplicationEntityTitle",
    "SendingApplicationEntityTitle",
    "ReceivingApplicationEntityTitle",
    "SourcePresentationAddress",
    "SendingPresentationAddress",
    "ReceivingPresentationAddress",
    "PrivateInformationCreatorUID",
    "PrivateInformation",
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that should not be.

    Attributes:
        kind: "identifying", "pixels" (they may identify), "slices" (they do not fit together),
            "reference" (the scan's number is not its folder's) or "unreadable".
        where: file or folder, below the folder that was checked.
        what: attributes and rules, never values.
    """

    kind: Kind
    where: str
    what: str


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What one file tells; the values are digests, or numbers of geometry."""

    path: Path
    findings: tuple[Finding, ...] = ()
    dicom: bool = True
    same: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    reference_fits: bool | None = None


def check_folder(
    folder: Path,
    *,
    workers: int = 1,
    begin: Callable[[int], Callable[[], None]] = lambda _total: lambda: None,
) -> tuple[Finding, ...]:
    """Check every DICOM file below a folder.

    Args:
        folder: what to check; links in it are passed over.
        workers: processes.
        begin: told how many files there are; what it returns is called once for each.

    Returns:
        What was found, file by file, then folder by folder; empty if nothing was.

    Raises:
        ScanNotFound: no such folder, or no DICOM file in it.
        MissingExtra: the packages for it are not installed.
    """
    if not folder.is_dir():
        raise ScanNotFound(f"{folder}: no such folder", fix="name a folder with DICOM files")
    action_table(Options())
    paths = [Path(inside) / name for inside, _, names in os.walk(folder) for name in sorted(names)]
    advance = begin(len(paths))
    facts: list[_Facts] = []
    for _, one in pool.each(partial(_examine, folder.resolve()), paths, workers=workers):
        facts.append(one)
        advance()
    facts = sorted((one for one in facts if one.dicom), key=lambda one: one.path)
    if not facts:
        raise ScanNotFound(
            f"{folder}: no DICOM file in this folder or below it",
            found=f"{len(paths)} other files",
            fix="name a folder with DICOM files",
        )
    found = [finding for one in facts for finding in one.findings]
    by_folder: dict[Path, list[_Facts]] = defaultdict(list)
    for one in facts:
        by_folder[one.path.parent].append(one)
    for place, members in sorted(by_folder.items()):
        found += _of_folder(str(place.relative_to(folder)), members)
    return tuple(found)


def _examine(root: Path, path: Path) -> _Facts:
    """One file; runs in a worker process."""
    where = os.path.relpath(path, root)
    with pydicom_held_back():
        try:
            dataset = read(path)
            check_pixels(dataset)
            reference_fits = _take_reference(dataset, path.resolve().parent.name)
            whats: list[tuple[Kind, str]] = [("identifying", what) for what in _left(dataset)]
            whats += [("pixels", reason) for reason in suspicions(dataset)]
            same, numbers = _identity(dataset), _geometry(dataset)
        except NotForUs:
            return _Facts(path=path, dicom=False)
        except CTEdgeError as error:
            what = f"{error.what}: {error.found}" if error.found else error.what
            return _Facts(path=path, findings=(_finding("unreadable", where, what),))
        except Exception as error:  # noqa: BLE001  (pydicom raises many kinds on damaged values)
            what = f"damaged: {type(error).__name__}"
            return _Facts(path=path, findings=(_finding("unreadable", where, what),))
    return _Facts(
        path=path,
        findings=tuple(_finding(kind, where, what) for kind, what in whats),
        same=same,
        numbers=numbers,
        reference_fits=reference_fits,
    )


def _finding(kind: Kind, where: str, what: str) -> Finding:
    return Finding(kind=kind, where=where, what=what)


def _take_reference(dataset: Any, folder_name: str) -> bool | None:
    """Whether the scan's reference number is its folder's; None without one.

    The number is the Scheduled Procedure Step ID (0040,0009) in the first item of the Request
    Attributes Sequence (0040,0275), its first nine characters. Where the sequence holds that number
    alone, and the folder bears it, it is taken out: it is what should be there.
    """
    items = dataset.get("RequestAttributesSequence")
    number = items[0].get("ScheduledProcedureStepID") if items else None
    text = str(number or "").strip()[:REFERENCE_CHARACTERS]
    if not text:
        return None
    fits = text == folder_name[:REFERENCE_CHARACTERS]
    if fits and len(items) == len(items[0]) == 1:
        del dataset.RequestAttributesSequence
    return fits


def _left(dataset: Any) -> list[str]:
    """What the rules would still remove or change."""
    left = [name for name in _META_LEFT if dataset.file_meta.get(name)]
    if dataset.preamble and any(dataset.preamble):
        left.append("the 128 bytes before the file's prefix")
    codes = {str(item.get("CodeValue", "")) for item in _methods(dataset)}
    declared = str(dataset.get("PatientIdentityRemoved", "")).strip() == "YES"
    if not declared:
        left.append("PatientIdentityRemoved is not YES")
    elif not codes:
        left.append("DeidentificationMethodCodeSequence is missing")
    moved = dataset.get("LongitudinalTemporalInformationModified") == "MODIFIED"
    options = Options(
        dates=declared and DATES_CODE in codes and moved,
        characteristics=declared and CHARACTERISTICS_CODE in codes,
        descriptors=declared and DESCRIPTORS_CODE in codes,
    )
    any_key = Keyed(b"of a check, that writes nothing!")
    counts = Cleaning(dataset, Rules(options=options, keyed=any_key)).counts
    left += sorted({name for name, action in counts if not (declared and action in _EXPECTED)})
    return left


def _methods(dataset: Any) -> Iterable[Any]:
    return dataset.get("DeidentificationMethodCodeSequence") or ()


def _identity(dataset: Any) -> dict[str, str]:
    """Digests of what tells patients, studies, series and instances apart."""
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    texts = {name: str(dataset.get(name) or "").encode() for name in names}
    return {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}


def _geometry(dataset: Any) -> dict[str, tuple[float, ...]]:
    numbers = {}
    for name in _SHARED:
        value = dataset.get(name)
        values = [] if value is None else value if hasattr(value, "__len__") else [value]
        numbers[name] = tuple(float(number) for number in values)
    return numbers


def _of_folder(place: str, members: list[_Facts]) -> list[Finding]:
    known = [one for one in members if one.same]
    found = [
        _finding("slices", place, f"{len(values)} different {name} in one folder")
        for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
        if len(values := {one.same[name] for one in known}) > 1
    ]
    instances = [one.same["SOPInstanceUID"] for one in known]
    if len(set(instances)) < len(instances):
        found.append(_finding("slices", place, "SOPInstanceUID repeats"))
    by_series: dict[str, list[_Facts]] = defaultdict(list)
    for one in known:
        by_series[one.same["SeriesInstanceUID"]].append(one)
    for slices in by_series.values():
        found += [
            _finding("slices", place, f"the slices of a series differ in {name}")
            for name in _SHARED
            if any(_unlike(a.numbers[name], b.numbers[name]) for a, b in pairwise(slices))
        ]
    fits = {one.reference_fits for one in known}
    if False in fits:
        count = sum(one.reference_fits is False for one in known)
        what = f"(0040,0275)[0](0040,0009) is not the folder's name in {count} files"
        found.append(_finding("reference", place, what))
    if None in fits and len(fits) > 1:
        found.append(_finding("reference", place, "some files have no reference number"))
    return found


def _unlike(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return len(a) != len(b) or any(abs(x - y) > _TOLERANCE for x, y in zip(a, b, strict=True))
