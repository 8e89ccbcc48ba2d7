"""A bundle written whole or not at all, and loaded once before it gets its name."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctedge.bundle.manifest import (
    ENGINES_NAME,
    MANIFEST_DIGEST_NAME,
    MANIFEST_NAME,
    SCHEMA_VERSION,
    manifest_bytes,
)
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import OutputError, misnamed_output
from ctedge.files import atomic_folder

#: What the golden cases of a bundle may take, packed.
MAX_GOLDEN_BYTES = 6_000_000

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,55}\.ctedge", re.ASCII)


def check_target(path: Path, *, overwrite: bool, fix: str | None = None) -> None:
    """Refuse an output that cannot be written, before an export spends minutes on it.

    Args:
        path: the folder to write.
        overwrite: it may be there.
        fix: what to do where the folder that it is in cannot be written; None names the output.

    Raises:
        OutputError: no `NAME.ctedge`, already there, there and no bundle, or in a folder that
            cannot be written.
    """
    if not _FOLDER.fullmatch(path.name):
        raise misnamed_output(
            f"{path} is no name for a bundle",
            found=path.name,
            expected="NAME.ctedge, of letters, digits and ._-",
            fix="give -o a name like pneumonia.ctedge",
        )
    if path.is_symlink():
        raise OutputError(
            f"{path} is a link: it is not replaced",
            expected="a folder, or nothing",
            fix=f"name what it leads to, {path.resolve()}, or another output",
        )
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} already exists", fix="name another output, or add --overwrite to replace it"
        )
    if path.exists() and not (path / MANIFEST_NAME).is_file():
        raise OutputError(
            f"{path} exists and is no bundle: it is not replaced",
            expected=f"a folder with a {MANIFEST_NAME}",
            fix="name another output, or remove this one first",
        )
    check_writable(path, fix or "name another output, or make that folder writable")


def check_writable(path: Path, fix: str) -> None:
    """Try the folder that an output is to stand in, or the nearest that is there.

    Raises:
        OutputError: nothing can be made in it.
    """
    parent = path.absolute().parent
    while not os.path.lexists(parent) and parent != parent.parent:
        parent = parent.parent
    try:
        tempfile.TemporaryDirectory(prefix=".partial-", dir=parent).cleanup()
    except OSError as error:
        raise OutputError(
            f"cannot write {path}",
            found=f"{parent}: {error.strerror or error}",
            expected="a folder in which the new one can be written, to take its place whole",
            fix=fix,
        ) from error


def write_bundle(  # noqa: PLR0913 (keyword-only options)
    path: Path,
    *,
    description: Mapping[str, Any],
    members: Mapping[str, bytes],
    overwrite: bool = False,
    name: str | None = None,
    engines: Path | None = None,
) -> ModelBundle:
    """Write a bundle, verify it as a reader would, and only then rename it into place.

    Args:
        path: the folder `NAME.ctedge`.
        description: the manifest; `schema_version`, `name` and `members` are set here, and
            `variants`, where there are none.
        members: the files' bytes, by relative name.
        overwrite: replace a bundle that stands there; its `engines/` go with it.
        name: the bundle's name; None means NAME.
        engines: a folder of device files to carry over as they are, if it is there.

    Returns:
        The bundle, loaded from where it stands.

    Raises:
        OutputError: it exists, its golden cases are too large, or the disk is full; nothing is
            left behind.
        BundleError: what was to be written is no valid bundle; nothing is left behind.
    """
    check_target(path, overwrite=overwrite)
    golden = sum(len(data) for file, data in members.items() if file.startswith("golden/"))
    if golden > MAX_GOLDEN_BYTES:
        raise OutputError(
            f"the golden cases of {path.name} are too large to travel with it",
            found=f"{golden} bytes",
            expected=f"at most {MAX_GOLDEN_BYTES}",
            fix="take fewer golden cases",
        )
    document = {
        "variants": {},
        **description,
        "schema_version": SCHEMA_VERSION,
        "name": name or path.name.removesuffix(".ctedge"),
        "members": {
            file: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for file, data in members.items()
        },
    }
    manifest = manifest_bytes(document)
    files = {
        **members,
        MANIFEST_NAME: manifest,
        MANIFEST_DIGEST_NAME: hashlib.sha256(manifest).hexdigest().encode() + b"\n",
    }
    with atomic_folder(path, replace=overwrite) as folder:
        for file, data in files.items():
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        if engines is not None and engines.is_dir() and not engines.is_symlink():
            shutil.copytree(engines, folder / ENGINES_NAME, symlinks=True)
        ModelBundle.load(folder)
    return ModelBundle.load(path)
