"""Trainings that real life interrupts: killed in the middle, and gone on with."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("matplotlib")

from command_here import call
from ctedge_training.learning import weights
from ctedge_training.run import Run
from patience import PATIENCE_S, wait_for
from training_factory import noisy_scans


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy_scans(tmp_path_factory.getbasetemp())


def words(data: Path, out: Path, *more: str) -> list[str]:
    """The whole recipe, so that averaging, mixup and order have to survive too."""
    return [
        *("train", "classifier", str(data), "-o", str(out)),
        *("--grid", "46x46x46", "--epochs", "4", "--batch-size", "2", "--seed", "5"),
        *("--full-precision", "--workers", "1", "--feeders", "1", *more),
    ]


def run(words: list[str]) -> None:
    """In this process, which has Keras: the one that is killed is another."""
    finished = call(*words)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_killed_and_resumed_is_as_never_killed(data: Path, tmp_path: Path) -> None:
    if keras.config.backend() == "torch":
        pytest.skip("on torch a resumed training goes on, but with another dropout sequence")
    run(words(data, tmp_path / "whole"))
    out = tmp_path / "killed"
    training = subprocess.Popen(
        [sys.executable, "-m", "ctedge", *words(data, out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        history = out / "history.csv"
        wait_for(
            lambda: history.is_file() and len(history.read_text().splitlines()) >= 3, of=training
        )
    finally:
        training.send_signal(signal.SIGKILL)
        training.wait(PATIENCE_S)
    assert not (out / "model.json").exists()

    run(words(data, out, "--resume"))

    whole, resumed = Run.open(tmp_path / "whole"), Run.open(out)
    pairs = zip(
        weights.load_network(resumed).get_weights(),
        weights.load_network(whole).get_weights(),
        strict=True,
    )
    for found, expected in pairs:
        np.testing.assert_array_equal(found, expected)
    assert resumed.document["metrics"] == whole.document["metrics"]
    assert resumed.document["threshold"] == whole.document["threshold"]
    assert not [path for path in out.rglob("*") if path.name.startswith(".partial")]
