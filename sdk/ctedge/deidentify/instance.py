"""One DICOM file: read with suspicion, clean, and encode again with a file meta of our own."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctedge
from ctedge.deidentify.actions import EDITION, EXTRA, PURPOSE
from ctedge.deidentify.attributes import moved
from ctedge.deidentify.clean import Cleaning, Rules, essentials_lost
from ctedge.deidentify.opaque import pixel_tag
from ctedge.deidentify.reading import (
    COPY_AGAIN,
    DEFLATED,
    NotForUs,
    Refused,
    damaged,
    passing,
    pydicom_held_back,
    read,
    start_of_dataset,
)
from ctedge.deidentify.suspicion import CT_CLASSES, native_bytes, suspicions
from ctedge.errors import CTEdgeError, UnreadableScan
from ctedge.extras import require

#: A UID of ours, made from a random UUID: who wrote the file meta information (PS3.10 7.1).
IMPLEMENTATION_UID = "2.25.267187820403968846461123183508561757099"

#: Without these a slice is no image, or no slice: losing one is damage, not cleaning.
ESSENTIAL = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelPaddingValue",
)


@dataclass(frozen=True, kw_only=True)
class CleanFile:
    """A de-identified file.

    Attributes:
        data: all bytes of it.
        reference: reference number of its series, which is its folder's name.
        counts: what was done to which attribute, as `Cleaning.counts`.
    """

    data: bytes
    reference: str
    counts: Counter[tuple[str, str]]


def deidentify(path: Path, rules: Rules) -> CleanFile:
    """De-identify one file.

    Raises:
        NotForUs: no DICOM file.
        Refused: its pixels may identify, or hide something; or an identifying value would be left.
        UnreadableScan: it is damaged, or built to do harm.
        MissingExtra: the packages for it are not installed.
        OSError, MemoryError: the machine failed, and not the file (`passing`).
    """
    try:
        with pydicom_held_back():
            source = read(path)
            check_pixels(source)
            return _deidentified(source, rules)
    except (NotForUs, Refused, CTEdgeError):
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files
        if passing(error):
            raise
        raise damaged(error) from None  # the traceback may quote a value, as its message may


def check_pixels(dataset: Any) -> None:
    """A file that was cut off ends before its pixels do, and pydicom says nothing.

    Raises:
        UnreadableScan: no pixels in a CT image, or too few.
    """
    meta_class = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if str(dataset.get("SOPClassUID", "")) not in CT_CLASSES:
        if meta_class in CT_CLASSES:
            raise UnreadableScan("SOPClassUID and the file meta differ", fix=COPY_AGAIN)
        return  # refused anyway
    counts = native_bytes(dataset)
    if pixel_tag(dataset) is None:
        raise UnreadableScan("the image has no pixels", fix=COPY_AGAIN)
    if counts is not None and counts[0] < counts[1]:
        raise UnreadableScan("the pixels are cut off", found=counts[0], fix=COPY_AGAIN)


def _deidentified(source: Any, rules: Rules) -> CleanFile:
    reasons = suspicions(source)
    if reasons:
        raise Refused(reasons)
    cleaning = Cleaning(source, rules)
    out = cleaning.dataset
    lost = essentials_lost(source, out, ESSENTIAL)
    if pixel_tag(out) is None:
        lost.append("pixels")
    if lost or not source.get("SOPInstanceUID"):
        raise UnreadableScan(
            "an attribute that the image needs is missing or no value of its kind",
            found=", ".join(lost) or "no SOPInstanceUID",
            fix=COPY_AGAIN,
        )
    reference = rules.keyed.reference(str(source.get("SeriesInstanceUID", "")))
    _say_what_was_done(out, rules, reference)
    data = _encoded(out, source)
    if cleaning.witnesses.left_in(_plain(data, out.file_meta)):
        raise Refused(["an identifying value would be left in the file, its pixels included"])
    return CleanFile(data=data, reference=reference, counts=cleaning.counts)


def _say_what_was_done(out: Any, rules: Rules, reference: str) -> None:
    """(0012,0062) to (0012,0064) and (0028,0303), PS3.15 E.1.1; and the scan's own number."""
    dataset = require("pydicom", extra=EXTRA, purpose=PURPOSE).Dataset
    out.PatientIdentityRemoved = "YES"
    out.DeidentificationMethod = [
        f"ctedge {ctedge.__version__}",
        f"DICOM PS3.15 {EDITION} Annex E",
    ]
    out.DeidentificationMethodCodeSequence = []
    for value, meaning in rules.options.codes():
        item = dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        out.DeidentificationMethodCodeSequence.append(item)
    out.LongitudinalTemporalInformationModified = moved(rules.options)
    request = dataset()
    request.ScheduledProcedureStepID = reference
    out.RequestAttributesSequence = [request]


def _encoded(out: Any, source: Any) -> bytes:
    pydicom = require("pydicom", extra=EXTRA, purpose=PURPOSE)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = out.SOPClassUID
    meta.MediaStorageSOPInstanceUID = out.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.UID(str(source.file_meta.TransferSyntaxUID))
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = f"CTEDGE {ctedge.__version__}"[:16]
    out.file_meta = meta
    out.preamble = bytes(128)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, out, enforce_file_format=True)
    return stream.getvalue()


def _plain(data: bytes, meta: Any) -> bytes:
    """The bytes in which a value can be found: a deflated dataset inflated."""
    if meta.TransferSyntaxUID not in DEFLATED:
        return data
    start = start_of_dataset(data)
    return data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)
