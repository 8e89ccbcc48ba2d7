"""The series that a source holds, and which of them is meant."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ctedge.errors import CTEdgeError, IrregularSeries, ScanNotFound
from ctedge.extras import require
from ctedge.progress import Begin, unseen
from ctedge.readers.dicom.elements import WANTED
from ctedge.readers.dicom.fitness import reason_to_leave_out
from ctedge.readers.dicom.gather import DicomObject, Gathered, looks_like_dicom
from ctedge.readers.dicom.opening import damaged, damaged_header, read_header
from ctedge.readers.dicom.slices import Slice, slices_of

#: What stands before native pixels, by syntax: tag, length, and in explicit syntaxes the VR.
_ELEMENT_HEADER_BYTES = {
    "1.2.840.10008.1.2": 8,
    "1.2.840.10008.1.2.1": 12,
    "1.2.840.10008.1.2.2": 12,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """One CT object and what its header says; nothing that tells who the patient is.

    Attributes:
        item: where it lies.
        study, series: their instance UIDs.
        syntax: transfer syntax UID; empty for a data set in memory that does not say it.
        syntax_name: its name in the standard.
        original: the first value of ImageType is ORIGINAL.
        kernel: ConvolutionKernel, empty where it is not said.
        body_part: BodyPartExamined in capitals, empty where it is not said.
        header: the `pydicom.Dataset`, to take the slices from.
        trailing_bytes: that follow the header in its file, where that can be told.
    """

    item: DicomObject
    study: str
    series: str
    syntax: str
    syntax_name: str
    original: bool
    kernel: str
    body_part: str
    header: Any
    trailing_bytes: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """All CT objects under one series UID.

    Attributes:
        uid: SeriesInstanceUID.
        images: its objects, in the order of their names.
    """

    uid: str
    images: tuple[Image, ...]

    @property
    def study(self) -> str:
        """StudyInstanceUID."""
        return self.images[0].study

    def slices(self) -> tuple[Slice, ...]:
        """The slices of all objects.

        Raises:
            IrregularSeries, UnreadableScan: as `slices_of`; pixels that no CT has; fewer bytes
                than the header promises.
        """
        found: list[Slice] = []
        for image in self.images:
            found += _slices_of(image)
        return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a source holds.

    Attributes:
        label: its name in messages.
        series: of CT, in the order of their first file.
        excluded: what was left out, each with the reason.
    """

    label: str
    series: tuple[Series, ...]
    excluded: tuple[str, ...]


def find_series(
    gathered: Gathered,
    *,
    begin: Begin = unseen,
    on_damage: Callable[[DicomObject, CTEdgeError], object] | None = None,
) -> Found:
    """Read the headers of all objects, and sort them by series.

    Args:
        gathered: the objects.
        begin: told how many there are; what it returns is called once for each.
        on_damage: told of a damaged file, which is then passed over; None raises.

    Raises:
        ScanNotFound: not one DICOM object.
        IrregularSeries: DICOM objects, but not one CT slice.
        UnreadableScan: a damaged DICOM file.
        MissingExtra: pydicom is not installed.
    """
    excluded = list(gathered.excluded)
    if not any(_may_be_dicom(item) for item in gathered.objects):
        raise ScanNotFound(
            f"{gathered.label}: no DICOM file here",
            found=f"{len(gathered.objects)} other files",
            fix="pass the folder that holds the slices, or a .nii.gz file",
        )
    pydicom = require("pydicom", extra="dicom", purpose="reading DICOM")
    series: dict[str, list[Image]] = {}
    advance, damages = begin(len(gathered.objects)), 0
    for item in gathered.objects:
        try:
            found = _image_or_reason(pydicom, item)
        except CTEdgeError as error:
            if on_damage is None:
                raise
            on_damage(item, error)
            damages += 1
        else:
            if isinstance(found, str):
                excluded.append(f"{item.name}: {found}")
            else:
                series.setdefault(found.series, []).append(found)
        advance()
    if not series and not damages:
        raise IrregularSeries(
            f"{gathered.label}: no CT slice here",
            found="; ".join(excluded[:5]) + ("; ..." if len(excluded) > 5 else ""),
            expected="CT images with Rescale Slope and Intercept",
            fix="pass the folder of an axial chest series",
        )
    return Found(
        label=gathered.label,
        series=tuple(Series(uid=uid, images=tuple(images)) for uid, images in series.items()),
        excluded=tuple(excluded),
    )


def _may_be_dicom(item: DicomObject) -> bool:
    try:
        return looks_like_dicom(item)
    except OSError:  # what cannot be read is named when its turn comes
        return True


def _image_or_reason(pydicom: Any, item: DicomObject) -> Image | str:
    """A CT object, or why it is none."""
    try:
        header, trailing = read_header(pydicom, item, WANTED)
        return reason_to_leave_out(header) or _image(header, item, trailing)
    except pydicom.errors.InvalidDicomError:
        return "not DICOM"
    except CTEdgeError:
        raise
    except Exception as error:  # an element of a kind that nobody expects
        raise damaged_header(item.name, error) from error


def choose(found: Found, uid: str) -> Series:
    """The series that was named.

    Raises:
        IrregularSeries: there is none of that UID.
    """
    for series in found.series:
        if series.uid == uid:
            return series
    raise IrregularSeries(
        f"{found.label}: no such series",
        found=listing(found.series),
        expected=uid,
        fix="pass one of the SeriesInstanceUIDs found",
    )


def listing(series: Sequence[Series]) -> str:
    """The series of a folder in one line of a message."""
    shown = [f"{one.uid} ({len(one.images)} files)" for one in series[:10]]
    return ", ".join(shown) + (f" and {len(series) - 10} more" if len(series) > 10 else "")


def _image(header: Any, item: DicomObject, trailing: int | None) -> Image:
    def text(keyword: str) -> str:
        value = header.get(keyword)
        parts = [] if value is None else [value] if isinstance(value, str) else list(value)
        return "\\".join(str(part).strip() for part in parts)

    syntax = (getattr(header, "file_meta", None) or {}).get("TransferSyntaxUID")
    return Image(
        item=item,
        study=text("StudyInstanceUID"),
        series=text("SeriesInstanceUID") or "none",
        syntax=str(syntax or ""),
        syntax_name=str(getattr(syntax, "name", syntax) or ""),
        original=text("ImageType").upper().startswith("ORIGINAL"),
        kernel=text("ConvolutionKernel"),
        body_part=text("BodyPartExamined").upper(),
        header=header,
        trailing_bytes=trailing,
    )


def _slices_of(image: Image) -> tuple[Slice, ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pydicom remarks on nested values
            _check_pixels(image)
            slices = slices_of(image.header, image.item)
            _check_size(image, slices)
    except CTEdgeError:
        raise
    except Exception as error:  # an element of a kind that nobody expects
        raise damaged_header(image.item.name, error) from error
    return slices


def _check_pixels(image: Image) -> None:
    for keyword, wanted in (("SamplesPerPixel", 1), ("PhotometricInterpretation", "MONOCHROME2")):
        value = image.header.get(keyword)
        if value != wanted:
            raise IrregularSeries(
                f"{image.item.name}: not a plain CT slice",
                found=f"{keyword} {value}",
                expected=f"{keyword} {wanted}",
                fix="export the series from the scanner again",
            )


def _check_size(image: Image, slices: Sequence[Slice]) -> None:
    """Native pixels take as many bytes as the header promises."""
    if image.syntax not in _ELEMENT_HEADER_BYTES or image.trailing_bytes is None:
        return
    there = image.trailing_bytes - _ELEMENT_HEADER_BYTES[image.syntax]
    promised = sum(one.rows * one.columns * one.values.bits_allocated // 8 for one in slices)
    if there < promised:
        raise damaged(image.item.name, f"{max(there, 0)} bytes of pixels; {promised} are promised")
