"""The series that a source holds, and which of them is meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctedge.errors import CTEdgeError, IrregularSeries, ScanNotFound, counted
from ctedge.extras import require
from ctedge.progress import Begin, unseen
from ctedge.readers.dicom.elements import WANTED, text_of
from ctedge.readers.dicom.fitness import reason_to_leave_out
from ctedge.readers.dicom.gather import DicomObject, Gathered, looks_like_dicom
from ctedge.readers.dicom.images import Image, Series, image_of
from ctedge.readers.dicom.opening import damaged, damaged_header, named_in_full, read_header
from ctedge.readers.dicom.remains import cut_slices
from ctedge.readers.dicom.saying import places_of


@dataclass(frozen=True, kw_only=True)
class OtherSeries:
    """A series that is none of CT.

    Attributes:
        study, uid: its instance UIDs, "none" where they are not said.
        modality: of it, as MR.
        files: how many were found.
    """

    study: str
    uid: str
    modality: str
    files: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a source holds.

    Attributes:
        label: its name in messages.
        series: of CT, in the order of their first file.
        excluded: what was left out, each with the reason.
        others: series of other modalities; their files are among the excluded.
        reasons: by SeriesInstanceUID, why a file of it is among the excluded.
    """

    label: str
    series: tuple[Series, ...]
    excluded: tuple[str, ...]
    others: tuple[OtherSeries, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Sorted:
    """Objects as they are read, each where it belongs."""

    series: dict[tuple[str, str], list[Image]] = field(default_factory=dict)
    others: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    strays: list[DicomObject] = field(default_factory=list)
    excluded: list[tuple[DicomObject, str]] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    damages: int = 0

    def add(self, pydicom: Any, item: DicomObject) -> None:
        """Read a header, and put its object in its place."""
        try:
            header, trailing = read_header(pydicom, item, WANTED)
            reason = reason_to_leave_out(header, item.name, trailing)
            if reason is None:
                image = image_of(header, item, trailing)
                self.series.setdefault((image.study, image.series), []).append(image)
                return
            self.excluded.append((item, reason))
            uids = [text_of(header, f"{level}InstanceUID") or "none" for level in _LEVELS]
            modality = text_of(header, "Modality")
        except pydicom.errors.InvalidDicomError:
            self.excluded.append((item, "not DICOM"))
            self.strays.append(item)
        except (CTEdgeError, MemoryError):  # a want of memory is no damage
            raise
        except Exception as error:  # an element of a kind that nobody expects
            raise damaged_header(item.name, error) from error
        else:
            self.reasons.setdefault(uids[1], reason)
            if modality not in ("", "CT"):
                self.others[uids[0], uids[1], modality] += 1

    def cut(self) -> list[tuple[DicomObject, CTEdgeError]]:
        """Files that were slices, and are not even DICOM any more."""
        whole = [image.item for images in self.series.values() for image in images]
        found: list[tuple[DicomObject, CTEdgeError]] = [
            (item, damaged(item.name, what)) for item, what in cut_slices(self.strays, whole)
        ]
        cut = {id(item) for item, _ in found}
        self.excluded = [pair for pair in self.excluded if id(pair[0]) not in cut]
        return found


_LEVELS = ("Study", "Series")


def find_series(
    gathered: Gathered,
    *,
    begin: Begin = unseen,
    on_damage: Callable[[DicomObject, CTEdgeError], object] | None = None,
) -> Found:
    """Read the headers of all objects, and sort them by study and series.

    Args:
        gathered: the objects.
        begin: told how many there are; what it returns is called once for each.
        on_damage: told of a damaged file, which is then passed over; None raises. Where it is
            given, a source of nothing but other modalities is no error either.

    Raises:
        ScanNotFound: not one DICOM object.
        IrregularSeries: DICOM objects, but not one CT slice.
        UnreadableScan: a damaged DICOM file.
        MissingExtra: pydicom is not installed.
    """
    if not any(_may_be_dicom(item) for item in gathered.objects):
        raise ScanNotFound(
            f"{gathered.label}: no DICOM file here",
            found=counted(len(gathered.objects), "other file"),
            fix="pass the folder that holds the slices, or a .nii.gz file",
        )
    pydicom = require("pydicom", extra="dicom", purpose="reading DICOM")
    read, advance = _Sorted(), begin(len(gathered.objects))

    def tell(item: DicomObject, error: CTEdgeError) -> None:
        if on_damage is None:
            raise named_in_full(item, error)
        on_damage(item, error)
        read.damages += 1

    for item in gathered.objects:
        try:
            read.add(pydicom, item)
        except CTEdgeError as error:
            tell(item, error)
        advance()
    for item, cut_off in read.cut():
        tell(item, cut_off)
    excluded = (*gathered.excluded, *(f"{item.name}: {why}" for item, why in read.excluded))
    if not read.series and not read.damages and (on_damage is None or not read.others):
        raise IrregularSeries(
            f"{gathered.label}: no CT slice here",
            found="; ".join(excluded[:5]) + ("; ..." if len(excluded) > 5 else ""),
            expected="CT images with Rescale Slope and Intercept",
            fix="pass the folder of an axial chest series",
        )
    return Found(
        label=gathered.label,
        series=_named(read.series),
        excluded=excluded,
        others=tuple(
            OtherSeries(study=study, uid=uid, modality=modality, files=files)
            for (study, uid, modality), files in read.others.items()
        ),
        reasons=read.reasons,
    )


def _named(images: Mapping[tuple[str, str], list[Image]]) -> tuple[Series, ...]:
    studies = Counter(uid for _, uid in images)
    return tuple(
        Series(uid=uid, key=uid if studies[uid] == 1 else f"{study}/{uid}", images=tuple(found))
        for (study, uid), found in images.items()
    )


def _may_be_dicom(item: DicomObject) -> bool:
    try:
        return looks_like_dicom(item)
    except OSError:  # what cannot be read is named when its turn comes
        return True


def choose(found: Found, wanted: str) -> Series:
    """The series that was named.

    Args:
        found: what there is.
        wanted: a SeriesInstanceUID, or "STUDY/SERIES" where several studies have the same.

    Raises:
        IrregularSeries: there is none of that name, or several.
    """
    wanted = wanted.strip()
    named = [one for one in found.series if wanted in (one.uid, f"{one.study}/{one.uid}")]
    if len(named) == 1:
        return named[0]
    if not named and wanted in found.reasons:
        raise IrregularSeries(
            f"{found.label}: the series {wanted} holds no CT slice",
            found=found.reasons[wanted],
            expected=f"one of {listing(found.series)}",
            fix="pass the axial reconstruction of the scan",
        )
    raise IrregularSeries(
        f"{found.label}: {'several studies have this series' if named else 'no such series'}",
        found=listing(named or found.series),
        expected=wanted or "a SeriesInstanceUID, and not an empty text",
        fix=f"name study and series: {places_of('series', 'STUDY/SERIES')}"
        if named
        else "pass one of the SeriesInstanceUIDs found",
    )


def listing(series: Sequence[Series]) -> str:
    """The series of a folder in one line of a message."""
    shown = [f"{one.key} ({counted(len(one.images), 'file')})" for one in series[:10]]
    return ", ".join(shown) + (f" and {len(series) - 10} more" if len(series) > 10 else "")
