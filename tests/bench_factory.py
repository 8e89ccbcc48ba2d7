"""What benches are of, and what comes of them: a patient's scan, runs of given times, a report."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from conftest import LAS_AFFINE
from ctedge.bench import Report, Settings
from ctedge.bench.machine import BenchMachine
from ctedge.bench.measure import Run

QUICK = Settings(repeats=3, warm_up=1)

#: A report to be given runs.
EMPTY = Report(
    bundle="tiny",
    digest="0" * 64,
    shape=None,
    in_memory=True,
    settings=QUICK,
    machine=BenchMachine.here(),
    runs=(),
    refused=(),
    started="2020-01-01T00:00:00+00:00",
)


def write_patient(folder: Path) -> Path:
    """A scan in a folder with a patient's name, which nothing may tell."""
    path = folder / "Patient, Name" / "scan.nii.gz"
    path.parent.mkdir()
    voxels = np.random.default_rng(4).integers(-1024, 1500, (40, 36, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, LAS_AFFINE), path)
    return path


def run_of(**samples_ms: list[float]) -> Run:
    """A run whose stages took so long."""
    return Run(
        candidate="tensorrt-cuda-fp16",
        loaded="1 golden case answered within 0",
        load_ms=1.0,
        first_ms={"total": 1.0},
        warm_up=1,
        samples_ns={name: (np.array(ms) * 1e6).astype(np.int64) for name, ms in samples_ms.items()},
        peak_memory_bytes=None,
    )
