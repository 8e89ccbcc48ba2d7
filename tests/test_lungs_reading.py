"""How the network that finds lungs reads a scan: every plane once, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("scipy.ndimage", exc_type=ImportError)
pytest.importorskip("onnx", exc_type=ImportError)

from conftest import LAS_AFFINE
from ctedge import CTScan, InferenceFailed, LungSegmenter, UnreadableScan, read_scan
from ctedge.readers import inflate
from lungmask_factory import SMALL, two_sided
from lungs_watched import watched, write_bands

SLICES = 24


@pytest.fixture
def scan() -> CTScan:
    return two_sided()[0]


@pytest.fixture
def segmenter(tmp_path: Path) -> Iterator[LungSegmenter]:
    bundle = write_bands(tmp_path / "bands.ctedge")
    with LungSegmenter.load(bundle.path, device="cpu", runtime="onnxruntime") as loaded:
        yield loaded


def test_planes_are_asked_for_once_and_held_one_at_a_time(segmenter: LungSegmenter, scan: CTScan):
    given, planes = watched(scan)
    np.testing.assert_array_equal(segmenter.segment(given).labels, segmenter.segment(scan).labels)
    assert planes.asked == [list(range(scan.shape[2]))]
    assert planes.most_held <= 2  # the one in use, and the next one as it comes


@pytest.fixture(params=[1, -1], ids=["upwards", "downwards"])
def path(request: pytest.FixtureRequest, tmp_path: Path, scan: CTScan) -> Path:
    """A .nii.gz whose planes lie in either order."""
    voxels = np.concatenate([scan.voxels] * (SLICES // scan.shape[2]), axis=2)[
        :, :, :: request.param
    ]
    affine = LAS_AFFINE @ np.diag([1, 1, request.param, 1])
    target = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(voxels, affine), target)
    return target


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are opened from now on."""
    found: list[Path] = []
    real = Path.open

    def noting(self: Path, *args: object, **named: object):
        found.append(self)
        return real(self, *args, **named)

    monkeypatch.setattr(Path, "open", noting)
    return found


def test_a_compressed_file_is_walked_through_once(
    segmenter: LungSegmenter, path: Path, opened: list[Path]
):
    """It is opened as often as where all planes are read one after the other."""

    def openings(read: Callable[[CTScan], object]) -> int:
        scan = read_scan(path)
        opened.clear()
        read(scan)
        return opened.count(path)

    alone = openings(lambda scan: list(scan.planes.each(range(SLICES))))
    assert openings(segmenter.segment) == alone > 0


def test_a_compressed_file_and_its_array_have_the_same_labels(segmenter: LungSegmenter, path: Path):
    whole = read_scan(path)
    assert whole.voxels.shape[2] == SLICES
    np.testing.assert_array_equal(
        segmenter.segment(read_scan(path)).labels, segmenter.segment(whole).labels
    )


def test_what_breaks_off_ends_the_reading(
    segmenter: LungSegmenter, path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also while the error is kept, which holds what raised it."""
    monkeypatch.setattr(inflate, "_STEP_BYTES", 20_000)
    logits = np.full((1, 3, *SMALL.shape), np.nan, np.float32)
    monkeypatch.setattr(segmenter._runtime, "run", lambda batch: {"logits": logits})
    before = set(threading.enumerate())  # some of which may end meanwhile
    with pytest.raises(InferenceFailed, match="none") as kept:
        segmenter.segment(read_scan(path))
    assert set(threading.enumerate()) <= before
    assert kept.value.__traceback__ is not None


def test_a_file_that_is_damaged_behind_its_voxels_is_refused(segmenter: LungSegmenter, path: Path):
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # of the CRC-32
    path.write_bytes(data)
    with pytest.raises(UnreadableScan, match="damaged"):
        segmenter.segment(read_scan(path))
