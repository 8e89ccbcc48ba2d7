"""Gate 4: the engine file itself, on the device that is to run it, answers as its model does.

Two builds of one model differ, so what was shown of the ONNX file says nothing of the engine. Where
no device can run it the engine keeps `device_gate: not run`, and the SDK refuses it until
`ctedge export verify` has passed on its machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import check_engine, list_engines, read_engine, read_record, record_path
from ctedge.engines.machine import Machine
from ctedge.engines.record import FAILED, PASSED, DeviceGate, EngineRecord, Site
from ctedge.errors import EngineMismatch, GateFailed
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
from ctedge_export.gates.runners import Runner, onnx_runner

Say = Callable[[str], None]


def verify_engines(bundle: ModelBundle, *, say: Say) -> tuple[EngineRecord, ...]:
    """Run every engine of a bundle that belongs on this machine through its gate; write it down.

    Args:
        bundle: a verified bundle.
        say: told of each engine, one line at a time: what passed, and why one was not run.

    Returns:
        The records of the engines that were run.

    Raises:
        GateFailed: one answers otherwise than its model; its record says so.
        BundleError: an engine or its record is damaged.
    """
    machine, run = Machine.here(), []
    for path in list_engines(bundle):
        record = read_record(path)
        if reason := _not_here(record, bundle, machine):
            say(f"{path.name}: not run here: {reason}")
            continue
        judged = gated(
            record, read_engine(path, record), bundle, flavour=load_flavour(record.runtime), say=say
        )
        write_atomic(record_path(path), judged.to_bytes())
        run.append(judged)
        require_passed(judged, path)
    return tuple(run)


def gated(
    record: EngineRecord, plan: bytes, bundle: ModelBundle, *, flavour: Flavour, say: Say
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
    require("onnxruntime", extra="cpu", purpose="the gate of an engine")
    opened = TensorrtEngine(flavour.trt, plan, record)
    try:
        layers = inspected_layers(opened.information())
        if layers is not None:
            record = replace(record, layers=layers)
            require_share(layers, record.precision, kept_float=_kept_float(record, bundle))
        runner = Runner(
            name=opened.name, version=f"{flavour.runtime} {flavour.version}", run=opened.run
        )
        judged = judge(record, bundle, runner, site=machine.site)
    finally:
        opened.close()
    say(f"device gate {judged.device_gate.state} on {machine.site.gpu}")
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
    """Hold an engine against the bundle's FP32 model, by numbers and by decisions.

    Args:
        record: the engine's.
        bundle: its bundle.
        runner: the engine, opened.
        site: where it runs.
        inputs: of the numeric gate; None means those of every gate.
        cases: labelled inputs of the task gate; None means 24 phantoms.
    """
    shown = gate_inputs(bundle.spec) if inputs is None else tuple(inputs)
    labelled = gate_phantoms(bundle.spec) if cases is None else tuple(cases)
    everything = (*shown, *(case.shown for case in labelled))
    reference = numeric.answers_of(onnx_runner(bundle.model), everything)
    numbers = numeric.check(reference, runner, everything, precision=record.precision)
    decided = task.check(
        reference,
        numeric.answers_of(runner, [case.shown for case in labelled]),
        labelled,
        precision=record.precision,
        threshold=None if bundle.task == "severity" else bundle.threshold,
        source="phantoms" if cases is None else "the user's scans",
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
        fix="build it again; if that does not help, build it in --precision fp32",
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
