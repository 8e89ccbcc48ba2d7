"""What a builder measured, kept for its next build: one file for each device and version.

Timings say which of several kernels is fastest. They hold for one GPU model and one TensorRT, so
both are in the file's name.
"""

from __future__ import annotations

import os
from pathlib import Path

from ctedge.engines.files import slug
from ctedge.engines.record import Site
from ctedge.errors import OutputError
from ctedge.files import write_atomic
from ctedge_export.engine.flavours import Flavour

#: Far above any cache of ours (a megabyte or so).
_MOST_BYTES = 256 << 20


def default_path(flavour: Flavour, site: Site) -> Path:
    """Where the timings of this GPU and TensorRT are: in the user's cache folder.

    Raises:
        OutputError: nothing says where that is.
    """
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise OutputError(
            "there is no folder for the timing cache",
            found="neither XDG_CACHE_HOME, nor HOME, nor a home folder of this user",
            fix="name a file with --timing-cache",
        ) from error
    gpu = f"{slug(site.gpu or 'no-gpu')}-sm{(site.compute_capability or '').replace('.', '')}"
    return Path(home) / "ctedge" / f"timings-{flavour.runtime}-{flavour.version}-{gpu}.cache"


def read_timings(path: Path) -> bytes:
    """The timings kept there; none where no file is.

    Raises:
        OutputError: the file cannot be read, or is no timing cache by its size.
    """
    try:
        if not path.exists():
            return b""
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            raise OSError(f"no file of at most {_MOST_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise OutputError(
            f"the timing cache {path} cannot be read",
            found=error,
            fix="remove it, or name another with --timing-cache",
        ) from error


def keep_timings(path: Path, timings: bytes) -> str | None:
    """Write the timings, whole or not at all; why not, where that fails (the engine is built)."""
    try:
        write_atomic(path, timings)
    except OutputError as error:
        return f"timing cache not kept: {error.in_one_line()}"
    return None
