"""Reading a possibly gzip-compressed file whole, with its checksum and a limit on its size."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ctedge.errors import UnreadableScan

#: The largest volume that is read: 1024 x 1024 x 2048 voxels of 2 bytes.
MAX_BYTES = 4 << 30

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_CHUNK_BYTES = 1 << 20
_STEP_BYTES = 1 << 24

#: What `needed` is told: both NIfTI headers fit.
HEAD_BYTES = 544

#: Data after the volume that is still taken as padding.
_SPARE_BYTES = 1 << 25


def read_whole(path: Path, *, needed: Callable[[bytes], int]) -> bytes | bytearray:
    """All bytes of a file, inflated when it is gzip, whatever its name says.

    Args:
        path: the file.
        needed: told the first bytes, says how many the whole file should have. A gzip stream is
            not inflated far beyond that.

    Raises:
        UnreadableScan: empty, truncated, damaged (the checksum differs), or far too large.
        OSError: the file cannot be read at all.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise UnreadableScan(f"{path}: the file is empty", fix="copy the scan again")
    with path.open("rb") as stream:
        head = stream.read(2)
        stream.seek(0)
        if head == _GZIP_MAGIC:
            return _inflate(path, iter(lambda: stream.read(_CHUNK_BYTES), b""), needed)
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(path)
        return stream.read()


def _inflate(path: Path, chunks: Iterable[bytes], needed: Callable[[bytes], int]) -> bytearray:
    out = bytearray()
    most = 0
    engine = zlib.decompressobj(_GZIP_WINDOW)
    rest = b""
    try:
        for chunk in chunks:
            rest += chunk
            # A member's magic may lie across two chunks: keep one byte for the next.
            while len(rest) > 1 or (rest and not engine.eof):
                if engine.eof:
                    if not rest.startswith(_GZIP_MAGIC):
                        return out  # padding after the last member, as tapes leave it
                    engine = zlib.decompressobj(_GZIP_WINDOW)
                out += engine.decompress(rest, _STEP_BYTES)
                rest = engine.unused_data if engine.eof else engine.unconsumed_tail
                if not most and len(out) >= HEAD_BYTES:
                    most = min(needed(bytes(out[:HEAD_BYTES])) + _SPARE_BYTES, MAX_BYTES)
                if len(out) > (most or MAX_BYTES):
                    raise _too_large(path)
    except zlib.error as error:
        raise UnreadableScan(
            f"{path}: the gzip data is damaged", found=error, fix="copy the scan again"
        ) from error
    if not engine.eof:
        raise UnreadableScan(
            f"{path}: the gzip data ends too early",
            found=f"{len(out)} bytes before the end of the file",
            fix="copy the scan again; the transfer was cut off",
        )
    return out


def _too_large(path: Path) -> UnreadableScan:
    return UnreadableScan(
        f"{path}: more data than the volume that its header describes, or than any CT volume",
        expected=f"at most {MAX_BYTES >> 30} GiB uncompressed",
        fix="pass one series; a file that inflates without end is not a scan",
    )
