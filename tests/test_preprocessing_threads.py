"""However many threads there are, and however the voxels lie, the input is the same."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from ctedge import KERAS_EXAMPLE, SEVERITY_STUDY, CTScan, preprocess
from ctedge.planes import PlanesInMemory
from ctedge.preprocessing import resample
from ctedge.resampling import VOXELS_A_THREAD
from ctedge.spec import PreprocessSpec
from patience import PATIENCE_S, wait_for

#: Both orders of axes, small, and the one with a mask; the slowest axis makes five shares or more.
ROWS_FIRST = replace(KERAS_EXAMPLE, name="rows first", shape=(44, 48, 40))
SLICES_FIRST = replace(SEVERITY_STUDY, name="slices first", shape=(40, 44, 48))
LUNGS = replace(SLICES_FIRST, name="lungs", lungs_only=True)
SPECS = (ROWS_FIRST, SLICES_FIRST, LUNGS)

#: float32 has steps of 6e-8 below 1; three interpolations and a scaling stay within a few steps.
ROUNDING = 1e-6


@pytest.fixture
def voxels(rng) -> np.ndarray:
    """Some axes are shrunk, some enlarged, and the window cuts on both sides."""
    return rng.integers(-1500, 900, (150, 70, 31)).astype(np.int16)


class Watched(np.ndarray):
    """Notes in which threads its planes are taken, and fails at one of them."""

    names: set[str]
    bad: int

    def __array_finalize__(self, other: object) -> None:
        self.names, self.bad = getattr(other, "names", set()), getattr(other, "bad", -1)

    def __getitem__(self, key):
        if isinstance(key, int):
            self.names.add(threading.current_thread().name)
            if key == self.bad:
                raise MemoryError("no plane here")
        return np.asarray(self)[key] if isinstance(key, int) else super().__getitem__(key)


def watched(voxels: np.ndarray, bad: int = -1) -> tuple[CTScan, Watched]:
    array = voxels.view(Watched)
    array.names, array.bad = set(), bad
    return replace(CTScan.from_array(voxels), planes=PlanesInMemory(array)), array


def mask_of(spec: PreprocessSpec, voxels: np.ndarray) -> np.ndarray | None:
    return voxels % 3 > 0 if spec.lungs_only else None


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "i4", "<f2", "f4", ">f4", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_number_of_threads_changes_no_bit(voxels, spec, dtype, order):
    laid = (voxels % 256 if dtype == "u1" else voxels).astype(dtype, order=order)
    scan, mask = CTScan.from_array(laid), mask_of(spec, voxels)
    alone = resample(scan, spec, lung_mask=mask, threads=1)
    for threads in (2, 4):
        several = resample(scan, spec, lung_mask=mask, threads=threads)
        np.testing.assert_array_equal(several.volume, alone.volume)
        assert (several.lowest_hu, several.highest_hu) == (alone.lowest_hu, alone.highest_hu)
    as_found = resample(scan, spec, lung_mask=mask)
    np.testing.assert_array_equal(as_found.volume, alone.volume)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_an_axis_that_lies_backwards_in_memory_changes_no_bit(voxels, spec, axes):
    mask = mask_of(spec, voxels)
    backwards = np.flip(np.flip(voxels, axes).copy(), axes)
    np.testing.assert_array_equal(backwards, voxels)
    np.testing.assert_array_equal(
        preprocess(backwards, spec, lung_mask=mask), preprocess(voxels, spec, lung_mask=mask)
    )


@pytest.mark.parametrize("window", [(-1000.5, 399.75), (-30000.0, 30000.0), (-50000.0, 60.0)])
@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "u2", "i8", "f2", "f4"])
def test_any_window_is_kept_in_any_number_type(rng, dtype, window):
    """Those that 16 bits do not hold, or not the differences of, and those that are no integers."""
    kind = np.dtype(dtype)
    least, most = (-1000, 900) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    values = rng.integers(max(least, -32768), min(most, 65535), (33, 40, 21)).astype(dtype)
    for spec in (replace(one, name="odd", hu_window=window) for one in SPECS):
        mask = mask_of(spec, np.arange(values.size).reshape(values.shape))
        found = preprocess(values, spec, lung_mask=mask)
        exact = preprocess(values.astype(np.float64), spec, lung_mask=mask)
        np.testing.assert_allclose(found, exact, rtol=0, atol=ROUNDING)
        assert found.min() >= 0.0
        assert found.max() <= 1.0 + ROUNDING


def test_numbers_that_float32_does_not_hold_are_clipped_without_a_warning():
    voxels = np.full((4, 4, 4), 1e300)
    voxels[0] = -1e300
    result = preprocess(voxels)
    assert (result.min(), result.max()) == (0.0, 1.0)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_an_error_in_any_thread_is_raised_and_leaves_none_behind(voxels, threads):
    before = set(threading.enumerate())  # some of which may end meanwhile
    scan, array = watched(voxels, bad=149)  # the last plane, of the last share
    with pytest.raises(MemoryError, match="no plane here"):
        resample(scan, ROWS_FIRST, threads=threads)
    assert set(threading.enumerate()) <= before
    array.bad = -1
    np.testing.assert_array_equal(
        resample(scan, ROWS_FIRST, threads=threads).volume, preprocess(voxels, ROWS_FIRST)
    )
    assert set(threading.enumerate()) <= before


def test_where_no_third_thread_starts_what_the_second_saw_counts(voxels, monkeypatch):
    start, begun, here = threading.Thread.start, [], threading.current_thread()
    out = np.full(ROWS_FIRST.shape, np.nan, np.float32)
    tried = threading.Event()

    class Held(np.ndarray):
        """The second thread is at work until a third is tried: one that is idle would be taken."""

        def __getitem__(self, key):
            if isinstance(key, int) and threading.current_thread() is not here:
                tried.wait(PATIENCE_S)
            return np.asarray(self)[key] if isinstance(key, int) else super().__getitem__(key)

    def scarce(thread: threading.Thread) -> None:
        begun.append(thread)
        if len(begun) > 1:
            tried.set()
            wait_for(lambda: not np.isnan(out).any())  # the second does all of it
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    held = PlanesInMemory(voxels.view(Held))
    scan = replace(CTScan.from_array(voxels), planes=held)
    found = resample(scan, ROWS_FIRST, threads=3, out=out)
    assert len(begun) == 2
    alone = resample(CTScan.from_array(voxels), ROWS_FIRST, threads=1)
    assert (found.lowest_hu, found.highest_hu) == (alone.lowest_hu, alone.highest_hu)
    np.testing.assert_array_equal(out, alone.volume)


def test_a_small_scan_is_not_worth_a_thread(chest):
    scan, array = watched(chest)
    resample(scan, KERAS_EXAMPLE)
    assert chest.size < VOXELS_A_THREAD
    assert array.names == {threading.current_thread().name}


def test_many_callers_at_once_get_the_answer_of_one(voxels):
    alone = preprocess(voxels, ROWS_FIRST)
    before = set(threading.enumerate())  # some of which may end meanwhile
    with ThreadPoolExecutor(8) as pool:
        scans = [CTScan.from_array(voxels)] * 24
        found = list(pool.map(lambda one: resample(one, ROWS_FIRST, threads=4).volume, scans))
    assert all(np.array_equal(one, alone) for one in found)
    assert set(threading.enumerate()) <= before


def test_a_large_array_is_worth_a_thread(monkeypatch):
    start, begun = threading.Thread.start, []

    def watched(thread: threading.Thread) -> None:
        begun.append(thread.name)
        start(thread)

    large = np.zeros((256, 256, 128), np.int16)
    monkeypatch.setattr("ctedge.resampling.usable_cpus", lambda: 2)
    monkeypatch.setattr(threading.Thread, "start", watched)
    resample(CTScan.from_array(large), KERAS_EXAMPLE)
    assert [name.rpartition("_")[0] for name in begun] == ["ctedge-preprocess"]
