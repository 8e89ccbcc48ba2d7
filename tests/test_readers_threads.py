"""Reading where no thread can be started: in the one that asks, and to the same voxels."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ctedge import UnreadableScan, read_scan
from ctedge.readers import inflate
from ctedge.readers.dicom import planes as dicom_planes
from dicom_factory import write_series
from patience import PATIENCE_S

KINDS = [".nii", ".nii.gz", "dicom"]

#: A service that is started in a thread; the main one has nothing more to do. The time is for what
#: Python does then.
LATE = """
import sys, threading, time
import numpy as np
from ctedge import read_scan

def late():
    threading.main_thread().join()
    time.sleep(0.2)
    try:
        np.save(sys.argv[2], read_scan(sys.argv[1]).voxels)
    except BaseException as error:
        print(type(error), error)
        raise

threading.Thread(target=late).start()
"""


@pytest.fixture
def written(tmp_path, rng, las_affine) -> Callable[[str], Path]:
    def write(kind: str) -> Path:
        volume = rng.integers(-1000, 1200, (30, 28, 90)).astype(np.int16)
        if kind == "dicom":
            return write_series(tmp_path / "series", volume.transpose(2, 1, 0))[0].parent
        path = tmp_path / f"scan{kind}"
        nibabel.save(nibabel.Nifti1Image(volume, las_affine), path)
        return path

    return write


@pytest.fixture
def no_threads(monkeypatch) -> Callable[[int], None]:
    """After so many, the system has no more for this user; as many as there are CPUs are wanted."""
    monkeypatch.setattr(dicom_planes, "usable_cpus", lambda: 4)
    monkeypatch.setattr(inflate, "_CHUNK_BYTES", 1024)
    monkeypatch.setattr(inflate, "_STEP_BYTES", 3000)
    start = threading.Thread.start

    def limit(count: int) -> None:
        started: list[threading.Thread] = []

        def scarce(thread: threading.Thread) -> None:
            if len(started) >= count:
                raise RuntimeError("can't start new thread")
            started.append(thread)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", scarce)

    return limit


@pytest.mark.parametrize("before", ["", "import concurrent.futures.thread"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_reads_after_the_main_thread_has_ended(written, tmp_path, kind, before):
    path = written(kind)
    target = tmp_path / "read.npy"
    child = [sys.executable, "-c", before + LATE, path, target]
    ended = subprocess.run(child, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    np.testing.assert_array_equal(np.load(target), read_scan(path).voxels)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_threads_that_cannot_be_started_are_done_without(written, no_threads, kind, count):
    path = written(kind)
    expected = read_scan(path).voxels
    no_threads(count)
    before = set(threading.enumerate())  # some of which may end meanwhile
    np.testing.assert_array_equal(read_scan(path).voxels, expected)
    asked = [80, 3, 3, 41]
    for index, plane in zip(asked, read_scan(path).planes.each(asked), strict=True):
        np.testing.assert_array_equal(plane, expected[:, :, index])
    planes = read_scan(path).planes.each(asked)
    next(planes)
    planes.close()
    assert set(threading.enumerate()) <= before


def test_a_damaged_file_is_found_all_the_same(written, no_threads):
    path = written(".nii.gz")
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # of the checksum
    path.write_bytes(data)
    no_threads(0)
    with pytest.raises(UnreadableScan, match="damaged"):
        _ = read_scan(path).voxels


def test_a_slice_that_has_gone_is_found_all_the_same(written, no_threads):
    path = written("dicom")
    scan = read_scan(path)
    (path / "040.dcm").unlink()
    no_threads(0)
    with pytest.raises(UnreadableScan, match=r"040\.dcm: cannot be read"):
        _ = scan.voxels
