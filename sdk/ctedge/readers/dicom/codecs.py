"""One decoder for each compressed transfer syntax, all of them out of one package, imagecodecs.

JPEG, 8 to 16 bits, lossy and lossless: libjpeg-turbo. JPEG-LS: CharLS. JPEG 2000 and HTJ2K:
OpenJPEG. They work outside Python's lock, and answer damaged frames with an error or with what
could be read. pydicom's plugins, which pick whatever is installed, are not asked.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import MissingExtra, counted
from ctedge.extras import require
from ctedge.readers.dicom.codestream import Codestream, Family, check_codestream
from ctedge.readers.dicom.values import StoredValues

Pixels = npt.NDArray[Any]

#: The header of an RLE frame: the number of segments, and where 15 of them begin. PS3.5 G.5.
_RLE_HEADER = struct.Struct("<16I")

#: Some writers fill a segment up with zeros, which read as one more run of up to 128 bytes.
_RLE_RUN = 128


@dataclass(frozen=True, kw_only=True)
class Codec:
    """What decodes a syntax.

    Attributes:
        library: of imagecodecs, as it names what it was built with.
        decode: (imagecodecs, frame, rows, columns, values) -> (rows, columns) as stored.
    """

    library: str
    decode: Callable[[Any, bytes, int, int, StoredValues], Pixels]

    def available(self) -> bool:
        """Whether the package is installed, and was built with this library."""
        try:
            constants: Any = getattr(_imagecodecs(), self.library)
            # Builds with libjpeg-turbo before version 3 decode 8 bits alone.
            return bool(constants.available and getattr(constants, "all_precisions", True))
        except (MissingExtra, AttributeError, ImportError):
            return False


def decode_frame(
    frame: bytes, *, syntax: str, rows: int, columns: int, values: StoredValues
) -> Pixels:
    """Decode one compressed frame of one component.

    Args:
        frame: its fragments, put together.
        syntax: transfer syntax UID, a key of `CODECS`.
        rows, columns, values: what the DICOM header says; the frame must keep to it.

    Returns:
        (rows, columns) as stored, signed as the header says; what lies beside the stored bits is
        still there. Frames of up to 8 bits of JPEG-LS and JPEG 2000 come in 8 bits.

    Raises:
        ValueError: the frame is damaged, or is not what the header promises.
        Exception: what the codec says of damage.
        MissingExtra: imagecodecs is not installed.
    """
    return CODECS[syntax].decode(_imagecodecs(), frame, rows, columns, values)


def _imagecodecs() -> Any:
    return require("imagecodecs", extra="dicom", purpose="decoding compressed DICOM")


def _checked(
    frame: bytes, family: tuple[Family, ...], rows: int, columns: int, values: StoredValues
) -> Codestream:
    return check_codestream(
        frame, rows=rows, columns=columns, bits_allocated=values.bits_allocated, family=family
    )


def _jpeg(*family: Family) -> Callable[[Any, bytes, int, int, StoredValues], Pixels]:
    def decode(
        imagecodecs: Any, frame: bytes, rows: int, columns: int, values: StoredValues
    ) -> Pixels:
        _checked(frame, family, rows, columns, values)
        pixels: Pixels = imagecodecs.jpeg8_decode(frame)
        # JPEG knows no sign: the sign bit is where the header says, see `values.hu_of`.
        kind = np.dtype(f"{'i' if values.signed else 'u'}{values.bits_allocated // 8}")
        return pixels.astype(kind, copy=False)

    return decode


def _jpeg_ls(
    imagecodecs: Any, frame: bytes, rows: int, columns: int, values: StoredValues
) -> Pixels:
    found = _checked(frame, (Family.JPEG_LS,), rows, columns, values)
    return _with_sign(imagecodecs.jpegls_decode(frame), found, values)


def _jpeg_2000(
    imagecodecs: Any, frame: bytes, rows: int, columns: int, values: StoredValues
) -> Pixels:
    """Without the boxes that some writers put around the codestream: DICOM knows none."""
    found = _checked(frame, (Family.JPEG_2000,), rows, columns, values)
    pixels = imagecodecs.jpeg2k_decode(memoryview(frame)[found.start :], numthreads=1)
    return _with_sign(pixels, found, values)


def _rle(imagecodecs: Any, frame: bytes, rows: int, columns: int, values: StoredValues) -> Pixels:
    """Run lengths of one byte of each pixel after the other, the most significant first."""
    depth, size = values.bits_allocated // 8, rows * columns
    count, *offsets = _RLE_HEADER.unpack_from(frame.ljust(_RLE_HEADER.size, b"\0"))
    ends = [*offsets[1:depth], len(frame)]
    starts = offsets[:depth]
    if count != depth or starts[0] < _RLE_HEADER.size or any(map(int.__ge__, starts, ends)):
        raise ValueError(
            f"{counted(count, 'segment')} of RLE at {starts}; {depth} in order are expected"
        )
    pixels = np.empty((rows, columns, depth), np.uint8)
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        segment = bytearray(size + _RLE_RUN)
        decoded = imagecodecs.packbits_decode(memoryview(frame)[start:end], out=segment)
        if len(decoded) < size:
            raise ValueError(f"a segment of RLE with {len(decoded)} of {size} bytes")
        pixels[..., depth - 1 - place] = np.frombuffer(segment, np.uint8, size).reshape(
            rows, columns
        )
    return pixels.view(f"<{'i' if values.signed else 'u'}{depth}")[..., 0]


def _with_sign(pixels: Pixels, found: Codestream, values: StoredValues) -> Pixels:
    """As signed as the header says: a frame that says otherwise holds the same bits.

    Writers give signed pixels to a codec as unsigned ones, and the other way round; the sign bit is
    the highest of the codestream.
    """
    kind = np.dtype(f"{'i' if values.signed else 'u'}{pixels.dtype.itemsize}")
    same = pixels.view(kind)
    beyond = 8 * kind.itemsize - found.bits
    return same if found.signed == values.signed or not beyond else (same << beyond) >> beyond


_LOSSY = Codec(library="JPEG8", decode=_jpeg(Family.JPEG))
_PROGRESSIVE = Codec(library="JPEG8", decode=_jpeg(Family.JPEG, Family.PROGRESSIVE))
_LOSSLESS = Codec(library="JPEG8", decode=_jpeg(Family.LOSSLESS))
_LS = Codec(library="JPEGLS", decode=_jpeg_ls)
_2000 = Codec(library="JPEG2K", decode=_jpeg_2000)

#: Transfer syntaxes, PS3.6 table A-1; with those retired ones that libjpeg-turbo decodes.
CODECS = {
    "1.2.840.10008.1.2.4.50": _LOSSY,  # baseline
    "1.2.840.10008.1.2.4.51": _LOSSY,  # extended, 8 and 12 bits
    "1.2.840.10008.1.2.4.53": _PROGRESSIVE,  # spectral selection
    "1.2.840.10008.1.2.4.55": _PROGRESSIVE,  # full progression
    "1.2.840.10008.1.2.4.57": _LOSSLESS,
    "1.2.840.10008.1.2.4.70": _LOSSLESS,  # first-order prediction
    "1.2.840.10008.1.2.4.80": _LS,
    "1.2.840.10008.1.2.4.81": _LS,  # near-lossless
    "1.2.840.10008.1.2.4.90": _2000,  # reversible only
    "1.2.840.10008.1.2.4.91": _2000,
    "1.2.840.10008.1.2.4.201": _2000,  # high throughput, reversible only
    "1.2.840.10008.1.2.4.202": _2000,  # high throughput, resolutions in order
    "1.2.840.10008.1.2.4.203": _2000,  # high throughput
    "1.2.840.10008.1.2.5": Codec(library="PACKBITS", decode=_rle),
}
