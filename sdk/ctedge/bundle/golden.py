"""Golden cases: inputs whose answers are known, stored as 8-bit levels (gzip of .npy)."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctedge.errors import InvalidBundle, RuntimeUnavailable
from ctedge.extras import MORE_OF_BOTH

_NPY_HEADER_BYTES = 4096
_GZIP = 31


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenCase:
    """An input whose answers are known.

    Attributes:
        name: what the input shows.
        input: float32, `spec.shape` in the spec's order of axes, values k/255 in 0..1, no batch
            or channel axis.
        outputs: the trained network's answer, by output name.
    """

    name: str
    input: npt.NDArray[np.float32]
    outputs: Mapping[str, float]


def pack_levels(levels: npt.NDArray[np.uint8]) -> bytes:
    """A golden input as it is stored; equal levels give equal bytes.

    Args:
        levels: uint8, `spec.shape`; level k stands for the network input k/255.
    """
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(levels), allow_pickle=False)
    return gzip.compress(stream.getvalue(), compresslevel=9, mtime=0)


def unpack_levels(data: bytes, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """A golden input as the network takes it: float32 of `shape`, values k/255.

    Args:
        data: the stored bytes; never inflated beyond the size of one input.
        name: the member's name, for the message.
        shape: the shape it must have.

    Raises:
        InvalidBundle: no 8-bit levels of that shape.
        RuntimeUnavailable: too little memory to look.
    """
    count = int(np.prod(shape, dtype=np.int64))
    try:
        inflate = zlib.decompressobj(_GZIP)
        raw = inflate.decompress(data, count + _NPY_HEADER_BYTES)
        if not inflate.eof or inflate.unused_data:
            raise ValueError("more or less data than one 8-bit input")
        levels = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
        if levels.dtype != np.uint8 or levels.shape != shape:
            raise ValueError(f"{levels.dtype} of shape {levels.shape}")
        values: npt.NDArray[np.float32] = levels.astype(np.float32)
    except MemoryError as error:  # a want of it is no damage
        raise RuntimeUnavailable(
            f"too little memory for the golden input {name}", found=error, fix=MORE_OF_BOTH
        ) from error
    except Exception as error:  # NumPy parses the header as Python, and fails in many ways
        raise InvalidBundle(
            f"the golden input {name} is broken",
            found=error,
            expected=f"gzip of an .npy file, uint8, shape {shape}",
            fix="export the bundle again",
        ) from error
    values /= np.float32(255)
    return values
