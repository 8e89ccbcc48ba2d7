"""Each way to write the network, on each runtime: time, peak memory, and how far answers move.

    python benchmarks/rewrites.py -o benchmarks/results/rewrites.json

Times are taken in rounds: every graph of a runtime and precision once, then all again in the other
order, so that a machine that drifts drifts for all of them. Memory is the highest resident size of
a fresh process that loads one graph and runs it. Answers are held against the exported graph's.
`--quick` runs two rounds of a few rows, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import result_file

from ctedge import ModelBundle
from ctedge.bench.machine import BenchMachine, peak_memory_bytes
from ctedge.onnx_file.guard import inspect_model
from ctedge.onnx_file.parts import answers_of
from ctedge.runtimes.onnx_runtime import OnnxRuntime, session_options
from ctedge.runtimes.openvino_package import import_openvino
from ctedge.runtimes.openvino_runtime import OpenVinoRuntime, compile_options

ROUNDS, WARM_UP = 15, 2
BATCHES = (1, 2, 4, 8)
PRECISIONS = {"onnxruntime": ("fp32", "int8", "fp16"), "openvino": ("fp32", "bf16", "int8")}

#: What the SDK opens; not in GRAPHS, because the runtimes write it themselves.
SDK = "as ctedge loads it"
KNOWN_BATCH = ", batch of one compiled in"
CHANNELS_LAST = "volume as NDHWC"
PREDICT_SHAPE = (512, 512, 41)

#: Of the noise that networks are shown, and of the patient whose scan `ctedge predict` reads.
VOLUME_SEED, SCAN_SEED = 7, 0

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing to measure."""

    model: str
    runtime: str
    precision: str
    graph: str
    batch: int = 1


def rows(model: str, runtime: str, precision: str) -> list[Row]:
    """What is measured of a runtime and precision."""
    from rewrites_graphs import GRAPHS, ONE_PRECISION, ROUNDED

    graphs = [name for name in GRAPHS if ONE_PRECISION.get(name, precision) == precision]
    if runtime == "openvino":
        # Slabs share memory only where all sizes are known.
        known = [
            name + KNOWN_BATCH
            for name in graphs
            if "slabs" in name or name in ("as exported", ROUNDED)
        ]
        graphs = [name for name in graphs if "slabs" not in name] + known + [CHANNELS_LAST]
    common = {"model": model, "runtime": runtime, "precision": precision}
    if (runtime, precision) != ("onnxruntime", "fp16"):  # ctedge does not run it
        graphs.append(SDK)
    found = [Row(**common, graph=graph) for graph in graphs]
    larger = (graphs[0], SDK) if SDK in graphs else graphs[:1]
    return found + [Row(**common, graph=g, batch=n) for g in larger for n in BATCHES[1:]]


def exported(model: str, precision: str) -> bytes:
    """A shipped network without maps; bf16, which is not shipped, as the export would write it."""
    bundle = ModelBundle.load(model)
    if precision != "bf16":
        return answers_of(bundle.model_bytes(precision))
    import onnx

    from ctedge_export.precision import half

    whole = onnx.load_from_string(answers_of(bundle.model_bytes("fp32")))
    return half.halve(whole, "bf16")


def written(row: Row) -> bytes:
    """The row's graph; where the runtime writes it, the exported one."""
    from rewrites_graphs import GRAPHS

    model = exported(row.model, row.precision)
    graph = row.graph.removesuffix(KNOWN_BATCH)
    return GRAPHS[graph](model) if graph in GRAPHS else model


def volumes(row: Row) -> np.ndarray:
    """Noise between 0 and 1, in the layout and type that the row's graph takes."""
    from rewrites_graphs import TURN

    shape = inspect_model(exported(row.model, "fp32")).inputs[0].shape[1:]
    batch = np.random.default_rng(VOLUME_SEED).random((row.batch, *shape), dtype=np.float32)
    if row.graph.startswith("depth at the other end"):
        batch = np.ascontiguousarray(batch.transpose(0, 1, *(2 + axis for axis in TURN)))
    if row.graph.startswith(CHANNELS_LAST):
        batch = np.ascontiguousarray(np.moveaxis(batch, 1, -1))
    return batch.astype(np.float16) if row.graph.startswith("volume in float16") else batch


def opened(row: Row, model: bytes) -> Run:
    """A graph in the row's runtime, as a function of the batch; what it holds goes with it."""
    answer = inspect_model(model).outputs[0].name
    if row.graph == SDK:
        kind = OnnxRuntime if row.runtime == "onnxruntime" else OpenVinoRuntime
        loaded = kind(model, name=row.model, precision=row.precision)
        return lambda batch: loaded.run(batch)[answer]
    if row.runtime == "onnxruntime":
        return _onnx_runtime(model, row, answer)
    return _openvino(model, row)


def _onnx_runtime(model: bytes, row: Row, answer: str) -> Run:
    import onnxruntime

    options = session_options(onnxruntime, row.precision)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run([answer], {name: batch})[0]


def _openvino(model: bytes, row: Row) -> Run:
    openvino = import_openvino()
    core = openvino.Core()
    network = core.read_model(model)
    if row.graph == CHANNELS_LAST:
        layouts = openvino.preprocess.PrePostProcessor(network)
        layouts.input().tensor().set_layout(openvino.Layout("NDHWC"))
        layouts.input().model().set_layout(openvino.Layout("NCDHW"))
        network = layouts.build()
    if row.graph.endswith(KNOWN_BATCH):
        network.reshape([1, *list(network.inputs[0].partial_shape)[1:]])
    options = compile_options(row.precision, "cpu")
    request = core.compile_model(network, "CPU", options).create_infer_request()
    return lambda batch: request.infer([batch], share_inputs=False, share_outputs=False)[0]


def timed(todo: list[Row], rounds: int) -> dict[Row, dict[str, Any]]:
    """Median time of a volume of each row, in ms, and its distance from the first row's answer."""
    runs = {row: (opened(row, written(row)), volumes(row)) for row in todo}
    samples: dict[Row, list[float]] = {row: [] for row in todo}
    answers = {}
    for number in range(WARM_UP + rounds):
        for row in todo if number % 2 == 0 else reversed(todo):
            run, batch = runs[row]
            start = time.perf_counter()
            answers[row] = run(batch)
            if number >= WARM_UP:
                samples[row].append((time.perf_counter() - start) * 1e3 / row.batch)
    base = answers[todo[0]]
    return {
        row: {
            "ms_a_volume": round(statistics.median(samples[row]), 2),
            "largest_difference": float(np.abs(answers[row] - base).max()),
        }
        for row in todo
    }


def peak_mb(row: Row) -> int:
    """Of a fresh process that loads the row's graph and runs it three times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(written(row))
        (folder / "row.json").write_text(json.dumps(asdict(row)))
        np.save(folder / "batch.npy", volumes(row))
        return _in_child(["--child", name])


def predict_rows(model: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Of `ctedge predict` of a whole .nii.gz, by candidate."""
    from ctedge.phantom import draw_patient, render, write_nifti

    scan = folder / "synthetic.nii.gz"
    write_nifti(render(draw_patient(SCAN_SEED, lesion_share=0.2), shape=PREDICT_SHAPE), scan)
    for runtime, precision in (
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
        ("openvino", "fp32"),
        ("openvino", "int8"),
    ):
        named = ["--runtime", runtime, "--precision", precision]
        peak = _in_child(["--predict", str(scan), "--model", model, *named])
        yield {"model": model, "runtime": runtime, "precision": precision, "peak_mb": peak}


def _in_child(arguments: list[str]) -> int:
    command = [sys.executable, __file__, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(answer.stdout.split()[-1])


def _print_peak() -> None:
    peak = peak_memory_bytes()
    print(0 if peak is None else round(peak / 1e6))


def _child(folder: Path) -> None:
    row = Row(**json.loads((folder / "row.json").read_text()))
    run = opened(row, (folder / "model.onnx").read_bytes())
    batch = np.load(folder / "batch.npy")
    for _ in range(3):
        run(batch)
    _print_peak()


def _predict(arguments: list[str]) -> None:
    from ctedge.cli import main

    sys.argv = ["ctedge", "predict", *arguments]
    try:
        main()
    except SystemExit as done:
        if done.code:
            raise
    _print_peak()


def measure(models: list[str], rounds: int, most: int | None) -> dict[str, Any]:
    found = []
    for model in models:
        for runtime, precisions in PRECISIONS.items():
            for precision in precisions:
                todo = rows(model, runtime, precision)[:most]
                for size in sorted({row.batch for row in todo}):
                    alike = [row for row in todo if row.batch == size]
                    for row, figures in timed(alike, rounds).items():
                        found.append(asdict(row) | figures | {"peak_mb": peak_mb(row)})
                        print(*found[-1].values(), sep="\t", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        predicted = list(predict_rows(models[0], Path(folder)))
    return {
        "rounds": rounds,
        "seeds": {"volumes": VOLUME_SEED, "the scan of predict": SCAN_SEED},
        "predict_shape": PREDICT_SHAPE,
        "rows": found,
        "predict": predicted,
    }


def main() -> None:
    if sys.argv[1:2] == ["--predict"]:
        return _predict(sys.argv[2:])
    if sys.argv[1:2] == ["--child"]:
        return _child(Path(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--models", nargs="+", default=["pneumonia", "severity"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    machine = BenchMachine.here()  # first: what follows is load of our own
    if options.quick:
        document = measure(options.models[:1], 2, 3)
    else:
        document = measure(options.models, options.rounds, None)
    if options.output:
        result_file.write(options.output, machine=machine, body=document)
    return None


if __name__ == "__main__":
    main()
