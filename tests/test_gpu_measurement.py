"""`benchmarks/gpu_engine.py` up to the GPU, which is not here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from conftest import REPOSITORY
from ctedge.runtimes.cuda_driver import find_device
from patience import PATIENCE_S
from tensorrt_stage import Stage, stage_of, volumes

stage = stage_of("10.3")

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


def test_runs_are_timed_bare_and_as_a_graph(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    monkeypatch.setattr(sys, "path", [*sys.path])  # it appends to that
    import gpu_engine

    monkeypatch.setattr(gpu_engine, "WARM_UP", 2)
    monkeypatch.setattr(gpu_engine, "RUNS", 5)
    runtime = stage.open()
    runtime.run(volumes(1))
    for timed in (gpu_engine.bare, gpu_engine.bare_as_graph):
        found = runtime.on_lane(timed)
        assert found["p50"] >= found["least"] > 0
    stage.network.uncapturable = True
    assert "CUDA_ERROR_" in runtime.on_lane(gpu_engine.bare_as_graph)


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
