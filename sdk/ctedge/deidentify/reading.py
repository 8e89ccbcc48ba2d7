"""One DICOM file, opened with suspicion: bounded in bytes, in items and in the pieces it is of."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ctedge.deidentify.actions import EXTRA, PURPOSE
from ctedge.deidentify.frames import SYNTAXES
from ctedge.deidentify.suspicion import MEDIA_DIRECTORY
from ctedge.errors import CTEdgeError, UnreadableScan
from ctedge.extras import require
from ctedge.readers.dicom.opening import MAX_HEADER_READS, MAX_ITEMS, kind_of

#: Larger is no CT: 2 GiB.
MAX_FILE_BYTES = 2 << 30

COPY_AGAIN = "copy the file again from its source"
DEFLATED = ("1.2.840.10008.1.2.1.99",)

#: Transfer syntaxes of the standard that pydicom's dictionary does not have yet, PS3.6 table A-1.
_NEWER = {"1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression"}
_OF_THE_STANDARD = re.compile(r"1\.2\.840\.10008\.1\.2(?:\.\d{1,3}){1,3}", re.ASCII)

_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_STEP_BYTES = 1 << 24


class NotForUs(Exception):
    """No DICOM file, or a DICOMDIR: passed over, and said so."""


class Refused(Exception):
    """The image may show who the patient is, or cannot be looked into; `args[0]` lists why."""


def damaged(error: Exception) -> UnreadableScan:
    """What to raise for what pydicom stumbles over; its own words may quote a value."""
    return UnreadableScan("the DICOM file is damaged", found=kind_of(error), fix=COPY_AGAIN)


def passing(error: Exception) -> str | None:
    """What the machine failed at, so that the file may well be read another time; else None.

    An error of the system has a number; pydicom raises the same class, without one, on damage.
    """
    if isinstance(error, MemoryError):
        return "there was too little memory for it"
    if isinstance(error, OSError) and error.errno is not None:
        return f"it could not be read: {os.strerror(error.errno)}"
    return None


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
        Refused: a transfer syntax of the standard whose pixels nobody here can look into.
        UnreadableScan: damaged, without end, or of a transfer syntax that the standard lacks.
        OSError, MemoryError: the machine failed, and not the file (`passing`).
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
        if meta.TransferSyntaxUID in DEFLATED:
            data = path.read_bytes()
            _check_items(_inflated(data[start_of_dataset(data) :]))
        with path.open("rb") as stream:
            _check_items(iter(lambda: stream.read(_STEP_BYTES), b""))
            stream.seek(0)
            return pydicom.dcmread(_Bounded(stream))
    except (NotForUs, Refused, CTEdgeError):
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files
        if passing(error):
            raise
        raise damaged(error) from None  # the traceback may quote a value, as its message may


def _check_meta(meta: Any) -> None:
    syntax = str(meta.get("TransferSyntaxUID", ""))
    if str(meta.get("MediaStorageSOPClassUID", "")) == MEDIA_DIRECTORY:
        raise NotForUs("a DICOMDIR")
    uid = require("pydicom.uid", extra=EXTRA, purpose=PURPOSE)
    name, kind = uid.UID_dictionary.get(syntax, (_NEWER.get(syntax, ""), ""))[:2]
    if kind == "Transfer Syntax" and (syntax in SYNTAXES or not uid.UID(syntax).is_encapsulated):
        return
    if _OF_THE_STANDARD.fullmatch(syntax):
        raise Refused(
            [f"the transfer syntax {name} ({syntax}) is not supported".replace("  ", " ")]
        )
    raise UnreadableScan(
        "the transfer syntax is none that is known",
        fix="export the series from the scanner again, in a standard transfer syntax",
    )


def start_of_dataset(data: bytes) -> int:
    """Behind preamble, prefix, and the group length element (12 bytes) that tells of group 2."""
    return 132 + 12 + int.from_bytes(data[140:144], "little")


def _inflated(data: bytes) -> Iterator[bytes]:
    """In pieces: a few bytes can inflate to any number, so look before pydicom does."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    while data and not engine.eof:
        piece = engine.decompress(data, _STEP_BYTES)
        data = engine.unconsumed_tail
        total += len(piece)
        if total > MAX_FILE_BYTES:
            raise UnreadableScan(
                "the deflated dataset is too large", expected=f"at most {MAX_FILE_BYTES} bytes"
            )
        yield piece


def _check_items(pieces: Iterable[bytes]) -> None:
    """Count the items of sequences and pixels before pydicom builds an object of each."""
    counts = dict.fromkeys(_ITEM_TAGS, 0)
    tail = b""
    for piece in pieces:
        for tag in _ITEM_TAGS:
            counts[tag] += (tail + piece).count(tag)
        tail = piece[-3:]
    if max(counts.values()) > MAX_ITEMS:
        raise UnreadableScan(
            "sequences without end",
            found=f"{max(counts.values())} items",
            expected=f"at most {MAX_ITEMS}",
            fix="leave this file out",
        )


class _Bounded:
    """A stream that a dataset is read from in so many pieces, and not in more."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._reads_left = MAX_HEADER_READS

    def read(self, count: int = -1) -> bytes:
        """At most `count` bytes."""
        self._reads_left -= 1
        if self._reads_left < 0:
            raise UnreadableScan(
                "a header without end",
                expected=f"at most {MAX_HEADER_READS} pieces",
                fix="leave this file out",
            )
        return self._stream.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any stream."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As of any stream."""
        return self._stream.tell()
