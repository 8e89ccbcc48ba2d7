"""What training hands to export: a folder with `model.keras` and the `model.json` about it.

It is read with suspicion: `model.json` first, then the digest of `model.keras`, and only then may
Keras see the bytes that were checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ctedge.errors import BundleNotFound, DigestMismatch, InvalidBundle
from ctedge.spec import Spec, spec_from_json
from ctedge.strict_json import parse_json

SCHEMA_VERSION = 2
MODEL_FILE = "model.keras"
DOCUMENT_FILE = "model.json"
_TASKS = ("classifier", "severity", "slices")
_OBJECTS = ("data", "training", "metrics", "versions")


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFolder:
    """A run folder whose `model.keras` has the digest that its `model.json` names.

    Attributes:
        folder: where it was read from.
        task: "classifier", "severity" or "slices".
        labels: names of the answers, the positive one last.
        threshold: the positive label from this probability on, chosen on the validation scans;
            None for severity.
        spec: the preprocessing that the network was trained with.
        document: all of `model.json`.
        keras_bytes: all of `model.keras`.
    """

    folder: Path
    task: str
    labels: tuple[str, ...]
    threshold: float | None
    spec: Spec
    document: Mapping[str, Any]
    keras_bytes: bytes


def read_run(folder: Path) -> RunFolder:
    """Read and check a run folder; Keras is not touched yet.

    Raises:
        BundleNotFound: no such folder, or a training that is not finished.
        InvalidBundle: `model.json` or `model.keras` is missing or broken.
        DigestMismatch: `model.keras` is not the file that `model.json` was written for.
    """
    if (folder / "saved_model.pb").is_file():
        raise InvalidBundle(
            f"{folder} is a TensorFlow SavedModel, which keeps no layers to take apart",
            expected=f"a run folder with {MODEL_FILE} and {DOCUMENT_FILE}",
            fix="save the Keras model as HDF5, model.save('FILE.h5'), and make a run folder of it:"
            " ctedge train import FILE.h5 -o RUN",
        )
    if not (folder / DOCUMENT_FILE).is_file():
        raise BundleNotFound(
            f"there is no finished training in {folder}",
            expected=f"a folder with {MODEL_FILE} and {DOCUMENT_FILE}",
            fix="name the folder given to `ctedge train ... -o`, or finish it with --resume",
        )
    document = _document(folder)
    if document.get("schema_version") != SCHEMA_VERSION:
        _refuse(folder, "schema_version", document.get("schema_version"), SCHEMA_VERSION)
    if document.get("task") not in _TASKS:
        _refuse(folder, "task", document.get("task"), " or ".join(_TASKS))
    labels = document.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        _refuse(folder, "labels", labels, "a list of names")
    graded = document["task"] == "severity"
    if not graded and len(labels) != 2:
        _refuse(folder, "labels", labels, "two names, the positive one last")
    for key in _OBJECTS:
        if not isinstance(document.get(key), dict):
            _refuse(folder, key, document.get(key), "an object")
    threshold = document.get("threshold", "nothing")
    if graded and threshold is not None:
        _refuse(folder, "threshold", threshold, "null: a score has none")
    if not graded and not (type(threshold) is float and 0.0 < threshold < 1.0):
        _refuse(folder, "threshold", threshold, "a number between 0 and 1")
    spec = spec_from_json(document.get("spec", {}), task=document["task"])
    if document.get("input_shape") != [*spec.input_shape]:
        _refuse(folder, "input_shape", document.get("input_shape"), [*spec.input_shape])
    return RunFolder(
        folder=folder,
        task=document["task"],
        labels=tuple(labels),
        threshold=threshold,
        spec=spec,
        document=document,
        keras_bytes=_keras_bytes(folder, document.get("model_sha256")),
    )


def _document(folder: Path) -> dict[str, Any]:
    path = folder / DOCUMENT_FILE
    try:
        document = parse_json(path.read_bytes())
    except (OSError, InvalidBundle) as error:
        raise InvalidBundle(
            f"{path} cannot be read",
            found=error.found if isinstance(error, InvalidBundle) else error,
            fix="name the folder that `ctedge train` wrote (it holds model.keras and model.json)",
        ) from error
    if not isinstance(document, dict):
        _refuse(folder, "everything", type(document).__name__, "a JSON object")
    return document


def _keras_bytes(folder: Path, expected: object) -> bytes:
    path = folder / MODEL_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidBundle(
            f"{path} cannot be read", found=error.strerror, fix="train again"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DigestMismatch(
            f"{path} is not the model that its {DOCUMENT_FILE} describes",
            found=f"sha256 {found}",
            expected=f"sha256 {expected}",
            fix="copy the run folder again, or train again; do not edit files inside it",
        )
    return data


def _refuse(folder: Path, key: str, found: object, expected: object) -> NoReturn:
    raise InvalidBundle(
        f"{DOCUMENT_FILE} of {folder} is wrong in {key!r}",
        found=repr(found)[:200],
        expected=expected,
        fix="use a run folder written by this version of `ctedge train`",
    )
