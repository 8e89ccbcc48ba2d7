"""What several test files need and takes seconds to make: made once in a session of any workers."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(base: Path, name: str, make: Callable[[Path], object]) -> Path:
    """What `make` writes at the path it is given, written by whoever asks first.

    Args:
        base: pytest's own folder, `tmp_path_factory.getbasetemp()`.
        name: of the file or folder; its readers leave it as it is.
        make: called in one process at a time, and never again when it has succeeded.
    """
    return made_in(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base, name, make)


def made_in(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """The same in a folder that all workers know."""
    common = folder / "made-once"
    common.mkdir(exist_ok=True)
    made, making = common / name, common / f"making-{name}"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            make(making / name)
            (making / name).rename(made)
            making.rmdir()
    return made
