"""One DICOM file: read with suspicion, clean, and encode again with a file meta of our own."""

from __future__ import annotations

import contextlib
import io
import logging
import stat
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctedge
from ctedge.deidentify.actions import EDITION, EXTRA, PURPOSE
from ctedge.deidentify.attributes import PIXELS, moved
from ctedge.deidentify.clean import Cleaning, Rules, essentials_lost
from ctedge.deidentify.suspicion import (
    CT_CLASSES,
    MEDIA_DIRECTORY,
    native_bytes,
    suspicions,
)
from ctedge.errors import CTEdgeError, UnreadableScan
from ctedge.extras import require

#: Larger is no CT: 2 GiB.
MAX_FILE_BYTES = 2 << 30

#: A UID of ours, made from a random UUID: who wrote the file meta information (PS3.10 7.1).
IMPLEMENTATION_UID = "2.25.267187820403968846461123183508561757099"

_COPY_AGAIN = "copy the file again from its source"
_STEP_BYTES = 1 << 24
_DEFLATED = ("1.2.840.10008.1.2.1.99",)

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
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
)


class NotForUs(Exception):
    """No DICOM file, or a DICOMDIR: passed over, and said so."""


class Refused(Exception):
    """The image may show who the patient is; `args[0]` lists why."""


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
        Refused: its pixels may identify, or an identifying value would be left.
        UnreadableScan: it is damaged, or built to do harm.
        MissingExtra: the packages for it are not installed.
    """
    try:
        with pydicom_held_back():
            source = read(path)
            check_pixels(source)
            return _deidentified(source, rules)
    except (NotForUs, Refused, CTEdgeError):
        raise
    except Exception as error:  # noqa: BLE001  (pydicom raises many kinds on damaged files)
        raise _damaged(error) from None  # the traceback may quote a value, as its message may


def check_pixels(dataset: Any) -> None:
    """A file that was cut off ends before its pixels do, and pydicom says nothing.

    Raises:
        UnreadableScan: no pixels in a CT image, or too few.
    """
    meta_class = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if str(dataset.get("SOPClassUID", "")) not in CT_CLASSES:
        if meta_class in CT_CLASSES:
            raise UnreadableScan("SOPClassUID and the file meta differ", fix=_COPY_AGAIN)
        return  # refused anyway
    counts = native_bytes(dataset)
    if not any(dataset.get_item(tag) for tag in PIXELS if tag in dataset):
        raise UnreadableScan("the image has no pixels", fix=_COPY_AGAIN)
    if counts is not None and counts[0] < counts[1]:
        raise UnreadableScan("the pixels are cut off", found=counts[0], fix=_COPY_AGAIN)


def _deidentified(source: Any, rules: Rules) -> CleanFile:
    reasons = suspicions(source)
    if reasons:
        raise Refused(reasons)
    cleaning = Cleaning(source, rules)
    out = cleaning.dataset
    lost = essentials_lost(source, out, ESSENTIAL)
    if lost or not source.get("SOPInstanceUID"):
        raise UnreadableScan(
            "an attribute that the image needs is missing or no value of its kind",
            found=", ".join(lost) or "no SOPInstanceUID",
            fix=_COPY_AGAIN,
        )
    reference = rules.keyed.reference(str(source.get("SeriesInstanceUID", "")))
    _say_what_was_done(out, rules, reference)
    data = _encoded(out, source)
    if cleaning.witnesses.left_in(_plain(data, out.file_meta)):
        raise Refused(["an identifying value would be left in the file, its pixels included"])
    return CleanFile(data=data, reference=reference, counts=cleaning.counts)


def _damaged(error: Exception) -> UnreadableScan:
    return UnreadableScan("the DICOM file is damaged", found=type(error).__name__, fix=_COPY_AGAIN)


@contextlib.contextmanager
def pydicom_held_back() -> Iterator[None]:
    """Without pydicom's warnings, which quote the values that must not be shown anywhere."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def read(path: Path) -> Any:
    """The dataset in a file, whole.

    Raises:
        NotForUs: no DICOM file, a DICOMDIR, or no regular file.
        UnreadableScan: damaged, too large, or of a transfer syntax that the standard lacks.
    """
    pydicom = require("pydicom", extra=EXTRA, purpose=PURPOSE)
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise NotForUs("no regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise UnreadableScan("the file is too large", expected=f"at most {MAX_FILE_BYTES} bytes")
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                raise NotForUs("no DICOM file")
        meta = pydicom.filereader.read_file_meta_info(path)
        _check_meta(meta)
        if meta.TransferSyntaxUID in _DEFLATED:
            data = path.read_bytes()
            _check_inflated(data[_start_of_dataset(data) :])
        return pydicom.dcmread(path)
    except (NotForUs, CTEdgeError):
        raise
    except Exception as error:  # noqa: BLE001  (as above)
        raise _damaged(error) from None


def _check_meta(meta: Any) -> None:
    syntax = meta.get("TransferSyntaxUID", "")
    if str(meta.get("MediaStorageSOPClassUID", "")) == MEDIA_DIRECTORY:
        raise NotForUs("a DICOMDIR")
    known = require("pydicom.uid", extra=EXTRA, purpose=PURPOSE).UID_dictionary
    if known.get(str(syntax), ("", ""))[1] != "Transfer Syntax":
        raise UnreadableScan(
            "the transfer syntax is none that is known",
            fix="export the series from the scanner again, in a standard transfer syntax",
        )


def _start_of_dataset(data: bytes) -> int:
    """Behind preamble, prefix, and the group length element (12 bytes) that tells of group 2."""
    return 132 + 12 + int.from_bytes(data[140:144], "little")


def _check_inflated(data: bytes) -> None:
    """A few bytes can inflate to any number: look before pydicom does."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    while data and not engine.eof:
        total += len(engine.decompress(data, _STEP_BYTES))
        data = engine.unconsumed_tail
        if total > MAX_FILE_BYTES:
            raise UnreadableScan(
                "the deflated dataset is too large", expected=f"at most {MAX_FILE_BYTES} bytes"
            )


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
    if meta.TransferSyntaxUID not in _DEFLATED:
        return data
    start = _start_of_dataset(data)
    return data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)
