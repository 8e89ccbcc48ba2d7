"""What engines of a bundle do on this machine's GPU: accuracy, latency, inspector; in one step.

    python benchmarks/gpu_engine.py pneumonia -o benchmarks/results/gpu-engine.json

FP32 and FP16 (or what --precision names) are built with every TensorRT that is here (or what
--runtime names), each passes its gate on the GPU, and is then timed with data on the GPU, bare and
as a CUDA graph, with the copies to and from it, and as `predict` of a synthetic chest of 300
slices in memory. What cannot be built or fails its gate is in the file as well, with the reason.
Without an NVIDIA driver it says so and writes nothing. docs/engines.md has the set-ups.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

# A checkout that is not installed will do, as on a machine without network; what is installed goes
# before it. `benchmarks` is for those who load this file by path.
sys.path.extend(
    str(Path(__file__).resolve().parent.parent / name) for name in ("sdk", "export", "benchmarks")
)

import result_file

from ctedge import CTEdgeError
from ctedge.bench.machine import BenchMachine
from ctedge.bundle.files import find_bundle
from ctedge.doors.by_task import load_door
from ctedge.engines.files import read_engine, read_record
from ctedge.engines.machine import installed_versions
from ctedge.engines.record import EngineRuntime
from ctedge.phantom import draw_patient, render
from ctedge.runtimes.cuda_driver import require_device
from ctedge.runtimes.cuda_memory import CudaFailure
from ctedge.runtimes.tensorrt_engine import TensorrtEngine
from ctedge.runtimes.tensorrt_lane import Lane
from ctedge_export.engine.flavours import load_flavour
from ctedge_export.engine.inspector import inspector_rows
from ctedge_export.engine.make import build_engine

#: As many runs as make the 95th percentile one of ten, after as many as bring the clocks up.
RUNS, WARM_UP = 200, 50

#: What is built where nothing is named.
PRECISIONS = ("fp32", "fp16")

PACKAGES = ("onnx",)

SEED = 1

#: Of the scan that is judged from memory.
SCAN_SHAPE = (512, 512, 300)


def milliseconds(call: Callable[[], Any]) -> dict[str, float]:
    """Median, 95th percentile and least of the wall time of a call."""
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    low = statistics.quantiles(times, n=20)
    return {"p50": round(low[9], 4), "p95": round(low[18], 4), "least": round(min(times), 4)}


def bare(lane: Lane) -> dict[str, float]:
    """Runs on what is on the GPU already."""

    def once() -> None:
        lane.enqueue()
        lane.wait()

    return milliseconds(once)


def bare_as_graph(lane: Lane) -> dict[str, float] | str:
    """The same, launched as one CUDA graph; why not, where it cannot be captured."""
    with contextlib.ExitStack() as kept:
        try:
            launch = lane.replayed(kept)
        except (CTEdgeError, CudaFailure) as error:
            return str(error)

        def once() -> None:
            launch()
            lane.wait()

        return milliseconds(once)


def judged(
    folder: Path, precision: str, runtime: EngineRuntime, scan: npt.NDArray[np.int16]
) -> dict[str, float] | str:
    """`predict` of a scan in memory; why not, where the bundle cannot be loaded or answers none."""
    try:
        with load_door(str(folder), device="cuda", runtime=runtime, precision=precision) as door:
            return milliseconds(lambda: door.predict(scan))
    except CTEdgeError as error:
        return error.what


def measure(
    folder: Path, precision: str, runtime: EngineRuntime, scan: npt.NDArray[np.int16]
) -> dict[str, Any]:
    """Build, gate and time one engine; of one that cannot be had, why."""
    try:
        return _measured(folder, precision, runtime, scan)
    except CTEdgeError as error:
        print(f"{runtime}, {precision}: {error}", file=sys.stderr)
        inside = f"{folder.parent}/"  # a copy, which nobody finds again
        said = error.as_dict().items()
        return {"error": {key: text and text.replace(inside, "") for key, text in said}}


def _measured(
    folder: Path, precision: str, runtime: EngineRuntime, scan: npt.NDArray[np.int16]
) -> dict[str, Any]:
    start = time.perf_counter()
    path = build_engine(
        folder,
        precision=precision,
        runtime=runtime,
        say=lambda line: print(line, file=sys.stderr),
    )
    built_s = time.perf_counter() - start
    record = read_record(path)
    opened = TensorrtEngine(load_flavour(record.runtime).trt, read_engine(path, record), record)
    try:
        batch = np.random.default_rng(SEED).random((1, *record.input_shape), np.float32)
        opened.run(batch)

        latency: dict[str, Any] = {
            "run_ms": opened.on_lane(bare),
            "run_as_graph_ms": opened.on_lane(bare_as_graph),
            "run_with_copies_ms": milliseconds(lambda: opened.run(batch)),
            "uncaptured": opened.uncaptured,
        }
        rows = inspector_rows(opened.information())
    finally:
        opened.close()
    latency["predict_ms"] = judged(folder, precision, runtime, scan)
    return {
        "engine": path.name,
        "bytes": record.size_bytes,
        "build_and_gate_s": round(built_s, 1),
        "runtime": f"{record.runtime} {record.runtime_version}",
        "latency": latency,
        "accuracy": dict(record.device_gate.results),
        "device_gate": record.device_gate.state,
        "convolutions": dict(record.layers.convolutions),
        "convolutions_by": record.layers.source,
        "layers": [vars(row) for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--precision", action="append", help=f"default: {' and '.join(PRECISIONS)}")
    parser.add_argument("--runtime", choices=get_args(EngineRuntime))
    options = parser.parse_args()
    require_device("measuring engines")
    machine = BenchMachine.here()
    with tempfile.TemporaryDirectory() as scratch:
        source = find_bundle(options.bundle)
        copy = Path(scratch) / source.name  # the shipped ones are not written to
        shutil.copytree(source, copy)
        runtimes = [options.runtime] if options.runtime else list(installed_versions())
        if not runtimes:
            load_flavour()  # says what to install
        scan = render(draw_patient(SEED), shape=SCAN_SHAPE).voxels
        engines = {
            runtime: {
                precision: measure(copy, precision, runtime, scan)
                for precision in options.precision or PRECISIONS
            }
            for runtime in runtimes
        }
    document = {
        "bundle": find_bundle(options.bundle).name,
        "seed": SEED,
        "scan_shape": SCAN_SHAPE,
        "runs": RUNS,
        "engines": engines,
    }
    result_file.write(
        options.output,
        machine=machine,
        packages=PACKAGES,
        body=document,
    )


if __name__ == "__main__":
    try:
        main()
    except CTEdgeError as error:
        sys.exit(f"error: {error}")
