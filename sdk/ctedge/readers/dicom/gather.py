"""From what the caller gave to DICOM objects: a folder, files, streams, data sets in memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ctedge.errors import ScanNotFound, UnreadableScan, counted
from ctedge.readers.same_file import SameFile

#: More files than any study: whoever names such a folder meant another one.
MAX_FILES = 100_000

#: Folders inside folders are looked into this deep.
MAX_DEPTH = 16

#: The largest DICOM object that is read from an open stream.
MAX_STREAM_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomObject:
    """One DICOM object, wherever it lies.

    Attributes:
        name: for messages: the path below the folder that was named.
        file: on disk.
        data: the bytes of an open stream.
        dataset: a `pydicom.Dataset` in memory.
    """

    name: str
    file: SameFile | None = None
    data: bytes | None = None
    dataset: Any = None

    @property
    def where(self) -> str:
        """For messages that do not name the folder: the path as given, or else the name."""
        return self.name if self.file is None else str(self.file.path)

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """The object as a stream of bytes; not for data sets in memory.

        Raises:
            UnreadableScan: the file is not what it was when it was first opened.
        """
        return io.BytesIO(self.data or b"") if self.file is None else self.file.opened()


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What a source holds.

    Attributes:
        label: the source's name in messages.
        objects: candidates, in the order of their names.
        excluded: what was left out already, each with the reason.
    """

    label: str
    objects: tuple[DicomObject, ...]
    excluded: tuple[str, ...] = ()


def gather(source: Any) -> Gathered:
    """Find the DICOM objects of a folder, a file, an open stream, a data set, or a list of these.

    Symbolic links inside a folder are not followed, nor is what a DICOMDIR refers to.

    Raises:
        ScanNotFound: no such file or folder, an empty list.
        UnreadableScan: far too many files, too long a stream, or something of no known kind.
    """
    if isinstance(source, (str, os.PathLike)):
        path = path_of(source)
        if path.is_dir():
            return _folder(path)
        return Gathered(label=str(path), objects=(_one(path, 0),))
    if isinstance(source, (list, tuple)):
        objects = tuple(_one(item, place) for place, item in enumerate(source))
        if not objects:
            raise ScanNotFound("the list of files is empty", fix="name the slices of a series")
        return Gathered(label=counted(len(objects), "DICOM object"), objects=objects)
    found = _one(source, 0)
    return Gathered(label=found.name, objects=(found,))


def path_of(source: str | os.PathLike[str]) -> Path:
    """A path that was given.

    Raises:
        ScanNotFound: it is empty, which would be the working folder.
    """
    if not os.fspath(source):
        raise ScanNotFound("the path of the scan is empty", fix="check the variable it comes from")
    return Path(source)


def check_regular(path: Path) -> None:
    """Refuse what is there and is no file: reading it might never end.

    Raises:
        UnreadableScan: a pipe, a socket or a device.
    """
    if not path.is_file():
        raise UnreadableScan(
            f"{path}: neither a file nor a folder",
            found="a pipe, a socket or a device",
            fix="write it to a file first, or pass an open binary stream",
        )


def is_dicom(path: Path) -> bool:
    """Whether a file is one of DICOM by its first bytes."""
    return path.is_file() and looks_like_dicom(DicomObject(name=str(path), file=SameFile(path)))


def looks_like_dicom(item: DicomObject) -> bool:
    """Whether an object begins as DICOM files do: 128 bytes of anything, then DICM (PS3.10)."""
    if item.dataset is not None:
        return True
    with item.opened() as stream:
        return stream.read(132)[128:] == b"DICM"


def _one(item: Any, place: int) -> DicomObject:
    if isinstance(item, (str, os.PathLike)):
        path = path_of(item)
        if path.is_dir():
            raise UnreadableScan(
                f"{path}: a folder in a list of files",
                fix="pass the folder alone, or the files that it holds",
            )
        if not path.exists():
            raise ScanNotFound(f"{path}: no such file", fix="check the path")
        check_regular(path)
        return DicomObject(name=str(path), file=SameFile(path))
    if hasattr(item, "read"):
        name = getattr(item, "name", None)
        label = name if isinstance(name, str) else f"stream {place}"
        return DicomObject(name=label, data=_bytes_of(item, label))
    if hasattr(item, "SOPClassUID") or hasattr(item, "PixelData"):
        label = str(getattr(item, "filename", None) or f"data set {place}")
        return DicomObject(name=label, dataset=item)
    raise UnreadableScan(
        f"item {place}: neither a path, an open file nor a DICOM data set",
        found=type(item).__name__,
        fix="pass a folder, files, binary streams, or pydicom data sets",
    )


def _bytes_of(stream: Any, label: str) -> bytes:
    data = stream.read(MAX_STREAM_BYTES + 1)
    if not isinstance(data, bytes):
        raise UnreadableScan(
            f"{label}: the stream gives text", expected="bytes", fix='open the file with "rb"'
        )
    if len(data) > MAX_STREAM_BYTES:
        raise UnreadableScan(
            f"{label}: the stream does not end",
            expected=f"at most {MAX_STREAM_BYTES >> 30} GiB",
            fix="pass the DICOM object alone",
        )
    return data


def _folder(folder: Path) -> Gathered:
    objects: list[DicomObject] = []
    excluded: list[str] = []
    for entry, name in _walk(folder, "", MAX_DEPTH):
        if entry.is_symlink():
            excluded.append(f"{name}: a symbolic link, not followed")
        elif entry.is_file(follow_symlinks=False):
            objects.append(DicomObject(name=name, file=SameFile(Path(entry.path))))
        elif entry.is_dir(follow_symlinks=False):
            excluded.append(f"{name}: over {MAX_DEPTH} folders deep, not looked into")
        else:
            excluded.append(f"{name}: a device, pipe or socket, not opened")
        if len(objects) > MAX_FILES:
            raise UnreadableScan(
                f"{folder}: too many files for one study",
                expected=f"at most {MAX_FILES}",
                fix="pass the folder of one study or series",
            )
    return Gathered(label=str(folder), objects=tuple(objects), excluded=tuple(excluded))


def _walk(folder: Path, above: str, depth: int) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Files and links below a folder with their names relative to it; each folder in order."""
    try:
        with os.scandir(folder) as entries:
            ordered: Iterable[os.DirEntry[str]] = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UnreadableScan(
            f"{folder}: the folder cannot be opened",
            found=error.strerror or error,
            fix="check that this user may read it and that the medium is sound",
        ) from error
    for entry in ordered:
        name = f"{above}{entry.name}"
        if entry.is_dir(follow_symlinks=False) and depth > 0:
            yield from _walk(Path(entry.path), f"{name}/", depth - 1)
        else:
            yield entry, name
