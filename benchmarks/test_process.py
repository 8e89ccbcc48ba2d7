"""Whole processes, from start to answer: what a user waits for.

Times are published, and ratios asserted. What a process starts with is held against what it cannot
do without, NumPy or typer, by the processor's time of both in one run: the two take turns, so what
slows the machine slows both. Children write and read bytecode, as where the package is installed:
PYTHONDONTWRITEBYTECODE would have them compile our modules, and no others, at every start.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

PEERS = Path(__file__).parent / "peers"
CTEDGE = [sys.executable, "-m", "ctedge"]

ALL_NAMES = "import ctedge; [getattr(ctedge, name) for name in ctedge.__all__]"

#: Of `import numpy`, all public names may take so many times: NumPy is the only heavy import among
#: them, and some sixty modules of our own take about as long again.
IMPORT_BY_NUMPY = 2.5

#: Of `import typer`: to look up the added commands takes a third of it, pydantic would take as
#: much again, and so would taking all options apart to list the commands.
HELP_BY_TYPER = 1.8
VERSION_BY_TYPER = 1.3

#: Of a command and its yardstick, in turns, after one that warms up.
PAIRS = 15

#: Of the whole job, against the script that imports TensorFlow and rotates and zooms by scipy.
TIMES_FASTER = 4.0


def run(command: list[str], **variables: str) -> None:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | variables
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, check=True, capture_output=True, env=environment)


def median_s(command: list[str], rounds: int = 7) -> float:
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run(command)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measure(benchmark, command: list[str], rounds: int = 7) -> float:
    benchmark.pedantic(run, (command,), rounds=rounds, warmup_rounds=1)
    return benchmark.stats.stats.median


def processor_s(command: list[str]) -> float:
    """Seconds of processors that a process takes, without OpenBLAS's threads, which only spin."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(command, OPENBLAS_NUM_THREADS="1")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def times_as_much(benchmark, command: list[str], package: str) -> float:
    """How many times the processor's time of importing a package a command takes; recorded too."""
    yardstick = [sys.executable, "-c", f"import {package}"]
    pairs = [(processor_s(command), processor_s(yardstick)) for _ in range(PAIRS + 1)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
    benchmark.extra_info |= {
        "processor_ms": round(ours * 1e3, 1),
        f"times_import_{package}": round(ours / theirs, 2),
    }
    return ours / theirs


def test_import_beside_scipy_tensorflow_and_pydicom(benchmark):
    """All names of the public surface, in this environment."""
    bare = median_s([sys.executable, "-c", "pass"])
    command = [sys.executable, "-c", ALL_NAMES]
    added_ms = (measure(benchmark, command) - bare) * 1e3
    benchmark.extra_info["beyond_a_bare_interpreter_ms"] = round(added_ms, 1)
    assert times_as_much(benchmark, command, "numpy") <= IMPORT_BY_NUMPY


@pytest.mark.parametrize(
    "command",
    ["--help", "--version", "predict --help", "train classifier --help", "export onnx --help"],
)
def test_help(benchmark, command):
    words = [*CTEDGE, *command.split()]
    measure(benchmark, words)
    limit = VERSION_BY_TYPER if command == "--version" else HELP_BY_TYPER
    assert times_as_much(benchmark, words, "typer") <= limit


def predict_once(scan: Path) -> list[str]:
    return [*CTEDGE, "predict", str(scan), "--model", "pneumonia", "--json"]


def test_predict_from_start_to_answer(benchmark, mosmed_size_scan):
    measure(benchmark, predict_once(mosmed_size_scan))


def test_the_same_job_as_a_plain_keras_script(benchmark, mosmed_size_scan, tmp_path):
    import keras

    from ctedge_training.learning.networks import build_network
    from ctedge_training.tasks import CLASSIFIER

    model = tmp_path / "model.keras"
    build_network(CLASSIFIER, (128, 128, 64)).save(model)
    keras.backend.clear_session()
    script = str(PEERS / "keras_script.py")
    ours_s = median_s(predict_once(mosmed_size_scan), rounds=5)
    published_s = measure(
        benchmark, [sys.executable, script, str(model), str(mosmed_size_scan)], rounds=5
    )
    benchmark.extra_info["times_faster"] = round(published_s / ours_s, 1)
    assert published_s / ours_s >= TIMES_FASTER
