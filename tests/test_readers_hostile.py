"""NIfTI made to cost memory or time: refused by the header and the length of the file."""

from __future__ import annotations

import gzip
import resource
import struct

import nibabel as nib
import numpy as np
import pytest

from ctedge import (
    NonFiniteVoxels,
    UnreadableScan,
    UnsupportedGeometry,
    preprocess,
    read_scan,
)
from ctedge.readers import inflate


def head(shape: tuple[int, ...], dtype: str = "<i2", *, second: bool = False) -> bytearray:
    """A header, and the four bytes that say that no extension follows."""
    kind = nib.Nifti2Header if second else nib.Nifti1Header
    header = kind(endianness="<")
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(dtype))
    header.set_sform(np.diag([-0.7, 0.7, 5.0, 1.0]), code=1)
    header["vox_offset"] = header.single_vox_offset
    return bytearray(header.binaryblock + bytes(header.single_vox_offset - header.sizeof_hdr))


def peak_bytes() -> int:
    """The most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


TOO_LARGE = {
    "a slice": ((20_000, 20_000, 20), False),
    "a row": ((20_000, 20, 20), False),
    "more slices than any scan": ((1, 1, 1 << 40), True),
    "in all": ((9000, 9000, 9000), True),
    "beyond any number": ((1 << 62, 1 << 62, 1 << 62), True),
}


@pytest.mark.parametrize("case", TOO_LARGE)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_larger_than_any_scan(tmp_path, case, suffix):
    shape, second = TOO_LARGE[case]
    data = bytes(head(shape, second=second)) + bytes(5000)
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    with pytest.raises(UnsupportedGeometry, match="larger than any CT volume"):
        read_scan(path)


@pytest.mark.parametrize("dtype", ["<i2", "<f4"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_more_voxels_than_the_file_can_hold(tmp_path, dtype, suffix):
    """Also compressed: no byte of gzip becomes more than 1032."""
    data = bytes(head((1000, 1000, 400), dtype)) + bytes(5000)
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    with pytest.raises(UnreadableScan, match="fewer voxels than the header promises"):
        read_scan(path)


@pytest.mark.parametrize("dtype", ["<i2", "<f4"])
def test_a_bomb_behind_a_volume_is_not_inflated(tmp_path, dtype):
    volume = bytes(head((20, 20, 20), dtype)) + bytes(20**3 * np.dtype(dtype).itemsize)
    path = tmp_path / "scan.nii.gz"
    # Members of 64 MiB each: a GiB in a file of one MiB.
    path.write_bytes(gzip.compress(volume) + gzip.compress(bytes(1 << 26), 6) * 16)
    before = peak_bytes()
    with pytest.raises(UnreadableScan, match="more data than the volume"):
        preprocess(read_scan(path))
    assert peak_bytes() - before < 256 << 20


@pytest.mark.parametrize("dtype", ["<i2", "<f4"])
def test_a_file_far_longer_than_its_volume_is_not_read_to_its_end(tmp_path, dtype):
    path = tmp_path / "scan.nii"
    path.write_bytes(bytes(head((20, 20, 20), dtype)) + bytes(20**3 * np.dtype(dtype).itemsize))
    with path.open("r+b") as stream:
        stream.truncate(2 << 30)  # takes no room on the disk
    before = peak_bytes()
    assert read_scan(path).voxels.shape == (20, 20, 20)
    assert peak_bytes() - before < 256 << 20


def test_a_volume_that_never_ends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(inflate, "MAX_BYTES", 1 << 20)
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(bytes(head((200, 200, 20))) + bytes(200 * 200 * 20 * 2)))
    with pytest.raises(UnreadableScan, match="more data than"):
        _ = read_scan(path).voxels


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e7])
@pytest.mark.parametrize("place", [280, 292, 324])  # srow_x, and an offset
def test_an_orientation_that_leads_far_away(tmp_path, place, value):
    data = head((20, 20, 20)) + bytes(16000)
    data[place : place + 4] = struct.pack("<f", value)
    path = tmp_path / "scan.nii"
    path.write_bytes(data)
    with pytest.raises(UnsupportedGeometry, match="far away"):
        read_scan(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaling_beyond_what_a_number_holds(tmp_path, suffix):
    data = head((20, 20, 20)) + np.full(8000, 1000, "<i2").tobytes()
    data[112:120] = struct.pack("<ff", 3e38, 0.5)
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    scan = read_scan(path)
    with pytest.raises(NonFiniteVoxels, match="scl_slope 3e"):
        preprocess(scan)
    with pytest.raises(NonFiniteVoxels, match="scl_slope 3e"):
        _ = scan.voxels


def test_a_header_whose_voxels_are_in_another_file(tmp_path):
    data = head((20, 20, 20)) + bytes(16000)
    data[344:348] = b"ni1\0"
    path = tmp_path / "scan.hdr"
    path.write_bytes(data)
    with pytest.raises(UnreadableScan, match="in another file"):
        read_scan(path)


def test_the_signs_of_voxel_sizes_turn_nothing(tmp_path):
    voxels = np.arange(8000, dtype="<i2")
    data = head((20, 20, 20)) + voxels.tobytes()
    data[252:256] = bytes(4)  # no qform, no sform
    data[80:92] = struct.pack("<3f", -0.7, 0.7, -5.0)
    path = tmp_path / "scan.nii"
    path.write_bytes(data)
    scan = read_scan(path)
    assert scan.orientation_assumed
    assert scan.spacing_mm == pytest.approx((0.7, 0.7, 5.0))
    np.testing.assert_array_equal(scan.voxels, voxels.reshape(20, 20, 20, order="F"))
