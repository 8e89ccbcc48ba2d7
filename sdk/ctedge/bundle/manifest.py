"""The manifest of a bundle: schema version 3, read strictly and written deterministically.

    {
      "schema_version": 3,
      "name": "pneumonia",                    the bundle's name, letters, digits, "._-"
      "task": "classifier",                   classifier | severity | slices | lungs
      "labels": ["normal", "abnormal"],       the names of the answers, the positive one last
      "threshold": 0.37,                      last label from this probability, else null
      "spec": {...},                          every field of ctedge.spec.PreprocessSpec, or, for
                                              slices, of ctedge.spec.SliceSpec; lungs: of
                                              ctedge.lung_spec.LungMaskSpec
      "model": {
        "member": "model.onnx",
        "opset": 17,
        "input":   {"name": "volume", "shape": [1, 128, 128, 64]},      without the batch axis;
                                              slices: {"name": "image", "shape": [3, 224, 224]}
        "outputs": [{"name": "logit", "shape": [1]}, ...]               without the batch axis;
                                              lungs: {"name": "logits", "shape": [3, 256, 256]}
        "maps": [...]                         may be left out; see ctedge.bundle.maps
      },
      "members": {"model.onnx": {"sha256": "64 hex digits", "bytes": 5412345}, ...},
      "golden": [{"name": "...", "input": "golden/....npy.gz", "outputs": {"logit": 1.5}}, ...],
      "metrics": {...}, "provenance": {...}, "gates": {...},            free-form JSON objects
      "variants": {...}                       see ctedge.bundle.variants; absent in schema version 2
    }

All of these keys are required and no others are known; a key this version does not know could
change what the rest means, so it is refused. A message names the key that is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctedge.bundle.maps import MapRecord, parse_maps
from ctedge.bundle.variants import Variant, parse_variants
from ctedge.errors import InvalidBundle
from ctedge.lung_spec import LUNG_LABELS, LungMaskSpec
from ctedge.spec import Spec, spec_from_json
from ctedge.strict_json import (
    list_of,
    matching,
    object_with,
    parse_json,
    printable,
    refuse,
    shorten,
)

SCHEMA_VERSION = 3
_READ_TOO = 2

#: Output tensors of a model, in order, by task.
TASK_OUTPUTS = {
    "classifier": ("logit", "probability"),
    "severity": ("score",),
    "slices": ("logit", "probability"),
    "lungs": ("logits",),
}

#: The input tensor of a model, by task.
TASK_INPUTS = {"classifier": "volume", "severity": "volume", "slices": "image", "lungs": "image"}

#: What golden cases record: the outputs, or, of a map of classes, the share of each lung's pixels.
GOLDEN_ANSWERS = {**TASK_OUTPUTS, "lungs": ("right", "left")}

MANIFEST_NAME = "manifest.json"
MANIFEST_DIGEST_NAME = "manifest.sha256"
MODEL_NAME = "model.onnx"
CARD_NAME = "MODEL_CARD.md"
ENGINES_NAME = "engines"

#: Bounds far above any honest bundle: they keep a hostile one from filling the memory.
MAX_MANIFEST_BYTES = 1 << 20
MAX_BUNDLE_BYTES = 1 << 30
MAX_MEMBERS = 64
_MAX_AXIS, _MAX_LABELS = 4096, 16

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,63}){0,2}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Member:
    """What the manifest promises about one file: its SHA-256 (hex) and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Name and shape of an input or output; the shape leaves the batch axis out."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class GoldenRecord:
    """A golden case as written: the member that holds its input, and the expected outputs."""

    name: str
    input: str
    outputs: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest that passed every check. `document` is the parsed JSON it came from."""

    name: str
    task: str
    labels: tuple[str, ...]
    threshold: float | None
    spec: Spec | LungMaskSpec
    model: str
    opset: int
    input: Tensor
    outputs: tuple[Tensor, ...]
    maps: tuple[MapRecord, ...]
    members: Mapping[str, Member]
    golden: tuple[GoldenRecord, ...]
    variants: Mapping[str, Variant]
    document: Mapping[str, Any]


def manifest_bytes(document: Mapping[str, Any]) -> bytes:
    """The manifest as it is written: sorted keys, two spaces, UTF-8, one final newline."""
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parse_manifest(raw: bytes) -> Manifest:
    """Read and check a manifest whose digest was already compared.

    Raises:
        InvalidBundle: no JSON, another schema version, or a key that is missing, unknown or wrong.
    """
    document = parse_json(raw)
    if not isinstance(document, dict):
        refuse("", document, "a JSON object")
    version = document.get("schema_version")
    if type(version) is not int or version not in (_READ_TOO, SCHEMA_VERSION):
        raise InvalidBundle(
            "the manifest has a schema version that this ctedge does not know",
            found=shorten(version),
            expected=f"{SCHEMA_VERSION} or {_READ_TOO}",
            fix="update ctedge, or export the bundle again with this version",
        )
    keys = _ROOT_KEYS if version == _READ_TOO else _ROOT_KEYS | {"variants"}
    root = object_with(document, "", keys)
    task = printable(root["task"], "task")
    if task not in TASK_OUTPUTS:
        refuse("task", task, " or ".join(sorted(TASK_OUTPUTS)))
    members = _members(root["members"])
    spec = _spec(root["spec"], task)
    model = object_with(
        root["model"], "model", {"member", "opset", "input", "outputs"}, optional={"maps"}
    )
    if model["member"] != MODEL_NAME or MODEL_NAME not in members:
        refuse("model.member", model["member"], f"{MODEL_NAME}, listed in members")
    opset = model["opset"]
    if type(opset) is not int or not 1 <= opset <= 99:
        refuse("model.opset", opset, "a whole number, 1 to 99")
    outputs = tuple(
        _tensor(item, f"model.outputs[{i}]")
        for i, item in enumerate(list_of(model["outputs"], "model.outputs", 8))
    )
    if tuple(tensor.name for tensor in outputs) != TASK_OUTPUTS[task]:
        refuse("model.outputs", [t.name for t in outputs], list(TASK_OUTPUTS[task]))
    classes = (len(LUNG_LABELS), *spec.shape)
    if task == "lungs" and outputs[0].shape != classes:
        refuse("model.outputs[0].shape", outputs[0].shape, list(classes))
    network_input = _tensor(model["input"], "model.input")
    expected = Tensor(name=TASK_INPUTS[task], shape=(spec.input_shape[-1], *spec.shape))
    if network_input.name != expected.name:
        refuse("model.input.name", network_input.name, expected.name)
    if network_input.shape != expected.shape:
        refuse("model.input.shape", network_input.shape, list(expected.shape))
    for key in ("metrics", "provenance", "gates"):
        if not isinstance(root[key], dict):
            refuse(key, root[key], "an object")
    return Manifest(
        name=matching(root["name"], "name", _NAME, "letters, digits and ._-"),
        task=task,
        labels=_labels(root["labels"], task),
        threshold=_threshold(root["threshold"], task),
        spec=spec,
        model=MODEL_NAME,
        opset=opset,
        input=network_input,
        outputs=outputs,
        maps=parse_maps(model.get("maps", []), spec.shape),
        members=members,
        golden=_golden(root["golden"], members, GOLDEN_ANSWERS[task]),
        variants=parse_variants(root.get("variants", {}), members),
        document=root,
    )


_ROOT_NAMES = """
    schema_version name task labels threshold spec model members golden metrics provenance gates
    """
_ROOT_KEYS = set(_ROOT_NAMES.split())


def _members(value: object) -> dict[str, Member]:
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_MEMBERS:
        refuse("members", value, f"an object with 1 to {MAX_MEMBERS} files")
    members: dict[str, Member] = {}
    for name, item in value.items():
        where = f"members.{shorten(name)}"
        matching(name, where, _MEMBER, "a plain relative file name")
        if name in (MANIFEST_NAME, MANIFEST_DIGEST_NAME) or name.split("/")[0] == ENGINES_NAME:
            refuse(where, name, "a name that is not reserved")
        record = object_with(item, where, {"sha256", "bytes"})
        size = record["bytes"]
        if type(size) is not int or not 0 <= size <= MAX_BUNDLE_BYTES:
            refuse(f"{where}.bytes", size, f"a whole number up to {MAX_BUNDLE_BYTES}")
        sha256 = matching(record["sha256"], f"{where}.sha256", _SHA256, "64 lower-case hex digits")
        members[name] = Member(sha256=sha256, bytes=size)
    if sum(member.bytes for member in members.values()) > MAX_BUNDLE_BYTES:
        refuse("members", "more in sum", f"at most {MAX_BUNDLE_BYTES} bytes")
    if len({name.casefold() for name in members}) != len(members):
        refuse("members", sorted(members), "names that differ in more than case")
    return members


def _spec(value: object, task: str) -> Spec | LungMaskSpec:
    if not isinstance(value, dict):
        refuse("spec", value, "an object")
    lungs = task == "lungs"
    spec = LungMaskSpec.from_json(value) if lungs else spec_from_json(value, task=task)
    if spec.to_json() != value:
        refuse("spec", value, spec.to_json())
    return spec


def _labels(value: object, task: str) -> tuple[str, ...]:
    labels = tuple(
        printable(item, f"labels[{i}]")
        for i, item in enumerate(list_of(value, "labels", _MAX_LABELS))
    )
    if len(set(labels)) != len(labels):
        refuse("labels", labels, "labels that differ")
    if "probability" in TASK_OUTPUTS[task] and len(labels) != 2:
        refuse("labels", labels, "two labels, the positive one last")
    if task == "lungs" and labels != LUNG_LABELS:
        refuse("labels", labels, list(LUNG_LABELS))
    return labels


def _threshold(value: object, task: str) -> float | None:
    if "probability" not in TASK_OUTPUTS[task]:
        if value is not None:
            refuse("threshold", value, f"null: {task} has no probability")
        return None
    if type(value) is not float or not 0.0 < value < 1.0:
        refuse("threshold", value, "a number between 0 and 1")
    return value


def _golden(
    value: object, members: Mapping[str, Member], outputs: tuple[str, ...]
) -> tuple[GoldenRecord, ...]:
    records = []
    for i, item in enumerate(list_of(value, "golden", MAX_MEMBERS)):
        where = f"golden[{i}]"
        record = object_with(item, where, {"name", "input", "outputs"})
        if not isinstance(record["input"], str) or record["input"] not in members:
            refuse(f"{where}.input", record["input"], "a file listed in members")
        answers = object_with(record["outputs"], f"{where}.outputs", set(outputs))
        for key, number in answers.items():
            if type(number) not in (int, float) or abs(number) > 1e30:
                refuse(f"{where}.outputs.{key}", number, "a finite number")
        records.append(
            GoldenRecord(
                name=printable(record["name"], f"{where}.name"),
                input=record["input"],
                outputs={key: float(answers[key]) for key in outputs},
            )
        )
    return tuple(records)


def _tensor(value: object, where: str) -> Tensor:
    record = object_with(value, where, {"name", "shape"})
    shape = list_of(record["shape"], f"{where}.shape", 8)
    for length in shape:
        if type(length) is not int or not 1 <= length <= _MAX_AXIS:
            refuse(f"{where}.shape", shape, f"whole numbers, 1 to {_MAX_AXIS}")
    return Tensor(name=printable(record["name"], f"{where}.name"), shape=tuple(shape))
