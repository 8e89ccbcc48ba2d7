"""A .nii.gz is inflated in a thread while its planes are used: same answers, same errors."""

from __future__ import annotations

import gzip
import threading

import nibabel as nib
import numpy as np
import pytest

from ctedge import KERAS_EXAMPLE, SEVERITY_STUDY, UnreadableScan, preprocess, read_scan
from ctedge.readers import inflate


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file then comes in as many pieces as a scan."""
    monkeypatch.setattr(inflate, "_CHUNK_BYTES", 1024)
    monkeypatch.setattr(inflate, "_STEP_BYTES", 3000)


@pytest.fixture
def voxels(rng) -> np.ndarray:
    """(X, Y, Z) int16, first axis fastest, as a file has it; some planes are read by no input."""
    return np.asfortranarray(rng.integers(-1000, 1000, (24, 20, 150)).astype(np.int16))


@pytest.fixture
def path(tmp_path, voxels, las_affine):
    target = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(voxels, las_affine), target)
    return target


@pytest.mark.parametrize("spec", [KERAS_EXAMPLE, SEVERITY_STUDY], ids=lambda spec: spec.name)
def test_a_file_and_its_array_give_the_same_input_bit_for_bit(path, voxels, spec):
    scan = read_scan(path)
    expected = preprocess(voxels, spec)
    np.testing.assert_array_equal(preprocess(scan, spec), expected)
    np.testing.assert_array_equal(preprocess(scan, spec), expected)  # of planes that were kept
    np.testing.assert_array_equal(scan.voxels, voxels)


@pytest.mark.parametrize(
    "asked", [[7], [0, 149], [149, 3, 0], [5, 0, 5, 5, 140, 3, 0], range(149, -1, -1)], ids=str
)
@pytest.mark.parametrize("kept_bytes", [0, 5000, 1 << 20])
def test_planes_come_in_the_order_asked_for(path, voxels, asked, kept_bytes):
    scan = read_scan(path)
    scan.planes.kept_bytes = kept_bytes
    for _ in range(2):
        for index, plane in zip(asked, scan.planes.each(asked), strict=True):
            np.testing.assert_array_equal(plane, voxels[:, :, index])


def cut(path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:count])


def test_planes_come_before_the_file_is_inflated_to_its_end(path, voxels):
    cut(path, path.stat().st_size * 9 // 10)
    planes = read_scan(path).planes.each(range(150))
    for index in range(100):
        np.testing.assert_array_equal(next(planes), voxels[:, :, index])
    with pytest.raises(UnreadableScan, match="ends too early"):
        list(planes)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.55, 0.8, 0.95, 0.999])
def test_a_file_that_is_cut_off_anywhere_gives_no_input(path, share):
    before = set(threading.enumerate())  # some of which may end meanwhile
    cut(path, int(path.stat().st_size * share))
    scan = read_scan(path)
    for use in (preprocess, lambda scan: scan.voxels, lambda scan: next(scan.planes.each([0]))):
        with pytest.raises(UnreadableScan, match="ends too early"):
            use(scan)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("last_read", [0, 100, 149])
def test_the_last_plane_is_not_given_before_the_checksum(path, last_read):
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # of the CRC-32, after all voxels
    path.write_bytes(data)
    planes = read_scan(path).planes.each([last_read])
    with pytest.raises(UnreadableScan, match="damaged"):
        next(planes)
    with pytest.raises(UnreadableScan, match="damaged"):
        preprocess(read_scan(path))


def test_a_stream_that_holds_fewer_voxels_is_refused(path):
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain[:-1]))
    with pytest.raises(UnreadableScan, match="fewer voxels"):
        preprocess(read_scan(path))


@pytest.mark.parametrize("taken", [0, 1, 60, 150])
def test_breaking_off_ends_the_thread(path, voxels, taken):
    before = set(threading.enumerate())  # some of which may end meanwhile
    scan = read_scan(path)
    planes = scan.planes.each(range(150))
    for _ in range(taken):
        next(planes)
    planes.close()
    assert set(threading.enumerate()) <= before
    np.testing.assert_array_equal(next(scan.planes.each([20])), voxels[:, :, 20])


def test_a_file_that_has_gone_is_named(path):
    scan = read_scan(path)
    path.unlink()
    with pytest.raises(UnreadableScan, match=r"scan\.nii\.gz: cannot be read"):
        preprocess(scan)
