"""The published pipeline against ours, and ours against two limits, on a 512 x 512 x 300 scan.

The limits are measured in the same run, with the same number of threads:

- memory: every row that the output reads is copied once into an array that stays in the cache, and
  nothing else is done (34 MB of int16). No program can be faster.
- arithmetic: the same work on planes that are always the same one, and so never come from memory.
  NumPy has no operation that does several steps in one pass: of each of 128 slices, 256 rows of 512
  voxels are looked through for both extremes, clipped, subtracted, multiplied and added, then
  planes are mixed in three passes, and two columns are picked of four. A compiled loop would do all
  of it while the row is in registers; that is what staying without a compiled dependency costs.

Ours may take little more than both together, for a core cannot do both at once from NumPy.
A float array is also looked through for what is not finite, all of it, when it is made a CTScan:
that is `check_ms`, and not part of the ratio.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import ndimage

from ctedge import KERAS_EXAMPLE, SEVERITY_STUDY, CTScan, preprocess
from ctedge.preprocessing import resample
from ctedge.resampling import Resampling
from ctedge.taps import Taps

#: The promise: this many times faster than the published pipeline.
TIMES_FASTER = 300

ADDED_MEMORY_MIB = 16

#: Of memory and arithmetic together: what may be lost between them.
TIMES_BOTH_LIMITS = 1.5

SPECS = {spec.name: spec for spec in (KERAS_EXAMPLE, SEVERITY_STUDY)}

#: How an array may arrive. Z, Y, X in C order is a scan whose first axis is the fastest.
LAID = {
    "int16, X fastest": lambda scan: scan,
    "int16, Z fastest": np.ascontiguousarray,
    "float32, X fastest": lambda scan: scan.astype(np.float32),
    "float64, X fastest": lambda scan: scan.astype(np.float64),
}

#: Of ours, and of the published pipeline, which takes ten seconds; each after one that warms up.
ROUNDS, PUBLISHED_ROUNDS = 15, 3


def published_pipeline(voxels: np.ndarray) -> np.ndarray:
    """As the Keras example writes it, from `get_fdata()` on."""
    volume = voxels.astype(np.float64)
    volume[volume < -1000] = -1000
    volume[volume > 400] = 400
    volume = ((volume + 1000) / 1400).astype("float32")
    volume = ndimage.rotate(volume, 90, reshape=False)
    factors = [want / have for want, have in zip((128, 128, 64), volume.shape, strict=True)]
    return ndimage.zoom(volume, factors, order=1)


def test_preprocess_keras_example(benchmark, large_scan):
    published_s = _median_s(lambda: published_pipeline(large_scan), PUBLISHED_ROUNDS)
    result = benchmark.pedantic(preprocess, (large_scan,), rounds=20, warmup_rounds=2)
    assert np.abs(result - published_pipeline(large_scan)).max() <= 1e-6
    ratio = published_s / benchmark.stats.stats.median
    tracemalloc.start()
    preprocess(large_scan)
    added_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    benchmark.extra_info |= {
        "published_pipeline_s": round(published_s, 3),
        "published_rounds": PUBLISHED_ROUNDS,
        "times_faster": round(ratio),
        "added_memory_mib": round(added_mib, 1),
    }
    assert ratio >= TIMES_FASTER
    assert added_mib <= ADDED_MEMORY_MIB


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("laid", LAID)
def test_preprocess_and_its_limits(benchmark, large_scan, laid, name):
    voxels, spec = LAID[laid](large_scan), SPECS[name]
    start = time.perf_counter()
    scan = CTScan.from_array(voxels)
    check_s = time.perf_counter() - start
    limits = _Limits(voxels, spec)
    memory_s, arithmetic_s = _median_s(limits.memory), _median_s(limits.arithmetic)
    benchmark.pedantic(resample, (scan, spec), rounds=ROUNDS, warmup_rounds=2)
    took_s = benchmark.stats.stats.median
    alone_s = _median_s(lambda: resample(scan, spec, threads=1))
    benchmark.extra_info |= {
        "threads": limits.threads,
        "touched_mb": round(limits.touched_bytes / 1e6, 1),
        "memory_ms": round(memory_s * 1e3, 2),
        "arithmetic_ms": round(arithmetic_s * 1e3, 2),
        "check_ms": round(check_s * 1e3, 1),
        "one_thread_ms": round(alone_s * 1e3, 2),
        "times_memory": round(took_s / memory_s, 2),
        "times_both": round(took_s / (memory_s + arithmetic_s), 2),
    }
    assert took_s <= TIMES_BOTH_LIMITS * (memory_s + arithmetic_s)


def test_preprocess_into_float16(benchmark, large_scan):
    """What an engine with a float16 input would cost the host, which rounds the volume for it."""
    scan = CTScan.from_array(large_scan)
    halves, wholes = (np.empty(KERAS_EXAMPLE.shape, dtype) for dtype in (np.float16, np.float32))
    added_s = []

    def cpu_s(out: np.ndarray) -> float:
        start = time.process_time()
        resample(scan, KERAS_EXAMPLE, out=out)
        return time.process_time() - start

    def one_pair() -> None:
        whole_s = cpu_s(wholes)
        added_s.append(cpu_s(halves) - whole_s)

    benchmark.pedantic(one_pair, rounds=3 * ROUNDS, warmup_rounds=2)
    benchmark.extra_info |= {
        "added_cpu_ms": round(statistics.median(added_s) * 1e3, 2),
        "spared_mb": round((wholes.nbytes - halves.nbytes) / 1e6, 1),
    }
    assert np.abs(halves - wholes).max() <= np.finfo(np.float16).eps


class _Limits:
    """The two parts of the work, each alone."""

    def __init__(self, voxels: np.ndarray, spec) -> None:
        order = np.argsort([-stride for stride in voxels.strides], kind="stable")
        sides = ("LR", "AP", "SI")
        places = [next(p for p, s in enumerate(spec.axes) if s in sides[axis]) for axis in order]
        self._walked = voxels.transpose(order)
        taps = [Taps.of(voxels.shape[a], spec.shape[p]) for a, p in zip(order, places, strict=True)]
        self._planes = taps[0].inputs()
        self._rows = np.array(taps[1].inputs())
        self._same = self._walked[self._planes[len(self._planes) // 2]]
        self._work = Resampling(
            fetch=lambda _index: self._same,
            taps=tuple(taps),
            columns=self._walked.shape[2],
            window=spec.hu_window,
            mask=None,
            volume=np.empty(spec.shape, np.float32).transpose(places),
        )
        self.threads = self._work.helpful_threads()
        row_bytes = self._walked.shape[2] * voxels.itemsize
        self.touched_bytes = len(self._planes) * len(self._rows) * row_bytes
        self._pool = ThreadPoolExecutor(self.threads)

    def memory(self) -> None:
        """Copy each row that is read, once."""
        shares = [self._planes[start :: self.threads] for start in range(self.threads)]
        list(self._pool.map(self._copy, shares))

    def arithmetic(self) -> None:
        """All of the work, on one plane."""
        self._work.run(self.threads)

    def _copy(self, planes: list[int]) -> None:
        cached = np.empty((len(self._rows), self._walked.shape[2]), self._walked.dtype)
        for index in planes:
            self._walked[index].take(self._rows, axis=0, out=cached, mode="clip")


def _median_s(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
