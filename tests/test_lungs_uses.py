"""How a segmenter's work ends: closed while it segments, forked, freed in a child process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy.ndimage", exc_type=ImportError)
pytest.importorskip("onnx", exc_type=ImportError)

from ctedge import CTScan, InferenceFailed, LungSegmenter, ModelBundle
from forked import in_forked_child, needs_fork
from lungmask_factory import two_sided
from lungs_watched import watched, write_bands
from patience import PATIENCE_S

THREADS = 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write_bands(tmp_path_factory.mktemp("lungs") / "bands.ctedge")


Opens = Callable[[], LungSegmenter]


@pytest.fixture(params=["onnxruntime", "openvino"])
def opens(request: pytest.FixtureRequest, bundle: ModelBundle) -> Opens:
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return lambda: LungSegmenter.load(bundle.path, device="cpu", runtime=request.param)


@pytest.fixture
def scan() -> CTScan:
    return two_sided()[0]


def test_closing_waits_for_a_scan_under_way_and_refuses_the_rest(opens: Opens, scan: CTScan):
    segmenter, begun, go = opens(), threading.Event(), threading.Event()
    expected = segmenter.segment(scan).labels

    def until_refused() -> None:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            segmenter.segment(scan)

    def wait() -> None:
        begun.set()
        assert go.wait(PATIENCE_S)

    with ThreadPoolExecutor(3) as pool:
        try:
            running = pool.submit(segmenter.segment, watched(scan, half_way=wait)[0])
            assert begun.wait(PATIENCE_S)
            closing = [pool.submit(segmenter.close) for _ in range(2)]
            with pytest.raises(InferenceFailed, match="was closed"):
                until_refused()
            assert not any(one.done() for one in closing)
        finally:
            go.set()
        np.testing.assert_array_equal(running.result(PATIENCE_S).labels, expected)
        for one in closing:
            one.result(PATIENCE_S)
    segmenter.close()


def test_closing_while_eight_threads_segment(opens: Opens, scan: CTScan):
    """Each hears of it before its next scan, and has whole answers until then."""
    segmenter = opens()
    expected = segmenter.segment(scan).labels
    begun, wrong = threading.Semaphore(0), list[np.ndarray]()

    def until_closed() -> tuple[str, list[list[int]]]:
        while True:
            given, planes = watched(scan, half_way=begun.release)
            try:
                found = segmenter.segment(given).labels
            except InferenceFailed as error:
                return error.what, planes.asked
            if not np.array_equal(found, expected):
                wrong.append(found)

    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(until_closed) for _ in range(THREADS)]
        try:
            for _ in range(2 * THREADS):
                assert begun.acquire(timeout=PATIENCE_S)
        finally:
            segmenter.close()
        said = [one.result(PATIENCE_S) for one in running]
    assert said == [("the model was closed", [])] * THREADS
    assert wrong == []
    with opens() as again:
        np.testing.assert_array_equal(again.segment(scan).labels, expected)


def test_closed_within_a_scan_it_says_so_and_stays_open(opens: Opens, scan: CTScan):
    """As a signal handler would, in the thread that segments: there is nothing to wait for."""
    with opens() as segmenter:
        given, _ = watched(scan, half_way=segmenter.close)
        with pytest.raises(InferenceFailed, match="cannot be closed within"):
            segmenter.segment(given)
        assert segmenter.segment(scan).labels.any()


@needs_fork
def test_a_forked_child_is_refused_and_the_parent_goes_on(opens: Opens, scan: CTScan):
    with opens() as segmenter:
        expected = segmenter.segment(scan).labels

        def use() -> str:
            try:
                segmenter.segment(scan)
            except InferenceFailed as error:
                segmenter.close()
                return f"{error}, closed"
            return "answered"

        said = in_forked_child(use)
        assert "forked" in said
        assert "load the model in the child" in said
        assert said.endswith(", closed")
        np.testing.assert_array_equal(segmenter.segment(scan).labels, expected)


@needs_fork
def test_freed_in_a_forked_child_it_does_not_hang(opens: Opens, scan: CTScan):
    held = [opens()]
    held[0].segment(scan)
    gone = weakref.ref(held[0])

    def free() -> str:
        held.clear()
        return f"freed: {gone() is None}"

    assert in_forked_child(free) == "freed: True"
    held[0].close()


DAEMONS = """
import sys, threading
sys.path.insert(0, sys.argv[3])
from ctedge import LungSegmenter
from lungmask_factory import two_sided
scan, begun = two_sided()[0], threading.Semaphore(0)
segmenter = LungSegmenter.load(sys.argv[1], device="cpu", runtime=sys.argv[2])

def work():
    while True:
        segmenter.segment(scan)
        begun.release()

for _ in range(12):
    threading.Thread(target=work, daemon=True).start()
for _ in range(12):
    begun.acquire()
"""


def test_a_program_ends_while_daemon_threads_segment(opens: Opens):
    """Python would end them within the runtime's C++, which aborts the process."""
    with opens() as segmenter:
        path, runtime = segmenter.bundle.path, segmenter.runtime.partition("-")[0]
    told = subprocess.run(
        [sys.executable, "-c", DAEMONS, path, runtime, Path(__file__).parent],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (told.stdout, told.stderr, told.returncode) == ("", "", 0)


def test_no_numpy_call_that_gives_up_pythons_lock_within_cpp(
    opens: Opens, scan: CTScan, monkeypatch: pytest.MonkeyPatch
):
    """A daemon thread that the program's end meets there aborts the process: see `np.unique`, which
    hashes where it is asked for nothing but the values.
    """
    sorts = np.unique

    def unique(values: object, **wanted: object) -> object:
        assert wanted.get("return_index") or wanted.get("return_counts")
        return sorts(values, **wanted)

    monkeypatch.setattr(np, "unique", unique)
    with opens() as segmenter:
        segmenter.segment(scan)
