from __future__ import annotations

import contextlib
import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from ctedge import (
    NonFiniteVoxels,
    ScanNotFound,
    UnreadableScan,
    UnsupportedGeometry,
    read_scan,
)
from ctedge.readers import inflate


def save(path, voxels, affine, **header):
    image = nib.Nifti1Image(voxels, affine)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", "<u2", "u1", "<f4", "<f8", ">f4"])
def test_reads_voxels_type_and_geometry(tmp_path, chest, las_affine, dtype, suffix):
    voxels = np.abs(chest % 200).astype(dtype)
    path = tmp_path / f"scan{suffix}"
    endian = ">" if dtype.startswith(">") else "<"
    image = nib.Nifti1Image(voxels, las_affine, nib.Nifti1Header(endianness=endian))
    image.set_data_dtype(dtype)
    nib.save(image, path)
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.voxels, voxels)
    np.testing.assert_allclose(scan.affine, las_affine)
    assert scan.voxels.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
    assert scan.source == str(path)
    assert not scan.orientation_assumed


def test_reads_nifti_2(tmp_path, chest, las_affine):
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti2Image(chest, las_affine), path)
    np.testing.assert_array_equal(read_scan(path).voxels, chest)


def with_scaling(path, stored, affine, slope, intercept):
    """A file whose scl_slope and scl_inter stand in the header, the stored values untouched."""
    save(path, stored, affine)
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<ff", slope, intercept)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "kind"),
    [
        ("<u2", 1, -1024, np.int16),
        ("<i2", 2, -30000, np.int16),
        ("<i2", 20, -1024, np.int32),
        ("<u2", 0.5, -1024, np.float32),
        ("<f4", 2, -1024, np.float32),
        ("<i2", 1, 0, np.int16),
    ],
)
def test_scaling_gives_hu_and_keeps_whole_numbers_whole(
    tmp_path, rng, las_affine, dtype, slope, intercept, kind
):
    stored = rng.integers(0, 4000, (20, 20, 18)).astype(dtype)
    path = with_scaling(tmp_path / "scan.nii", stored, las_affine, slope, intercept)
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.voxels, nib.load(path).get_fdata())
    assert scan.voxels.dtype == kind


def test_the_qform_serves_where_there_is_no_sform(tmp_path, chest, las_affine):
    path = tmp_path / "scan.nii"
    image = nib.Nifti1Image(chest, None)
    image.set_qform(las_affine, code=1)
    nib.save(image, path)
    scan = read_scan(path)
    np.testing.assert_allclose(scan.affine, las_affine, atol=1e-5)
    assert not scan.orientation_assumed


def test_without_any_orientation_las_is_assumed_and_said(tmp_path, chest):
    path = tmp_path / "scan.nii"
    image = nib.Nifti1Image(chest, None)
    image.header.set_zooms((0.7, 0.7, 5.0))
    nib.save(image, path)
    scan = read_scan(path)
    assert scan.orientation_assumed
    assert scan.spacing_mm == pytest.approx((0.7, 0.7, 5.0))
    np.testing.assert_array_equal(scan.voxels, chest)


def test_a_single_time_point_is_one_volume(tmp_path, chest, las_affine):
    path = save(tmp_path / "scan.nii", chest[..., np.newaxis], las_affine)
    assert read_scan(path).shape == chest.shape


def test_gzip_is_recognised_by_its_bytes_not_its_name(tmp_path, chest, las_affine):
    whole = save(tmp_path / "whole.nii.gz", chest, las_affine)
    renamed = tmp_path / "scan.nii"
    renamed.write_bytes(whole.read_bytes())
    np.testing.assert_array_equal(read_scan(renamed).voxels, chest)


def test_a_file_of_several_gzip_members_is_read_whole(tmp_path, chest, las_affine):
    plain = save(tmp_path / "plain.nii", chest, las_affine).read_bytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(plain[:5000]) + gzip.compress(plain[5000:]) + bytes(512))
    np.testing.assert_array_equal(read_scan(path).voxels, chest)


@pytest.mark.parametrize("cut", [-2, -1, 0, 1, 2])
def test_a_gzip_member_may_end_anywhere(tmp_path, rng, las_affine, cut, monkeypatch):
    monkeypatch.setattr(inflate, "_CHUNK_BYTES", 4096)
    voxels = rng.integers(-1000, 1000, (32, 32, 20)).astype(np.int16)
    plain = save(tmp_path / "plain.nii", voxels, las_affine).read_bytes()
    first = gzip.compress(plain[:6000], compresslevel=0, mtime=0)
    while len(first) % 4096 != cut % 4096:  # the header's comment field pads it to the byte
        first = (
            first[:3]
            + bytes([16])
            + first[4:10]
            + b"x" * ((cut - len(first) - 1) % 4096)
            + (b"\0" + first[10:])
        )
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(first + gzip.compress(plain[6000:]))
    np.testing.assert_array_equal(read_scan(path).voxels, voxels)


def test_many_small_gzip_members_are_read_whole(tmp_path, chest, las_affine):
    """Some programs pack a file in blocks; parallel ones leave empty ones."""
    plain = save(tmp_path / "plain.nii", chest, las_affine).read_bytes()
    path = tmp_path / "scan.nii.gz"
    blocks = (plain[at : at + 999] for at in range(0, len(plain), 999))
    path.write_bytes(b"".join(gzip.compress(b"") + gzip.compress(block, 0) for block in blocks))
    np.testing.assert_array_equal(read_scan(path).voxels, chest)


class TestBadFiles:
    def test_a_bomb_behind_a_small_header(self, tmp_path, chest, las_affine):
        plain = save(tmp_path / "plain.nii", chest, las_affine).read_bytes()
        path = tmp_path / "scan.nii.gz"
        path.write_bytes(gzip.compress(plain + bytes(1 << 27), compresslevel=1))
        with pytest.raises(UnreadableScan, match="more data than the volume"):
            _ = read_scan(path).voxels

    def test_an_empty_path(self):
        with pytest.raises(ScanNotFound, match="empty"):
            read_scan("")

    def test_missing(self, tmp_path):
        with pytest.raises(ScanNotFound, match="no such file"):
            read_scan(tmp_path / "nothing.nii.gz")

    def test_empty(self, tmp_path):
        path = tmp_path / "scan.nii.gz"
        path.touch()
        with pytest.raises(UnreadableScan, match="empty"):
            read_scan(path)

    @pytest.mark.parametrize("keep", [0.02, 0.5, 0.999])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_truncated(self, tmp_path, chest, las_affine, keep, suffix):
        path = save(tmp_path / f"scan{suffix}", chest, las_affine)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(UnreadableScan):
            _ = read_scan(path).voxels

    def test_one_changed_byte_in_the_gzip_stream(self, tmp_path, chest, las_affine):
        path = save(tmp_path / "scan.nii.gz", chest, las_affine)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
        with pytest.raises(UnreadableScan, match="damaged"):
            _ = read_scan(path).voxels

    @pytest.mark.parametrize(
        "content", [b"hello", b"\x1f\x8b", b"PK\x03\x04" + bytes(600), bytes(348), bytes(5000)]
    )
    def test_not_nifti(self, tmp_path, content):
        path = tmp_path / "scan.nii"
        path.write_bytes(content)
        with pytest.raises(UnreadableScan):
            read_scan(path)

    @pytest.mark.parametrize("shape", [(20, 20), (20, 20, 18, 2), (20,)])
    def test_not_three_axes(self, tmp_path, las_affine, shape):
        path = save(tmp_path / "scan.nii", np.zeros(shape, np.int16), las_affine)
        with pytest.raises(UnsupportedGeometry, match="three axes"):
            read_scan(path)

    @pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
    def test_not_real_numbers(self, tmp_path, las_affine, dtype):
        path = save(tmp_path / "scan.nii", np.zeros((20, 20, 18), dtype), las_affine)
        with pytest.raises(UnreadableScan, match="no real numbers"):
            read_scan(path)

    def test_a_type_of_numbers_that_nifti_does_not_know(self, tmp_path, chest, las_affine):
        path = save(tmp_path / "scan.nii", chest, las_affine)
        data = bytearray(path.read_bytes())
        data[70:72] = struct.pack("<h", 99)
        path.write_bytes(data)
        with pytest.raises(UnreadableScan, match="header is broken") as caught:
            read_scan(path)
        assert caught.value.found == "datatype 99"

    def test_header_that_promises_more_than_the_file_holds(self, tmp_path, chest, las_affine):
        path = save(tmp_path / "scan.nii", chest, las_affine)
        data = bytearray(path.read_bytes())
        data[40:56] = struct.pack("<8h", 3, 2000, 2000, 400, 1, 1, 1, 1)
        path.write_bytes(data)
        with pytest.raises(UnreadableScan, match="fewer voxels"):
            read_scan(path)

    def test_nan(self, tmp_path, chest, las_affine):
        broken = chest.astype(np.float32)
        broken[0, 0, 0] = np.nan
        with pytest.raises(NonFiniteVoxels):
            read_scan(save(tmp_path / "scan.nii", broken, las_affine))

    def test_nan_in_the_scaling(self, tmp_path, chest, las_affine):
        path = with_scaling(tmp_path / "scan.nii", chest, las_affine, 1.0, np.inf)
        with pytest.raises((NonFiniteVoxels, UnreadableScan)):
            read_scan(path)

    @pytest.mark.parametrize("offset", [np.inf, np.nan, -1.0, 1e30, 0.0])
    def test_an_absurd_data_offset(self, tmp_path, chest, las_affine, offset):
        path = save(tmp_path / "scan.nii", chest, las_affine)
        data = bytearray(path.read_bytes())
        data[108:112] = struct.pack("<f", offset)
        path.write_bytes(data)
        with pytest.raises(UnreadableScan):
            read_scan(path)

    def test_a_damaged_quaternion(self, tmp_path, chest, las_affine):
        path = save(tmp_path / "scan.nii", chest, las_affine, sform_code=0, qform_code=1)
        data = bytearray(path.read_bytes())
        data[256:268] = struct.pack("<3f", 3.0, 3.0, 3.0)
        path.write_bytes(data)
        with pytest.raises(UnreadableScan, match="orientation"):
            read_scan(path)

    @pytest.mark.parametrize("sform_code", [0, 1])
    @pytest.mark.parametrize("seed", range(30))
    def test_random_damage_to_the_header_never_escapes_the_error_tree(
        self, tmp_path, chest, las_affine, seed, sform_code
    ):
        random = np.random.default_rng(seed)
        path = save(tmp_path / "scan.nii", chest, las_affine, sform_code=sform_code, qform_code=1)
        data = bytearray(path.read_bytes())
        for place in random.integers(0, 352, 6):
            data[place] = random.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(UnreadableScan, UnsupportedGeometry, NonFiniteVoxels):
            read_scan(path)


@pytest.mark.realdata
def test_a_real_chest(real_data):
    scan = read_scan(real_data / "nifti" / "covid_chest_raw_hu.nii.gz")
    assert scan.shape == (512, 512, 41)
    assert scan.spacing_mm == pytest.approx((0.703125, 0.703125, 7.5))
    assert scan.voxels.dtype == np.int16
