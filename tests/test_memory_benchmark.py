"""`benchmarks/memory.py`: a leak is told from noise, a trial run works, and fills the tables."""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", exc_type=ImportError)
pytest.importorskip("onnx", exc_type=ImportError)

from bundle_factory import write_tiny
from conftest import REPOSITORY
from patience import PATIENCE_S

BENCHMARKS = REPOSITORY / "benchmarks"

#: Pages of 4 KiB, and an allocator that asks for more than it was asked for.
COARSE = 0.1

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="no /proc to read memory from"
)


@pytest.fixture(autouse=True)
def _benchmarks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def fitted(memory: np.ndarray) -> dict[str, Any]:
    import memory as benchmark

    return benchmark.straight_line(range(10, 10 * len(memory) + 10, 10), memory.tolist())


def judged(fit: dict[str, Any], **changes: Any) -> str:
    import memory_table

    return memory_table.verdict({"handles_added": 0, **fit, **changes})


def test_a_leak_is_found_under_noise(rng):
    memory = 1e8 + 5000 * 10 * np.arange(400) + rng.normal(0, 2e5, 400)
    memory[:200] += 3e7 * np.linspace(1, 0, 200)  # what warming up does is no matter
    found = fitted(memory)
    low, high = found["ci95"]
    assert low <= 5000 <= high
    assert high - low < 1000
    assert found["r2"] > 0.9
    assert judged(found) == "grows"


def test_noise_is_no_leak(rng):
    found = fitted(1e8 + rng.normal(0, 2e5, 400))
    assert found["ci95"][0] < 0 < found["ci95"][1]
    assert judged(found) == ""


def test_memory_that_stays_has_no_slope():
    found = fitted(np.full(400, 1e8))
    assert (found["bytes_each"], found["ci95"], found["r2"]) == (0.0, [0.0, 0.0], 0.0)
    assert judged(found) == ""
    assert "2 files or threads" in judged(found, handles_added=2)


def test_one_step_among_few_tells_nothing():
    """A single growth of an arena: least squares alone would be sure of it."""
    found = fitted(np.where(np.arange(40) < 30, 1e8, 1e8 + 2e6))
    assert found["bytes_each"] > 1000
    assert found["ci95"][0] < 1000
    assert judged(found) == "too few to tell"


@needs_proc
def test_what_is_kept_shows_as_a_slope():
    import memory as benchmark
    import memory_child

    kept: list[mmap.mmap] = []
    size = 100 * mmap.PAGESIZE

    def keep() -> None:  # not through malloc, which may hand out what others gave back
        kept.append(mmap.mmap(-1, size))
        kept[-1].write(bytes(size))

    gc.collect()  # what other tests have left is not to be freed meanwhile
    found = memory_child._sampled(keep, {"count": 80, "seconds": 60})
    slope = benchmark.straight_line(found["done"], found["memory_bytes"])["bytes_each"]
    assert slope == pytest.approx(size, rel=COARSE)
    assert found["handles_added"] == 0


@needs_proc
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc says what is in use")
def test_what_is_freed_is_not_in_use():
    import memory as benchmark
    import memory_child

    kept: list[object] = []
    size = 100_000

    def keep_some_of_it() -> None:
        taken = [ctypes.create_string_buffer(size) for _ in range(10)]
        kept.append(taken[5])  # what lies around it is free, and glibc keeps it or gives it back

    gc.collect()  # what other tests have left is not to be freed meanwhile
    found = memory_child._sampled(keep_some_of_it, {"count": 80, "seconds": 60}, trim=True)
    slope = benchmark.straight_line(found["done"], found["in_use_bytes"])["bytes_each"]
    assert slope == pytest.approx(size, rel=COARSE)


@needs_proc
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_is_looked_at_without_ctedge(tmp_path, runtime):
    pytest.importorskip(runtime, exc_type=ImportError)
    import memory_child

    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    asked = {"bundle": str(bundle), "candidate": (runtime, "cpu", "fp32")}
    found = memory_child.sessions({**asked, "count": 8, "seconds": 60})
    assert found["runtime"] == runtime
    assert len(found["memory_bytes"]) == 8


@needs_proc
def test_a_trial_run_fills_the_tables(tmp_path):
    import memory_table

    output = tmp_path / "memory.json"
    answer = subprocess.run(
        [sys.executable, BENCHMARKS / "memory.py", "--quick", "-o", output],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stderr
    document = json.loads(output.read_text())
    assert document["quick"]
    assert len(document["peaks"]) == 2
    for row in document["peaks"]:
        assert 2e7 < row["first_bytes"][0] <= row["later_bytes"][0]
    did = [(row["what"], row["source"], row["count"]) for row in document["slopes"]]
    counts = [("slope", one, 24) for one in ("array", "nii.gz", "dicom")]
    assert did == [*counts, ("cycles", "", 24), ("sessions", "", 24)]
    assert [row["handles_added"] for row in document["slopes"]] == [0] * len(did)
    assert document["machine"]["versions"]["onnxruntime"]
    lines = list(memory_table.rows(document))
    assert sum(line.startswith("| `smallest`") for line in lines) == 2
    assert sum("onnxruntime-cpu-fp32" in line for line in lines) == 6
    text = output.read_text()
    assert str(tmp_path.parent) not in text
    assert platform.node() not in text
