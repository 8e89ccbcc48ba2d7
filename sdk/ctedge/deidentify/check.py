"""Checking a folder that is said to be de-identified: what identifies, what does not fit together.

What identifies is what the same rules would still remove or change: each file is cleaned once more,
under the options that it declares, and nothing of it is written. Findings name attributes, files
and folders, never values.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ctedge.deidentify import together
from ctedge.deidentify.actions import (
    CHARACTERISTICS_CODE,
    DATES_CODE,
    DESCRIPTORS_CODE,
    EXTRA,
    PURPOSE,
    Action,
    Options,
    action_table,
)
from ctedge.deidentify.clean import Cleaning, Rules
from ctedge.deidentify.each import LOST, each_file
from ctedge.deidentify.findings import Facts, Finding, Kind
from ctedge.deidentify.instance import check_pixels
from ctedge.deidentify.places import walk
from ctedge.deidentify.reading import NotForUs, Refused, passing, pydicom_held_back, read
from ctedge.deidentify.suspicion import suspicions
from ctedge.deidentify.uids import NEW_UID, PSEUDONYM, REFERENCE_CHARACTERS, Keyed
from ctedge.errors import CTEdgeError, ScanNotFound, counted
from ctedge.extras import require
from ctedge.readers.dicom.opening import kind_of

#: Changes that say nothing of a file that declares itself de-identified: a new pseudonym for a
#: pseudonym, a new UID for a new UID, another shift of shifted dates.
_EXPECTED = frozenset({Action.PSEUDONYM.value, Action.UID.value, Action.SHIFT.value})

#: How persons are written: in components, with a comma, or in several words.
_PERSONS = re.compile(r"[\^=,]|\S\s+\S")

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


def check_folder(
    folder: Path,
    *,
    workers: int = 1,
    begin: Callable[[int], Callable[[], None]] = lambda _total: lambda: None,
) -> tuple[Finding, ...]:
    """Check every file below a folder.

    Args:
        folder: what to check; links in it are passed over.
        workers: processes.
        begin: told how many files there are; what it returns is called once for each.

    Returns:
        What was found, file by file, then folder by folder, then of names; empty if nothing was.

    Raises:
        ScanNotFound: no such folder, or no DICOM file in it.
        UnreadableScan: a folder in it cannot be listed.
        MissingExtra: the packages for it are not installed.
    """
    if not folder.is_dir():
        raise ScanNotFound(f"{folder}: no such folder", fix="name a folder with DICOM files")
    action_table(Options())
    root = folder.resolve()
    paths, folders = _below(root)
    advance = begin(len(paths))
    facts: list[Facts] = []
    for path, one in each_file(partial(_examine, root), paths, workers=workers):
        facts.append(one or _unreadable(root, path, LOST))
        advance()
    facts.sort(key=lambda one: one.path)
    if not any(one.dicom for one in facts):
        raise ScanNotFound(
            f"{folder}: no DICOM file in this folder or below it",
            found=counted(len(paths), "other file"),
            fix="name a folder with DICOM files",
        )
    found = [finding for one in facts for finding in one.findings]
    by_folder: dict[Path, list[Facts]] = defaultdict(list)
    for one in facts:
        by_folder[one.path.parent].append(one)
    for place, members in sorted(by_folder.items()):
        found += together.of_folder(str(place.relative_to(root)), members)
    return (*found, *together.of_names(root, folders, facts))


def _below(root: Path) -> tuple[list[Path], list[Path]]:
    """Files (and links to folders, that are not followed), and folders."""
    files: list[Path] = []
    folders: list[Path] = []
    for below, others in walk(root):
        folders += below
        files += others
    return files, folders


def _unreadable(root: Path, path: Path, what: str) -> Facts:
    where = str(path.relative_to(root))
    return Facts(path=path, findings=(_finding("unreadable", where, what),))


def _examine(root: Path, path: Path) -> Facts:
    """One file; runs in a worker process."""
    where = str(path.relative_to(root))
    with pydicom_held_back():
        try:
            dataset = read(path)
            check_pixels(dataset)
            reference_fits = _take_reference(dataset, path.parent.name)
            whats: list[tuple[Kind, str]] = [("identifying", what) for what in _left(dataset)]
            whats += [("pixels", reason) for reason in suspicions(dataset)]
            return Facts(
                path=path,
                findings=tuple(_finding(kind, where, what) for kind, what in whats),
                same=together.identity(dataset),
                texts=together.texts(dataset),
                numbers=together.numbers(dataset),
                position=together.position(dataset),
                reference_fits=reference_fits,
            )
        except NotForUs as why:
            what = f"{why}: what it says cannot be checked"
            return Facts(path=path, findings=(_finding("names", where, what),), dicom=False)
        except Refused as why:
            return _unreadable(root, path, "; ".join(why.args[0]))
        except CTEdgeError as error:
            what = f"{error.what}: {error.found}" if error.found else error.what
        except Exception as error:  # noqa: BLE001  (pydicom raises many kinds on damaged values)
            what = passing(error) or f"damaged: {kind_of(error)}"
    return _unreadable(root, path, what)


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
    left += {name for name, action in counts if not (declared and action in _EXPECTED)}
    left += _not_new(dataset)
    return sorted(set(left))


def _not_new(dataset: Any) -> set[str]:
    """What is no pseudonym and no new UID, whatever the file declares of itself.

    What another program has put in the place of a number, a UID or a date cannot be told from what
    stood there; what this one writes has a form of its own.
    """
    name, number = (str(dataset.get(key) or "").strip() for key in ("PatientName", "PatientID"))
    left = {"PatientName"} if _PERSONS.search(name) else set()
    instance = str(dataset.get("SOPInstanceUID", ""))
    if str(dataset.file_meta.get("MediaStorageSOPInstanceUID", instance)) != instance:
        left.add("MediaStorageSOPInstanceUID")
    method = dataset.get("DeidentificationMethod") or ()
    if not any(str(part).startswith("ctedge ") for part in _listed(method)):
        return left
    for key, value in (("PatientName", name), ("PatientID", number)):
        if not PSEUDONYM.fullmatch(value):
            left.add(key)
    known = require("pydicom.uid", extra=EXTRA, purpose=PURPOSE).UID_dictionary
    for element in dataset.iterall():
        if element.VR == "UI" and element.tag.group > 2:
            uids = (str(uid) for uid in _listed(element.value or ()))
            if not all(uid in known or uid.startswith(NEW_UID) for uid in uids):
                left.add(element.keyword or "an unknown UID")
    return left


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)


def _methods(dataset: Any) -> Iterable[Any]:
    return dataset.get("DeidentificationMethodCodeSequence") or ()
