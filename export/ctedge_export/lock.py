"""One process at a time writes a bundle or an engine: a lock that ends with it, however that ends.

The lock of a bundle lies beside it, as `.NAME.ctedge.lock`: a bundle is written by putting a whole
new folder in its place, and a lock inside would go with the old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ctedge.errors import OutputError


@contextlib.contextmanager
def written_by_one(
    target: Path, *, fix: str = "name another place with --output"
) -> Iterator[None]:
    """Hold the lock of a bundle, or of an engine outside of one, while it is changed.

    Folders that are made for the lock are removed again when nothing was written in them.

    Args:
        target: the bundle's folder, or the engine's file.
        fix: what to do where its folder cannot be written.

    Raises:
        OutputError: another process writes it, or no file can be made beside it.
    """
    real = target.resolve() if target.is_dir() else target.parent.resolve() / target.name
    path = real.with_name(f".{real.name}.lock")
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path, target)
    except OSError as error:
        raise OutputError(
            f"cannot write in {real.parent}, beside {real.name}",
            found=error.strerror,
            expected=f"room for its lock {path.name}",
            fix=f"free space and check permissions, or {fix}",
        ) from error
    try:
        with contextlib.suppress(OSError):  # a full disk: the number only serves the message
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        try:
            with contextlib.suppress(OSError):  # a file that nobody holds is no lock
                path.unlink()
        finally:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # what was written is in them
            for folder in missing:
                folder.rmdir()


def _locked(path: Path, target: Path) -> int:
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
                f"another build or export of {target.name} is going on",
                found=f"process {holder}" if holder else "its lock is held",
                fix="wait for it, or name another --output",
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
