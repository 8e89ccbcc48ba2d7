"""Opening DICOM objects that may be hostile: bounded headers, bounded inflation, one error."""

from __future__ import annotations

import functools
import struct
import warnings
import zlib
from typing import Any, BinaryIO

from ctedge.errors import CTEdgeError, UnreadableScan
from ctedge.readers.dicom.gather import DicomObject

#: Headers of multi-frame CT with thousands of frames take a few MiB.
MAX_HEADER_BYTES = 64 << 20

#: Pieces that a header is read in: four for an empty item of a sequence, about 100 for a frame of
#: enhanced CT. pydicom takes some 50 us for each.
MAX_HEADER_READS = 400_000

#: Items in the sequences of one element, at every depth: enhanced CT has about 12 for each frame.
MAX_ITEMS = 100_000

#: One value that is no sequence: no number or text that is wanted comes near it.
MAX_VALUE_BYTES = 1 << 16

#: A deflated object may not grow beyond this: 1 GiB holds 2000 frames of 512 x 512.
MAX_INFLATED_BYTES = 1 << 30

#: By keyword, of the elements that an object has.
Header = dict[str, Any]

#: Elements of the file meta information that are read besides.
META = ("MediaStorageSOPClassUID", "TransferSyntaxUID")

_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_VR_OF_SEQUENCES = ("SQ", "UN", None)
_STEP_BYTES = 1 << 24

#: What is raised where bytes are missing; two of them are called "error".
_CUT_SHORT = (EOFError, struct.error, zlib.error)

#: What pydicom calls that of one value.
_WRONG_LENGTH = "BytesLengthException"


def damaged(
    name: str,
    error: object,
    *,
    what: str = "the DICOM file is damaged",
    fix: str = "copy the file again from its source",
) -> UnreadableScan:
    """What to raise for a file that pydicom or a codec stumbles over, or that has gone.

    Args:
        name: of the file.
        error: what was found, or raised.
        what: is damaged.
        fix: what to do.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableScan(
            f"{name}: cannot be read",
            found=error.strerror,
            fix="check that it is still there, that this user may read it, and its medium",
        )
    found = error
    if isinstance(error, _CUT_SHORT):
        found = kind_of(error)
    elif isinstance(error, Exception) and not isinstance(error, Unbearable):
        found = f"{type(error).__name__}: {error}"
    return UnreadableScan(f"{name}: {what}", found=found, fix=fix)


def named_in_full(item: DicomObject, error: CTEdgeError) -> CTEdgeError:
    """An error of one file with its folder, too: of several scans, each may have such a file."""
    if not error.what.startswith(f"{item.name}: "):
        return error
    named = type(error)(
        item.where + error.what.removeprefix(item.name),
        found=error.found,
        expected=error.expected,
        fix=error.fix,
    )
    named.__cause__ = error.__cause__  # which says whether the machine is to blame
    return named


def kind_of(error: Exception) -> str:
    """What an error means whose own text is not shown: it may quote the patient's data.

    Args:
        error: of pydicom, or of what inflates.
    """
    if isinstance(error, zlib.error):
        return "its deflated data end too soon, or are damaged"
    if isinstance(error, (*_CUT_SHORT, OSError)) or type(error).__name__ == _WRONG_LENGTH:
        return "it ends too soon, or a length in it is wrong"
    return f"it cannot be parsed ({type(error).__name__})"


class Unbearable(ValueError):
    """A header beyond a limit of ours."""


def damaged_header(name: str, error: Exception) -> UnreadableScan:
    """What to raise where a header cannot be read.

    Of an error that is neither ours nor the system's only the kind is named (`kind_of`).
    """
    ours = isinstance(error, Unbearable) or getattr(error, "errno", None) is not None
    return damaged(name, error if ours else kind_of(error))


def read_header(
    pydicom: Any, item: DicomObject, keywords: tuple[str, ...]
) -> tuple[Header, int | None]:
    """The wanted elements of an object, without its pixels.

    Args:
        pydicom: the module.
        item: what to read.
        keywords: of the elements that are wanted, besides those of `META`.

    Returns:
        Their values, and how many bytes follow the header where that can be told.

    Raises:
        pydicom.errors.InvalidDicomError: not a DICOM file.
        UnreadableScan: damaged, changed while it was read, or a header without end.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom remarks on what vendors do; we judge by values
        try:
            dataset, trailing = _parsed(pydicom, item, keywords)
            header = _values(getattr(dataset, "file_meta", None), META)
            header |= _values(dataset, keywords)
        except (CTEdgeError, MemoryError, pydicom.errors.InvalidDicomError):
            raise  # a want of memory is no damage
        except Exception as error:  # pydicom raises many kinds
            raise damaged_header(item.name, error) from error
    return header, trailing


def _values(dataset: Any, keywords: tuple[str, ...]) -> Header:
    """What of these is there, each asked for once, and by tag: for pydicom it is all work anew.

    A value is parsed, and found broken, when it is first asked for.
    """
    found: Header = {}
    there = () if dataset is None else dataset.keys()
    for keyword, tag in _tags(keywords):
        if tag in there:
            _check(dataset.get_item(tag), keyword)
            found[keyword] = dataset[tag].value
    return found


@functools.cache
def _tags(keywords: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    from pydicom.tag import Tag

    return tuple((keyword, Tag(keyword)) for keyword in keywords)


def _parsed(pydicom: Any, item: DicomObject, keywords: tuple[str, ...]) -> tuple[Any, int | None]:
    if item.dataset is not None:
        return item.dataset, None
    with item.opened() as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        bounded = _Bounded(stream)
        try:
            tags = [tag for _, tag in _tags(keywords)]
            dataset = pydicom.dcmread(bounded, stop_before_pixels=True, specific_tags=tags)
        except Exception:
            if bounded.beyond is not None:  # pydicom may have made another error of it
                raise bounded.beyond from None
            raise
        return dataset, None if bounded.inflates else size - stream.tell()


def check_value(dataset: Any, keyword: str) -> None:
    """Refuse a value that would take minutes and gigabytes to parse, before it is parsed.

    Args:
        dataset: a `pydicom.Dataset`.
        keyword: of an element that may be absent.

    Raises:
        Unbearable: a sequence of far too many items, or a number or text without end.
    """
    _check(dataset.get_item(keyword), keyword)


def _check(raw: Any, keyword: str) -> None:
    value = getattr(raw, "value", None)
    if not isinstance(value, bytes):
        return
    if keyword.endswith("Sequence") and raw.VR in _VR_OF_SEQUENCES:
        if max(value.count(tag) for tag in _ITEM_TAGS) > MAX_ITEMS:
            raise Unbearable(f"{keyword}: a sequence without end")
    elif len(value) > MAX_VALUE_BYTES:
        raise Unbearable(f"{keyword}: a value of {len(value)} bytes")


class _Bounded:
    """A stream of which only so much can be read, and that inflates to no more than is bearable.

    Attributes:
        inflates: the rest was asked for at once, as pydicom does for deflated objects only.
        beyond: what was raised because more was asked for.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._bytes_left = MAX_HEADER_BYTES
        self._reads_left = MAX_HEADER_READS
        self.inflates = False
        self.beyond: Unbearable | None = None

    def read(self, count: int = -1) -> bytes:
        """At most `count` bytes."""
        if count < 0:
            self.inflates = True
            return self._deflated()
        data = self._stream.read(min(count, self._bytes_left + 1))
        self._bytes_left -= len(data)
        self._reads_left -= 1
        if self._bytes_left < 0 or self._reads_left < 0:
            self.beyond = Unbearable("a header without end")
            raise self.beyond
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any stream."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As of any stream."""
        return self._stream.tell()

    def _deflated(self) -> bytes:
        """The rest of the stream; inflated once before, in pieces, to see that it ends."""
        data = self._stream.read(MAX_INFLATED_BYTES + 1)
        engine = zlib.decompressobj(-zlib.MAX_WBITS)
        total, rest = 0, data
        while rest and not engine.eof:
            total += len(engine.decompress(rest, _STEP_BYTES))
            if total > MAX_INFLATED_BYTES:
                raise Unbearable(f"it inflates beyond {MAX_INFLATED_BYTES >> 30} GiB")
            rest = engine.unconsumed_tail
        return data
