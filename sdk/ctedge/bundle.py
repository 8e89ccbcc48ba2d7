"""A model and everything needed to trust and run it: the folder `NAME.ctedge/`.

    manifest.json       what the bundle is: task, labels, spec, tensors, members, gates
    manifest.sha256     64 hex digits and a newline: the SHA-256 of manifest.json's raw bytes
    model.onnx          FP32 weights and graph                              member
    golden/*.npy.gz     8-bit inputs with known answers                     member
    MODEL_CARD.md       what the model is for, and how it did               member
    engines/            device files with identity records of their own     not members

Order of loading, so that nothing is understood before it is known to be what was written: the
manifest's digest before its JSON, each member's size and digest before its content, the ONNX
file's operators before any native library. The bytes that were checked are the bytes that run:
no file is read twice. A digest finds damage and mix-ups; it is no signature.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ctedge.bundle_files import files_of, find_bundle, read_file
from ctedge.errors import DigestMismatch, InvalidBundle, WrongTask
from ctedge.golden import GoldenCase, unpack_volume
from ctedge.manifest import (
    CARD_NAME,
    MANIFEST_DIGEST_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Manifest,
    parse_manifest,
)
from ctedge.onnx_guard import FLOAT32, ModelFacts, TensorFacts, inspect_model
from ctedge.spec import PreprocessSpec

_DIGEST_LINE = re.compile(rb"[0-9a-f]{64}\n")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ModelBundle:
    """A verified bundle. Make one with `ModelBundle.load`.

    Attributes:
        path: the folder it was read from.
        digest: SHA-256 (hex) of the manifest's raw bytes; it names the bundle's every byte.
    """

    path: Path
    digest: str
    _manifest: Manifest
    _members: Mapping[str, bytes]

    @classmethod
    def load(cls, bundle: str | os.PathLike[str], *, task: str | None = None) -> ModelBundle:
        """Read a bundle and verify all of it.

        Args:
            bundle: path of a `NAME.ctedge` folder, or the bare name of a shipped bundle.
            task: the task it must have been made for ("classifier", "severity", "slices").

        Raises:
            BundleNotFound: no such folder, and no shipped bundle of that name.
            InvalidBundle: manifest missing, broken or of an unknown schema; a file too many, a
                file too few, a symbolic link; an ONNX file that is broken or not as described.
            DigestMismatch: a byte differs from what the manifest promises.
            UnsafeModel: external data, or an operator off the allow-list.
            WrongTask: the bundle was made for another task.
        """
        folder = find_bundle(bundle)
        raw = _checked_manifest(folder)
        manifest = parse_manifest(raw)
        if task is not None and manifest.task != task:
            raise WrongTask(
                f"{folder.name} was made for another task",
                found=manifest.task,
                expected=task,
                fix=f"load a bundle made for {task}, or use the class that takes {manifest.task}",
            )
        members = _checked_members(folder, manifest)
        for name, data in members.items():
            if name.endswith(".onnx"):
                facts = inspect_model(data)
                if name == manifest.model:
                    _compare(facts, manifest)
        digest = hashlib.sha256(raw).hexdigest()
        return cls(path=folder, digest=digest, _manifest=manifest, _members=members)

    def __repr__(self) -> str:
        return f"ModelBundle({self.name!r}, task={self.task!r}, digest={self.digest[:12]!r})"

    @property
    def name(self) -> str:
        """The name the manifest gives it, whatever the folder is called."""
        return self._manifest.name

    @property
    def task(self) -> str:
        """What the model answers: "classifier", "severity" or "slices"."""
        return self._manifest.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the answers; of two, the positive one (probability 1) is the last."""
        return self._manifest.labels

    @property
    def spec(self) -> PreprocessSpec:
        """The preprocessing the network was trained with."""
        return self._manifest.spec

    @property
    def input_name(self) -> str:
        """Name of the ONNX input, float32 (N, C, D, H, W)."""
        return self._manifest.input.name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the ONNX input without the batch axis: (C, D, H, W)."""
        return self._manifest.input.shape

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the ONNX outputs, each float32 (N, 1)."""
        return tuple(tensor.name for tensor in self._manifest.outputs)

    @property
    def model(self) -> bytes:
        """The FP32 ONNX file: exactly the bytes whose digest was checked."""
        return self._members[self._manifest.model]

    @property
    def manifest(self) -> dict[str, Any]:
        """A copy of the manifest's JSON (see `ctedge.manifest`)."""
        return deepcopy(dict(self._manifest.document))

    @property
    def metrics(self) -> dict[str, Any]:
        """How the trained network did on its test set."""
        return self._part("metrics")

    @property
    def provenance(self) -> dict[str, Any]:
        """What it was made from, and with which versions."""
        return self._part("provenance")

    @property
    def gates(self) -> dict[str, Any]:
        """The checks that its conversion passed, with their figures, by step."""
        return self._part("gates")

    def _part(self, key: str) -> dict[str, Any]:
        part: dict[str, Any] = deepcopy(self._manifest.document[key])
        return part

    @property
    def card(self) -> str:
        """The model card in Markdown, or "" when the bundle has none."""
        try:
            return self._members.get(CARD_NAME, b"").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidBundle(f"{CARD_NAME} of {self.name} is no UTF-8 text") from error

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of all members, sorted."""
        return tuple(sorted(self._members))

    def member(self, name: str) -> bytes:
        """A member's bytes, exactly those whose digest was checked.

        Raises:
            KeyError: the manifest names no such member.
        """
        return self._members[name]

    def golden(self) -> tuple[GoldenCase, ...]:
        """The golden cases: inputs with the answers the trained network gave to them.

        Raises:
            InvalidBundle: an input is no 8-bit volume of `spec.shape`.
        """
        return tuple(
            GoldenCase(
                name=record.name,
                input=unpack_volume(self._members[record.input], record.input, self.spec.shape),
                outputs=MappingProxyType(dict(record.outputs)),
            )
            for record in self._manifest.golden
        )


def _checked_manifest(folder: Path) -> bytes:
    line = read_file(folder, MANIFEST_DIGEST_NAME, most=1024)
    if not _DIGEST_LINE.fullmatch(line):
        raise InvalidBundle(
            f"{MANIFEST_DIGEST_NAME} is broken",
            found=line[:80],
            expected="64 lower-case hex digits and a newline",
            fix="copy the bundle again as plain bytes (git: `**/*.ctedge/** -text`)",
        )
    raw = read_file(folder, MANIFEST_NAME, most=MAX_MANIFEST_BYTES)
    _compare_digest(MANIFEST_NAME, raw, line[:64].decode())
    return raw


def _checked_members(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    found = files_of(folder)
    named = {MANIFEST_NAME, MANIFEST_DIGEST_NAME, *manifest.members}
    if found != named:
        extra = sorted(ascii(name)[1:-1] for name in found - named)[:5]
        raise InvalidBundle(
            f"{folder.name} holds other files than its manifest names",
            found=f"missing {sorted(named - found)[:5]}, not named {extra}",
            fix="remove the files that do not belong, or copy the bundle again",
        )
    members = {}
    for name, member in sorted(manifest.members.items()):
        data = read_file(folder, name, most=member.bytes)
        _compare_digest(name, data, member.sha256)
        members[name] = data
    return members


def _compare_digest(name: str, data: bytes, expected: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DigestMismatch(
            f"{name} differs from what the bundle was made with",
            found=f"sha256 {found}",
            expected=f"sha256 {expected}",
            fix="copy the bundle again from where it came; do not edit files inside it",
        )


def _compare(facts: ModelFacts, manifest: Manifest) -> None:
    """Hold the ONNX file against what the manifest says about it."""
    found = (
        facts.opset,
        [_signature(t) for t in facts.inputs],
        [_signature(t) for t in facts.outputs],
    )
    expected = (
        manifest.opset,
        [(manifest.input.name, FLOAT32, True, manifest.input.shape)],
        [(tensor.name, FLOAT32, True, tensor.shape) for tensor in manifest.outputs],
    )
    if found != expected:
        raise InvalidBundle(
            "the model is not what its manifest says: opset, inputs, outputs, each as"
            " (name, type, dynamic batch, shape)",
            found=found,
            expected=expected,
            fix="export the bundle again",
        )


def _signature(tensor: TensorFacts) -> tuple[str, int, bool, tuple[object, ...]]:
    dynamic = bool(tensor.shape) and isinstance(tensor.shape[0], str)
    return (tensor.name, tensor.element_type, dynamic, tensor.shape[1:])
