"""The file that answers in Triton: an ONNX member of the bundle, or a TensorRT engine of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ctedge.bundle.manifest import MODEL_NAME
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import FP32
from ctedge.engines.files import (
    check_engine,
    list_engines,
    read_engine,
    read_record,
    record_path,
)
from ctedge.engines.gate import gated_under, require_verified
from ctedge.engines.machine import Machine
from ctedge.engines.record import ENGINE_PRECISIONS, EngineRecord, Site
from ctedge.errors import (
    EngineMismatch,
    EngineUnverified,
    GateFailed,
    InvalidBundle,
    RuntimeUnavailable,
)
from ctedge.onnx_file.parts import answers_of
from ctedge.slices import SLICES_A_RUN
from ctedge_export.gates.runners import HALF_PRECISIONS

Device = Literal["cpu", "cuda"]
Runtime = Literal["onnxruntime", "tensorrt"]

#: Of a gate: nothing has compared this file's answers on this runtime and device.
NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network's file and how Triton is to run it.

    Attributes:
        file: its name in the version's folder: model.onnx or model.plan, as Triton expects.
        data: its bytes, whose digest was compared.
        runtime, device, precision: what it runs on, and how it calculates.
        max_batch: the largest batch it is given.
        origin: where it comes from and what checked it; plain JSON values.
    """

    file: str
    data: bytes
    runtime: Runtime
    device: Device
    precision: str
    max_batch: int
    origin: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Runtime, device and precision, for instance "onnxruntime-cpu-fp32"."""
        return f"{self.runtime}-{self.device}-{self.precision}"


def onnx_network(
    bundle: ModelBundle, *, precision: str | None, device: Device | None, max_batch: int | None
) -> Network:
    """A bundle's ONNX file of a precision, FP32 unless another is named.

    Args:
        bundle: whose file it is.
        precision: "fp32", "fp16", "bf16" or "int8".
        device: "cpu" or "cuda"; None means the GPU for half precision, else the CPU.
        max_batch: the largest batch it is given; None means 1 volume, or 8 slices.

    Raises:
        RuntimeUnavailable: the bundle has no such precision, or ONNX Runtime's CPU has none.
        GateFailed: the file has failed its gate on ONNX Runtime.
    """
    precision = precision or FP32
    check_precision(precision)
    if precision not in (FP32, *bundle.variants):
        raise RuntimeUnavailable(
            f"{bundle.name} does not have its network in {precision}",
            found=", ".join((FP32, *bundle.variants)),
            fix=f"add it: {bundle.line_that_adds(precision)}",
        )
    device = device or ("cuda" if precision in HALF_PRECISIONS else "cpu")
    if max_batch is None:
        max_batch = SLICES_A_RUN if bundle.task == "slices" else 1
    gates = _onnx_gates(bundle, precision)
    if device == "cpu" and precision in HALF_PRECISIONS:
        raise RuntimeUnavailable(
            f"ONNX Runtime's CPU does not calculate in {precision}",
            found="--device cpu",
            expected="--device cuda, or fp32 or int8 on the CPU",
            fix="leave --device out, or --precision",
        )
    if not all(gates.values()):
        raise GateFailed(
            f"{bundle.name} in {precision} has failed its gate",
            found=", ".join(name for name, passed in gates.items() if not passed),
            expected="a file whose answers are those of the trained network",
            fix=f"serve another --precision, or make it again: {_make(bundle, precision)}",
        )
    member = bundle.model_bytes(precision)
    data = answers_of(member)  # Triton's backends calculate every output of a file
    passed = f"onnxruntime-{device}-{precision}" in gates
    return Network(
        file="model.onnx",
        data=data,
        runtime="onnxruntime",
        device=device,
        precision=precision,
        max_batch=max_batch,
        origin={
            "member": MODEL_NAME if precision == FP32 else bundle.variant(precision).member,
            "sha256": hashlib.sha256(data).hexdigest(),
            "member_sha256": hashlib.sha256(member).hexdigest(),
            "gate": "passed" if passed else NOT_RUN,
        },
    )


def _onnx_gates(bundle: ModelBundle, precision: str) -> dict[str, bool]:
    """Whether the file's gates on ONNX Runtime passed, by runtime, device and precision.

    Half precision is compared on the CPU in float with every rounding written out ("-rounded").
    """
    if precision != FP32:
        ran = bundle.variant(precision).runtimes
        return {name: passed for name, passed in ran.items() if name.startswith("onnxruntime-")}
    gate = bundle.gates.get("onnx")  # FP32 against Keras, on the CPU
    passed = gate.get("passed") if isinstance(gate, dict) else None
    return {} if passed is None else {f"onnxruntime-cpu-{FP32}": passed is True}


def _make(bundle: ModelBundle, precision: str) -> str:
    if precision == FP32:
        return f"ctedge export onnx RUN_FOLDER -o {bundle.argument} --overwrite"
    return f"ctedge export precision {bundle.argument} --to {precision} --overwrite"


def engine_network(
    bundle: ModelBundle, *, precision: str | None, engine: Path | None, max_batch: int | None
) -> Network:
    """An engine whose own answers have passed their gate.

    Args:
        bundle: what it has to be an engine of.
        precision: what it has to work in; None takes any.
        engine: its file; None means the one that fits in the bundle's `engines/`.
        max_batch: the largest batch it has to take; None means its own.

    Raises:
        RuntimeUnavailable: there is none, or which one is not said.
        InvalidBundle: it, or its record, is missing or broken.
        EngineUnverified: its gate was not run, or failed.
        EngineMismatch: it was built from another model, or for another runtime or batch.
        DigestMismatch: it is not the file that its record describes.
    """
    if precision is not None:
        check_precision(precision)
    if engine is None:
        engine, record = _choose(bundle, precision=precision, max_batch=max_batch)
    else:
        record = _read_record(engine, bundle)
        _require_fit(record, engine, bundle, precision=precision, max_batch=max_batch)
    data = read_engine(engine, record)
    return Network(
        file="model.plan",
        data=data,
        runtime="tensorrt",
        device="cuda",
        precision=record.precision,
        max_batch=max_batch or record.max_batch,
        origin={
            "engine": engine.name,
            "sha256": record.sha256,
            "member": record.onnx_member,
            "member_sha256": record.onnx_sha256,
            "tensorrt": gated_under(record),
            "gate": record.device_gate.state,
            "machine": vars(record.device_gate.machine or Site()),
        },
    )


def check_precision(precision: str) -> None:
    """Refuse what is no precision, as RuntimeUnavailable."""
    if precision not in ENGINE_PRECISIONS:
        raise RuntimeUnavailable(
            "no such precision",
            found=precision,
            expected=" or ".join(ENGINE_PRECISIONS),
            fix="name one of them with --precision",
        )


def _choose(
    bundle: ModelBundle, *, precision: str | None, max_batch: int | None
) -> tuple[Path, EngineRecord]:
    """The one engine of the bundle that fits."""
    fitting: list[tuple[Path, EngineRecord]] = []
    refusals: list[EngineMismatch | EngineUnverified] = []
    for path in list_engines(bundle):
        record = _read_record(path, bundle)
        if record.runtime != "tensorrt" or precision not in (None, record.precision):
            continue
        try:
            _require_fit(record, path, bundle, precision=precision, max_batch=max_batch)
        except (EngineMismatch, EngineUnverified) as error:
            refusals.append(error)
        else:
            fitting.append((path, record))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise RuntimeUnavailable(
            f"several engines of {bundle.name} could be served",
            found=", ".join(path.name for path, _ in fitting),
            expected="one; they were built for different GPUs, precisions or batches",
            fix=f"name it: --engine {fitting[0][0]}",
        )
    if refusals:
        raise min(refusals, key=lambda error: isinstance(error, EngineMismatch))
    raise RuntimeUnavailable(
        f"{bundle.name} has no engine for tensorrt{f' in {precision}' if precision else ''}",
        found=", ".join(path.name for path in list_engines(bundle)) or "no engine",
        fix=_build(bundle, precision),
    )


def _read_record(engine: Path, bundle: ModelBundle) -> EngineRecord:
    for path in (engine, record_path(engine)):
        if not path.is_file():
            raise InvalidBundle(
                f"{engine} is no engine with its identity record",
                found=f"no file {path.name}",
                expected=f"{engine.name} and {record_path(engine).name} beside it",
                fix=f"copy both, or build it: {_build(bundle, None)}",
            )
    return read_record(engine)


def _require_fit(
    record: EngineRecord,
    engine: Path,
    bundle: ModelBundle,
    *,
    precision: str | None,
    max_batch: int | None,
) -> None:
    """Hold an engine against the model; the machine is the one that its gate passed on.

    What it is served on is not here: the repository says which GPU and TensorRT that has to be.
    """
    if record.runtime != "tensorrt":
        raise EngineMismatch(
            f"Triton runs no engine of {record.runtime}",
            found=f"{engine.name}, for {record.runtime} {record.runtime_version}",
            expected="an engine for tensorrt",
            fix=_build(bundle, record.precision),
        )
    site = record.device_gate.machine or Site(gpu=record.target.gpu or "the GPU that serves it")
    machine = Machine(versions={record.runtime: gated_under(record)}, site=site)
    require_verified(record, engine, machine=machine)
    check_engine(
        record,
        bundle=bundle,
        precision=precision or record.precision,
        machine=machine,
        batch=max_batch or 1,
    )


def _build(bundle: ModelBundle, precision: str | None) -> str:
    return (
        f"ctedge export build-engine {bundle.argument} --runtime tensorrt"
        f"{f' --precision {precision}' if precision else ''}"
    )
