"""Compressed frames for every transfer syntax that can be encoded here, and data sets of them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

#: Only from imagecodecs 2026 on, for Python 3.11 and later.
ENCODES_HTJ2K = hasattr(imagecodecs, "HTJ2K") and imagecodecs.HTJ2K.available

Encoder = Callable[[np.ndarray, int], bytes]


def lossless_jpeg(
    pixels: np.ndarray, bits: int, *, predictor: int = 1, shift: int = 0, times: int = 1
) -> bytes:
    """(rows, columns), of `bits` bits; the sign bit is the highest of these.

    Args:
        pixels: 16 bits.
        bits: of the frame.
        predictor: selection value, 1 to 7.
        shift: point transform: so many low bits are left out.
        times: the picture so often, one below the other, each in a restart interval of its own.
    """
    plain = (pixels.view(np.uint16) & ((1 << bits) - 1)) >> shift
    made = bytearray(
        imagecodecs.jpeg8_encode(
            plain.astype(np.uint8 if bits - shift <= 8 else np.uint16),
            lossless=True,
            predictor=predictor,
            bitspersample=bits - shift,
        )
    )
    head, scan = made.index(b"\xff\xc3"), made.index(b"\xff\xda")
    coded = scan + 10  # a scan header of one component
    rows, columns = pixels.shape
    struct.pack_into(">BH", made, head + 4, bits, rows * times)
    made[coded - 1] = shift
    data = bytes(made[coded:-2])
    restarts = struct.pack(">HHH", 0xFFDD, 4, rows * columns) if times > 1 else b""
    parts = [data + bytes([0xFF, 0xD0 + at % 8]) for at in range(times - 1)]
    return (
        bytes(made[:scan])
        + restarts
        + bytes(made[scan:coded])
        + b"".join([*parts, data, b"\xff\xd9"])
    )


def _jpeg(pixels: np.ndarray, bits: int) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, 98, bitspersample=bits))


def _jpeg_ls(pixels: np.ndarray, _: int, *, near: int = 0) -> bytes:
    return bytes(imagecodecs.jpegls_encode(pixels.view(f"u{pixels.itemsize}"), level=near))


def jpeg_2000(
    pixels: np.ndarray, bits: int, *, level: int | None = None, kind: str = "j2k"
) -> bytes:
    lossless = {"reversible": True} if level is None else {"level": level}
    made = imagecodecs.jpeg2k_encode(pixels, codecformat=kind, bitspersample=bits, **lossless)
    return bytes(made)


def _htj2k(pixels: np.ndarray, _: int, *, level: float | None = None) -> bytes:
    lossless = {"reversible": True} if level is None else {"reversible": False, "level": level}
    return bytes(imagecodecs.htj2k_encode(pixels, **lossless))


LOSSLESS: dict[str, Encoder] = {
    JPEGLossless: lambda pixels, bits: lossless_jpeg(pixels, bits, predictor=6),
    JPEGLosslessSV1: lossless_jpeg,
    JPEGLSLossless: _jpeg_ls,
    JPEG2000Lossless: jpeg_2000,
}
LOSSY: dict[str, Encoder] = {
    JPEGBaseline8Bit: _jpeg,
    JPEGExtended12Bit: _jpeg,
    JPEGLSNearLossless: lambda pixels, bits: _jpeg_ls(pixels, bits, near=2),
    JPEG2000: lambda pixels, bits: jpeg_2000(pixels, bits, level=60),
}
if ENCODES_HTJ2K:
    LOSSLESS |= {HTJ2KLossless: _htj2k, HTJ2KLosslessRPCL: _htj2k}
    LOSSY[HTJ2K] = lambda pixels, bits: _htj2k(pixels, bits, level=0.001)


def can_encode(syntax: str) -> bool:
    return syntax == RLELossless or syntax in LOSSLESS or syntax in LOSSY


def frame_of(pixels: np.ndarray, syntax: str, bits: int) -> bytes:
    """(rows, columns) of 8 or 16 bits allocated as one frame of `bits` bits."""
    if syntax != RLELossless:
        return (LOSSLESS | LOSSY)[syntax](np.ascontiguousarray(pixels), bits)
    return get_encoder(RLELossless).encode(
        pixels.tobytes(),
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        number_of_frames=1,
        samples_per_pixel=1,
        bits_allocated=8 * pixels.itemsize,
        bits_stored=bits,
        pixel_representation=int(pixels.dtype.kind == "i"),
        photometric_interpretation="MONOCHROME2",
    )


def put_frames(one: Dataset, frames: list[bytes], syntax: str) -> None:
    one.PixelData = encapsulate(frames)
    one["PixelData"].VR = "OB"
    one["PixelData"].is_undefined_length = True
    one.file_meta.TransferSyntaxUID = syntax


def compress(one: Dataset, syntax: str) -> None:
    """Compress the pixels of a data set in place."""
    kind = f"<{'i' if one.PixelRepresentation else 'u'}{one.BitsAllocated // 8}"
    pixels: Any = np.frombuffer(one.PixelData, kind).reshape(-1, one.Rows, one.Columns)
    put_frames(one, [frame_of(frame, syntax, one.BitsStored) for frame in pixels], syntax)
