"""What lies in a folder, to be compared with what lay there before or lies in another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file below the folder."""
    return {name: path.read_bytes() for name, path in _files(folder)}


def times(folder: Path) -> dict[str, int]:
    """When each file below the folder was last written."""
    return {name: path.stat().st_mtime_ns for name, path in _files(folder)}


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path
