"""A file that has not arrived whole: its bytes so far, and which version of the file they are.

`NAME.part` holds the bytes. `NAME.part.json` names the version by the validator that the server
sent with it, so that two versions are never stitched together.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ctedge.errors import OutputError
from ctedge.files import write_atomic

_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Version:
    """Which version of a file a part belongs to.

    Attributes:
        url: where it comes from.
        validator: the server's strong ETag.
        total_bytes: the length of the whole file.
    """

    url: str
    validator: str
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """An unfinished file, open for this process alone.

    Attributes:
        path: `NAME.part`.
        stream: its bytes, for reading and writing.
    """

    path: Path
    stream: IO[bytes]

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def arrived_bytes(self) -> int:
        """How much of the file is there."""
        return self.stream.seek(0, os.SEEK_END)

    def version(self, url: str) -> Version | None:
        """The version that the part belongs to; None if it cannot be gone on with from `url`."""
        try:
            noted = json.loads(self._note.read_bytes())
            if noted.pop("schema_version") != _SCHEMA_VERSION:
                return None
            version = Version(**noted)
            usable = version.validator.isascii() and version.validator.isprintable()
            usable &= type(version.total_bytes) is int
            usable &= 0 < self.arrived_bytes() <= version.total_bytes
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            return None
        return version if usable and version.url == url else None

    def restart(self, version: Version | None) -> None:
        """Throw the bytes away, and note which version comes next; None cannot be gone on with."""
        self.stream.seek(0)
        self.stream.truncate()
        if version is None:
            self._note.unlink(missing_ok=True)
        else:
            noted = {"schema_version": _SCHEMA_VERSION, **asdict(version)}
            write_atomic(self._note, json.dumps(noted, indent=2) + "\n")

    def finish(self, target: Path) -> None:
        """Give the whole file its name."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)


@contextlib.contextmanager
def open_part(target: Path) -> Iterator[Part]:
    """The part of `target`, made if there is none, and removed again if it stays empty.

    Raises:
        OutputError: another process writes it, the disk is full, or the folder cannot be written.
    """
    path = target.with_name(f"{target.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "r+b") as stream:
            _lock(path, stream)
            try:
                yield Part(path=path, stream=stream)
            finally:
                if stream.seek(0, os.SEEK_END) == 0:
                    path.unlink(missing_ok=True)
    except BrokenPipeError:  # of standard output, where the progress is told; no file gives it
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}",
            found=error.strerror or error,
            fix="free space or choose another folder; the same command goes on with the part",
        ) from error


def _lock(path: Path, stream: IO[bytes]) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"{path} is being written by another process",
            fix="wait for the other download to end, then run the command again",
        ) from error
