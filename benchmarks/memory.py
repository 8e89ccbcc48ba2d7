"""How much memory a prediction takes at most, and whether it grows with their number.

    python benchmarks/memory.py -o benchmarks/results/memory.json --cache /tmp/ctedge-memory
    python benchmarks/memory_table.py --write

Peaks: a fresh process imports, loads, judges one .nii.gz and says the most that it held (VmHWM),
and again when it has judged it three times more.
Slopes: one process judges the same scan again and again, or loads and closes a model; memory held
(RSS) over their number, a straight line through the second half of them. Several run beside each
other there, each on one CPU. All are child processes; nothing here is a time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import result_file
from memory_inputs import SEED, Inputs, make
from scipy import stats

from ctedge.bench.machine import BenchMachine

CHILD = Path(__file__).with_name("memory_child.py")

#: What reads the scans; the runtimes are among the machine's own versions.
READERS = ("nibabel", "isal", "pydicom")

USUAL, LONG = (512, 512, 41), (512, 512, 750)
MODELS = {"Classifier": "pneumonia", "SeverityRegressor": "severity"}

FP32 = ("onnxruntime", "cpu", "fp32"), ("openvino", "cpu", "fp32")

#: Loads and closes twice the thousand that the line goes through: a runtime's allocator takes its
#: last steps, of half a megabyte, within the first few hundred, whoever opens the sessions.
PREDICTIONS, CYCLES = 10_000, 2000

#: A run that takes longer ends with fewer; the file says how many there were.
SECONDS = 600
EXPLAINED_DICOM_SECONDS = 75
SHIPPED_SECONDS = 30
SHIPPED_CYCLES_SECONDS = 3600

#: Of the shipped network, where there is time for them.
SHIPPED_PREDICTIONS = 1000

#: Fresh processes for one peak, of which the largest counts.
REPEATS = 2

Asked = dict[str, Any]


def straight_line(done: Sequence[float], memory: Sequence[float]) -> dict[str, Any]:
    """Least squares through the second half: bytes each, with a 95 % interval, and R².

    Memory grows in steps, so that neighbouring samples tell the same; they count for as many as
    their lag-1 autocorrelation leaves (Santer et al., J. Geophys. Res. 105 D6, 2000, eq. 6).
    """
    x, y = (np.asarray(values[len(values) // 2 :], float) for values in (done, memory))
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    left = y - y.mean() - slope * x
    spread, total = float(left @ left), float(np.square(y - y.mean()).sum())
    r1 = float(left[1:] @ left[:-1]) / spread if spread else 0.0
    effective = min(max(len(x) * (1 - r1) / (1 + r1), 3.0), float(len(x)))
    error = (spread / (effective - 2) / float(x @ x)) ** 0.5
    reach = float(stats.t.ppf(0.975, effective - 2)) * error
    return {
        "bytes_each": round(slope, 1),
        "ci95": [round(slope - reach, 1), round(slope + reach, 1)],
        "r2": round(1 - spread / total, 3) if total else 0.0,
        "samples": len(x),
        "effective_samples": round(effective, 1),
    }


def run(asked: Asked) -> dict[str, Any]:
    """What a child process says."""
    command = [sys.executable, str(CHILD), json.dumps(asked, default=str)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise RuntimeError(f"{asked}: exit {said.returncode}: {said.stderr.strip()[-500:]}")
    answer: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return answer


def here(bundle: str) -> list[tuple[str, str, str]]:
    """Runtime, device and precision of whatever runs a bundle on this machine."""
    return [tuple(one) for one in run({"what": "candidates", "bundle": bundle})["candidates"]]


def peaks(inputs: Inputs, asked: Sequence[Asked], repeats: int) -> list[dict[str, Any]]:
    """The most memory of whole processes, one after another, on all CPUs."""
    rows = []
    for one in asked:
        for shape, source in inputs.scans.items():
            found = [run(one | {"what": "peak", "source": source}) for _ in range(repeats)]
            row = {"model": one["model"], "runtime": found[0]["runtime"], "shape": list(shape)}
            for key in ("first_bytes", "later_bytes"):
                row[key] = [answer[key] for answer in found]
            rows.append(row)
            print(rows[-1], flush=True)
    return rows


def shipped_doors() -> list[Asked]:
    """Both shipped models on whatever runs them."""
    asked: list[Asked] = [
        {"door": door, "model": name, "bundle": name, "candidate": candidate, "explain": False}
        for door, name in MODELS.items()
        for candidate in here(name)
    ]
    return asked


def small(inputs: Inputs, what: str, candidate: tuple[str, ...], source: str = "") -> Asked:
    """The smallest network: judge a source, or load and close."""
    asked: Asked = {"what": what, "model": "smallest", "candidate": candidate, "source": source}
    asked |= {"path": inputs.small.get(source), "bundle": inputs.bundle, "explain": False}
    return asked | {"count": PREDICTIONS if what == "slope" else CYCLES, "seconds": SECONDS}


def slopes(inputs: Inputs) -> list[Asked]:
    """What is repeated, the longest first."""
    opens = here(str(inputs.bundle))
    both = [one for one in FP32 if one in opens]
    explained = {"explain": True, "seconds": EXPLAINED_DICOM_SECONDS}
    return [
        *(small(inputs, "slope", one, "dicom") for one in both[:1]),
        *(small(inputs, "slope", one, "dicom") | explained for one in both[1:]),
        *(small(inputs, "slope", one, "nii.gz") for one in both),
        *(small(inputs, "slope", one, "array") | {"explain": True} for one in both),
        *(small(inputs, "slope", one, "array") for one in both),
        *(small(inputs, "cycles", one) for one in both),
        *shipped(inputs),
    ]


def shipped(inputs: Inputs) -> list[Asked]:
    """The same of the shipped network, as many as fit."""
    found = here("pneumonia")
    few = {"count": SHIPPED_PREDICTIONS, "seconds": SHIPPED_SECONDS}
    # What the runtimes themselves do there.
    asked = [small(inputs, "sessions", one) for one in FP32 if one in found]
    asked += [small(inputs, "cycles", one) for one in found]
    asked = [one | {"seconds": SHIPPED_CYCLES_SECONDS} for one in asked]
    asked += [small(inputs, "slope", one, "array") | few for one in found]
    return [one | {"model": "pneumonia", "bundle": "pneumonia"} for one in asked]


def grown(asked: Asked) -> dict[str, Any]:
    """One row: what was repeated, how often, and what each costs."""
    child = {key: asked[key] for key in ("what", "candidate", "bundle", "explain")}
    child |= {"count": asked["count"], "seconds": asked["seconds"], "source": asked["path"]}
    found = run(child | {"door": "Classifier", "cpus": asked.get("cpus")})
    row = {key: asked[key] for key in ("what", "model", "source", "explain")}
    row |= {"runtime": found["runtime"], "count": found["done"][-1]}
    row |= {"handles_added": found["handles_added"], "held_bytes": found["memory_bytes"][-1]}
    row |= straight_line(found["done"], found["memory_bytes"])
    if "in_use_bytes" in found:
        row["in_use"] = straight_line(found["done"], found["in_use_bytes"])
    print(row, flush=True)
    return row


def beside_each_other(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """Each on a CPU of its own, as many at once as there are."""
    free: SimpleQueue[int] = SimpleQueue()
    cpus = sorted(os.sched_getaffinity(0))
    for cpu in cpus:
        free.put(cpu)

    def on_one(one: Asked) -> dict[str, Any]:
        cpu = free.get()
        try:
            return grown(one | {"cpus": [cpu]})
        finally:
            free.put(cpu)

    with ThreadPoolExecutor(len(cpus)) as pool:
        return list(pool.map(on_one, asked))


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """The document."""
    begun = time.monotonic()
    shapes = ((64, 64, 41), (64, 64, 90)) if quick else (USUAL, LONG)
    inputs = make(folder, shapes)
    if quick:
        ort = FP32[0]
        doors = [small(inputs, "peak", ort) | {"door": "Classifier"}]
        asked = [small(inputs, "slope", ort, one) for one in inputs.small]
        asked += [small(inputs, what, ort) for what in ("cycles", "sessions")]
        asked = [one | {"count": 24} for one in asked]
    else:
        doors, asked = shipped_doors(), slopes(inputs)
    document: dict[str, Any] = {"quick": quick, "seed": SEED}
    document["peaks"] = peaks(inputs, doors, 1 if quick else REPEATS)
    document["slopes"] = beside_each_other(asked)
    return document | {"minutes": round((time.monotonic() - begun) / 60, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="keeps the phantoms for the next time")
    parser.add_argument("--quick", action="store_true", help="a trial of seconds, no figures")
    options = parser.parse_args()
    machine = BenchMachine.here()  # first: what follows is load of our own
    with tempfile.TemporaryDirectory() as folder:
        document = measure(options.cache or Path(folder), quick=options.quick)
    result_file.write(
        options.output,
        machine=machine,
        packages=READERS,
        body=document,
    )


if __name__ == "__main__":
    main()
