"""`benchmarks/gpu_engine.py` up to the GPU, which is not here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import REPOSITORY
from ctedge.runtimes.cuda_driver import find_device
from patience import PATIENCE_S

without_gpu = pytest.mark.skipif(find_device() is not None, reason="for machines without a GPU")


@without_gpu
def test_the_gpu_measurement_refuses_without_a_gpu(tmp_path: Path) -> None:
    script = REPOSITORY / "benchmarks" / "gpu_engine.py"
    command = [sys.executable, str(script), "pneumonia", "-o", str(tmp_path / "x.json")]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert answer.returncode == 1
    assert "measuring engines needs an NVIDIA GPU" in answer.stderr
    assert "no NVIDIA driver" in answer.stderr
    assert list(tmp_path.iterdir()) == []


@without_gpu
def test_the_gpu_measurement_runs_from_a_checkout_with_numpy_alone(tmp_path: Path) -> None:
    """As on a machine without network, where nothing can be installed."""
    for part in Path(np.__file__).parents[1].glob("numpy*"):
        (tmp_path / part.name).symlink_to(part)
    script = REPOSITORY / "benchmarks" / "gpu_engine.py"
    command = [sys.executable, "-S", str(script), "pneumonia", "-o", str(tmp_path / "x.json")]
    here = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    answer = subprocess.run(
        command, env=here, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert "measuring engines needs an NVIDIA GPU" in answer.stderr
