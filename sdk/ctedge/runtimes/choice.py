"""Which runtime, on which device, in which precision: the fastest that may be trusted here.

A candidate is (runtime, device, precision), written "openvino-cpu-int8". It may be chosen when

1. it is installed, and works on this machine;
2. the manifest says that the gates of its precision passed on this very candidate. FP32 was gated
   when the bundle was exported, and an engine's own record holds its gate;
3. it answers the bundle's golden cases now, while it is loaded, within the tolerances of its
   precision. These runs warm it up. Only "onnxruntime-cpu-fp32" goes without, where nothing faster
   failed, or there are none to answer: its answers are what the export's gate looked at.

Those that fit what is named are tried in `candidate.ORDER`, and nothing else: where all are
refused, an error says why of each. A refusal, which may be an optional package that crashes, is
kept with its reason in `Choice.verdicts`; `ctedge doctor` shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctedge.bundle.gates import require_gates
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import FP32
from ctedge.errors import (
    CTEdgeError,
    DigestMismatch,
    GateFailed,
    InferenceFailed,
    InvalidBundle,
    RuntimeUnavailable,
    counted,
)
from ctedge.interrupts import interruptions_let_through
from ctedge.runtimes import Device, Runtime, RuntimeName
from ctedge.runtimes.candidate import NVIDIA_IS_CUDA, ORDER, Candidate, fitting
from ctedge.runtimes.cuda_driver import find_device, no_device
from ctedge.runtimes.gated import require_gate
from ctedge.runtimes.verification import check_golden, precision_of
from ctedge.runtimes.versions import require_version

if TYPE_CHECKING:
    from ctedge.engines.record import EngineRuntime

_ENGINES: tuple[EngineRuntime, ...] = ("tensorrt", "tensorrt-rtx")

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
        BundleError: of the only candidate: its golden cases, or its engine, are not fit for use.
    """
    require_gates(bundle)
    wanted = fitting(device, runtime, precision)
    verdicts, refusals = list[Verdict](), list[CTEdgeError]()
    for place, candidate in enumerate(wanted, start=1):
        doubtful = any(verdict.state == "failed" for verdict in verdicts) and _has_cases(bundle)
        try:
            opened, reason = _load(bundle, candidate, precision, always=doubtful)
        except CTEdgeError as error:
            refusals.append(error)
            verdicts.append(refusal(candidate, error))
            continue
        verdicts.append(Verdict(candidate=opened.name, state="taken", reason=reason))
        verdicts += [
            Verdict(candidate=later.name, state="not tried", reason=f"{opened.name} comes before")
            for later in wanted[place:]
        ]
        refusals.clear()  # their tracebacks hold this frame, and with it the model, after close
        return Choice(runtime=opened, verdicts=tuple(verdicts))
    raise refusal_of_all(bundle, wanted, refusals)


def load(bundle: ModelBundle, candidate: Candidate, *, precision: str | None = None) -> Choice:
    """Load one candidate, and look at it as `device="auto"` does.

    Args:
        bundle: a verified bundle.
        candidate: one of `fitting`; of an engine, also in one of its precisions.
        precision: what was named, as `choose` takes it.

    Raises:
        CTEdgeError: it may not be chosen; `refusal` makes a verdict of it.
    """
    require_gates(bundle)
    opened, reason = _load(bundle, candidate, precision, always=False)
    taken = Verdict(candidate=opened.name, state="taken", reason=reason)
    return Choice(runtime=opened, verdicts=(taken,))


def survey(bundle: ModelBundle) -> tuple[Verdict, ...]:
    """What `device="auto"` finds of each candidate: all are loaded and run, one after another.

    Raises:
        InvalidBundle: as of `choose`.
    """
    require_gates(bundle)
    verdicts, always = list[Verdict](), _has_cases(bundle)
    for candidate in fitting():
        try:
            opened, reason = _load(bundle, candidate, None, always=always)
        except CTEdgeError as error:
            verdicts.append(refusal(candidate, error))
            continue
        opened.close()
        taken = any(verdict.state == "taken" for verdict in verdicts)
        state: _State = "works" if taken else "taken"
        verdicts.append(Verdict(candidate=opened.name, state=state, reason=reason))
    return tuple(verdicts)


def _has_cases(bundle: ModelBundle) -> bool:
    """Whether there are golden cases that can be read."""
    try:
        return bool(bundle.golden())
    except InvalidBundle:  # said of each candidate that would have to answer them
        return False


def _load(
    bundle: ModelBundle, candidate: Candidate, precision: str | None, *, always: bool
) -> tuple[Runtime, str]:
    """A candidate, loaded and checked, and why it may be chosen; else one of our errors."""
    with interruptions_let_through():
        try:
            opened = _open(bundle, candidate, precision)
            try:
                return opened, _check(bundle, opened, candidate, always=always)
            except BaseException:
                opened.close()
                raise
        except CTEdgeError as error:
            if candidate.device == "gpu" and NVIDIA_IS_CUDA not in (error.fix or ""):
                error.fix = f"{error.fix}; {NVIDIA_IS_CUDA}" if error.fix else NVIDIA_IS_CUDA
            raise
        except Exception as error:  # an optional package may fail in any way
            raise _CandidateFailed(
                f"{candidate.name} failed while it was loaded",
                found=f"{type(error).__name__}: {error}",
                fix=f"install it again, or leave {candidate.runtime} out",
            ) from error


def _open(bundle: ModelBundle, candidate: Candidate, precision: str | None) -> Runtime:
    """Load a candidate; the driver is asked for before a runtime fails slowly and noisily."""
    require_version(candidate.runtime)
    device, name = candidate.device, bundle.name
    if device == "cuda" and find_device() is None:
        raise no_device(fix=f"install the driver, or {_without_gpu(precision)}")
    if device == "gpu":
        from ctedge.runtimes.openvino_package import require_device

        require_device(device)
    if candidate.runtime in _ENGINES:
        return _open_engine(bundle, candidate.runtime, candidate.precision or precision)
    require_gate(bundle, candidate)
    own = candidate.precision or FP32  # only of an engine is it ever None
    model = bundle.model_bytes(own)
    if candidate.runtime == "openvino":
        from ctedge.runtimes.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(model, name=name, device=device, precision=own)
    from ctedge.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(model, name=name, device=device, precision=own)


def _without_gpu(precision: str | None) -> str:
    """What to ask for instead of a GPU."""
    on_cpu = {candidate.precision for candidate in ORDER if candidate.device == "cpu"}
    if precision is None or precision in on_cpu:
        return "go on with the device cpu"
    return f"leave out device and precision: no CPU runs {precision}"


def _open_engine(bundle: ModelBundle, runtime: EngineRuntime, precision: str | None) -> Runtime:
    from ctedge.engines.files import list_engines
    from ctedge.runtimes.tensorrt_runtime import open_engine

    if not list_engines(bundle):
        wanted = f" --precision {precision}" if precision else ""
        raise RuntimeUnavailable(
            f"{bundle.name} has no engine for {runtime}",
            fix=f"ctedge export build-engine {bundle.argument}{wanted} --runtime {runtime}",
        )
    return open_engine(bundle, runtime=runtime, precision=precision)


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
    return f"{counted(cases, 'golden case')} answered within {largest:.1g}"


class _CandidateFailed(RuntimeUnavailable):
    """It is there, and crashed or answered otherwise than it should."""


def refusal(candidate: Candidate, error: CTEdgeError) -> Verdict:
    """The verdict on a candidate that an error kept from being chosen."""
    failed = isinstance(error, _CandidateFailed | InferenceFailed | DigestMismatch | InvalidBundle)
    return Verdict(
        candidate=candidate.name,
        state="failed" if failed else "refused",
        reason=error.in_one_line(),
        fix=error.fix,
    )


def refusal_of_all(
    bundle: ModelBundle, wanted: Sequence[Candidate], refusals: Sequence[CTEdgeError]
) -> CTEdgeError:
    """The only refusal; of several, all of them with what mends the plainest candidate."""
    if len(refusals) == 1:
        return refusals[0]
    plain = [n for n, candidate in enumerate(wanted) if candidate.precision == FP32]
    mended = refusals[plain[-1]] if plain else refusals[-1]
    return RuntimeUnavailable(
        f"nothing that fits runs {bundle.name} here",
        found="\n            ".join(map(str, map(refusal, wanted, refusals))),
        expected=mended.expected,
        fix=mended.fix,
    )
