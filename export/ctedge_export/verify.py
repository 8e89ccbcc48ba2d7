"""Is this bundle what it says, and does its network still answer as it did, in every precision?"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import FP32
from ctedge.errors import GateFailed, counted
from ctedge.extras import require
from ctedge.runtimes import open_runtime
from ctedge.runtimes.verification import check_golden
from ctedge_export.engine.verify import check_engines, verify_engines
from ctedge_export.gates import structural, task
from ctedge_export.gates.recorded import KERAS, recorded_decisions
from ctedge_export.gates.runners import Runner, runners
from ctedge_export.precision.precision import make_bench
from ctedge_export.precision.variant import Bench
from ctedge_export.reference import TASKS, check_reference

Say = Callable[[str], None]
_Path = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One gate's verdict: on which runtime, whether it passed, and the figures in words."""

    runtime: str
    gate: str
    passed: bool
    text: str


def verify_bundle(
    bundle: _Path,
    *,
    data: _Path | None = None,
    say: Say | None = None,
    show: Callable[[tuple[Row, ...]], None] | None = None,
) -> float:
    """Check every digest, those of engines too, then run every gate again, on what runs here.

    The FP32 network answers the golden cases, the inputs that the bundle holds, as Keras did, and
    decides on the phantoms as Keras did, where the manifest holds what Keras answered; its
    structure is looked at. FP32 on other runtimes, and each other precision, answer the golden
    cases and the inputs of the gates as Keras did, and decide as it did; on scans that are given,
    and where the manifest holds no answers, as FP32 does. Engines: digests and model everywhere,
    before all else; their own gate, where a GPU can run them, last. What is wrong with one is said
    at once, and fails at the end. A network that finds lungs has golden cases and structure alone.

    Args:
        bundle: a bundle's folder, or the name of a shipped one.
        data: labelled scans for the gates (see `gates.cases`); None means phantoms.
        say: told of each step, one line at a time.
        show: given all verdicts, before a failure is raised.

    Returns:
        The largest |difference| of FP32 from the trained network's answers, over all outputs.

    Raises:
        BundleError: the bundle is not what its manifest says.
        GateFailed: it has no golden case, a gate fails, or an engine is not that of its record or
            of this bundle.
        RuntimeUnavailable: nothing here runs it.
        DatasetError: scans that cannot be used.
    """
    say = say or (lambda line: None)
    verified = ModelBundle.load(bundle)
    members = counted(len(verified.member_names), "member")
    say(f"{verified.name}: manifest {verified.digest[:12]}, {members}, digests verified")
    engines = check_engines(verified, say=say)
    runtime = open_runtime(verified, device="cpu", runtime="onnxruntime", precision=FP32)
    try:
        cases, largest = check_golden(verified, runtime)
    finally:
        runtime.close()
    say(f"{counted(cases, 'golden case')} on {runtime.name}: answers at most {largest:.2g} apart")
    rows = [_row(runtime.name, "golden", True, _apart(cases, largest))]
    require("onnx", extra="export", purpose="the structural gate")
    rows += [_structural(verified, precision) for precision in (FP32, *verified.variants)]
    bench = None
    if verified.task in TASKS:
        check_reference(verified)
        bench = make_bench(verified, data=data)
        say(f"FP32 answered {counted(len(bench.inputs), 'input')} and {bench.source}")
        rows += _gates(verified, bench, say)
    else:
        rows += _golden_elsewhere(verified)
    if show is not None:
        show((*rows, *(_identity(path, error) for path, error in engines.items())))
    failed = [row for row in rows if not row.passed]
    if failed:
        raise GateFailed(
            f"{verified.name} does not pass the {failed[0].gate} gate on {failed[0].runtime}",
            found=failed[0].text,
            expected="as when it was exported; failed:"
            f" {len(failed)} of {counted(len(rows), 'gate')}",
            fix="do not use this precision on this runtime here; report both versions",
        )
    labelled = bench.cases if bench is not None and data is not None else None
    verify_engines(verified, cases=labelled, known=engines, say=say)
    return largest


def _identity(engine: Path, error: GateFailed | None) -> Row:
    if error is None:
        return _row(engine.name, "identity", True, "digest and model are those of its record")
    return _row(engine.name, "identity", False, error.what)


def _golden_elsewhere(verified: ModelBundle) -> list[Row]:
    """The golden cases on the runtimes besides ONNX Runtime."""
    others = runners(verified.model)[1:]
    return [_golden(runner, verified, FP32) for runner in others]


def _gates(verified: ModelBundle, bench: Bench, say: Say) -> list[Row]:
    rows = _decided(verified, bench, say)
    for precision in (FP32, *verified.variants):
        onnx_bytes = verified.model_bytes(precision)
        for runner in runners(onnx_bytes, precision, say=say):
            if runner.name == f"onnxruntime-cpu-{FP32}":
                continue  # the reference of what follows
            recorded = precision == FP32 or verified.variant(precision).runtimes.get(runner.name)
            if recorded is False:
                say(f"{runner.name} did not pass when it was exported, and is left out")
                continue
            rows += _on(runner, verified, bench, precision)
            say(f"{runner.name}: done")
    return rows


def _decided(verified: ModelBundle, bench: Bench, say: Say) -> list[Row]:
    """The task gate of the FP32 network, against the answers of Keras that the manifest holds."""
    output = verified.output_names[-1]
    reference = recorded_decisions(verified.gates.get("task"), bench.cases, output=output)
    if reference is None:
        say(f"the manifest holds no answers of the trained network to these {bench.source}")
        return []
    result = task.check(
        reference,
        bench.answers,
        bench.cases,
        precision=FP32,
        threshold=bench.threshold,
        source=bench.source,
        called=KERAS,
    )
    return [_row(f"onnxruntime-cpu-{FP32}", "task", result.passed, str(result))]


def _structural(verified: ModelBundle, precision: str) -> Row:
    onnx_bytes = verified.model_bytes(precision)
    result = structural.check(onnx_bytes, task=verified.task, precision=precision)
    return _row("any", f"structural, {precision}", result.passed, str(result))


def _on(runner: Runner, verified: ModelBundle, bench: Bench, precision: str) -> list[Row]:
    results = (bench.numeric(runner, precision), bench.task_gate(runner, precision))
    return [
        _golden(runner, verified, precision),
        *(_row(runner.name, one.gate, one.passed, str(one)) for one in results),
    ]


def _golden(runner: Runner, verified: ModelBundle, precision: str) -> Row:
    try:
        cases, largest = check_golden(verified, runner, precision=precision)
    except GateFailed as error:
        return _row(runner.name, "golden", False, f"{error.what}: {error.found}")
    return _row(runner.name, "golden", True, _apart(cases, largest))


def _apart(cases: int, largest: float) -> str:
    return f"{counted(cases, 'case')}, at most {largest:.2g} apart"


def _row(runtime: str, gate: str, passed: bool, text: str) -> Row:
    return Row(runtime=runtime, gate=gate, passed=passed, text=text)
