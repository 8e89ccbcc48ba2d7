"""The engines of a bundle: found, and held against this machine before TensorRT sees a byte.

An engine is executable code for one GPU, one TensorRT and one model. Handed over as it is, it may
crash, or answer for another model: six things are compared first, each with its own message. An
engine whose own answers never passed a gate on a device is refused as well.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path

from ctedge.bundle.files import read_file
from ctedge.bundle.manifest import ENGINES_NAME
from ctedge.bundle.maps import MAPS
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.commands import bundle_of, rebuild, rebuild_by_name, told_by_name
from ctedge.engines.fit import Built, check_driver, check_gpu, check_tensorrt
from ctedge.engines.gate import require_verified
from ctedge.engines.machine import Machine
from ctedge.engines.record import (
    MAX_ENGINE_BYTES,
    MAX_RECORD_BYTES,
    EngineRecord,
    EngineRuntime,
    Site,
    parse_record,
)
from ctedge.errors import (
    BundleError,
    DigestMismatch,
    EngineMismatch,
    EngineUnverified,
    InvalidBundle,
    RuntimeUnavailable,
)

ENGINE_SUFFIX = ".engine"
RECORD_SUFFIX = ".json"


def engine_name(
    *, precision: str, runtime: EngineRuntime, version: str, target: str, max_batch: int = 1
) -> str:
    """The file name of an engine: "fp16-tensorrt-10.3.0-sm86-rtx-a4000.engine"."""
    batch = f"-batch{max_batch}" if max_batch > 1 else ""
    return f"{precision}-{runtime}-{version}-{target}{batch}{ENGINE_SUFFIX}"


def _own_name(record: EngineRecord) -> str:
    return engine_name(
        precision=record.precision,
        runtime=record.runtime,
        version=record.runtime_version,
        target=record.target.name,
        max_batch=record.max_batch,
    )


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
        InvalidBundle: there is no such engine, or its record is missing or broken.
    """
    path = record_path(engine)
    if not os.path.lexists(engine):
        raise InvalidBundle(
            f"there is no engine {engine}",
            expected=f"NAME{ENGINE_SUFFIX}, with its NAME{RECORD_SUFFIX} beside it",
            fix="check the path, or build one: ctedge export build-engine BUNDLE",
        )
    if not os.path.lexists(path):
        raise InvalidBundle(
            f"{engine.name} has no identity record beside it, so nothing says what it is for",
            found=f"no file {path.name}",
            fix=f"copy {path.name} from where the engine was built, or build it again:"
            f" {rebuild_by_name(engine)}",
        )
    return parse_record(_bytes_of(path, engine, most=MAX_RECORD_BYTES), name=path.name)


def read_engine(engine: Path, record: EngineRecord) -> bytes:
    """An engine's bytes, whose digest was compared with its record's.

    Raises:
        InvalidBundle: no such file, a link, or too large.
        DigestMismatch: it is not the file that its record describes.
    """
    data = _bytes_of(engine, engine, most=MAX_ENGINE_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        bundle = bundle_of(engine, record.bundle)
        there = engine.absolute().parent.name == ENGINES_NAME and engine.name == _own_name(record)
        raise DigestMismatch(
            f"{engine.name} is not the engine that its record describes",
            found=f"sha256 {found}",
            expected=f"sha256 {record.sha256}",
            fix=f"copy it again with its {RECORD_SUFFIX}, or build it again:"
            f" {rebuild(record, bundle, output=None if there else engine)}",
        )
    return data


def _bytes_of(path: Path, engine: Path, *, most: int) -> bytes:
    """The bytes of an engine or of its record; refused, as InvalidBundle, with what mends it."""
    try:
        return read_file(path.parent, path.name, most=most)
    except InvalidBundle as error:
        raise InvalidBundle(
            f"{path.name} cannot be read as an engine's file",
            found=error.found,
            expected=error.expected,
            fix=f"copy it again, or build the engine again: {rebuild_by_name(engine)}",
        ) from error


def list_engines(bundle: ModelBundle) -> tuple[Path, ...]:
    """The engine files of a bundle, by name; none of them is opened.

    What a build that was killed left behind has a hidden name, and is none.

    Raises:
        InvalidBundle: their folder cannot be read: nobody knows what is in it.
    """
    folder = bundle.path / ENGINES_NAME
    try:
        files = list(folder.iterdir())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InvalidBundle(
            f"the engines of {bundle.name} cannot be listed",
            found=f"{folder}: {error.strerror}",
            expected="a folder that this user may read",
            fix=f"make it readable (chmod -R a+rX {shlex.quote(str(folder))}), or copy it again",
        ) from error
    return tuple(sorted(f for f in files if f.suffix == ENGINE_SUFFIX and f.name[0] != "."))


def engines_of(bundle: ModelBundle, runtime: str) -> dict[str, tuple[Path, ...]]:
    """The engines of a bundle for a runtime, by precision; their names say both.

    Raises:
        InvalidBundle: as of `list_engines`.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for path in list_engines(bundle):
        precision, named = told_by_name(path)
        if precision is not None and named == runtime:
            found[precision] = (*found.get(precision, ()), path)
    return found


def find_engine(
    bundle: ModelBundle,
    *,
    precision: str,
    runtime: EngineRuntime,
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
        DigestMismatch, InvalidBundle: it, or its record, is damaged; and no other one will do.
    """
    machine = machine or Machine.here()
    paths = engines_of(bundle, runtime).get(precision, ())
    if not paths:
        raise RuntimeUnavailable(
            f"{bundle.name} has no engine for {runtime} in {precision}",
            found=", ".join(path.name for path in list_engines(bundle)) or "no engine",
            fix=f"ctedge export build-engine {bundle.argument} --precision {precision}"
            f" --runtime {runtime}",
        )
    refusals: list[BundleError] = []
    for path in paths:
        try:
            record = read_record(path)
            if record.runtime != runtime:
                built = Built(record, bundle.argument, machine.site)
                raise built.for_another("TensorRT", record.runtime, runtime, runtime=runtime)
            check_engine(record, bundle=bundle, precision=precision, machine=machine, batch=batch)
            require_verified(record, path, machine=machine)
            return record, read_engine(path, record)
        except (EngineMismatch, EngineUnverified, DigestMismatch, InvalidBundle) as error:
            refusals.append(error)  # one file that is of no use hides no other
    raise min(refusals, key=_far_from_use)


def _far_from_use(error: BundleError) -> int:
    """What waits for its gate says more than damage, and that more than one for elsewhere."""
    if isinstance(error, EngineUnverified):
        return 0
    return 2 if isinstance(error, EngineMismatch) else 1


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
    built = Built(record, bundle.argument, machine.site)
    check_tensorrt(built, machine)
    check_gpu(built, machine.site)
    if same_driver:
        check_driver(built, machine.site)
    if record.precision != precision:
        raise built.for_another("precision", record.precision, precision, precision=precision)
    check_model(record, bundle, site=machine.site)
    answers = tuple(name for name in record.outputs if name not in MAPS)
    shapes = (record.input_name, record.input_shape, answers)
    wanted = (bundle.input_name, bundle.input_shape, bundle.output_names)
    if shapes != wanted:
        raise built.for_another("shape of input or output", shapes, wanted)
    if batch > record.max_batch:
        what, most = "shape: its batches are smaller", f"at most {record.max_batch}"
        raise built.for_another(what, most, batch, max_batch=batch)


def check_model(record: EngineRecord, bundle: ModelBundle, *, site: Site | None = None) -> None:
    """Hold the ONNX file that an engine was built from against the bundle's.

    Args:
        record: the engine's.
        bundle: the bundle that it lies in.
        site: where it is to run; None means on a GPU that it was built for.

    Raises:
        EngineMismatch: it was built from another ONNX file.
        RuntimeUnavailable: the bundle does not have its network in the engine's precision.
    """
    found = hashlib.sha256(bundle.model_bytes(record.precision)).hexdigest()
    if record.onnx_sha256 != found:
        built = Built(record, bundle.argument, site)
        raise built.for_another("ONNX file", f"sha256 {record.onnx_sha256}", f"sha256 {found}")
