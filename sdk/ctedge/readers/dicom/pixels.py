"""From one slice's stored pixels to HU."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ctedge.errors import CodecUnavailable, CTEdgeError, UnreadableScan
from ctedge.extras import install_line, require
from ctedge.readers.dicom.codecs import CODECS, decode_frame
from ctedge.readers.dicom.opening import damaged
from ctedge.readers.dicom.slices import Slice
from ctedge.readers.dicom.values import hu_of

#: The data set is deflated as a whole, PS3.5 A.5.
_DEFLATED = "1.2.840.10008.1.2.1.99"

#: Pixels stand in a file as in memory: little endian, not deflated.
_IMPLICIT_VR, _EXPLICIT_VR = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

#: Not compressed, or as a whole: PS3.5 A.1 to A.3, and A.5.
_NATIVE = (_IMPLICIT_VR, _EXPLICIT_VR, "1.2.840.10008.1.2.2", _DEFLATED)

#: The tag (7FE0,0010) in these, and what follows it where VRs are explicit: odd, as a length.
_PIXEL_DATA, _EXPLICIT = b"\xe0\x7f\x10\x00", (b"OW\0\0", b"OB\0\0")

#: What is said instead of a length where fragments follow.
_NO_LENGTH = 0xFFFFFFFF

#: What stands before pixels in a file: tag, VR, length (all encapsulated syntaxes are explicit).
_ELEMENT_HEADER_BYTES = 12

#: Where a file says which fragment of its pixels belongs to which frame.
_FRAME_TABLE = ("NumberOfFrames", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")


def decode(one: Slice) -> npt.NDArray[Any]:
    """Decode one slice.

    Returns:
        (rows, columns) of HU; integer where slope and intercept are whole.

    Raises:
        UnreadableScan: the file is damaged, has changed since its header was read, or has gone.
        NonFiniteVoxels: the map to HU leads beyond what a number holds.
    """
    pydicom = require("pydicom", extra="dicom", purpose="reading DICOM")
    try:
        raw = _stored(pydicom, one)
        if raw.shape != (one.rows, one.columns):
            raise damaged(one.where, f"pixels of shape {raw.shape}")
        return hu_of(raw, one.values, name=one.where)
    except (CTEdgeError, MemoryError):  # a want of memory is no damage
        raise
    except Exception as error:  # pydicom and the codecs raise many kinds on damaged files
        raise damaged(one.where, error) from error


def check_decodable(
    syntaxes: dict[str, str], *, label: str, bits_stored: Collection[int] = ()
) -> None:
    """Refuse what nothing installed decodes, before the first pixel is asked for.

    Args:
        syntaxes: transfer syntax UID to its name.
        label: the source's name in messages.
        bits_stored: of the slices.

    Raises:
        CodecUnavailable: naming the syntax.
        UnreadableScan: a data set in memory that does not say it.
    """
    deepest = max(bits_stored, default=8)
    for uid, name in syntaxes.items():
        if not uid:
            raise UnreadableScan(
                f"{label}: a data set does not say how its pixels are encoded",
                expected="dataset.file_meta.TransferSyntaxUID",
                fix="pass the file itself, or set the transfer syntax it was made in",
            )
        codec = CODECS.get(uid)
        if uid not in _NATIVE and (codec is None or not codec.available()):
            export = "export the series uncompressed"
            raise CodecUnavailable(
                f"{label}: nothing installed decodes these pixels",
                found=f"transfer syntax {name} ({uid}), up to {deepest} bits",
                fix=f"{install_line('dicom')}, or {export}" if codec else export,
            )


def _stored(pydicom: Any, one: Slice) -> npt.NDArray[Any]:
    """(rows, columns) as stored; what lies beside the stored bits is still there."""
    item = one.item
    if item.dataset is not None:
        return _of_dataset(pydicom, one, item.dataset)
    with item.opened() as stream:
        if one.syntax == _DEFLATED:
            return _of_dataset(pydicom, one, pydicom.dcmread(stream))
        if pydicom.uid.UID(one.syntax).is_encapsulated:
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=[*_FRAME_TABLE])
            stream.seek(_ELEMENT_HEADER_BYTES, 1)
            return _of_frames(pydicom, one, header, stream)
        plain = _plain(one, stream)
        return _native(pydicom, one, stream) if plain is None else plain


def _plain(one: Slice, stream: BinaryIO) -> npt.NDArray[Any] | None:
    """Pixels that stand in the file as in memory; None where pydicom is to look for them.

    It would read the whole header again, which takes longer than all else; and of a file whose VRs
    are explicit although its syntax says otherwise, it would take them from a wrong place.
    """
    if one.trailing_bytes is None or one.syntax not in (_IMPLICIT_VR, _EXPLICIT_VR):
        return None
    sign = "i" if one.values.signed else "u"
    dtype = np.dtype(f"<{sign}{one.values.bits_allocated // 8}")
    size = one.rows * one.columns * dtype.itemsize
    stream.seek(-one.trailing_bytes, io.SEEK_END)
    tag, said = stream.read(4), stream.read(4)
    explicit = said in _EXPLICIT
    length = int.from_bytes(stream.read(4) if explicit else said, "little")
    enough = (one.frame + 1) * size <= length < _NO_LENGTH
    if tag != _PIXEL_DATA or length % 2 or not enough:
        if explicit and one.syntax == _IMPLICIT_VR:
            raise damaged(one.where, "its pixels are of another syntax than it says")
        return None
    stream.seek(one.frame * size, io.SEEK_CUR)
    data = stream.read(size)
    return np.frombuffer(data, dtype).reshape(one.rows, one.columns) if len(data) == size else None


def _of_dataset(pydicom: Any, one: Slice, dataset: Any) -> npt.NDArray[Any]:
    if not pydicom.uid.UID(one.syntax).is_encapsulated:
        return _native(pydicom, one, dataset)
    frames = dataset.PixelData
    stream = io.BytesIO(frames) if isinstance(frames, bytes) else frames
    return _of_frames(pydicom, one, dataset, stream)


def _native(pydicom: Any, one: Slice, source: Any) -> npt.NDArray[Any]:
    pixels: npt.NDArray[Any] = pydicom.pixels.pixel_array(
        source, index=one.frame, raw=True, correct_unused_bits=False
    )
    return pixels


def _of_frames(pydicom: Any, one: Slice, header: Any, stream: Any) -> npt.NDArray[Any]:
    """Decode one compressed frame: the one that was checked, by the values that were checked."""
    offsets = [header.get(keyword) for keyword in _FRAME_TABLE[1:]]
    if all(offsets):
        _check_place(one, offsets, stream)
    try:
        frame = pydicom.encaps.get_frame(
            stream,
            one.frame,
            number_of_frames=int(header.get("NumberOfFrames") or 1),
            extended_offsets=offsets if all(offsets) else None,
        )
        return decode_frame(
            frame, syntax=one.syntax, rows=one.rows, columns=one.columns, values=one.values
        )
    except (CTEdgeError, MemoryError):  # a want of memory is no damage
        raise
    except Exception as error:  # each codec raises a kind of its own
        raise damaged(
            one.where,
            error,
            what=f"its pixels, compressed as {pydicom.uid.UID(one.syntax).name}, are damaged",
            fix="copy the file again from its source; where it is damaged there, too, export the"
            " series again",
        ) from error


def _check_place(one: Slice, tables: Sequence[bytes], stream: Any) -> None:
    """Refuse an extended offset table by which frames lie in another order, or outside the file."""
    frames = range(max(one.frame - 1, 0), one.frame + 1)
    starts, sizes = (
        [struct.unpack_from("<Q", table, 8 * frame)[0] for frame in frames] for table in tables
    )
    here = stream.tell()
    room = stream.seek(0, io.SEEK_END) - here
    stream.seek(here)
    if starts[-1] + sizes[-1] > room or (one.frame and starts[0] + sizes[0] > starts[1]):
        raise damaged(one.where, "an extended offset table that is not that of its frames")
