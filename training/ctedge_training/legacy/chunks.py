"""Chunked arrays, inflated by ourselves: HDF5 lets a chunk inflate to any size before it looks."""

from __future__ import annotations

import itertools
import math
import zlib
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ctedge.errors import InvalidBundle, counted
from ctedge.strict_json import shorten

#: Numbers of HDF5's registry of filters.
_DEFLATE, _SHUFFLE = 1, 2

_MAX_CHUNKS = 4096


def read_chunks(
    dataset: Any, shape: tuple[int, ...], dtype: np.dtype[Any], where: str
) -> npt.NDArray[Any]:
    """A chunked dataset, plain or filtered by shuffle, gzip or both.

    Args:
        dataset: of h5py; its data lie in the file.
        shape: its shape.
        dtype: its type.
        where: what to call it in messages.

    Raises:
        InvalidBundle: another filter, chunks that are missing, or of another size than they say.
    """
    layout = dataset.id.get_create_plist()
    filters = [layout.get_filter(number)[0] for number in range(layout.get_nfilters())]
    if filters not in ([], [_DEFLATE], [_SHUFFLE], [_SHUFFLE, _DEFLATE]):
        _refuse(where, f"HDF5 filters {filters}", "none, gzip, or shuffle and gzip")
    chunk = layout.get_chunk()
    counts = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
    fits = all(c <= n for c, n in zip(chunk, shape, strict=True))
    if not fits or math.prod(counts) > _MAX_CHUNKS:
        _refuse(where, f"chunks of {chunk}", f"at most {_MAX_CHUNKS} chunks inside {shape}")
    if dataset.id.get_num_chunks() != math.prod(counts):
        _refuse(where, counted(dataset.id.get_num_chunks(), "chunk"), str(math.prod(counts)))
    values = np.empty(shape, dtype)
    size = math.prod(chunk) * dtype.itemsize
    starts = [range(0, n, c) for n, c in zip(shape, chunk, strict=True)]
    for offset in itertools.product(*starts):
        stored = dataset.id.get_chunk_info_by_coord(offset)
        # What gzip cannot shrink it lengthens, by less than a hundredth.
        if stored.filter_mask or stored.size > size + size // 100 + 64:
            _refuse(where, f"a chunk of {stored.size} bytes", f"at most {size}, every filter used")
        raw = _inflate(dataset.id.read_direct_chunk(offset)[1], size, filters)
        if len(raw) != size:
            _refuse(where, "a chunk of another size than it says", f"{size} bytes")
        if _SHUFFLE in filters:
            planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1)
            raw = np.ascontiguousarray(planes.T).tobytes()
        block = np.frombuffer(raw, dtype).reshape(chunk)
        inside = tuple(
            slice(start, min(start + c, n))
            for start, c, n in zip(offset, chunk, shape, strict=True)
        )
        part = tuple(slice(0, s.stop - s.start) for s in inside)
        values[inside] = block[part]
    return values


def _inflate(raw: bytes, size: int, filters: list[int]) -> bytes:
    """At most one byte more than `size`, which tells a chunk that is too long."""
    return zlib.decompressobj().decompress(raw, size + 1) if _DEFLATE in filters else raw


def _refuse(where: str, found: object, expected: object) -> NoReturn:
    raise InvalidBundle(
        f"the checkpoint stores {shorten(where)} in a way that cannot be imported",
        found=found,
        expected=expected,
        fix="save it again with Keras, or repack it without other filters (h5repack -f NONE)",
    )
