"""A file that is opened more than once, and has to be the same each time.

A scan's header is read at once, its voxels when they are asked for. By then another patient's scan
may lie under the same name, and would be judged by the geometry of the first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from ctedge.errors import UnreadableScan, counted

#: Device and inode, which say which file it is; its size; when it was written to, and when it was
#: changed, in ns. A copy that keeps the time of writing (`cp -p`, rsync, unzip) shows in the last,
#: which nobody can set; new rights and new links show there, too, and cannot be told from it.
_State = tuple[int, int, int, int, int]


class SameFile:
    """A file on disk; its first opening is what all later ones are held against.

    Args:
        path: of the file; a link is followed.
    """

    __slots__ = ("_first", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._first: _State | None = None

    @property
    def size(self) -> int:
        """In bytes, when it was first opened; 0 before."""
        return 0 if self._first is None else self._first[2]

    @contextlib.contextmanager
    def opened(self) -> Generator[BinaryIO, None, None]:
        """The file as a stream of bytes, compared before it is read and after.

        Raises:
            UnreadableScan: as `check`, also in the place of what was raised while it was read.
            OSError: it cannot be opened.
        """
        with self.path.open("rb") as stream:
            self.check(stream)
            try:
                yield stream
            except Exception:
                self.check(stream)  # what looks damaged may be half of one file, half of another
                raise
            self.check(stream)

    def check(self, stream: BinaryIO) -> None:
        """Compare what is open with what was opened first.

        Raises:
            UnreadableScan: it is another file, or was written to since.
        """
        now = os.fstat(stream.fileno())
        state = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        if self._first is None:
            self._first = state
        if state != self._first:
            found, expected = _difference(state, self._first)
            raise UnreadableScan(
                f"{self.path}: the file changed after it was opened",
                found=found,
                expected=expected,
                fix="read the scan again, once nothing writes to it any more",
            )


def _difference(now: _State, first: _State) -> tuple[str, str]:
    """What is found, and what was expected."""
    if now[:2] != first[:2]:
        return "another file under the same name", "the file whose header was read"
    if now[2] != first[2]:
        return counted(now[2], "byte"), f"{first[2]}, as when its header was read"
    return "written to or touched since", "as it was when its header was read"
