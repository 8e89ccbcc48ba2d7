"""A model and everything needed to trust and run it: the folder `NAME.ctedge/`.

    manifest.json       what the bundle is: task, labels, spec, tensors, members, gates
    manifest.sha256     64 hex digits and a newline: the SHA-256 of manifest.json's raw bytes
    model.onnx          FP32 weights and graph                              member
    model.fp16.onnx     the network in another precision (bf16, int8)       member
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
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ctedge.bundle.files import (
    argument_of,
    check_model,
    checked_manifest,
    checked_members,
    find_bundle,
    shipped_bundles,
)
from ctedge.bundle.golden import GoldenCase, unpack_levels
from ctedge.bundle.manifest import CARD_NAME, Manifest, parse_manifest
from ctedge.bundle.maps import MapRecord
from ctedge.bundle.variants import FP32, Variant
from ctedge.errors import InvalidBundle, RuntimeUnavailable, WrongTask
from ctedge.lung_spec import LungMaskSpec
from ctedge.onnx_file.guard import inspect_model
from ctedge.spec import PreprocessSpec, SliceSpec, Spec


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
            task: the task it must have been made for ("classifier", "severity", "slices", "lungs").

        Raises:
            BundleNotFound: no such folder, and no shipped bundle of that name.
            InvalidBundle: manifest missing, broken or of an unknown schema; a file too many, a
                file too few, a symbolic link; an ONNX file that is broken or not as described.
            DigestMismatch: a byte differs from what the manifest promises.
            UnsafeModel: external data, or an operator off the allow-list.
            WrongTask: the bundle was made for another task.
        """
        folder = find_bundle(bundle)
        raw = checked_manifest(folder)
        manifest = parse_manifest(raw)
        if task is not None and manifest.task != task:
            raise _wrong_task(folder.name, manifest.task, task)
        members = checked_members(folder, manifest)
        opsets = {manifest.model: manifest.opset}
        opsets |= {one.member: one.opset for one in manifest.variants.values()}
        for name, data in members.items():
            if name.endswith(".onnx"):
                facts = inspect_model(data)
                if name in opsets:
                    whole = name == manifest.model
                    check_model(facts, manifest, opsets[name], whole=whole)
        digest = hashlib.sha256(raw).hexdigest()
        return cls(path=folder, digest=digest, _manifest=manifest, _members=members)

    def __repr__(self) -> str:
        return f"ModelBundle({self.name!r}, task={self.task!r}, digest={self.digest[:12]!r})"

    @property
    def name(self) -> str:
        """The name the manifest gives it, whatever the folder is called."""
        return self._manifest.name

    @property
    def argument(self) -> str:
        """What names this bundle on a command line."""
        return argument_of(self.path)

    def line_that_adds(self, precision: str) -> str:
        """The command that adds a precision; a shipped bundle is not changed where it stands."""
        target = f" -o {self.name}.ctedge" if self.argument in shipped_bundles() else ""
        return f"ctedge export precision {self.argument} --to {precision}{target}"

    @property
    def task(self) -> str:
        """What the model answers: "classifier", "severity", "slices" or "lungs"."""
        return self._manifest.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the answers; of two, the positive one (probability 1) is the last."""
        return self._manifest.labels

    @property
    def threshold(self) -> float:
        """The last label from this probability on.

        It was chosen on the validation scans of the training, and need not be 0.5.

        Raises:
            WrongTask: a network for severity or lungs gives no probability.
        """
        if self._manifest.threshold is None:
            raise _wrong_task(self.name, self.task, "classifier or slices")
        return self._manifest.threshold

    @property
    def spec(self) -> Spec:
        """The preprocessing the network was trained with: of slices a SliceSpec.

        Raises:
            WrongTask: the network finds lungs; see `lung_spec`.
        """
        if isinstance(self._manifest.spec, LungMaskSpec):
            raise _wrong_task(self.name, self.task, "classifier, severity or slices")
        return self._manifest.spec

    @property
    def volume_spec(self) -> PreprocessSpec:
        """`spec`, of a network for whole scans.

        Raises:
            WrongTask: the network is for slices.
        """
        if not isinstance(self.spec, PreprocessSpec):
            raise _wrong_task(self.name, self.task, "classifier or severity")
        return self.spec

    @property
    def slice_spec(self) -> SliceSpec:
        """`spec`, of a network for slices.

        Raises:
            WrongTask: the network is for whole scans.
        """
        if not isinstance(self.spec, SliceSpec):
            raise _wrong_task(self.name, self.task, "slices")
        return self.spec

    @property
    def lung_spec(self) -> LungMaskSpec:
        """The preprocessing of a network that finds lungs.

        Raises:
            WrongTask: the network judges, and finds none.
        """
        if not isinstance(self._manifest.spec, LungMaskSpec):
            raise _wrong_task(self.name, self.task, "lungs")
        return self._manifest.spec

    @property
    def input_name(self) -> str:
        """Name of the ONNX input, float32 (N, C, D, H, W), or (N, C, H, W) for slices."""
        return self._manifest.input.name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the ONNX input without the batch axis, channels first."""
        return self._manifest.input.shape

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the ONNX outputs, each float32 (N, 1); of lungs (N, classes, H, W)."""
        return tuple(tensor.name for tensor in self._manifest.outputs)

    @property
    def maps(self) -> tuple[MapRecord, ...]:
        """The maps that the FP32 network can draw, finest last."""
        return self._manifest.maps

    @property
    def model(self) -> bytes:
        """The FP32 ONNX file: exactly the bytes whose digest was checked."""
        return self._members[self._manifest.model]

    @property
    def variants(self) -> tuple[str, ...]:
        """The precisions besides FP32 that it has: "fp16", "bf16", "int8"."""
        return tuple(self._manifest.variants)

    def variant(self, precision: str) -> Variant:
        """What the manifest says of a precision; RuntimeUnavailable when there is none."""
        if precision not in self._manifest.variants:
            raise RuntimeUnavailable(
                f"{self.name} does not have its network in {precision!r}",
                found=", ".join((FP32, *self.variants)),
                fix=f"add it with `{self.line_that_adds(precision)}`",
            )
        return self._manifest.variants[precision]

    def model_bytes(self, precision: str = FP32) -> bytes:
        """The ONNX file of a precision, as `model` is of FP32; raises as `variant` does."""
        return self.model if precision == FP32 else self._members[self.variant(precision).member]

    @property
    def manifest(self) -> dict[str, Any]:
        """A copy of the manifest's JSON (see `ctedge.bundle.manifest`)."""
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
            InvalidBundle: an input is no 8-bit array of the spec's shape.
            RuntimeUnavailable: there is too little memory for them.
        """
        shape = self._manifest.spec.shape
        return tuple(
            GoldenCase(
                name=record.name,
                input=unpack_levels(self._members[record.input], record.input, shape),
                outputs=MappingProxyType(dict(record.outputs)),
            )
            for record in self._manifest.golden
        )


#: By task: the class that takes its bundles.
_TAKEN_BY = {
    "classifier": "Classifier",
    "severity": "SeverityRegressor",
    "slices": "SliceClassifier",
    "lungs": "LungSegmenter",
}


def _wrong_task(name: str, found: str, expected: str) -> WrongTask:
    return WrongTask(
        f"{name} was made for another task",
        found=found,
        expected=expected,
        fix=f"use {_TAKEN_BY[found]}, or load a bundle made for {expected}",
    )
