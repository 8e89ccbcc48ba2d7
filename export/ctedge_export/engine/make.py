"""From a bundle to an engine: the ONNX file, the build, its identity, its own gate, the files."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ctedge.bundle.manifest import ENGINES_NAME
from ctedge.bundle.maps import CAM, LAYER_CAM
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import FP32
from ctedge.engines.files import ENGINE_SUFFIX, engine_name, record_path
from ctedge.engines.machine import site_here
from ctedge.engines.record import PASSED, DeviceGate, EngineRecord, EngineRuntime, Site, Target
from ctedge.errors import GateFailed, InvalidBundle, OutputError, misnamed_output
from ctedge.extras import require
from ctedge.files import atomic_file, write_atomic
from ctedge.onnx_file.parts import answers_of, output_names, without
from ctedge_export.engine.build import Built, build_plan
from ctedge_export.engine.flavours import Flavour, load_flavour
from ctedge_export.engine.progress import Watcher
from ctedge_export.engine.settings import Settings, check_options, choose_target
from ctedge_export.engine.source import OnnxSource, check_source, onnx_of
from ctedge_export.engine.timing_cache import default_path, keep_timings, read_timings
from ctedge_export.engine.verify import gated, require_passed
from ctedge_export.kept import keep
from ctedge_export.lock import written_by_one
from ctedge_export.writer import check_writable

Say = Callable[[str], None]


def build_engine(  # noqa: PLR0913 (keyword-only options)
    bundle: str | os.PathLike[str],
    *,
    precision: str = "fp16",
    runtime: EngineRuntime | None = None,
    settings: Settings | None = None,
    timing_cache: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    keep_failed: bool = False,
    watcher: Watcher | None = None,
    say: Say | None = None,
) -> Path:
    """Build a TensorRT engine of a bundle's model, with its identity record beside it.

    Args:
        bundle: a bundle's folder, or the name of a shipped one.
        precision: "fp32", "fp16", "bf16" or "int8"; a member that is missing is made and gated.
        runtime: "tensorrt" or "tensorrt-rtx"; None takes what works here.
        settings: the builder's options.
        timing_cache: where timings are kept; None means one for this GPU in the user's cache.
        output: the NAME.engine to write; None means the bundle's `engines/`.
        overwrite: replace an engine that stands there.
        keep_failed: when a gate fails, keep the member or engine and figures in `NAME.failed/`.
        watcher: told of the builder's progress.
        say: told of each step, one line at a time.

    Returns:
        The engine's path. Where no GPU can run it, its record says `device_gate: not run`.

    Raises:
        BundleError: the bundle is not what its manifest says, its FP32 model has not passed its
            gates, or it has no map to draw.
        RuntimeUnavailable: this TensorRT, GPU or target cannot be had here.
        BuildFailed: too little memory, or an operation that TensorRT lacks.
        GateFailed: the engine is not of that precision, or answers otherwise than its model.
        OutputError: it exists, another build goes on, it cannot be written, or what was named as
            timing cache is none.
    """
    say = say or (lambda line: None)
    settings = settings or Settings()
    loaded = ModelBundle.load(bundle)
    flavour = load_flavour(runtime)
    check_options(flavour, settings, timing_cache=timing_cache)
    site = site_here()
    target = choose_target(flavour, settings, site)
    place = loaded.path / ENGINES_NAME / _file_name(flavour, precision, target, settings)
    path = place if output is None else Path(output)
    _check_output(path, overwrite=overwrite)
    check_source(loaded, precision)
    if site.gpu is not None:  # the gate comes after the build, which takes minutes
        require("onnxruntime", extra="cpu", purpose="gating an engine")
    timings = None if flavour.ahead_of_time else _timings_path(flavour, site, timing_cache)
    with _locks(loaded, path, precision):
        _check_output(path, overwrite=overwrite)  # it, and the bundle, as another build left them
        check_writable(path, "make that folder writable, or name another --output")
        loaded = ModelBundle.load(bundle)
        check_source(loaded, precision)
        _check_map(loaded.model, loaded, precision, explain=settings.explain)
        loaded, source = onnx_of(loaded, precision, keep_failed=keep_failed, say=say)
        _check_map(source.data, loaded, precision, explain=settings.explain)
        say(f"{loaded.name}: {source.member}, digests verified, gates passed")
        built = build_plan(
            flavour,
            _part(source.data, explain=settings.explain),
            precision=precision,
            settings=settings,
            target=target,
            timings=read_timings(timings) if timings else b"",
            kept_float=source.kept_float,
            bundle=loaded.argument,
            watcher=watcher,
        )
        record = _record(built, flavour, source, loaded, precision=precision, target=target)
        record = replace(record, machine=site, max_batch=settings.max_batch)
        try:
            record = gated(record, built.plan, loaded, flavour=flavour, say=say)
            require_passed(record, path)
        except GateFailed as error:
            if keep_failed:
                beside = loaded.path if _inside(path, loaded) else path.parent / loaded.path.name
                say(keep(beside, path.name, built.plan, record.to_json(), error))
            raise
        _write(path, built.plan, record)
        if timings and built.timings and (problem := keep_timings(timings, built.timings)):
            say(problem)
    say(_summary(path, record, loaded, place=place))
    return path


def _inside(path: Path, bundle: ModelBundle) -> bool:
    """Whether an engine's path is in its bundle's `engines/`."""
    return path.parent.resolve() == (bundle.path / ENGINES_NAME).resolve()


@contextlib.contextmanager
def _locks(bundle: ModelBundle, path: Path, precision: str) -> Iterator[None]:
    """Nobody else writes what is written here: the bundle, or an engine elsewhere, or both."""
    inside = _inside(path, bundle)
    missing = precision not in (FP32, *bundle.variants)
    with contextlib.ExitStack() as held:
        if inside or missing:
            fix = "copy the bundle to a folder that can be written, and name that"
            held.enter_context(written_by_one(bundle.path, fix=fix))
        if not inside:
            held.enter_context(written_by_one(path))
        yield


def _check_map(onnx_bytes: bytes, bundle: ModelBundle, precision: str, *, explain: bool) -> None:
    """Refuse to draw what the network has no output for."""
    if not explain or CAM in output_names(onnx_bytes):
        return
    fix = "leave --explain out, or export it again: ctedge export onnx RUN_FOLDER -o BUNDLE"
    if CAM in output_names(bundle.model):  # a member from before it had the map
        fix = "leave --explain out, or make its member again:"
        fix += f" ctedge export precision {bundle.argument} --to {precision} --overwrite"
    raise InvalidBundle(
        f"{bundle.name} has no Grad-CAM for --explain to draw",
        found=f"outputs of the {precision} network: {', '.join(output_names(onnx_bytes))}",
        expected=f"an output {CAM}",
        fix=fix,
    )


def _part(onnx_bytes: bytes, *, explain: bool) -> bytes:
    """What of a file is built. LayerCAM stays out: no gate has held it on a device yet."""
    return without(onnx_bytes, LAYER_CAM) if explain else answers_of(onnx_bytes)


def _file_name(flavour: Flavour, precision: str, target: Target, settings: Settings) -> str:
    return engine_name(
        precision=precision,
        runtime=flavour.runtime,
        version=flavour.version,
        target=target.name,
        max_batch=settings.max_batch,
    )


def _record(  # noqa: PLR0913 (the parts of one record)
    built: Built,
    flavour: Flavour,
    source: OnnxSource,
    bundle: ModelBundle,
    *,
    precision: str,
    target: Target,
) -> EngineRecord:
    return EngineRecord(
        sha256=hashlib.sha256(built.plan).hexdigest(),
        size_bytes=len(built.plan),
        runtime=flavour.runtime,
        runtime_version=flavour.version,
        machine=Site(),
        target=target,
        bundle=bundle.name,
        onnx_member=source.member,
        onnx_sha256=source.sha256,
        precision=precision,
        layers=built.layers,
        input_name=built.input_name,
        input_shape=built.input_shape,
        outputs=built.outputs,
        max_batch=1,
        builder=built.settings,
        gates=source.gates,
        device_gate=DeviceGate(),
    )


def _timings_path(flavour: Flavour, site: Site, asked: str | os.PathLike[str] | None) -> Path:
    return default_path(flavour, site) if asked is None else Path(asked)


def _check_output(path: Path, *, overwrite: bool) -> None:
    if path.suffix != ENGINE_SUFFIX:
        raise misnamed_output(
            f"{path} is no name for an engine",
            found=path.name,
            expected=f"NAME{ENGINE_SUFFIX}",
            fix=f"give --output a name that ends in {ENGINE_SUFFIX}",
        )
    for one in (path, record_path(path)):
        if one.is_symlink() or one.is_dir():
            raise OutputError(
                f"{one} is {'a link' if one.is_symlink() else 'a folder'}: it is not replaced",
                expected="a file, or nothing",
                fix="remove it, or name another --output",
            )
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} already exists",
            fix="name another --output, or add --overwrite to replace it and its record",
        )


def _write(path: Path, plan: bytes, record: EngineRecord) -> None:
    """Both files or none: an engine without its record, or with an older one, is never run.

    Both are on the disk before one takes its name: what stood there stays where that fails.
    """
    placed = False
    try:
        with atomic_file(record_path(path)) as written:
            written.write_bytes(record.to_bytes())
            write_atomic(path, plan)
            placed = True
    except BaseException:
        if placed:
            path.unlink(missing_ok=True)
        raise


def _summary(path: Path, record: EngineRecord, bundle: ModelBundle, *, place: Path) -> str:
    share = record.layers.convolutions.get(record.precision, 0.0)
    line = f"written: {path} ({record.size_bytes / 1e6:.1f} MB) for {record.target.name}"
    line += f", {share:.0%} of the convolutions in {record.precision}"
    line += f" by the {record.layers.source}; device_gate: {record.device_gate.state}"
    if not _inside(path, bundle) or path.name != place.name:
        line += f". To be verified and loaded it has to lie, with its .json, as {place}"
    if record.device_gate.state != PASSED:
        line += f". Before it runs, on its machine: ctedge export verify {bundle.argument}"
    return line
