"""Is this bundle what it says, and does its network still answer as it did, in every precision?"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import FP32
from ctedge.errors import GateFailed
from ctedge.extras import require
from ctedge.runtimes import open_runtime
from ctedge.runtimes.verification import check_golden
from ctedge_export.engine.verify import verify_engines
from ctedge_export.gates import structural
from ctedge_export.gates.runners import Runner, runners
from ctedge_export.precision.precision import check_reference, make_bench
from ctedge_export.precision.variant import Bench

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
    """Check every digest, then run every gate again, on whatever runtimes are here.

    The FP32 network answers the golden cases as Keras did; its structure is looked at. Each other
    precision answers the golden cases and the inputs of its gates as FP32 does, on ONNX Runtime
    and, where it is installed, on OpenVINO.

    Args:
        bundle: a bundle's folder, or the name of a shipped one.
        data: labelled scans for the gates (see `gates.cases`); None means phantoms.
        say: told of each step, one line at a time.
        show: given all verdicts, before a failure is raised.

    Returns:
        The largest |difference| of FP32 from the trained network's answers, over all outputs.

    Raises:
        BundleError: the bundle is not what its manifest says.
        GateFailed: it has no golden case, or a gate fails.
        RuntimeUnavailable: nothing here runs it.
        DatasetError: scans that cannot be used.
    """
    say = say or (lambda line: None)
    verified = ModelBundle.load(bundle)
    count = len(verified.member_names)
    say(f"{verified.name}: manifest {verified.digest[:12]}, {count} members, digests verified")
    runtime = open_runtime(verified, device="cpu", runtime="onnxruntime", precision=FP32)
    try:
        cases, largest = check_golden(verified, runtime)
    finally:
        runtime.close()
    say(f"{cases} golden cases on {runtime.name}: answers at most {largest:.2g} apart")
    rows = [_row(runtime.name, "golden", True, f"{cases} cases, at most {largest:.2g} apart")]
    require("onnx", extra="export", purpose="the structural gate")
    rows += [_structural(verified, precision) for precision in (FP32, *verified.variants)]
    if verified.variants or data is not None:
        rows += _gates(verified, data, say)
    if show is not None:
        show(tuple(rows))
    failed = [row for row in rows if not row.passed]
    if failed:
        raise GateFailed(
            f"{verified.name} does not pass the {failed[0].gate} gate on {failed[0].runtime}",
            found=failed[0].text,
            expected=f"as when it was exported; {len(failed)} of {len(rows)} gates fail",
            fix="do not use this precision on this runtime here; report both versions",
        )
    verify_engines(verified, say=say)
    return largest


def _gates(verified: ModelBundle, data: _Path | None, say: Say) -> list[Row]:
    check_reference(verified)
    bench = make_bench(verified, data=data)
    say(f"FP32 answered {len(bench.inputs)} inputs and {bench.source}")
    rows = []
    for precision in (FP32, *verified.variants):
        onnx_bytes = verified.model_bytes(precision)
        for runner in runners(onnx_bytes, precision):
            if runner.name == f"onnxruntime-cpu-{FP32}":
                continue  # the reference itself
            recorded = precision == FP32 or verified.variant(precision).runtimes.get(runner.name)
            if recorded is False:
                say(f"{runner.name} did not pass when it was exported, and is left out")
                continue
            rows += _on(runner, verified, bench, precision)
            say(f"{runner.name}: done")
    return rows


def _structural(verified: ModelBundle, precision: str) -> Row:
    onnx_bytes = verified.model_bytes(precision)
    result = structural.check(onnx_bytes, task=verified.task, precision=precision)
    return _row("any", f"structural, {precision}", result.passed, str(result))


def _on(runner: Runner, verified: ModelBundle, bench: Bench, precision: str) -> list[Row]:
    try:
        cases, largest = check_golden(verified, runner, precision=precision)
        golden = _row(runner.name, "golden", True, f"{cases} cases, at most {largest:.2g} apart")
    except GateFailed as error:
        golden = _row(runner.name, "golden", False, f"{error.what}: {error.found}")
    results = (bench.numeric(runner, precision), bench.task_gate(runner, precision))
    return [golden, *(_row(runner.name, one.gate, one.passed, str(one)) for one in results)]


def _row(runtime: str, gate: str, passed: bool, text: str) -> Row:
    return Row(runtime=runtime, gate=gate, passed=passed, text=text)
