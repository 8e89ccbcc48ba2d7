"""From a DICOM folder to the network's input: ours against pydicom + stack + scipy, in one run.

    python -m pytest benchmarks/test_reading.py --dist=no --benchmark-enable --benchmark-json=FILE

Each job is a process of its own, so that its peak memory is its own; both import beforehand.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from times import summary

PEER = Path(__file__).parent / "peers" / "dicom_script.py"

OURS = """
import sys, time
import numpy, pydicom
import ctedge.preprocessing, ctedge.readers.dicom
from ctedge import preprocess, read_scan
start = time.perf_counter()
preprocess(read_scan(sys.argv[1]))
seconds = time.perf_counter() - start
from ctedge.bench.machine import peak_memory_bytes
print(f"{seconds:.3f} {peak_memory_bytes() / 2**20:.0f}")
"""

#: The promise: this many times faster, in less than this share of the memory.
TIMES_FASTER = 2.5
MEMORY_SHARE = 1 / 3

ROUNDS = 5

#: Of the synthetic series.
_SEED = 0


@pytest.fixture(scope="session")
def uncompressed_600(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 slices of 512 x 512, explicit little endian, of noise in the range of a chest."""
    from ctedge.phantom import Phantom, draw_patient, render, write_dicom

    small = render(draw_patient(_SEED, lesion_share=0.2), shape=(64, 64, 600))
    voxels = np.repeat(np.repeat(small.voxels, 8, axis=0), 8, axis=1)
    noise = np.random.default_rng(_SEED).integers(-20, 20, (512, 512, 1), np.int16)
    affine = small.affine.copy()
    affine[:3, :2] /= 8
    fields = {name: getattr(small, name) for name in small.__dataclass_fields__}
    large = Phantom(**{**fields, "voxels": voxels + noise, "affine": affine})
    return write_dicom(large, tmp_path_factory.mktemp("series") / "uncompressed")


def test_600_slices_uncompressed(benchmark, uncompressed_600):
    benchmark.extra_info["seed"] = _SEED
    _compare(benchmark, uncompressed_600)


def test_124_slices_jpeg_lossless(benchmark, real_scans):
    folder = real_scans / "dicom" / "covid_chest"
    if not folder.is_dir():
        pytest.skip(f"no JPEG Lossless series at {folder}")
    _compare(benchmark, folder)


def _compare(benchmark, folder: Path) -> None:
    ours, peers = [], []
    job = [sys.executable, "-c", OURS, folder]
    _run(job)  # the files come into the page cache
    for _ in range(ROUNDS):
        peers.append(_run([sys.executable, PEER, folder]))
        ours.append(_run(job))
    found = {
        name: summary([1e3 * seconds for seconds, _ in runs])
        for name, runs in (("ctedge", ours), ("script", peers))
    }
    times_faster = found["script"]["p50_ms"] / found["ctedge"]["p50_ms"]
    memory = statistics.median(one for _, one in ours)
    peer_memory = statistics.median(one for _, one in peers)
    benchmark.pedantic(_run, (job,), rounds=1)
    benchmark.extra_info |= {
        "slices": len(list(folder.iterdir())),
        **found,
        "times_faster": round(times_faster, 2),
        "peak_mib": memory,
        "script_peak_mib": peer_memory,
        "memory_share": round(memory / peer_memory, 3),
    }
    assert times_faster >= TIMES_FASTER
    assert memory / peer_memory <= MEMORY_SHARE


def _run(command: list[object]) -> tuple[float, float]:
    words = [str(word) for word in command]
    answer = subprocess.run(words, check=True, capture_output=True, text=True)
    seconds, peak = answer.stdout.split()
    return float(seconds), float(peak)
