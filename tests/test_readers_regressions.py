"""What fuzzing of the readers found, one case each; `tests/fuzz_readers.py` finds such."""

from __future__ import annotations

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from ctedge import NonFiniteVoxels, UnsupportedGeometry, preprocess, read_scan

SHAPE = (20, 18, 16)

#: A NaN that NumPy remarks on when it is cast: the quiet bit is not set.
SIGNALLING_NAN = struct.pack("<I", 0x7FA00000)


def nifti(dtype: str = "<i2", *, second: bool = False, fill: float = 100) -> bytearray:
    """A sound file of NIfTI-1, or of NIfTI-2, little endian."""
    kind = nib.Nifti2Header if second else nib.Nifti1Header
    header = kind(endianness="<")
    header.set_data_shape(SHAPE)
    header.set_data_dtype(np.dtype(dtype))
    header.set_sform(np.diag([-0.7, 0.7, 5.0, 1.0]), code=1)
    header["vox_offset"] = header.single_vox_offset
    head = header.binaryblock + bytes(header.single_vox_offset - header.sizeof_hdr)
    return bytearray(head + np.full(SHAPE, fill).astype(dtype).tobytes())


def put(data: bytearray, field: str, value: bytes, *, at: int = 0) -> None:
    """Overwrite an element of a header's field."""
    kind = nib.nifti2.header_dtype if data[0] == 540 & 0xFF else nib.nifti1.header_dtype
    base, start = kind.fields[field][:2]
    place = start + base.base.itemsize * at
    data[place : place + len(value)] = value


def test_an_affine_whose_squares_are_no_numbers(tmp_path):
    """NumPy warned of an overflow while the orientation was found."""
    data = nifti(second=True)
    put(data, "srow_x", struct.pack("<d", 1e200), at=1)
    (tmp_path / "scan.nii").write_bytes(data)
    with pytest.raises(UnsupportedGeometry, match="far away"):
        read_scan(tmp_path / "scan.nii")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("field", "number"), [("scl_slope", 3e38), ("scl_slope", -3e38)])
def test_whole_numbers_scaled_to_infinity(tmp_path, field, number, zipped):
    """Infinite HU went to the network: only stored floats were looked at."""
    data = nifti()
    put(data, field, struct.pack("<f", number))
    put(data, "scl_inter", struct.pack("<f", 0.5))
    path = tmp_path / "scan.nii"
    path.write_bytes(gzip.compress(data) if zipped else data)
    scan = read_scan(path)
    for ask in (preprocess, lambda scan: scan.voxels):
        with pytest.raises(NonFiniteVoxels):
            ask(scan)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_thousand_million_slices_of_one_voxel(tmp_path, zipped):
    """1.5 GiB were taken for lists of slices, before the file turned out to be short."""
    data = nifti(second=True)
    put(data, "dim", struct.pack("<4q", 3, 1, 1, 1 << 30))
    path = tmp_path / "scan.nii"
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(UnsupportedGeometry, match="larger than any CT volume"):
        read_scan(path)


@pytest.mark.parametrize("field", ["pixdim", "srow_x", "srow_z", "quatern_b", "scl_slope"])
def test_a_signalling_nan_in_the_header(tmp_path, field):
    """NumPy warned of an invalid value while it was cast."""
    data = nifti()
    put(data, field, SIGNALLING_NAN, at=int(field == "pixdim"))
    (tmp_path / "scan.nii").write_bytes(data)
    if field in ("quatern_b", "scl_slope"):  # not in use; NaN means no scaling
        assert read_scan(tmp_path / "scan.nii").voxels.max() == 100
    else:
        with pytest.raises(UnsupportedGeometry, match="far away"):
            read_scan(tmp_path / "scan.nii")


def test_a_signalling_nan_among_the_voxels(tmp_path):
    data = nifti("<f4")
    data[-4:] = SIGNALLING_NAN
    (tmp_path / "scan.nii").write_bytes(data)
    with pytest.raises(NonFiniteVoxels, match="1 of 5760 voxels"):
        read_scan(tmp_path / "scan.nii")


@pytest.mark.parametrize("number", [1e300, -1e300])
def test_a_slope_in_double_precision_on_single_precision_voxels(tmp_path, number):
    data = nifti("<f4", second=True, fill=0.0)  # 0 times infinity is not even infinity
    put(data, "scl_slope", struct.pack("<d", number))
    (tmp_path / "scan.nii").write_bytes(data)
    with pytest.raises(NonFiniteVoxels):
        read_scan(tmp_path / "scan.nii")
