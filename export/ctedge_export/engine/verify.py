"""Gate 4: the engine file itself, on the device that is to run it, answers as its model does.

Two builds of one model differ, so what was shown of the ONNX file says nothing of the engine. Where
no device can run it the engine keeps `device_gate: not run`, and the SDK refuses it until
`ctedge export verify` has passed on its machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import (
    check_engine,
    check_model,
    list_engines,
    read_engine,
    read_record,
    record_path,
)
from ctedge.engines.machine import Machine
from ctedge.engines.record import FAILED, PASSED, DeviceGate, EngineRecord, Site
from ctedge.errors import CTEdgeError, EngineMismatch, GateFailed, OutputError
from ctedge.extras import require
from ctedge.files import write_atomic
from ctedge.runtimes.cuda_driver import find_device, why_no_device
from ctedge.runtimes.tensorrt_engine import TensorrtEngine
from ctedge_export.engine.flavours import Flavour, load_flavour
from ctedge_export.engine.inspector import inspected_layers
from ctedge_export.engine.typed_network import require_share
from ctedge_export.gates import numeric, task
from ctedge_export.gates.cases import Case, gate_phantoms
from ctedge_export.gates.inputs import GateInput, gate_inputs
from ctedge_export.gates.recorded import reference
from ctedge_export.gates.runners import Runner, onnx_runner
from ctedge_export.gates.undecided import undecided_inputs
from ctedge_export.lock import written_by_one

Say = Callable[[str], None]


def check_engines(bundle: ModelBundle, *, say: Say) -> dict[Path, GateFailed | None]:
    """Check every engine's record, digest and model, and run none.

    Every engine is looked at, also after one that is damaged.

    Args:
        bundle: a verified bundle.
        say: told of each one that is not what it should be, one line at a time.

    Returns:
        What is wrong with each engine of the bundle; None where nothing is.

    Raises:
        InvalidBundle: their folder cannot be read.
    """
    found = dict[Path, GateFailed | None]()
    for path in list_engines(bundle):
        found[path] = None
        try:
            _checked(path, bundle)
        except CTEdgeError as error:
            _say_failed(path, error, say)
            found[path] = GateFailed(
                error.what, found=error.found, expected=error.expected, fix=error.fix
            )
    return found


def verify_engines(
    bundle: ModelBundle,
    *,
    cases: Sequence[Case] | None = None,
    known: Mapping[Path, GateFailed | None] | None = None,
    say: Say,
) -> tuple[EngineRecord, ...]:
    """Check every engine's digest and model; run those that belong here through their gate.

    Every engine is looked at, also after one that fails. What a gate gave is written down.

    Args:
        bundle: a verified bundle.
        cases: labelled inputs, of the task gate and more of the numeric one; None means phantoms.
        known: what `check_engines` found wrong; those engines fail with it. None means nothing.
        say: told of each engine, one line at a time: what passed, and why one was not run.

    Returns:
        The records of the engines that were run.

    Raises:
        GateFailed: one answers otherwise than its model; its record says so.
        BundleError: an engine or its record is damaged, or of another model than the bundle's.
    """
    machine, run, failed = Machine.here(), list[EngineRecord](), list[CTEdgeError]()
    damaged = {path: error for path, error in (known or {}).items() if error is not None}
    for path in list_engines(bundle):
        if path in damaged:
            continue
        try:
            record, plan = _checked(path, bundle)
            if reason := _not_here(record, bundle, machine):
                say(f"{path.name}: digest and model verified; not run here: {reason}")
                continue
            flavour = load_flavour(record.runtime)
            told = _about(path, say)
            judged = gated(record, plan, bundle, flavour=flavour, cases=cases, say=told)
            _write_down(path, judged, bundle)
            run.append(judged)
            require_passed(judged, path)
        except CTEdgeError as error:
            _say_failed(path, error, say)
            failed.append(error)
    failed += damaged.values()
    if failed:
        # That an engine answers otherwise weighs more than that another cannot be used.
        raise min(failed, key=lambda error: not isinstance(error, GateFailed))
    return tuple(run)


def _checked(path: Path, bundle: ModelBundle) -> tuple[EngineRecord, bytes]:
    """An engine's record and its bytes, which are those of the record and of the bundle's model."""
    record = read_record(path)
    plan = read_engine(path, record)
    check_model(record, bundle)
    return record, plan


def _say_failed(path: Path, error: CTEdgeError, say: Say) -> None:
    say(f"{path.name}: FAILED: {error.what}")


def _about(path: Path, say: Say) -> Say:
    return lambda line: say(f"{path.name}: {line}")


def _write_down(path: Path, judged: EngineRecord, bundle: ModelBundle) -> None:
    """Keep the verdict, unless another process has built this engine anew meanwhile."""
    with written_by_one(bundle.path, fix="verify a copy of the bundle that can be written"):
        if read_record(path).sha256 != judged.sha256:
            raise OutputError(
                f"{path.name} was built again while its gate ran",
                fix=f"verify it once more: ctedge export verify {bundle.argument}",
            )
        write_atomic(record_path(path), judged.to_bytes())


def gated(  # noqa: PLR0913 (keyword-only options)
    record: EngineRecord,
    plan: bytes,
    bundle: ModelBundle,
    *,
    flavour: Flavour,
    cases: Sequence[Case] | None = None,
    say: Say,
) -> EngineRecord:
    """The record with what the engine's own gate gave; unchanged where no device can run it.

    Raises:
        GateFailed: by its inspector the engine is not of its precision.
        InvalidBundle: TensorRT does not open it.
    """
    machine = Machine.here()
    if reason := _not_here(record, bundle, machine):
        say(f"device gate not run: {reason}")
        return record
    require("onnxruntime", extra="cpu", purpose="gating an engine")
    opened = TensorrtEngine(flavour.trt, plan, record)
    try:
        layers = inspected_layers(opened.information())
        if layers is not None:
            record = replace(record, layers=layers)
            require_share(
                layers,
                record.precision,
                kept_float=_kept_float(record, bundle),
                bundle=bundle.argument,
            )
        runner = Runner(
            name=opened.name, version=f"{flavour.runtime} {flavour.version}", run=opened.run
        )
        judged = judge(record, bundle, runner, site=machine.site, cases=cases)
    finally:
        opened.close()
    gate = judged.device_gate
    note = gate.results["task"].get("note")
    say(f"device gate {gate.state} on {machine.site.gpu}{f' ({note})' if note else ''}")
    return judged


def judge(  # noqa: PLR0913 (keyword-only options)
    record: EngineRecord,
    bundle: ModelBundle,
    runner: Runner,
    *,
    site: Site,
    inputs: Sequence[GateInput] | None = None,
    cases: Sequence[Case] | None = None,
) -> EngineRecord:
    """Hold an engine against the trained network, by numbers and by decisions.

    Args:
        record: the engine's.
        bundle: its bundle.
        runner: the engine, opened.
        site: where it runs.
        inputs: of the numeric gate; None means those of every gate.
        cases: labelled inputs of the task gate; None means 24 phantoms.
    """
    model = onnx_runner(bundle.model)
    shown = tuple(inputs or ()) or (
        *undecided_inputs(model, bundle.spec, task=bundle.task),
        *gate_inputs(bundle.spec),
    )
    labelled = gate_phantoms(bundle.spec) if cases is None else tuple(cases)
    everything = (*shown, *(case.shown for case in labelled))
    fp32 = numeric.answers_of(model, everything)
    expected = reference(bundle.gates, fp32, labelled)
    numbers = numeric.check(
        expected.answers, runner, everything, precision=record.precision, said=expected.said
    )
    decided = task.check(
        expected.answers,
        numeric.answers_of(runner, [case.shown for case in labelled]),
        labelled,
        precision=record.precision,
        threshold=None if bundle.task == "severity" else bundle.threshold,
        source="phantoms" if cases is None else "the user's scans",
        called=expected.decided_by,
    )
    gate = DeviceGate(
        state=PASSED if numbers.passed and decided.passed else FAILED,
        machine=site,
        results={
            "runtime": runner.name,
            "version": runner.version,
            "numeric": numbers.to_json(),
            "task": decided.to_json(),
        },
    )
    return replace(record, device_gate=gate)


def require_passed(record: EngineRecord, path: Path) -> None:
    """Refuse an engine whose gate failed.

    Raises:
        GateFailed: with the figures that did not hold.
    """
    gate = record.device_gate
    if gate.state != FAILED:
        return
    found = []
    for name in ("numeric", "task"):
        result = gate.results[name]
        figures = result["figures"].items()
        found += [
            f"{figure} {values['value']} > {values['limit']}"
            for figure, values in figures
            if values["value"] is None or values["value"] > values["limit"]
        ]
        found += result["broken"]
    raise GateFailed(
        f"the engine {path.name} does not answer as its model does",
        found="; ".join(found),
        expected=f"the answers of the FP32 model, within the limits of {record.precision}",
        fix="build it again (--keep-failed keeps what fails, to study it); if that does not help,"
        " build it in --precision fp32",
    )


def _not_here(record: EngineRecord, bundle: ModelBundle, machine: Machine) -> str | None:
    """Why this machine cannot run the engine; None where it can."""
    if find_device() is None:
        return why_no_device()
    try:
        # A driver that changed is a reason to run the gate again, not to leave it.
        check_engine(
            record,
            bundle=bundle,
            precision=record.precision,
            machine=machine,
            same_driver=False,
        )
    except EngineMismatch as error:
        return f"{error.what} ({error.found}; here {error.expected})"
    return None


def _kept_float(record: EngineRecord, bundle: ModelBundle) -> tuple[str, ...]:
    """The layers that the member an engine was built from keeps in float."""
    if record.precision not in bundle.variants:
        return ()
    return bundle.variant(record.precision).kept_float
