"""Unpacking a zip file that may be hostile: everything is checked before the first byte is written.

A member is wanted when its name ends in .nii or .nii.gz; wanted members land side by side in one
folder, without the folders they lay in. One bad member of any kind refuses the whole archive.
"""

from __future__ import annotations

import contextlib
import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ctedge.errors import DatasetError, counted
from ctedge.files import atomic_folder
from ctedge.progress import Reporter

SCAN_SUFFIXES = (".nii.gz", ".nii")

#: The published archives hold 100 scans each, about 1 GB; the rest is room for other archives.
_MOST_MEMBERS = 10_000
_MOST_BYTES = 64 << 30
#: Compressed scans do not shrink again, and plain ones shrink tenfold; deflate's limit is 1032.
_HIGHEST_RATIO = 100
#: One read of `zipfile` takes the whole table of contents, as long as the archive says it is.
_LARGEST_READ_BYTES = 16 << 20
_LONGEST_NAME_BYTES = 255
_LOCAL_HEADER_BYTES = 30
_CHUNK_BYTES = 1 << 20

#: Encrypted data, strong encryption, encrypted table of contents (APPNOTE.TXT, 4.4.4).
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DRIVE = re.compile(r"[A-Za-z]:")

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What an archive holds, after every check that needs no unpacking.

    Attributes:
        scans: names of the wanted members without their folders, with their sizes in bytes.
        left_out: full names of the other files.
    """

    scans: dict[str, int]
    left_out: tuple[str, ...]


def contents(archive: Path) -> Contents:
    """Read and check the table of contents.

    Raises:
        DatasetError: no whole zip file, a member that is refused, or no scan inside.
    """
    with _opened(archive) as opened:
        return _checked(archive, opened)[0]


def extract(archive: Path, folder: Path, *, reporter: Reporter) -> Contents:
    """Unpack the scans of an archive into a new folder, whole or not at all.

    Raises:
        DatasetError: no whole zip file; a member that leads out of the folder, is a link, a
            special file, encrypted, double or overlapping; more members or bytes than a set of
            scans has; a wrong CRC or length; or no scan inside.
        OutputError: the folder exists, the disk is full, or it cannot be written.
    """
    with _opened(archive) as opened:
        found, wanted = _checked(archive, opened)
        with (
            atomic_folder(folder) as temporary,
            reporter.bar(f"unpacking {archive.name}", len(wanted)) as advance,
        ):
            for member in wanted:
                with (temporary / _base(member)).open("wb") as target:
                    for chunk in _inflated(archive, opened, member):
                        target.write(chunk)
                advance()
    return found


class _BoundedReads(io.BufferedReader):
    """A file that refuses a single read far larger than an honest table of contents."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGEST_READ_BYTES:
            raise zipfile.BadZipFile(f"a table of contents of {size} bytes")
        return super().read(size)


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(_BoundedReads(io.FileIO(archive)))
            opened = stack.enter_context(zipfile.ZipFile(stream))
        except _DAMAGE as error:
            raise DatasetError(
                f"{archive} is no whole zip file",
                found=error,
                expected="a zip file with scans",
                fix=f"remove it, and get it again: {archive.name} may have arrived cut short",
            ) from error
        yield opened


def _checked(
    archive: Path, opened: zipfile.ZipFile
) -> tuple[Contents, tuple[zipfile.ZipInfo, ...]]:
    members = opened.infolist()
    if len(members) > _MOST_MEMBERS:
        raise _refused(archive, "too many members", len(members), f"at most {_MOST_MEMBERS}")
    for member in members:
        _check_name(archive, member.orig_filename)
        _check_kind(archive, member)
    _check_doubles(archive, (member.orig_filename.rstrip("/") for member in members))
    _check_overlap(archive, members, opened.start_dir)
    files = [member for member in members if not member.is_dir()]
    wanted = tuple(sorted(filter(_is_scan, files), key=_base))
    _check_doubles(archive, map(_base, wanted))
    _check_sizes(archive, wanted)
    if not wanted:
        found = counted(len(files), "file")
        raise _refused(archive, "no scan inside", found, "files *.nii.gz or *.nii")
    left_out = tuple(_plain(member.filename) for member in files if member not in wanted)
    return Contents(scans={_base(m): m.file_size for m in wanted}, left_out=left_out), wanted


def _is_scan(member: zipfile.ZipInfo) -> bool:
    # macOS puts a companion `__MACOSX/._NAME` beside every file, with the same suffix.
    parts = member.filename.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return member.filename.lower().endswith(SCAN_SUFFIXES) and not hidden


def _base(member: zipfile.ZipInfo) -> str:
    return member.filename.rpartition("/")[2]


def _check_name(archive: Path, name: str) -> None:
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise _refused(archive, "a control character in a name", name)
    if "\\" in name or _DRIVE.match(name):
        raise _refused(archive, "a name with a backslash or a drive letter", name)
    parts = name.removesuffix("/").split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise _refused(archive, "a path that leads out of the folder", name)
    if max(len(part.encode()) for part in parts) > _LONGEST_NAME_BYTES:
        raise _refused(archive, "a name too long for a file", name)


def _check_kind(archive: Path, member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFDIR if member.is_dir() else stat.S_IFREG}:
        raise _refused(archive, "a link or special file", member.filename, "files and folders")
    if member.flag_bits & _ENCRYPTED:
        raise _refused(archive, "an encrypted member", member.filename)
    if member.compress_type not in _METHODS:
        raise _refused(
            archive,
            "a member compressed in a way that scans are not published in",
            f"{member.filename}, method {member.compress_type}",
            "stored or deflated members",
        )


def _check_doubles(archive: Path, names: Iterable[str]) -> None:
    """Refuse names that are one and the same on some file system: other case, other accents."""
    seen = set()
    for name in names:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if key in seen:
            raise _refused(archive, "two members of one name", name)
        seen.add(key)


def _check_overlap(archive: Path, members: list[zipfile.ZipInfo], table_offset: int) -> None:
    in_order = sorted(members, key=lambda member: member.header_offset)
    ends = [*(member.header_offset for member in in_order[1:]), table_offset]
    for member, end in zip(in_order, ends, strict=False):
        if not 0 <= member.header_offset <= end - _LOCAL_HEADER_BYTES - member.compress_size:
            raise _refused(archive, "members that overlap", member.filename)


def _check_sizes(archive: Path, wanted: tuple[zipfile.ZipInfo, ...]) -> None:
    unpacked = sum(member.file_size for member in wanted)
    most = min(_MOST_BYTES, _HIGHEST_RATIO * sum(member.compress_size for member in wanted))
    if unpacked > most:
        raise _refused(
            archive, "it unpacks to more than scans do", f"{unpacked} bytes", f"at most {most}"
        )


def _inflated(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """The bytes of a member: never more than it declares, and at the end exactly as many."""
    count = 0
    try:
        with opened.open(member) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                count += len(chunk)
                yield chunk
    except _DAMAGE as error:
        raise _refused(archive, "a damaged member", f"{member.filename}: {error}") from error
    if count != member.file_size:
        raise _refused(
            archive,
            "a member of another length than declared",
            f"{member.filename}: {counted(count, 'byte')}",
            counted(member.file_size, "byte"),
        )


def _plain(text: str) -> str:
    """A text of a stranger for a terminal: printable ASCII, at most 200 characters."""
    return ascii(text)[1:-1][:200]


def _refused(archive: Path, what: str, found: object, expected: object = None) -> DatasetError:
    return DatasetError(
        f"{archive} is refused: {what}",
        found=_plain(str(found)),
        expected=expected,
        fix="remove it, and get it from its publisher again; nothing was unpacked",
    )
