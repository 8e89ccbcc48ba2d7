"""One precision of a network: built, gated, and where a layer breaks the gate, built again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctedge.bundle.variants import member_name
from ctedge_export.gates import layerwise, numeric, structural, task
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import GateInput
from ctedge_export.gates.numeric import Answers
from ctedge_export.gates.recorded import Reference
from ctedge_export.gates.result import GateResult
from ctedge_export.gates.runners import HALF_PRECISIONS, Runner, onnx_runner, runners
from ctedge_export.precision import bisect, calibration, half
from ctedge_export.precision.quantised import Quantised, quantised
from ctedge_export.precision.seen import look
from ctedge_export.precision.trunk import convolutions, multiplications

if TYPE_CHECKING:
    import onnx

Say = Callable[[str], None]
_Build = Callable[[frozenset[str]], bytes]

#: With more of its convolutions in float than this share, a variant is none.
_MOST_KEPT = 0.5

#: A bisection looks at this many inputs, those that are answered worst.
_TELLING = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What a variant is made of and held against.

    Attributes:
        onnx_bytes: the FP32 file; `model` is the same, parsed.
        task, threshold: of the bundle.
        inputs: of the numeric gate.
        cases: of the task gate; `source` says where they come from.
        answers: FP32's, of inputs and cases.
        reference: what other files are held against, of the same.
        scans: for calibration; `calibrated_on` says where they come from.
    """

    onnx_bytes: bytes
    model: onnx.ModelProto
    task: str
    threshold: float | None
    inputs: tuple[GateInput, ...]
    cases: tuple[Case, ...]
    source: str
    answers: Answers
    reference: Reference
    scans: Callable[[], tuple[GateInput, ...]]
    calibrated_on: str

    def numeric(
        self, runner: Runner, precision: str, inputs: tuple[GateInput, ...] = ()
    ) -> GateResult:
        """The numeric gate on these inputs; none means all."""
        held, shown = self.reference, inputs or self.inputs
        return numeric.check(held.answers, runner, shown, precision=precision, said=held.said)

    def worst(self, result: GateResult, precision: str, count: int) -> tuple[GateInput, ...]:
        """The inputs that were answered worst in a numeric gate, the worst first."""
        answers = self.reference.answers
        return numeric.worst_inputs(answers, result, self.inputs, precision=precision, count=count)

    def task_gate(self, runner: Runner, precision: str) -> GateResult:
        """The task gate on all cases."""
        return task.check(
            self.reference.answers,
            numeric.answers_of(runner, [case.shown for case in self.cases]),
            self.cases,
            precision=precision,
            threshold=self.threshold,
            source=self.source,
            called=self.reference.decided_by,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """A variant with its verdict.

    Attributes:
        precision: "fp16", "bf16" or "int8".
        onnx_bytes: the file.
        record: what the manifest says of it.
        failed: the gate that it does not pass, or None.
        departs: the first layer that departs from FP32's, where a gate failed.
    """

    precision: str
    onnx_bytes: bytes
    record: dict[str, Any]
    failed: GateResult | None
    departs: str


def make_variant(bench: Bench, precision: str, say: Say) -> Variant:
    """Build a precision and gate it; layers that break a gate are found and kept in float.

    Args:
        bench: what to make it of.
        precision: "fp16", "bf16" or "int8".
        say: told of each step.
    """
    made = _made_ready(bench, precision, say)
    kept, layers = made.kept, convolutions(bench.model)
    work = multiplications(bench.model)
    while True:
        onnx_bytes = made.build(kept)
        results = _gate(bench, onnx_bytes, precision)
        failed = uncorrected = _first_failed(results)
        corrects = False
        if failed is not None and failed.gate != "structural" and made.correct is not None:
            say(f"{precision}: {failed.gate} gate: {failed}; correcting the biases")
            corrected = made.correct(kept)
            by_corrected = _gate(bench, corrected, precision)
            if _closeness(by_corrected) < _closeness(results):
                onnx_bytes, results, corrects = corrected, by_corrected, True
                failed = _first_failed(results)
        room = len(kept) < int(_MOST_KEPT * len(layers))
        if failed is None or uncorrected is None or failed.gate == "structural" or not room:
            break
        passes = _quick_gate(bench, made.build, kept, uncorrected, precision)
        # Converted in this order, what breaks the gate is among the layers that gain least by it.
        worth = sorted(set(layers) - kept, key=lambda name: (-work[name], layers.index(name)))
        found = bisect.culprit(worth, passes)
        say(f"{precision}: {failed.gate} gate: {failed}; {found} breaks it and stays in float")
        kept |= {found}
    facts = made.facts
    record: dict[str, Any] = {
        "member": member_name(precision),
        "opset": structural.OPSETS[precision],
        "kept_float": [node.name for node in bench.model.graph.node if node.name in kept],
        **facts,
        "gates": {"structural": results[0].to_json(), "runtimes": {}},
    }
    if facts["calibration"] is not None:
        share = 1 - sum(work[name] for name in kept) / sum(work.values())
        facts["calibration"]["share_of_multiplications"] = round(share, 4)
        facts["calibration"]["biases_corrected"] = corrects
        say(f"{precision}: {share:.1%} of the multiplications, {len(onnx_bytes)} bytes")
    departs = ""
    if failed is None:
        record["gates"]["runtimes"] = _on_every_runtime(bench, onnx_bytes, precision, results, say)
    else:
        departs, record["layers"] = _departure(
            bench, made.reference, onnx_bytes, results, precision
        )
        record["failed"] = {"gate": failed.gate, **failed.to_json()}
    return Variant(
        precision=precision, onnx_bytes=onnx_bytes, record=record, failed=failed, departs=departs
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Made:
    """A precision ready to be written.

    Attributes:
        reference: FP32 with the same scales inside.
        build: writes it with these layers in float; correct: the same with corrected biases.
        kept: layers that stay in float anyway.
        facts: for the record.
    """

    reference: bytes
    build: _Build
    correct: _Build | None
    kept: frozenset[str]
    facts: dict[str, Any]


def _made_ready(bench: Bench, precision: str, say: Say) -> _Made:
    if precision in HALF_PRECISIONS:
        weights = half.look_at_weights(bench.model, precision)
        say(
            f"{precision}: {weights.overflow} weights overflow, {weights.subnormal} of"
            f" {weights.total} are subnormal, {weights.to_zero} become 0"
        )
        return _Made(
            reference=bench.onnx_bytes,
            build=lambda kept: half.halve(bench.model, precision, keep=kept),
            correct=None,
            kept=frozenset(weights.overflowing),
            facts={"weights": weights.to_json(), "calibration": None},
        )
    ready, record = _calibrate(bench, precision, say)
    return _Made(
        reference=ready.model.SerializeToString(),
        build=ready.write,
        correct=lambda kept: ready.corrected(bench.scans(), kept).write(kept),
        kept=frozenset(),
        facts={"weights": {}, "calibration": record},
    )


def _first_failed(results: list[GateResult]) -> GateResult | None:
    return next((result for result in results if not result.passed), None)


def _closeness(results: list[GateResult]) -> tuple[int, float]:
    """Fewer gates failed is better, then answers closer to FP32's."""
    return 3 - sum(result.passed for result in results), results[1].worst


def _gate(bench: Bench, onnx_bytes: bytes, precision: str) -> list[GateResult]:
    """The gates in order, up to the first that fails, on the runtime that decides."""
    results = [structural.check(onnx_bytes, task=bench.task, precision=precision)]
    if results[0].passed:
        runner = onnx_runner(onnx_bytes, precision)
        results.append(bench.numeric(runner, precision))
        if results[1].passed:
            results.append(bench.task_gate(runner, precision))
    return results


def _quick_gate(
    bench: Bench, build: _Build, kept: frozenset[str], failed: GateResult, precision: str
) -> Callable[[frozenset[str]], bool]:
    """The gate that failed, for a bisection: numeric on the worst inputs alone."""
    worst = bench.worst(failed, precision, _TELLING) if failed.gate == "numeric" else ()

    def passes(further: frozenset[str]) -> bool:
        runner = onnx_runner(build(kept | further), precision)
        if failed.gate == "task":
            return bench.task_gate(runner, precision).passed
        return bench.numeric(runner, precision, worst).passed

    return passes


def _calibrate(bench: Bench, precision: str, say: Say) -> tuple[Quantised, dict[str, Any]]:
    """The network by the method whose answers are closest to FP32's, and how all methods did."""
    say(f"{precision}: calibrating on {bench.calibrated_on}")
    scans = bench.scans()
    seen = look(bench.model, scans)
    made = {method: quantised(bench.model, seen, method) for method in calibration.METHODS}
    results: dict[str, GateResult] = {}
    for method, ready in made.items():
        results[method] = bench.numeric(onnx_runner(ready.write(), precision), precision)
        say(f"{precision}, {method} calibration: {results[method]}")
    chosen = min(results, key=lambda method: results[method].worst)
    record = {
        "scans": bench.calibrated_on,
        "chosen": chosen,
        "ranges": made[chosen].tops,
        "methods": {
            method: {"passed": result.passed, **result.to_json()["figures"]}
            for method, result in results.items()
        },
    }
    return made[chosen], record


def _on_every_runtime(
    bench: Bench, onnx_bytes: bytes, precision: str, results: list[GateResult], say: Say
) -> dict[str, Any]:
    """The verdict of the runtime that decides, and of the others here, each under its name."""
    record: dict[str, Any] = {}
    for runner in runners(onnx_bytes, precision, say=say):
        ran = results[1:] if not record else None
        by_numbers, by_task = ran or (
            bench.numeric(runner, precision),
            bench.task_gate(runner, precision),
        )
        record[runner.name] = {
            "version": runner.version,
            "numeric": by_numbers.to_json(),
            "task": by_task.to_json(),
        }
        held = "passed" if by_numbers.passed and by_task.passed else "NOT passed, not to be used"
        say(f"{runner.name}: {held}: {by_numbers}; {by_task}")
    return record


def _departure(
    bench: Bench, reference: bytes, onnx_bytes: bytes, results: list[GateResult], precision: str
) -> tuple[str, list[dict[str, Any]]]:
    """The first layer that departs on the worst input, in words, and every layer's figures.

    The reference is FP32 with the channel scales of `onnx_bytes`.
    """
    if len(results) < 2:
        return "unknown: the structure is not as it should be", []
    (worst,) = bench.worst(results[1], precision, 1)
    layers = layerwise.agreements(reference, onnx_bytes, worst, precision=precision)
    first = layerwise.first_bad(layers, precision=precision)
    return f"{first} on {worst.name!r}", [one.to_json() for one in layers]
