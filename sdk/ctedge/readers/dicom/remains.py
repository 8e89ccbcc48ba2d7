"""What is left of a slice whose file was cut off before it says that it is DICOM.

A text file beside the slices is left out of the scan. An empty file, or one of zeros, that is named
as the slices are was one of them: without it, the scan would be shorter and nobody would know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePath

from ctedge.errors import counted
from ctedge.readers.dicom.gather import DicomObject

#: 128 bytes of preamble, and the letters DICM, PS3.10.
_HEAD_BYTES = 132


def cut_slices(
    strays: Iterable[DicomObject], slices: Iterable[DicomObject]
) -> Iterator[tuple[DicomObject, str]]:
    """Those that were slices, and what was found in their place.

    Args:
        strays: files that do not begin as DICOM does.
        slices: files that do.
    """
    kinds = {_kind_of_name(one) for one in slices}
    for item in strays:
        if _kind_of_name(item) not in kinds:
            continue
        with item.opened() as stream:
            head = stream.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            yield item, counted(len(head), "byte")
        elif not any(head):
            yield item, "zeros in the place of its beginning"


def _kind_of_name(item: DicomObject) -> str | None:
    """The suffix; names made of UIDs have none. Of a stream nothing is known but that it is one."""
    if item.file is None:
        return None
    name = PurePath(item.name).name
    suffix = "." if name.startswith(".") else PurePath(name).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix
