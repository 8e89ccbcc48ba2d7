"""A report as lines of text: what was measured, on what, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterator

from ctedge.bench.machine import BenchMachine
from ctedge.bench.measure import DEVICE, LAUNCH, Run
from ctedge.bench.report import Report
from ctedge.bench.summary import Summary
from ctedge.errors import counted
from ctedge.runtimes.choice import Verdict

_COLUMNS = ("p50", "p95", "p99", "mean")
_NAME, _NUMBER = 26, 11

#: The 99th percentile of fewer samples is the slowest or the one before.
_ENOUGH_FOR_P99 = 100


def report_lines(report: Report) -> Iterator[str]:
    """The report for a terminal, a line each."""
    size = "" if report.shape is None else f" of {' x '.join(map(str, report.shape))}"
    yield f"{report.bundle} on {_input(report)}{size}"
    yield from _machine(report.machine)
    for run in report.runs:
        yield ""
        yield from _run(run)
    yield ""
    if any(len(next(iter(run.samples_ns.values()))) < _ENOUGH_FOR_P99 for run in report.runs):
        yield f"p99 of fewer than {_ENOUGH_FOR_P99} answers is little else than the slowest one."
    yield (
        "Peak memory is the process's until then, the scan and earlier runtimes included."
        if len(report.runs) > 1
        else "Peak memory is the whole process's, the scan included."
    )
    if report.refused:
        yield ""
        yield "not measured"
        for verdict in report.refused:
            yield from _refusal(verdict)


def _input(report: Report) -> str:
    if report.in_memory:
        return "a synthetic scan in memory (nothing is read)"
    return "a file that is read anew each time (from the file cache after the first)"


def _machine(machine: BenchMachine) -> Iterator[str]:
    facts = [
        machine.cpu,
        f"{machine.cores_usable} of {counted(machine.cores, 'core')}",
        " ".join(machine.flags) or "no vector flags known",
        "governor " + (", ".join(machine.governors) if machine.governors else "not readable"),
    ]
    if machine.mhz is not None:
        most = "" if machine.mhz_most is None else f" of {machine.mhz_most:.0f}"
        facts.append(f"{machine.mhz:.0f}{most} MHz")
    if machine.load is not None:
        facts.append(f"load {machine.load:.1f}")
    yield ", ".join(facts)
    if machine.gpu is not None:
        yield f"{machine.gpu['gpu']}, driver {machine.gpu['driver'] or 'of unknown version'}"
    versions = [f"{name} {version}" for name, version in machine.versions.items()]
    yield ", ".join([f"Python {machine.python}", *versions])
    yield from machine.warnings()


def _run(run: Run) -> Iterator[str]:
    header = "".join(f"{name:>{_NUMBER}}" for name in (*_COLUMNS, "CV"))
    yield f"{run.candidate:<{_NAME}}{header}{'n':>7}   (ms)"
    found = run.summaries
    for stage, summary in found.items():
        if stage in (DEVICE, LAUNCH):
            continue
        name = "inference, with copies" if stage == "inference" else stage
        yield f"  {name:<{_NAME - 2}}{_numbers(summary)}"
        if stage == "inference":
            yield _indented("on the device, alone", found.get(DEVICE))
            if LAUNCH in found:
                yield _indented("launch", found[LAUNCH])
    peak = run.peak_memory_bytes
    memory = "not known" if peak is None else f"{peak / 1e6:.0f} MB"
    yield f"  loaded in {run.load_ms:.0f} ms ({run.loaded}),"
    yield f"  first answer {run.first_ms['total']:.1f} ms, peak memory {memory}"
    for warning in run.warnings:
        yield f"  {warning}"


def _indented(name: str, summary: Summary | None) -> str:
    numbers = f"{'-':>{_NUMBER}}" if summary is None else _numbers(summary)
    return f"    {name:<{_NAME - 4}}{numbers}"


def _numbers(summary: Summary) -> str:
    times = (summary.p50_ms, summary.p95_ms, summary.p99_ms, summary.mean_ms)
    cells = "".join(f"{ms:>{_NUMBER}.3f}" for ms in times)
    return f"{cells}{summary.cv:>{_NUMBER}.1%}{summary.n:>7}"


def _refusal(verdict: Verdict) -> Iterator[str]:
    yield f"  {verdict.candidate}: {verdict.reason}"
    if verdict.fix is not None:
        yield f"    to do: {verdict.fix}"
