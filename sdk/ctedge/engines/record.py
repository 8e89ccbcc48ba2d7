"""The identity of a TensorRT engine: the `.json` file beside it, read strictly.

    {
      "schema_version": 1,
      "engine": {"sha256": "64 hex digits", "bytes": 6091908},
      "runtime": {"name": "tensorrt-rtx", "version": "1.7.1.116"},       the builder that made it
      "machine": {"gpu": null, "compute_capability": null,               where it was built; null
                  "driver": null, "cuda": null},                         what was not there
      "target": {"name": "portable", "gpu": null,                        what it may run on
                 "compute_capabilities": ["8.0"], "or_newer": true},
      "bundle": "pneumonia",
      "onnx": {"member": "model.fp16.onnx", "sha256": "64 hex digits"},
      "precision": "fp16",
      "layers": {"source": "typed network",           or "inspector", or "declared network"
                 "shares": {"fp16": 0.6, "fp32": 0.4},
                 "convolutions": {"fp16": 1.0},
                 "listed": [["conv1", "CONVOLUTION", "fp16"], ...]},
      "input": {"name": "volume", "shape": [1, 128, 128, 64]},           without the batch axis
      "outputs": ["logit", "probability"],
      "max_batch": 1,
      "builder": {...},                               its settings: a free-form JSON object
      "gates": {...},                                 those of the ONNX file: free-form
      "device_gate": {"state": "not run",             or "passed", "failed": with its machine,
                      "machine": null, "results": {}}   and "numeric" and "task" in the results
    }

Two builds of one model differ: an engine is run only after it has itself passed. The digest finds
damage and mix-ups; it is no signature: an engine is code, run none from a stranger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ctedge.bundle.variants import FP32, PRECISIONS
from ctedge.errors import InvalidBundle
from ctedge.strict_json import list_of, matching, object_with, parse_json, printable, refuse

RECORD_VERSION = 1
MAX_RECORD_BYTES, MAX_ENGINE_BYTES = 1 << 20, 1 << 30

#: The runtimes that run engines, by the name that `Classifier.load(runtime=...)` takes.
EngineRuntime = Literal["tensorrt", "tensorrt-rtx"]
RUNTIMES: tuple[EngineRuntime, ...] = ("tensorrt", "tensorrt-rtx")

ENGINE_PRECISIONS = (FP32, *PRECISIONS)
#: States of a device gate. "incomplete": said to be passed, and one of DEVICE_GATES shows no pass.
NOT_RUN, PASSED, FAILED, INCOMPLETE = "not run", "passed", "failed", "incomplete"
DEVICE_GATES = ("numeric", "task")
TYPED, DECLARED, INSPECTED = "typed network", "declared network", "inspector"

_SHA256, _HEX = re.compile(r"[0-9a-f]{64}"), "64 lower-case hex digits"
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_MEMBER = re.compile(r"model(\.[a-z0-9]{1,8})?\.onnx")
_MAX_LAYERS, _MAX_BATCH = 5000, 4096


@dataclass(frozen=True, kw_only=True)
class Site:
    """A GPU and its driver; None what was not there or not known."""

    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """What an engine may run on: one GPU by name, or any of these compute capabilities.

    Attributes:
        name: as it stands in the file's name, "sm86-rtx-a4000" or "portable".
        or_newer: GPUs of newer compute capability as well.
    """

    name: str
    gpu: str | None
    compute_capabilities: tuple[str, ...]
    or_newer: bool


@dataclass(frozen=True, kw_only=True)
class Layers:
    """In which precision the layers work, and who says so.

    Attributes:
        source: "typed network", what a strongly typed builder must keep to; "declared network",
            what a weakly typed one was asked for; "inspector", what the engine itself says.
        shares: part of the layers that calculate, by precision.
        convolutions: part of the convolutions, by precision.
        listed: name, type and precision of each layer, in order.
    """

    source: str
    shares: Mapping[str, float]
    convolutions: Mapping[str, float]
    listed: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class DeviceGate:
    """Whether the engine itself answered as its model does, where, and with which figures."""

    state: str = NOT_RUN
    machine: Site | None = None
    results: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """The identity of an engine; the module's text says what each part is."""

    sha256: str
    size_bytes: int
    runtime: EngineRuntime
    runtime_version: str
    machine: Site
    target: Target
    bundle: str
    onnx_member: str
    onnx_sha256: str
    precision: str
    layers: Layers
    input_name: str
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    max_batch: int
    builder: Mapping[str, Any]
    gates: Mapping[str, Any]
    device_gate: DeviceGate

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        gate = self.device_gate
        return {
            "schema_version": RECORD_VERSION,
            "engine": {"sha256": self.sha256, "bytes": self.size_bytes},
            "runtime": {"name": self.runtime, "version": self.runtime_version},
            "machine": vars(self.machine),
            "target": vars(self.target),
            "bundle": self.bundle,
            "onnx": {"member": self.onnx_member, "sha256": self.onnx_sha256},
            "precision": self.precision,
            "layers": vars(self.layers),
            "input": {"name": self.input_name, "shape": list(self.input_shape)},
            "outputs": list(self.outputs),
            "max_batch": self.max_batch,
            "builder": dict(self.builder),
            "gates": dict(self.gates),
            "device_gate": vars(gate) | {"machine": vars(gate.machine) if gate.machine else None},
        }

    def to_bytes(self) -> bytes:
        """The record as it is written: sorted keys, two spaces, UTF-8, one final newline."""
        text = json.dumps(self.to_json(), indent=2, sort_keys=True, allow_nan=False)
        return text.encode() + b"\n"


def parse_record(raw: bytes, *, name: str) -> EngineRecord:
    """Read an identity record.

    Raises:
        InvalidBundle: no JSON, another schema version, or a key that is missing, unknown or wrong;
            the message begins with `name`.
    """
    try:
        return _record(parse_json(raw))
    except InvalidBundle as error:
        raise InvalidBundle(
            f"{name} is no identity record of an engine:"
            f" {error.what.replace('the manifest', 'the record')}",
            found=error.found,
            expected=error.expected,
            fix="build the engine again with `ctedge export build-engine BUNDLE --overwrite`",
        ) from error


_KEYS = {"schema_version", "engine", "runtime", "machine", "target", "bundle", "onnx", "precision"}
_KEYS |= {"layers", "input", "outputs", "max_batch", "builder", "gates", "device_gate"}


def _record(document: object) -> EngineRecord:
    root = object_with(document, "", _KEYS)
    if type(root["schema_version"]) is not int or root["schema_version"] != RECORD_VERSION:
        refuse("schema_version", root["schema_version"], RECORD_VERSION)
    engine = object_with(root["engine"], "engine", {"sha256", "bytes"})
    runtime = object_with(root["runtime"], "runtime", {"name", "version"})
    onnx = object_with(root["onnx"], "onnx", {"member", "sha256"})
    entry = object_with(root["input"], "input", {"name", "shape"})
    for key in ("builder", "gates"):
        if not isinstance(root[key], dict):
            refuse(key, root[key], "an object")
    return EngineRecord(
        sha256=matching(engine["sha256"], "engine.sha256", _SHA256, _HEX),
        size_bytes=_whole(engine["bytes"], "engine.bytes", MAX_ENGINE_BYTES),
        runtime=_one_of(runtime["name"], "runtime.name", RUNTIMES),  # type: ignore[arg-type]
        runtime_version=printable(runtime["version"], "runtime.version"),
        machine=_site(root["machine"], "machine"),
        target=_target(root["target"]),
        bundle=printable(root["bundle"], "bundle"),
        onnx_member=matching(onnx["member"], "onnx.member", _MEMBER, "model.PRECISION.onnx"),
        onnx_sha256=matching(onnx["sha256"], "onnx.sha256", _SHA256, _HEX),
        precision=_one_of(root["precision"], "precision", ENGINE_PRECISIONS),
        layers=_layers(root["layers"]),
        input_name=printable(entry["name"], "input.name"),
        input_shape=tuple(
            _whole(n, "input.shape", 4096, least=1) for n in list_of(entry["shape"], "shape", 5)
        ),
        outputs=tuple(printable(n, "outputs") for n in list_of(root["outputs"], "outputs", 8)),
        max_batch=_whole(root["max_batch"], "max_batch", _MAX_BATCH, least=1),
        builder=root["builder"],
        gates=root["gates"],
        device_gate=_device_gate(root["device_gate"]),
    )


def _site(value: object, where: str) -> Site:
    parts = object_with(value, where, {"gpu", "compute_capability", "driver", "cuda"})
    texts = {k: None if v is None else printable(v, f"{where}.{k}") for k, v in parts.items()}
    if texts["compute_capability"] is not None:
        _capability(texts["compute_capability"], f"{where}.compute_capability")
    return Site(**texts)


def _target(value: object) -> Target:
    parts = object_with(value, "target", {"name", "gpu", "compute_capabilities", "or_newer"})
    listed = list_of(parts["compute_capabilities"], "target.compute_capabilities", 16)
    if not listed:
        refuse("target.compute_capabilities", listed, "one at least")
    if type(parts["or_newer"]) is not bool:
        refuse("target.or_newer", parts["or_newer"], "true or false")
    return Target(
        name=printable(parts["name"], "target.name"),
        gpu=None if parts["gpu"] is None else printable(parts["gpu"], "target.gpu"),
        compute_capabilities=tuple(_capability(n, "target.compute_capabilities") for n in listed),
        or_newer=parts["or_newer"],
    )


def _layers(value: object) -> Layers:
    parts = object_with(value, "layers", {"source", "shares", "convolutions", "listed"})
    listed = list_of(parts["listed"], "layers.listed", _MAX_LAYERS)
    rows = [list_of(item, "layers.listed", 3) for item in listed]
    for row in rows:
        if len(row) != 3 or not all(isinstance(text, str) and text.isprintable() for text in row):
            refuse("layers.listed", row, "[name, type, precision]")
    return Layers(
        source=_one_of(parts["source"], "layers.source", (TYPED, DECLARED, INSPECTED)),
        shares=_shares(parts["shares"], "layers.shares"),
        convolutions=_shares(parts["convolutions"], "layers.convolutions"),
        listed=tuple((name, kind, precision) for name, kind, precision in rows),
    )


def _shares(value: object, where: str) -> dict[str, float]:
    if not isinstance(value, dict):
        refuse(where, value, "an object")
    for name, share in value.items():
        printable(name, where)
        if type(share) not in (int, float) or not 0 <= share <= 1:
            refuse(f"{where}.{name}", share, "a number, 0 to 1")
    return value


def _device_gate(value: object) -> DeviceGate:
    parts = object_with(value, "device_gate", {"state", "machine", "results"})
    state = _one_of(parts["state"], "device_gate.state", (NOT_RUN, PASSED, FAILED, INCOMPLETE))
    site = None if parts["machine"] is None else _site(parts["machine"], "device_gate.machine")
    if not isinstance(results := parts["results"], dict):
        refuse("device_gate.results", results, "an object")
    said = {name: one.get("passed") for name, one in results.items() if isinstance(one, dict)}
    if state == PASSED and not all(one is None or one is True for one in said.values()):
        refuse("device_gate.results", results, "what passed, where the state is passed")
    if state == PASSED and not all(said.get(name) is True for name in DEVICE_GATES):
        state = INCOMPLETE
    if (site is None) != (state == NOT_RUN):
        refuse("device_gate.machine", parts["machine"], "the machine a gate ran on, else null")
    return DeviceGate(state=state, machine=site, results=results)


def _one_of(value: object, where: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        refuse(where, value, " or ".join(choices))
    return value


def _capability(value: object, where: str) -> str:
    return matching(value, where, _CAPABILITY, 'a compute capability as "8.6"')


def _whole(value: object, where: str, most: int, *, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= most:
        refuse(where, value, f"a whole number, {least} to {most}")
    return value
