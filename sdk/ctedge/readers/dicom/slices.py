"""What a header says of its slices: one of a plain CT image, one a frame of an enhanced image.

Attributes: PS3.3 C.7.6.2 (image plane), C.8.2.1 (CT image), C.8.15 (enhanced CT).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ctedge.errors import IrregularSeries, counted
from ctedge.readers.dicom.elements import Frame, numbers, text_of
from ctedge.readers.dicom.fitness import reason_of_frame
from ctedge.readers.dicom.gather import DicomObject
from ctedge.readers.dicom.opening import Header, damaged
from ctedge.readers.dicom.values import StoredValues, stored_values

#: More frames than any scan has slices.
MAX_FRAMES = 10_000

#: A slice larger than this is none: the finest CT has 2048 x 2048 pixels.
MAX_PIXELS = 4096 * 4096

#: Characters of a kernel's name that are read: values of 16 each, PS3.5 6.2 (SH).
MAX_KERNEL = 64

_BIG_ENDIAN = "1.2.840.10008.1.2.2"


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """One slice and where its pixels are.

    Attributes:
        name: of its file, with the frame where there are several.
        where: the same with the folder as it was given, for messages of this slice alone.
        item: holds the pixels.
        frame: 0 but for multi-frame images.
        rows, columns: pixels.
        spacing_mm: between rows, between columns.
        orientation: direction cosines along a row, then along a column, in LPS.
        position_mm: of the centre of the first pixel, in LPS.
        syntax: transfer syntax UID of the pixels; empty where it is not said.
        acquisition: AcquisitionNumber; None where it is not said.
        kernel: ConvolutionKernel; empty where it is not said.
        values: how stored values become HU.
        trailing_bytes: that follow the header of its file, from the element of its pixels on,
            where that can be told.
    """

    name: str
    where: str
    item: DicomObject
    frame: int
    rows: int
    columns: int
    spacing_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    position_mm: tuple[float, ...]
    syntax: str
    acquisition: int | None
    kernel: str
    values: StoredValues
    trailing_bytes: int | None


def slices_of(header: Header, item: DicomObject, trailing: int | None) -> tuple[Slice, ...]:
    """The slices of an object that passed `ctedge.readers.dicom.fitness`.

    Args:
        header: with the elements `elements.WANTED`.
        item: the object.
        trailing: how many bytes follow the header, where that can be told.

    Raises:
        IrregularSeries: an element that a slice needs is missing or no number; a frame that is no
            slice in HU.
        UnreadableScan: as many functional groups as frames are needed, and were not found.
    """
    frames = int(numbers(item.where, header, "NumberOfFrames", 1, default=1.0)[0])
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not 1 <= frames <= MAX_FRAMES or (groups is not None and len(groups) != frames):
        found = f"{counted(frames, 'frame')}, {counted(len(groups or ()), 'functional group')}"
        raise damaged(item.where, found)
    if groups is None and frames > 1:
        raise IrregularSeries(
            f"{item.where}: not a plain CT slice",
            found=f"NumberOfFrames {frames} without a position for each",
            expected="NumberOfFrames 1, or an enhanced CT image",
            fix="export the series from the scanner again, as enhanced or as single slices",
        )
    return tuple(_slice(header, item, trailing, index, frames) for index in range(frames))


def _slice(
    header: Header, item: DicomObject, trailing: int | None, index: int, frames: int
) -> Slice:
    grouped = header.get("PerFrameFunctionalGroupsSequence") is not None
    frame = Frame(header, index if grouped else None)
    syntax = str(header.get("TransferSyntaxUID") or "")
    place = "" if frames == 1 else f" frame {index + 1}"
    where = f"{item.where}{place}"

    def whole(keyword: str, default: float | None = None) -> int:
        return int(numbers(where, frame, keyword, 1, default=default)[0])

    reason = reason_of_frame(frame)
    if reason is not None:
        raise IrregularSeries(
            f"{where}: no CT slice among the others",
            found=reason,
            expected="every frame a slice in HU",
            fix="export the frames that are slices as an object of their own",
        )
    acquisition = frame.get("AcquisitionNumber")
    rows, columns = whole("Rows"), whole("Columns")
    if rows * columns > MAX_PIXELS:
        raise damaged(where, f"{rows} rows of {columns} pixels")
    return Slice(
        name=f"{item.name}{place}",
        where=where,
        item=item,
        frame=index,
        rows=rows,
        columns=columns,
        spacing_mm=numbers(where, frame, "PixelSpacing", 2),
        orientation=numbers(where, frame, "ImageOrientationPatient", 6),
        position_mm=numbers(where, frame, "ImagePositionPatient", 3),
        syntax=syntax,
        acquisition=None if acquisition in (None, "") else whole("AcquisitionNumber"),
        kernel=text_of(frame, "ConvolutionKernel")[:MAX_KERNEL],
        values=stored_values(where, frame, big_endian=syntax == _BIG_ENDIAN),
        trailing_bytes=trailing,
    )


def kernel_of(slices: Iterable[Slice]) -> str | None:
    """The reconstruction kernel that all of them name; None where none is said, or several are."""
    named = {one.kernel for one in slices}
    return None if len(named) > 1 else named.pop() or None
