"""The engines of a bundle: found, and held against this machine before TensorRT sees a byte.

An engine is executable code for one GPU, one TensorRT and one model. Handed over as it is, it may
crash, or answer for another model: six things are compared first, each with its own message. An
engine whose own answers never passed a gate on a device is refused as well.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ctedge.bundle.files import read_file
from ctedge.bundle.manifest import ENGINES_NAME
from ctedge.bundle.maps import MAPS
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.machine import Machine
from ctedge.engines.record import (
    MAX_ENGINE_BYTES,
    MAX_RECORD_BYTES,
    PASSED,
    EngineRecord,
    RuntimeName,
    Site,
    parse_record,
)
from ctedge.errors import DigestMismatch, EngineMismatch, EngineUnverified, RuntimeUnavailable

ENGINE_SUFFIX = ".engine"
RECORD_SUFFIX = ".json"


def engine_name(
    *, precision: str, runtime: RuntimeName, version: str, target: str, max_batch: int = 1
) -> str:
    """The file name of an engine: "fp16-tensorrt-10.3.0-sm86-rtx-a4000.engine"."""
    batch = f"-batch{max_batch}" if max_batch > 1 else ""
    return f"{precision}-{runtime}-{version}-{target}{batch}{ENGINE_SUFFIX}"


def slug(text: str) -> str:
    """A GPU's name as part of a file's name: "NVIDIA RTX A4000" is "rtx-a4000"."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(word for word in words if word not in ("nvidia", "geforce", "graphics"))


def record_path(engine: Path) -> Path:
    """Where an engine's identity record is: its own path, `.json` instead of `.engine`."""
    return engine.with_name(engine.name.removesuffix(ENGINE_SUFFIX) + RECORD_SUFFIX)


def read_record(engine: Path) -> EngineRecord:
    """The identity record beside an engine.

    Raises:
        InvalidBundle: there is none, or it is broken.
    """
    path = record_path(engine)
    return parse_record(read_file(path.parent, path.name, most=MAX_RECORD_BYTES), name=path.name)


def read_engine(engine: Path, record: EngineRecord) -> bytes:
    """An engine's bytes, whose digest was compared with its record's.

    Raises:
        InvalidBundle: no such file, a link, or too large.
        DigestMismatch: it is not the file that its record describes.
    """
    data = read_file(engine.parent, engine.name, most=MAX_ENGINE_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        raise DigestMismatch(
            f"{engine.name} is not the engine that its record describes",
            found=f"sha256 {found}",
            expected=f"sha256 {record.sha256}",
            fix=f"copy it again with its {RECORD_SUFFIX}, or build it again:"
            f" {_rebuild(record, _bundle_of(engine))}",
        )
    return data


def list_engines(bundle: ModelBundle) -> tuple[Path, ...]:
    """The engine files of a bundle, by name; none of them is opened."""
    return tuple(sorted((bundle.path / ENGINES_NAME).glob(f"*{ENGINE_SUFFIX}")))


def find_engine(
    bundle: ModelBundle,
    *,
    precision: str,
    runtime: RuntimeName,
    machine: Machine | None = None,
    batch: int = 1,
) -> tuple[EngineRecord, bytes]:
    """The engine of a bundle that may run here, and its bytes.

    Args:
        bundle: a verified bundle.
        precision: "fp32", "fp16", "bf16" or "int8".
        runtime: "tensorrt" or "tensorrt-rtx".
        machine: where it is to run; None means here.
        batch: the largest batch it must take.

    Raises:
        RuntimeUnavailable: the bundle has no engine of that precision and runtime.
        EngineMismatch: what it has was built for something else; the nearest one is named.
        EngineUnverified: it fits, and its own gate was not passed.
        DigestMismatch: it fits, and is not the file that its record describes.
        InvalidBundle: a record is missing or broken.
    """
    machine = machine or Machine.here()
    named = re.compile(rf"{precision}-{runtime}-\d")  # a version follows: "tensorrt" is not -rtx
    paths = [path for path in list_engines(bundle) if named.match(path.name)]
    if not paths:
        raise RuntimeUnavailable(
            f"{bundle.name} has no engine for {runtime} in {precision}",
            found=", ".join(path.name for path in list_engines(bundle)) or "no engine",
            fix=f"ctedge export build-engine {bundle.argument} --precision {precision}"
            f" --runtime {runtime}",
        )
    refusals: list[EngineMismatch | EngineUnverified] = []
    for path in paths:
        record = read_record(path)
        try:
            if record.runtime != runtime:
                raise _Built(record, bundle.path).for_another("TensorRT", record.runtime, runtime)
            check_engine(record, bundle=bundle, precision=precision, machine=machine, batch=batch)
            require_verified(record, path, site=machine.site)
        except (EngineMismatch, EngineUnverified) as error:
            refusals.append(error)
            continue
        return record, read_engine(path, record)
    # What only waits for its gate says more than what was made for another machine.
    raise min(refusals, key=lambda error: isinstance(error, EngineMismatch))


def check_engine(  # noqa: PLR0913 (keyword-only options)
    record: EngineRecord,
    *,
    bundle: ModelBundle,
    precision: str,
    machine: Machine,
    batch: int = 1,
    same_driver: bool = True,
) -> None:
    """Hold an engine's record against the machine and the model.

    Args:
        record: the engine's.
        bundle: the bundle it was built from.
        precision: what it is to work in.
        machine: where it is to run.
        batch: the largest batch it must take.
        same_driver: only under the driver of its gate; false where the gate is to be run again.

    Raises:
        EngineMismatch: TensorRT, GPU, driver, ONNX file, precision or shape is another.
    """
    built = _Built(record, bundle.path)
    _check_tensorrt(built, machine)
    _check_gpu(built, machine.site)
    if same_driver:
        _check_driver(built, machine.site)
    if record.precision != precision:
        raise built.for_another("precision", record.precision, precision)
    found = hashlib.sha256(bundle.model_bytes(precision)).hexdigest()
    if record.onnx_sha256 != found:
        raise built.for_another("ONNX file", f"sha256 {record.onnx_sha256}", f"sha256 {found}")
    answers = tuple(name for name in record.outputs if name not in MAPS)
    shapes = (record.input_name, record.input_shape, answers)
    wanted = (bundle.input_name, bundle.input_shape, bundle.output_names)
    if shapes != wanted:
        raise built.for_another("shape of input or output", shapes, wanted)
    if batch > record.max_batch:
        what, most = "shape: its batches are smaller", f"at most {record.max_batch}"
        raise built.for_another(what, most, batch, more=f" --max-batch {batch}")


def require_verified(record: EngineRecord, engine: Path, *, site: Site) -> None:
    """Refuse an engine whose own answers have not passed their gate on this GPU.

    Raises:
        EngineUnverified: the gate was not run, or failed, or passed on another GPU.
    """
    gate = record.device_gate
    found = f"device_gate: {gate.state}"
    if gate.machine is not None:
        found += f" on {gate.machine.gpu}"
    if gate.state != PASSED or gate.machine is None or gate.machine.gpu != site.gpu:
        raise EngineUnverified(
            f"the engine {engine.name} has not passed its own gate here",
            found=found,
            expected=f"device_gate: {PASSED} on {site.gpu}; two builds of one model differ",
            fix=f"on the machine that shall run it: ctedge export verify {_bundle_of(engine)}",
        )


@dataclass(frozen=True)
class _Built:
    """An engine's record, and the bundle that a message names."""

    record: EngineRecord
    bundle: Path

    def for_another(
        self, what: str, found: object, here: object, *, instead: str = "", more: str = ""
    ) -> EngineMismatch:
        """The refusal: what the engine was built for, and what there is."""
        return EngineMismatch(
            f"the {self.record.precision} engine of {self.record.bundle} was built for"
            f" another {what}",
            found=found,
            expected=here,
            fix=f"{instead}{_rebuild(self.record, self.bundle)}{more}",
        )


def _check_tensorrt(built: _Built, machine: Machine) -> None:
    record = built.record
    here = machine.versions.get(record.runtime)
    fits = here == record.runtime_version
    if here and record.builder.get("version_compatible") is True:
        then, now = _numbers(record.runtime_version), _numbers(here)
        fits = then[0] == now[0] and then <= now
    if not fits:
        installed = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        raise built.for_another(
            "TensorRT",
            f"{record.runtime} {record.runtime_version}",
            installed or "no TensorRT is installed here",
        )


def _check_gpu(built: _Built, site: Site) -> None:
    target, capability = built.record.target, site.compute_capability
    fits = capability in target.compute_capabilities
    if capability and target.or_newer:
        fits = _numbers(capability) >= min(map(_numbers, target.compute_capabilities))
    if not fits or target.gpu not in (None, site.gpu):
        wanted = f"{target.gpu or 'any GPU'}, compute capability"
        wanted += f" {', '.join(target.compute_capabilities)}{' or newer' * target.or_newer}"
        here = f"{site.gpu}, compute capability {capability}" if capability else "no GPU"
        raise built.for_another("GPU", wanted, here)


def _check_driver(built: _Built, site: Site) -> None:
    """The driver compiles as well: a gate that was passed under another says nothing."""
    known = built.record.device_gate.machine or built.record.machine
    if known.compute_capability is None:
        return
    if (known.driver, known.cuda) != (site.driver, site.cuda):
        raise built.for_another(
            "driver",
            f"driver {known.driver}, CUDA {known.cuda}",
            f"driver {site.driver}, CUDA {site.cuda}",
            instead=f"ctedge export verify {built.bundle}, or build it again: ",
        )


def _rebuild(record: EngineRecord, bundle: Path) -> str:
    return (
        f"ctedge export build-engine {bundle} --precision {record.precision}"
        f" --runtime {record.runtime} --overwrite"
    )


def _bundle_of(engine: Path) -> Path:
    return engine.parent.parent if engine.parent.name == ENGINES_NAME else engine


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
