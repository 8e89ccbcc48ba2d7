"""What OpenVINO's throughput hint and its model cache would change, which ctedge does not use.

    python benchmarks/openvino_options.py -o benchmarks/results/openvino-options.json
    python benchmarks/openvino_table.py --write      # the tables of docs/runtimes.md

The network is written as ctedge loads it and compiled as ctedge compiles it, but for the option at
hand. Every step is a process of its own; they come in turns, every other round the other way about.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import result_file
from latency_peers import environment
from rewrites import exported
from threads_child import by_threads
from times import summary

from ctedge import KERAS_EXAMPLE
from ctedge.bench.machine import BenchMachine, peak_memory_bytes
from ctedge.cpus import usable_cpus
from ctedge.onnx_file.for_cpu import for_openvino
from ctedge.runtimes.openvino_package import import_openvino
from ctedge.runtimes.openvino_runtime import COMPUTES_IN, compile_options

BUNDLE = "pneumonia"
SEED = 7

ROUNDS, ANSWERS, WARM_UP = 5, 32, 2

#: Fresh processes that load without the cache, and with it filled.
LOADS = 9


@dataclass(frozen=True, kw_only=True)
class Step:
    """Answers under a hint, asked for by so many threads, each with a request of its own."""

    precision: str
    hint: str
    callers: int
    answers: int = ANSWERS


def steps(callers: int) -> list[Step]:
    """Of each precision: one after the other, several at once, and those with streams of theirs."""
    asked = (("LATENCY", 1), ("LATENCY", callers), ("THROUGHPUT", callers))
    return [
        Step(precision=precision, hint=hint, callers=count)
        for precision in COMPUTES_IN
        for hint, count in asked
    ]


class Network:
    """A compiled network that answers volumes; each thread has a request."""

    def __init__(self, precision: str, **changed: object) -> None:
        model = for_openvino(exported(BUNDLE, precision), precision)
        options = {**compile_options(precision, "cpu"), **changed}
        start = time.perf_counter()
        core = import_openvino().Core()
        network = core.read_model(model)
        network.reshape([1, *list(network.inputs[0].partial_shape)[1:]])
        self.compiled = core.compile_model(network, "CPU", options)
        self.load_ms = (time.perf_counter() - start) * 1e3
        self._idle: list[Any] = []

    def predict(self, volume: np.ndarray) -> None:
        request = self._idle.pop() if self._idle else self.compiled.create_infer_request()
        request.infer([volume], share_inputs=False, share_outputs=False)
        self._idle.append(request)


def answering(asked: dict[str, Any]) -> dict[str, Any]:
    """Of one step: seconds for all answers, milliseconds of each, and the process's peak."""
    network = Network(asked["precision"], PERFORMANCE_HINT=asked["hint"])
    noise = np.random.default_rng(SEED).random((1, 1, *KERAS_EXAMPLE.shape), dtype=np.float32)
    seconds, taken = by_threads(
        network, noise, asked["answers"], callers=asked["callers"], warm_up=WARM_UP
    )
    return {
        "streams": network.compiled.get_property("NUM_STREAMS"),
        "seconds": seconds,
        "ms": taken,
        "peak_bytes": peak_memory_bytes(),
    }


def loading(asked: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds from the file's bytes to a network that could answer."""
    import_openvino()
    cache = {"CACHE_DIR": asked["cache"]} if asked["cache"] else {}
    network = Network(asked["precision"], **cache)
    from_cache = network.compiled.get_property("LOADED_FROM_CACHE")
    return {"ms": network.load_ms, "from_cache": bool(from_cache)}


def in_child(way: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own says."""
    command = [sys.executable, __file__, "--child", way, json.dumps(asked)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment(), check=True)
    answer: dict[str, Any] = json.loads(said.stdout)
    return answer


def hints(wanted: Sequence[Step], rounds: int) -> list[dict[str, Any]]:
    """A row a step: the rate of each round, times of all answers, the largest peak."""
    found: dict[Step, list[dict[str, Any]]] = {step: [] for step in wanted}
    for number in range(rounds):
        for step in reversed(wanted) if number % 2 else wanted:
            print(f"round {number + 1} of {rounds}: {step}", file=sys.stderr, flush=True)
            found[step].append(in_child("answering", asdict(step)))
    rows = []
    for step, told in found.items():
        peaks = [one["peak_bytes"] for one in told]
        rows.append(
            {
                **asdict(step),
                "streams": told[0]["streams"],
                "answers_per_second": [round(step.answers / one["seconds"], 3) for one in told],
                "answer": summary([ms for one in told for ms in one["ms"]]),
                "peak_mib": None if None in peaks else round(max(peaks) / 2**20, 1),
            }
        )
    return rows


def caches(folder: Path, precisions: Sequence[str], loads: int) -> list[dict[str, Any]]:
    """A row a precision: loads without a cache and with one, in turns, and what the cache holds."""
    rows = []
    for precision in precisions:
        cache = folder / precision
        filled = in_child("loading", {"precision": precision, "cache": str(cache)})
        plain_ms, cached_ms, from_cache = list[float](), list[float](), not filled["from_cache"]
        for _ in range(loads):
            plain_ms.append(in_child("loading", {"precision": precision, "cache": None})["ms"])
            told = in_child("loading", {"precision": precision, "cache": str(cache)})
            cached_ms.append(told["ms"])
            from_cache = from_cache and told["from_cache"]
        rows.append(
            {
                "precision": precision,
                "plain": summary(plain_ms),
                "cached": summary(cached_ms),
                "from_cache": from_cache,
                "cache_bytes": sum(
                    file.stat().st_size for file in cache.rglob("*") if file.is_file()
                ),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        way, asked = sys.argv[2], json.loads(sys.argv[3])
        print(json.dumps({"answering": answering, "loading": loading}[way](asked)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one round of little: does it work?")
    options = parser.parse_args()
    machine = BenchMachine.here()  # first: what follows is load of our own
    wanted = steps(max(usable_cpus(), 2))
    rounds, precisions, loads = ROUNDS, list(COMPUTES_IN), LOADS
    if options.quick:
        wanted = [replace(step, answers=2) for step in wanted[-3:]]
        rounds, precisions, loads = 1, precisions[-1:], 1
    with tempfile.TemporaryDirectory() as folder:
        body = {
            "quick": options.quick,
            "seed": SEED,
            "hints": hints(wanted, rounds),
            "caches": caches(Path(folder), precisions, loads),
        }
    result_file.write(options.output, machine=machine, body=body)


if __name__ == "__main__":
    main()
