"""One build of an engine at a time: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ctedge.errors import OutputError


@contextlib.contextmanager
def build_lock(target: Path) -> Iterator[None]:
    """Hold the lock of an engine's path while it is built.

    Raises:
        OutputError: another process builds this engine, or the folder cannot be written.
    """
    path = target.with_name(f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path, target.name)
    except OSError as error:
        raise OutputError(
            f"cannot write in {target.parent}",
            found=error.strerror,
            fix="free space, or name another place with --output",
        ) from error
    try:
        with contextlib.suppress(OSError):  # a full disk: the number only serves the message
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, name: str) -> int:
    """The descriptor of the locked file at this path."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its holder removes the file before it lets go: what was opened may be gone by now.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise OutputError(
                f"another build of {name} is going on",
                found=f"process {holder}" if holder else "its lock is held",
                fix="wait for it, or name another --output",
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
