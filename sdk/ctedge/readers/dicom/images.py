"""One CT object and one series of them, and what must not differ within a series."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from ctedge.errors import CTEdgeError, IrregularSeries, counted
from ctedge.readers.dicom.elements import text_of
from ctedge.readers.dicom.gather import DicomObject
from ctedge.readers.dicom.opening import Header, damaged, damaged_header
from ctedge.readers.dicom.patients import IDENTITY, Patient, patient_of, strangers
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
        study, series: their instance UIDs; "none" where they are not said.
        frame_of_reference: the UID of what its positions are measured from.
        patient: digests, to tell patients apart.
        syntax: transfer syntax UID; empty for a data set in memory that does not say it.
        syntax_name: its name in the standard.
        original: the first value of ImageType is ORIGINAL.
        body_part: BodyPartExamined in capitals, empty where it is not said.
        header: what the slices are taken from.
        trailing_bytes: that follow the header in its file, where that can be told.
    """

    item: DicomObject
    study: str
    series: str
    frame_of_reference: str
    patient: Patient
    syntax: str
    syntax_name: str
    original: bool
    body_part: str
    header: Header
    trailing_bytes: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """All CT objects under one study UID and one series UID.

    Attributes:
        uid: SeriesInstanceUID.
        key: what names it: its UID, after that of its study where another study has it too.
        images: its objects, in the order of their names.
    """

    uid: str
    key: str
    images: tuple[Image, ...]

    @property
    def study(self) -> str:
        """StudyInstanceUID."""
        return self.images[0].study

    def slices(self) -> tuple[Slice, ...]:
        """The slices of all objects.

        Raises:
            IrregularSeries, UnreadableScan: as `slices_of`; several patients; pixels that no CT
                has; fewer bytes than the header promises.
        """
        _check_same(self.images)
        found: list[Slice] = []
        for image in self.images:
            found += _slices_of(image)
        return tuple(found)

    def syntaxes(self, slices: Sequence[Slice]) -> dict[str, str]:
        """Transfer syntaxes of some of its slices, and their names."""
        used = {one.syntax for one in slices}
        return {image.syntax: image.syntax_name for image in self.images if image.syntax in used}


def image_of(header: Header, item: DicomObject, trailing: int | None) -> Image:
    """What a header says of its object.

    Args:
        header: with the elements `elements.WANTED`; who the patient is goes out of it.
        item: the object.
        trailing: how many bytes follow the header, where that can be told.
    """
    patient = patient_of(header)
    for keyword in IDENTITY:  # need not stay in memory
        header.pop(keyword, None)
    syntax = header.get("TransferSyntaxUID")
    return Image(
        item=item,
        study=text_of(header, "StudyInstanceUID") or "none",
        series=text_of(header, "SeriesInstanceUID") or "none",
        frame_of_reference=text_of(header, "FrameOfReferenceUID"),
        patient=patient,
        syntax=str(syntax or ""),
        syntax_name=str(getattr(syntax, "name", syntax) or ""),
        original=text_of(header, "ImageType").upper().startswith("ORIGINAL"),
        body_part=text_of(header, "BodyPartExamined").upper(),
        header=header,
        trailing_bytes=trailing,
    )


def numbered(series: Sequence[Series]) -> list[int]:
    """For each series the number of its patient, who is 1 for the first."""
    known: list[set[Patient]] = []
    numbers = []
    for one in series:
        own = {image.patient for image in one.images}
        same = (place for place, his in enumerate(known) if not strangers([*his, *own]))
        place = next(same, len(known))
        if place == len(known):
            known.append(set())
        known[place] |= own
        numbers.append(place + 1)
    return numbers


def _check_same(images: Sequence[Image]) -> None:
    """One patient, and one frame of reference: what tells two scans under one series apart."""
    strange = strangers([one.patient for one in images])
    _refuse(images, strange, "files of several patients under one series")
    frames = [one.frame_of_reference for one in images]
    if len({*frames}) < len(frames):  # else each has its own, as some archives write it
        strange = [place for place, uid in enumerate(frames) if uid != frames[0]]
        _refuse(images, strange, "files of several frames of reference under one series")


def _refuse(images: Sequence[Image], strange: Sequence[int], what: str) -> None:
    if strange:
        names = f"{images[0].item.where}, and otherwise {images[strange[0]].item.name}"
        raise IrregularSeries(
            f"{images[0].series}: {what}",
            found=names + (f" and {len(strange) - 1} more" if len(strange) > 1 else ""),
            expected="one scan of one patient",
            fix="sort the files into a folder for each scan, and pass one of them",
        )


def _slices_of(image: Image) -> tuple[Slice, ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pydicom remarks on nested values
            _check_pixels(image)
            slices = slices_of(image.header, image.item, image.trailing_bytes)
            _check_size(image, slices)
    except (CTEdgeError, MemoryError):  # a want of memory is no damage
        raise
    except Exception as error:  # an element of a kind that nobody expects
        raise damaged_header(image.item.where, error) from error
    return slices


def _check_pixels(image: Image) -> None:
    for keyword, wanted in (("SamplesPerPixel", 1), ("PhotometricInterpretation", "MONOCHROME2")):
        value = image.header.get(keyword)
        if value != wanted:
            raise IrregularSeries(
                f"{image.item.where}: not a plain CT slice",
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
        found = f"{counted(max(there, 0), 'byte')} of pixels; {promised} are promised"
        raise damaged(image.item.where, found)
