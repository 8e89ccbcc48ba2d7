"""Whole processes, from start to answer: what a user waits for."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

PEERS = Path(__file__).parent / "peers"
CTEDGE = [sys.executable, "-m", "ctedge"]

IMPORT_MS = 150
HELP_MS = 150
SUBCOMMAND_HELP_MS = 250
PREDICT_S = 1.5


def run(command: list[str]) -> None:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
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


def test_import_beside_scipy_tensorflow_and_pydicom(benchmark):
    """All names of the public surface, in this environment."""
    bare = median_s([sys.executable, "-c", "pass"])
    code = "import ctedge; [getattr(ctedge, name) for name in ctedge.__all__]"
    added_ms = (measure(benchmark, [sys.executable, "-c", code]) - bare) * 1e3
    benchmark.extra_info["beyond_a_bare_interpreter_ms"] = round(added_ms, 1)
    assert added_ms <= IMPORT_MS


@pytest.mark.parametrize(
    "command",
    ["--help", "--version", "predict --help", "train classifier --help", "export onnx --help"],
)
def test_help(benchmark, command):
    limit_ms = SUBCOMMAND_HELP_MS if " " in command else HELP_MS
    assert measure(benchmark, [*CTEDGE, *command.split()]) * 1e3 <= limit_ms


def test_predict_from_start_to_answer(benchmark, mosmed_size_scan):
    command = [*CTEDGE, "predict", str(mosmed_size_scan), "--model", "pneumonia", "--json"]
    assert measure(benchmark, command) <= PREDICT_S


def test_the_same_job_as_a_plain_keras_script(benchmark, mosmed_size_scan, tmp_path):
    import keras

    from ctedge_training.learning.networks import build_network
    from ctedge_training.tasks import CLASSIFIER

    model = tmp_path / "model.keras"
    build_network(CLASSIFIER, (128, 128, 64)).save(model)
    keras.backend.clear_session()
    script = str(PEERS / "keras_script.py")
    measure(benchmark, [sys.executable, script, str(model), str(mosmed_size_scan)], rounds=5)
