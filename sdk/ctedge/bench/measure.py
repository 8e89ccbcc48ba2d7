"""Timing one loaded model: the first answer, the warm-up, and the repeats.

The stages are those that `predict` itself reports; nothing is taken apart to be timed. What runs on
the device alone is told by TensorRT's engines only (see `_device_run`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctedge.bench.machine import peak_memory_bytes
from ctedge.bench.settings import LEAST_REPEATS, Settings
from ctedge.bench.shown import Shown
from ctedge.bench.summary import Samples, Summary, whole_ns
from ctedge.doors.chosen import predict_chosen
from ctedge.doors.door import Door
from ctedge.runtimes import Runtime
from ctedge.runtimes.tensorrt_engine import TensorrtEngine
from ctedge.runtimes.tensorrt_lane import Lane

#: Beyond this coefficient of variation a median moves by itself as much as a good change moves it.
UNSTABLE_CV = 0.025

#: A run on the device of less than this many launches is a measurement of launches.
LAUNCHES = 3.0

#: Stages that are judged: what the runtime takes, and what the user waits for.
JUDGED = ("inference", "total")

DEVICE, LAUNCH = "device", "launch"


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What one runtime took.

    Attributes:
        candidate: runtime, device and precision, "openvino-cpu-int8".
        loaded: why it may be chosen: the golden cases that ran while it was loaded warmed it up.
        load_ms: until it could answer, those cases included.
        first_ms: the stages of its first answer, which is not among the samples.
        warm_up: answers between the first one and the samples.
        samples_ns: wall time of each stage, in the order of the answers, resolution 1000 ns. Also
            "device", a run on the device of what already lies there, and "launch", what asking for
            it takes the host; only where the runtime tells.
        peak_memory_bytes: the most that the process has held until then, all of it counted.
        uncaptured: why an engine's runs are not launched as one CUDA graph; None where they are.
    """

    candidate: str
    loaded: str
    load_ms: float
    first_ms: dict[str, float]
    warm_up: int
    samples_ns: dict[str, Samples]
    peak_memory_bytes: int | None
    uncaptured: str | None = None

    @property
    def summaries(self) -> dict[str, Summary]:
        return {stage: Summary.of(samples) for stage, samples in self.samples_ns.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against believing these figures, each with what to do."""
        found = self.summaries
        shaky = [f"{name} by {found[name].cv:.1%}" for name in JUDGED if _shaky(found[name])]
        said = []
        if shaky:
            said.append(
                f"unstable: answers vary in {' and in '.join(shaky)} (more than {UNSTABLE_CV:.1%});"
                " stop other work, pin it (taskset -c), fix the clocks, take more --repeats"
            )
        if DEVICE in found and found[DEVICE].p50_ms < LAUNCHES * found[LAUNCH].p50_ms:
            how = "one CUDA graph launches it all" if self.uncaptured is None else self.uncaptured
            said.append(
                f"launches dominate: {found[DEVICE].p50_ms:.3f} ms on the device, of which the host"
                f" takes {found[LAUNCH].p50_ms:.3f} ms to ask for it; a faster network or device"
                f" shortens little of that (in predict: {how})"
            )
        return tuple(said)

    def to_json(self) -> dict[str, Any]:
        return {
            "candidate": self.candidate,
            "loaded": self.loaded,
            "load_ms": round(self.load_ms, 3),
            "first_ms": self.first_ms,
            "warm_up": self.warm_up,
            "stages": {
                stage: {**summary.to_json(), "samples_ns": self.samples_ns[stage].tolist()}
                for stage, summary in self.summaries.items()
            },
            "peak_memory_bytes": self.peak_memory_bytes,
            "uncaptured": self.uncaptured,
            "warnings": list(self.warnings),
        }


def measure(  # noqa: PLR0913 - what is measured, on what, how, and what loading said
    door: Door[Any],
    runtime: Runtime,
    shown: Shown,
    settings: Settings,
    *,
    loaded: str,
    load_ms: float,
) -> Run:
    """Time a loaded model.

    Args:
        door: which answers.
        runtime: what runs in it.
        shown: what it is shown, again and again.
        settings: how often.
        loaded, load_ms: as of `Run`.

    Raises:
        InputError: it cannot be read, or not be judged.
        InferenceFailed: the network did not answer.
    """
    samples: dict[str, list[int]] = {}
    untimed = ("read",) if shown.in_memory else ()

    def answer() -> dict[str, float]:
        timings = predict_chosen(door, shown.source, shown.reading).timings_ms
        return {stage: ms for stage, ms in timings.items() if stage not in untimed}

    def timed() -> None:
        taken = {name: whole_ns(ms) for name, ms in answer().items()}
        if isinstance(runtime, TensorrtEngine):
            taken |= _device_run(runtime)
        for name, ns in taken.items():
            samples.setdefault(name, []).append(ns)

    first_ms = answer()
    warmed = _repeat(answer, settings.warm_up, settings.seconds / 4, least=1)
    _repeat(timed, settings.repeats, settings.seconds, least=LEAST_REPEATS)
    return Run(
        candidate=runtime.name,
        loaded=loaded,
        load_ms=load_ms,
        first_ms=first_ms,
        warm_up=warmed,
        samples_ns={name: np.array(found, np.int64) for name, found in samples.items()},
        peak_memory_bytes=peak_memory_bytes(),
        uncaptured=runtime.uncaptured if isinstance(runtime, TensorrtEngine) else None,
    )


def _repeat(call: Callable[[], object], most: int, seconds: float, *, least: int) -> int:
    """Call until the time is used up, between `least` and `most` times; how often it was."""
    start = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - start >= seconds:
            return done
        call()
    return most


def _device_run(engine: TensorrtEngine) -> dict[str, int]:
    """One more run of what lies on the GPU: until it is asked for, and until it is done.

    It goes without copies and without the CUDA graph, and the host's clock times it: the launch is
    in the device's time. An engine kept apart like that is what NVIDIA's `trtexec` measures, too.
    """

    def timed(lane: Lane) -> dict[str, int]:
        start = time.perf_counter_ns()
        lane.enqueue()
        asked = time.perf_counter_ns()
        lane.wait()
        done = time.perf_counter_ns()
        return {DEVICE: done - start, LAUNCH: asked - start}

    return engine.on_lane(timed)


def _shaky(summary: Summary) -> bool:
    return summary.cv > UNSTABLE_CV
