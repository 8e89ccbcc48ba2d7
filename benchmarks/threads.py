"""Threads that share one loaded model, and streams of scans: answers a second, latency, memory.

    python benchmarks/threads.py -o benchmarks/results/threads.json
    python benchmarks/threads_table.py --write      # the tables of docs/batches.md

Each step is a process of its own, held to so many CPUs: ctedge, and in it the runtime, starts as
many threads as it may use CPUs. The steps come in turns, every other round the other way about, so
that a machine that slows down slows down all of them. Scans are read from their file, anew each
time, out of the system's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import result_file
from latency_peers import environment
from threads_child import STREAMS
from times import summary

from ctedge.bench.machine import BenchMachine
from ctedge.phantom import draw_patient, render, write_nifti

Shape = tuple[int, int, int]

BUNDLE = "pneumonia"

#: What is chosen where everything is installed, and what runs everywhere.
CANDIDATES: dict[str, dict[str, str]] = {
    "auto": {},
    "onnxruntime-cpu-fp32": {"runtime": "onnxruntime", "device": "cpu", "precision": "fp32"},
}

PACKAGES = ("nibabel", "isal")

SEED = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: turns of every step.
        candidates: of `CANDIDATES`.
        cpus, callers: of the steps by threads; what the machine lacks is left out.
        usual: the scan of those.
        streams: scans, each judged in every way of `STREAMS` on all CPUs.
        answers: timed in a step.
        warm_up: answers before them, by each thread: the first is slow, the second plans memory.
    """

    rounds: int = 3
    candidates: tuple[str, ...] = tuple(CANDIDATES)
    cpus: tuple[int, ...] = (1, 2)
    callers: tuple[int, ...] = (1, 2, 4)
    usual: Shape = (512, 512, 41)
    streams: tuple[Shape, ...] = ((512, 512, 41), (512, 512, 300))
    answers: int = 24
    warm_up: int = 2


FULL = Plan()

#: To see that it works: its figures say nothing.
QUICK = replace(
    FULL,
    rounds=1,
    candidates=("onnxruntime-cpu-fp32",),
    cpus=(1,),
    callers=(2,),
    usual=(48, 48, 20),
    streams=((48, 48, 20),),
    answers=2,
    warm_up=0,
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one process does; `callers` threads where the way is "threads"."""

    candidate: str
    way: str
    shape: Shape
    cpus: int
    callers: int
    scans: int
    warm_up: int


def steps(plan: Plan) -> Iterator[Step]:
    """All of a round, in the order of the tables."""
    there = len(os.sched_getaffinity(0))
    for candidate in plan.candidates:
        for cpus in (count for count in plan.cpus if count <= there):
            for callers in plan.callers:
                yield Step(
                    candidate=candidate,
                    way="threads",
                    shape=plan.usual,
                    cpus=cpus,
                    callers=callers,
                    scans=plan.answers,
                    warm_up=plan.warm_up,
                )
    for shape in plan.streams:
        for candidate in plan.candidates:
            for way in STREAMS:
                yield Step(
                    candidate=candidate,
                    way=way,
                    shape=shape,
                    cpus=there,
                    callers=1,
                    scans=plan.answers,
                    warm_up=plan.warm_up,
                )


def measured(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """A row a step, with what each round found."""
    wanted = list(steps(plan))
    scans = {shape: _scan(folder, shape) for shape in sorted({step.shape for step in wanted})}
    found: dict[Step, list[dict[str, Any]]] = {step: [] for step in wanted}
    for number in range(plan.rounds):
        for step in reversed(wanted) if number % 2 else wanted:
            print(f"round {number + 1} of {plan.rounds}: {step}", file=sys.stderr, flush=True)
            found[step].append(_run(step, scans[step.shape]))
    return [_row(step, rounds) for step, rounds in found.items()]


def _scan(folder: Path, shape: Shape) -> Path:
    phantom = render(draw_patient(SEED), shape=shape)
    return write_nifti(phantom, folder / f"{'x'.join(map(str, shape))}.nii.gz")


def _run(step: Step, scan: Path) -> dict[str, Any]:
    asked = {**asdict(step), "bundle": BUNDLE, "named": CANDIDATES[step.candidate]}
    script = str(Path(__file__).with_name("threads_child.py"))
    answer = subprocess.run(
        [sys.executable, script, json.dumps(asked | {"source": str(scan)})],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        check=True,
    )
    told: dict[str, Any] = json.loads(answer.stdout)
    return told


def _row(step: Step, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all rounds: the rate of each, times of all answers, the largest peak."""
    ms = [one for found in rounds for one in found["ms"]]
    peaks = [found["peak_bytes"] for found in rounds]
    return {
        **asdict(step),
        "ran": rounds[0]["ran"],
        "scans_per_second": [round(step.scans / found["seconds"], 4) for found in rounds],
        "answer": summary(ms) if ms else None,
        "peak_mib": None if None in peaks else round(max(peaks) / 2**20, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="tiny scans: does it work?")
    options = parser.parse_args()
    machine = BenchMachine.here()  # first: what follows is load of our own
    started, begun = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
    plan = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="threads-") as folder:
        rows = measured(plan, Path(folder))
    body = {
        "started": started,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "quick": options.quick,
        "seed": SEED,
        "rows": rows,
    }
    result_file.write(
        options.output,
        machine=machine,
        packages=PACKAGES,
        body=body,
    )


if __name__ == "__main__":
    main()
