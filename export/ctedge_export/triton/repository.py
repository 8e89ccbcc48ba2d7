"""A model repository on the disk: it appears whole or not at all, and says what it is made of.

    REPO/
      PROVENANCE.json       which bundle each model comes from, and the digest of every file
      NAME/                 config.pbtxt, labels.txt, 1/
      NAME_preprocess/      config.pbtxt, 1/model.py
      NAME_network/         config.pbtxt, 1/model.onnx or 1/model.plan

A repository holds many models. One that was written here takes another: its folder is copied, with
whatever else lies in it, the model added, and the copy put in its place.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ctedge.bundle.files import read_file
from ctedge.errors import DigestMismatch, InvalidBundle, OutputError
from ctedge.files import atomic_folder, sha256_of
from ctedge.strict_json import object_with, parse_json
from ctedge_export.triton.configs import Names

PROVENANCE_NAME = "PROVENANCE.json"
_SCHEMA_VERSION = 1
_MAX_PROVENANCE_BYTES = 1 << 22

#: What is known of each model in a repository, by the name of its bundle.
Models = dict[str, Any]


def check_target(repository: Path, name: str, *, overwrite: bool) -> Models:
    """The models that stand in a repository already; none where there is no folder yet.

    Raises:
        OutputError: a folder that was not written here, or that holds the model already.
    """
    if repository.is_symlink():
        raise OutputError(
            f"{repository} is a symbolic link, which is not followed", fix="name the folder itself"
        )
    if not repository.exists():
        return {}
    models = _read_provenance(repository)
    for folder in Names.of(name).all:
        owner = next((known for known in models if folder in Names.of(known).all), None)
        if not (repository / folder).exists() and owner is None:
            continue
        if owner != name:
            raise OutputError(
                f"{repository} has another model in {folder}",
                found=f"the model {owner}" if owner else "a folder that was not written by ctedge",
                fix="name another repository with -o, or give the bundle another name",
            )
        if not overwrite:
            raise OutputError(
                f"{repository} has the model {name} already",
                fix="add --overwrite to replace it (other models stay), or name another repository",
            )
    return models


def write_repository(
    repository: Path,
    name: str,
    *,
    files: Mapping[str, bytes],
    origin: Mapping[str, Any],
    models: Models,
) -> None:
    """Write a model into a new repository, or into a copy of the one that stands there.

    Args:
        repository: the folder.
        name: the model's.
        files: their bytes, by name relative to the repository.
        origin: what PROVENANCE.json says of the model besides its files.
        models: what `check_target` found.

    Raises:
        OutputError: the disk is full, or the folder cannot be written; what stood there stays.
    """
    digests = {file: hashlib.sha256(data).hexdigest() for file, data in sorted(files.items())}
    document = {
        "schema_version": _SCHEMA_VERSION,
        "models": {**models, name: {**origin, "files": digests}},
    }
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_folder(repository, replace=repository.exists()) as folder:
        if repository.exists():
            _copy_others(repository, folder, leave={*Names.of(name).all, PROVENANCE_NAME})
        for file, data in files.items():
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        (folder / PROVENANCE_NAME).write_text(f"{text}\n", "utf-8")
        _compare(folder, digests)


def _copy_others(repository: Path, folder: Path, *, leave: Collection[str]) -> None:
    def left_out(inside: str, names: list[str]) -> set[str]:
        return set(names) & set(leave) if Path(inside) == repository else set()

    shutil.copytree(repository, folder, symlinks=True, ignore=left_out, dirs_exist_ok=True)


def _compare(folder: Path, digests: Mapping[str, str]) -> None:
    """What is on the disk against what was to be written."""
    for file, expected in digests.items():
        found = sha256_of(folder / file)
        if found != expected:
            raise DigestMismatch(
                f"{file} was not written as it is",
                found=f"sha256 {found}",
                expected=f"sha256 {expected}",
                fix="check the disk, then run the command again",
            )


def _read_provenance(repository: Path) -> Models:
    try:
        raw = read_file(repository, PROVENANCE_NAME, most=_MAX_PROVENANCE_BYTES)
        document = object_with(parse_json(raw), "", {"schema_version", "models"})
    except InvalidBundle as error:
        raise _foreign(repository, error.found) from error
    models = document["models"]
    if document["schema_version"] != _SCHEMA_VERSION or not isinstance(models, dict):
        raise _foreign(repository, f"schema version {document['schema_version']}")
    return models


def _foreign(repository: Path, found: object) -> OutputError:
    return OutputError(
        f"{repository} exists and is no model repository of ctedge: nothing is written into it",
        found=f"{PROVENANCE_NAME}: {found}",
        expected=f"no folder yet, or one with the {PROVENANCE_NAME} of this version",
        fix="name another folder with -o; Triton takes several: repeat --model-repository",
    )
