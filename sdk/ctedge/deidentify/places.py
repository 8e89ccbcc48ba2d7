"""Where a job reads and where it writes: two folders apart, and DICOM files in the first."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ctedge.errors import (
    CTEdgeError,
    InputError,
    OutputError,
    ScanNotFound,
    UnreadableScan,
    counted,
)


def separate(source: Path, output: Path) -> tuple[Path, Path]:
    """Input and output with links resolved, if neither lies in the other.

    Raises:
        ScanNotFound: no such input folder.
        OutputError: the output, or what stands beside it, is a link.
        InputError: one folder lies in the other.
    """
    if not source.is_dir():
        raise ScanNotFound(f"{source}: no such folder", fix="name the folder with DICOM files")
    source, resolved = source.resolve(), output.resolve()
    if not resolved.name:
        raise OutputError(f"{output} has no name", fix="choose another output folder")
    beside = resolved.with_name(f"{resolved.name}.private")
    for path in (output, beside):
        if path.is_symlink():
            raise OutputError(f"{path} is a link", fix="name the folder itself")
    output = resolved
    for a, b in ((source, output), (source, beside)):
        if a == b or a in b.parents or b in a.parents:
            raise InputError(
                "the input and the output folder lie in each other",
                found=f"{source} and {output}",
                expected="two folders apart, so that nothing is read that was written",
                fix="choose an output folder elsewhere",
            )
    return source, output


def check_holds_dicom(source: Path) -> None:
    """Look before anything is written: at 132 bytes of each file, to the first that is one.

    Raises:
        ScanNotFound: none is.
        UnreadableScan: a folder cannot be listed.
    """
    paths = files_below(source)
    for path in paths:
        try:
            if stat.S_ISREG((source / path).lstat().st_mode):
                with (source / path).open("rb") as stream:
                    if stream.read(132)[128:] == b"DICM":
                        return
        except OSError:
            return  # what cannot be read is named when its turn comes
    raise ScanNotFound(
        f"{source}: no DICOM file in this folder or below it",
        found=counted(len(paths), "other file"),
        fix="name the folder with DICOM files",
    )


def files_below(source: Path) -> list[Path]:
    """Relative paths of all entries but folders; links to folders are entries, and not followed.

    Raises:
        UnreadableScan: a folder cannot be listed.
    """
    return sorted(path.relative_to(source) for _, others in walk(source) for path in others)


def walk(
    top: Path, error: type[CTEdgeError] = UnreadableScan
) -> Iterator[tuple[list[Path], list[Path]]]:
    """What each folder holds, from the top down, and no folder left out without a word.

    Args:
        top: where to begin.
        error: what to raise.

    Yields:
        Folders in one folder, and all else in it by name: files, and links, which are not followed.

    Raises:
        CTEdgeError: a folder cannot be listed; it is named.
    """

    def stop(cause: OSError) -> NoReturn:
        raise error(
            f"{cause.filename or top}: the folder cannot be listed",
            found=cause.strerror or cause,
            fix="check that this user may read it and that the medium is sound,"
            " then run the command again",
        ) from cause

    for inside, below, names in os.walk(top, onerror=stop):
        links = {name for name in below if is_link(Path(inside, name))}
        yield (
            [Path(inside, name) for name in sorted(below) if name not in links],
            [Path(inside, name) for name in sorted((*names, *links))],
        )


def is_link(path: Path) -> bool:
    """Whether this is known to be a link: in a folder that may be listed alone, nothing is."""
    try:
        return path.is_symlink()
    except OSError:
        return False
