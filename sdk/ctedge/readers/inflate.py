"""Reading a possibly gzip-compressed file in pieces, with its checksum and a limit on its size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ctedge.errors import UnreadableScan, counted
from ctedge.readers.same_file import SameFile

#: The largest volume that is read: 1024 x 1024 x 2048 voxels of 2 bytes.
MAX_BYTES = 4 << 30

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_CHUNK_BYTES = 1 << 20
_STEP_BYTES = 1 << 22

#: What is inflated at a time once a file turned out to have several gzip members: what is behind
#: the end of each is copied.
_MEMBER_BYTES = 1 << 16

#: DEFLATE makes no more of a byte: 258 bytes of a match in two bits, and its block's header.
_MOST_GROWTH = 1032

#: Data after the volume that is still taken as padding.
_SPARE_BYTES = 1 << 25


def can_hold(size: int, count: int, *, packed: bool) -> bool:
    """Whether a file of this size is long enough for so many bytes, inflated where it is gzip."""
    return size * (_MOST_GROWTH if packed else 1) >= count


def is_gzip(file: SameFile) -> bool:
    """Whether the file is gzip, whatever its name says."""
    with file.opened() as stream:
        return _begins_as_gzip(stream)


def head_of(file: SameFile, count: int) -> bytes:
    """The first bytes of a file, inflated when it is gzip; fewer where it is shorter.

    Raises:
        UnreadableScan: empty, changed, or damaged from the start.
        OSError: the file cannot be read at all.
    """
    head = b""
    for piece in pieces(file, most=MAX_BYTES, step=count):
        head += piece
        if len(head) >= count:
            break
    return head[:count]


def pieces(file: SameFile, *, most: int, step: int = _STEP_BYTES) -> Iterator[bytes]:
    """The bytes of a file in order, inflated when it is gzip.

    Args:
        file: what to read.
        most: how many bytes it should have; a gzip stream is not inflated far beyond that, and of
            any other file no more is read.
        step: a piece has no more bytes.

    Raises:
        UnreadableScan: empty, changed, truncated, damaged (the checksum differs), or far too
            large.
        OSError: the file cannot be read at all.
    """
    with file.opened() as stream:
        if file.size == 0:
            raise UnreadableScan(f"{file.path}: the file is empty", fix="copy the scan again")
        if _begins_as_gzip(stream):
            most = min(most + _SPARE_BYTES, MAX_BYTES)
            yield from _inflated(file.path, stream, most, step)
            return
        while piece := stream.read(min(step, most)):
            yield piece
            most -= len(piece)


def _begins_as_gzip(stream: BinaryIO) -> bool:
    """Whether what follows is gzip; the stream is at its beginning, and stays there."""
    magic = stream.read(len(_GZIP_MAGIC))
    stream.seek(0)
    return magic == _GZIP_MAGIC


def _inflated(path: Path, stream: BinaryIO, most: int, step: int) -> Iterator[bytes]:
    from isal import isal_zlib  # zlib's interface, two to three times faster

    broken: Any = isal_zlib.error
    count, window = 0, _CHUNK_BYTES + 1
    engine: Any = isal_zlib.decompressobj(_GZIP_WINDOW)
    rest = b""
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            rest, at = rest + chunk, 0
            # A member's magic may lie across two chunks: keep one byte for the next.
            while len(rest) - at > 1 or (at < len(rest) and not engine.eof):
                if engine.eof:
                    if not rest.startswith(_GZIP_MAGIC, at):
                        return  # padding after the last member, as tapes leave it
                    engine, window = isal_zlib.decompressobj(_GZIP_WINDOW), _MEMBER_BYTES
                shown = memoryview(rest)[at : at + window]
                piece = engine.decompress(shown, step)
                at += len(shown) - len(engine.unused_data if engine.eof else engine.unconsumed_tail)
                count += len(piece)
                if count > most:
                    raise _too_large(path)
                yield piece
            rest = rest[at:]
    except broken as error:
        raise UnreadableScan(
            f"{path}: the gzip data is damaged", found=error, fix="copy the scan again"
        ) from error
    if not engine.eof:
        raise UnreadableScan(
            f"{path}: the gzip data ends too early",
            found=f"it ends after {counted(count, 'unpacked byte')}",
            fix="copy the scan again; the transfer was cut off",
        )


def _too_large(path: Path) -> UnreadableScan:
    return UnreadableScan(
        f"{path}: more data than the volume that its header describes, or than any CT volume",
        expected=f"at most {MAX_BYTES >> 30} GiB uncompressed",
        fix="pass one series; a file that inflates without end is not a scan",
    )
