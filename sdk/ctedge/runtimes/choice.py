"""Which runtime, on which device, in which precision: the fastest that may be trusted here.

A candidate is (runtime, device, precision), written "openvino-cpu-int8". It may be chosen when

1. it is installed, and works on this machine;
2. the manifest says that the gates of its precision passed on this very candidate. FP32 was gated
   when the bundle was exported, and an engine's own record holds its gate;
3. it answers the bundle's golden cases now, while it is loaded, within the tolerances of its
   precision. These runs warm it up. Only "onnxruntime-cpu-fp32" goes without, where nothing faster
   failed: its answers there are what the export's gate looked at.

Those that fit what is named are tried in `ORDER`, and nothing else: where all are refused, an error
says why of each. A refusal, which may be an optional package that crashes, is kept with its reason
in `Choice.verdicts`; `ctedge doctor` shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ctedge.bundle.gates import require_gates
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import FP32, PRECISIONS
from ctedge.errors import (
    CTEdgeError,
    DigestMismatch,
    GateFailed,
    InferenceFailed,
    InvalidBundle,
    RuntimeUnavailable,
)
from ctedge.runtimes import Device, Runtime, RuntimeName
from ctedge.runtimes.candidate import Candidate
from ctedge.runtimes.cuda_driver import find_device, why_no_device
from ctedge.runtimes.gated import require_gate
from ctedge.runtimes.verification import check_golden, precision_of
from ctedge.runtimes.versions import require_version

_AUTO, _ENGINES = ("cpu", "cuda"), ("tensorrt", "tensorrt-rtx")


#: Fastest first; of the CPU as measured (docs/speed.md), of GPUs as expected: nobody has measured
#: one. ONNX Runtime's int8 is slower than its fp32, and an Intel GPU ("gpu") has been run by
#: nobody: both are taken only where they are named.
ORDER = (
    Candidate("tensorrt", "cuda"),
    Candidate("tensorrt-rtx", "cuda"),
    Candidate("onnxruntime", "cuda", "fp16"),
    Candidate("onnxruntime", "cuda", FP32),
    Candidate("openvino", "gpu", "int8"),
    Candidate("openvino", "gpu", FP32),
    Candidate("openvino", "cpu", "int8"),
    Candidate("openvino", "cpu", "bf16"),
    Candidate("openvino", "cpu", FP32),
    Candidate("onnxruntime", "cpu", FP32),
    Candidate("onnxruntime", "cpu", "int8"),
)

_State = Literal["taken", "works", "refused", "failed", "not tried"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found of one candidate.

    Attributes:
        candidate: its name, "openvino-cpu-int8".
        state: "taken"; "works", and something faster was taken; "refused": not there or not gated;
            "failed": damaged, crashed, or answered otherwise than it should; "not tried".
        reason: why.
        fix: the line that would change that, or None.
    """

    candidate: str
    state: _State
    reason: str
    fix: str | None = None

    def __str__(self) -> str:
        return f"{self.candidate}: {self.state}: {self.reason}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """A loaded runtime, and what was found of every candidate that might have been it."""

    runtime: Runtime
    verdicts: tuple[Verdict, ...]


def choose(
    bundle: ModelBundle,
    *,
    device: Device | None = None,
    runtime: RuntimeName | None = None,
    precision: str | None = None,
) -> Choice:
    """Load the fastest candidate that fits what is named and may be chosen.

    Args:
        bundle, device, runtime, precision: as `ctedge.runtimes.open_runtime` takes them.

    Raises:
        InvalidBundle: it did not pass the gates of its export.
        RuntimeUnavailable: nothing of that name, or every candidate is refused.
        EngineMismatch, EngineUnverified: of the only candidate.
    """
    require_gates(bundle)
    wanted = _wanted(device, runtime, precision)
    probe = runtime not in _ENGINES
    verdicts, refusals = list[Verdict](), list[CTEdgeError]()
    for place, candidate in enumerate(wanted, start=1):
        doubtful = any(verdict.state == "failed" for verdict in verdicts) and bundle.golden()
        try:
            opened, reason = _load(bundle, candidate, precision, probe=probe, always=bool(doubtful))
        except CTEdgeError as error:
            refusals.append(error)
            verdicts.append(_refusal(candidate, error))
            continue
        verdicts.append(Verdict(candidate=opened.name, state="taken", reason=reason))
        verdicts += [
            Verdict(candidate=later.name, state="not tried", reason=f"{opened.name} comes before")
            for later in wanted[place:]
        ]
        refusals.clear()  # their tracebacks hold this frame, and with it the model, after close
        return Choice(runtime=opened, verdicts=tuple(verdicts))
    raise _refusal_of_all(bundle, wanted, refusals)


def survey(bundle: ModelBundle) -> tuple[Verdict, ...]:
    """What `device="auto"` finds of each candidate: all are loaded and run, one after another.

    Raises:
        InvalidBundle: as of `choose`.
    """
    require_gates(bundle)
    verdicts: list[Verdict] = []
    for candidate in _wanted(None, None, None):
        try:
            opened, reason = _load(bundle, candidate, None, probe=True, always=True)
        except CTEdgeError as error:
            verdicts.append(_refusal(candidate, error))
            continue
        opened.close()
        taken = any(verdict.state == "taken" for verdict in verdicts)
        state: _State = "works" if taken else "taken"
        verdicts.append(Verdict(candidate=opened.name, state=state, reason=reason))
    return tuple(verdicts)


def _wanted(
    device: Device | None, runtime: RuntimeName | None, precision: str | None
) -> tuple[Candidate, ...]:
    """The candidates that fit what is named, fastest first."""
    for what, named, known in (
        ("device", device, get_args(Device)),
        ("runtime", runtime, get_args(RuntimeName)),
        ("precision", precision, (FP32, *PRECISIONS)),
    ):
        if named is not None and named not in known:
            raise RuntimeUnavailable(
                f"unknown {what}",
                found=named,
                expected=" or ".join(known),
                fix=f"name one of them, or leave {what} out to take what works here",
            )
    devices = _AUTO if device in (None, "auto") else (device,)
    wanted = tuple(
        candidate
        for candidate in ORDER
        if candidate.device in devices
        and runtime in (None, candidate.runtime)
        and (precision is None or candidate.precision in (None, precision))
    )
    if not wanted:
        raise RuntimeUnavailable(
            "no runtime fits what is named",
            found=", ".join(part for part in (runtime, device, precision) if part),
            expected="one of " + ", ".join(candidate.name for candidate in ORDER),
            fix="leave out what need not be so",
        )
    return wanted


def _load(
    bundle: ModelBundle, candidate: Candidate, precision: str | None, *, probe: bool, always: bool
) -> tuple[Runtime, str]:
    """A candidate, loaded and checked, and why it may be chosen; else one of our errors."""
    try:
        opened = _open(bundle, candidate, precision, probe=probe)
        try:
            return opened, _check(bundle, opened, candidate, always=always)
        except BaseException:
            opened.close()
            raise
    except CTEdgeError:
        raise
    except Exception as error:  # an optional package may fail in any way
        raise _CandidateFailed(
            f"{candidate.name} failed while it was loaded",
            found=f"{type(error).__name__}: {error}",
            fix=f"install it again, or leave {candidate.runtime} out",
        ) from error


def _open(
    bundle: ModelBundle, candidate: Candidate, precision: str | None, *, probe: bool
) -> Runtime:
    """Load a candidate; `probe` asks for the driver before a runtime fails slowly and noisily."""
    require_version(candidate.runtime)
    device, name = candidate.device, bundle.name
    if device == "cuda" and probe and find_device() is None:
        raise RuntimeUnavailable(
            why_no_device(),
            expected="a driver that sees a GPU (nvidia-smi lists it)",
            fix=f"install the driver, or {_without_gpu(precision)}",
        )
    require_gate(bundle, candidate)
    if candidate.precision is None:
        return _open_engine(bundle, candidate, precision)
    model = bundle.model_bytes(candidate.precision)
    if candidate.runtime == "openvino":
        from ctedge.runtimes.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(model, name=name, device=device, precision=candidate.precision)
    from ctedge.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(model, name=name, device=device, precision=candidate.precision)


def _without_gpu(precision: str | None) -> str:
    """What to ask for instead of a GPU."""
    on_cpu = {candidate.precision for candidate in ORDER if candidate.device == "cpu"}
    if precision is None or precision in on_cpu:
        return "go on with device='cpu'"
    return f"leave out device and precision: no CPU runs {precision}"


def _open_engine(bundle: ModelBundle, candidate: Candidate, precision: str | None) -> Runtime:
    from ctedge.engines.files import list_engines
    from ctedge.runtimes.tensorrt_runtime import open_engine

    if not list_engines(bundle):
        raise RuntimeUnavailable(
            f"{bundle.name} has no engine for {candidate.runtime}",
            fix=f"ctedge export build-engine {bundle.argument} --runtime {candidate.runtime}",
        )
    wanted: Any = candidate.runtime
    return open_engine(bundle, runtime=wanted, precision=precision)


def _check(bundle: ModelBundle, opened: Runtime, candidate: Candidate, *, always: bool) -> str:
    """Run the golden cases, and say what came of it."""
    if candidate == Candidate("onnxruntime", "cpu", FP32) and not always:
        return "gated when the bundle was exported"
    try:
        cases, largest = check_golden(bundle, opened, precision=precision_of(opened))
    except (GateFailed, InferenceFailed) as error:
        raise _CandidateFailed(
            error.what, found=error.found, expected=error.expected, fix=error.fix
        ) from error
    return f"{cases} golden case{'s' * (cases > 1)} answered within {largest:.1g}"


class _CandidateFailed(RuntimeUnavailable):
    """It is there, and crashed or answered otherwise than it should."""


def _refusal(candidate: Candidate, error: CTEdgeError) -> Verdict:
    found = "" if error.found is None else f" ({error.found})"
    failed = isinstance(error, _CandidateFailed | DigestMismatch | InvalidBundle)
    return Verdict(
        candidate=candidate.name,
        state="failed" if failed else "refused",
        reason=" ".join(f"{error.what}{found}".split()),
        fix=error.fix,
    )


def _refusal_of_all(
    bundle: ModelBundle, wanted: Sequence[Candidate], refusals: Sequence[CTEdgeError]
) -> CTEdgeError:
    """The only refusal; of several, all of them with what mends the plainest candidate."""
    if len(refusals) == 1:
        return refusals[0]
    plain = [n for n, candidate in enumerate(wanted) if candidate.precision == FP32]
    mended = refusals[plain[-1]] if plain else refusals[-1]
    return RuntimeUnavailable(
        f"nothing that fits runs {bundle.name} here",
        found="\n            ".join(map(str, map(_refusal, wanted, refusals))),
        expected=mended.expected,
        fix=mended.fix,
    )
