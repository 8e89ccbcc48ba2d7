"""What a NIfTI header says: layout, scaling and orientation, checked before a voxel is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import UnreadableScan, UnsupportedGeometry
from ctedge.readers.inflate import MAX_BYTES
from ctedge.readers.nifti_fields import Nifti1Header, Nifti2Header

#: Both NIfTI headers fit.
HEAD_BYTES = 544

#: More voxels than any scan has along an axis: a whole body at a fifth of a millimetre.
MAX_AXIS = 10_000

#: No voxel lies further from the scanner's origin than this, in mm, nor is larger.
_FAR_MM = 1e6

_SINGLE_FILE = (b"n+1", b"n+2")

CONVERT = "convert the series again, for instance with dcm2niix"


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """Where the voxels of a file are and what they mean.

    Attributes:
        shape: (I, J, K), I fastest in the file.
        dtype: of the stored values, with their byte order.
        offset: of the first voxel, in bytes.
        slope, intercept: the map to HU; a slope of None means that the stored values are HU.
        affine: (4, 4), index to mm in RAS+: the sform, else the qform, else None.
        zooms_mm: voxel size along I, J, K.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float | None
    intercept: float
    affine: npt.NDArray[np.float64] | None
    zooms_mm: tuple[float, float, float]

    @property
    def plane_bytes(self) -> int:
        """Stored bytes of one (I, J) plane."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @property
    def file_bytes(self) -> int:
        """Bytes up to the end of the last voxel."""
        return self.offset + self.plane_bytes * self.shape[2]


def read_layout(head: bytes, path: Path) -> Layout:
    """Check a header.

    Args:
        head: the first `HEAD_BYTES` of the file, or all where it is shorter.
        path: for messages.

    Raises:
        UnreadableScan: not NIfTI, or a broken header.
        UnsupportedGeometry: not one three-dimensional volume.
    """
    header = _parse_header(head, path)
    shape, dtype = _shape_and_type(header, path)
    _check_extent(shape, dtype, path)
    slope, intercept = _scaling(header, path)
    x, y, z = _zooms(header, path)
    return Layout(
        shape=shape,
        dtype=dtype,
        offset=_offset(header, path),
        slope=slope,
        intercept=intercept,
        affine=_affine(header, path),
        zooms_mm=(x, y, z),
    )


def _offset(header: Nifti1Header, path: Path) -> int:
    offset = float(header["vox_offset"])
    alone = header["magic"].item() in _SINGLE_FILE
    if not alone or not header.sizeof_hdr <= offset < 2**31:
        raise UnreadableScan(
            f"{path}: the voxels are in another file, or nowhere",
            found=f"magic {header['magic'].item()!r}, data offset {offset:g}",
            expected="a single-file NIfTI (magic n+1 or n+2)",
            fix=CONVERT,
        )
    return int(offset)


def _affine(header: Nifti1Header, path: Path) -> npt.NDArray[np.float64] | None:
    """The sform, else the qform, else None."""
    try:
        if int(header["sform_code"]) > 0:
            form = header.get_sform()
        elif int(header["qform_code"]) > 0:
            form = header.get_qform()
        else:
            return None
        affine = np.asarray(form, np.float64)
    except ValueError as error:
        raise UnreadableScan(
            f"{path}: the orientation in the header is broken", found=error, fix=CONVERT
        ) from error
    _check_near(affine, path)
    return affine


def _zooms(header: Nifti1Header, path: Path) -> list[float]:
    """Voxel sizes along I, J, K; their signs mean nothing."""
    sizes = np.abs(np.asarray(header["pixdim"], np.float64)[1:4])
    _check_near(sizes, path)
    return [float(size) for size in sizes]


def _check_near(lengths: npt.NDArray[np.float64], path: Path) -> None:
    if not (np.abs(lengths) <= _FAR_MM).all():
        raise UnsupportedGeometry(
            f"{path}: the geometry in the header leads far away from any patient",
            found=lengths.tolist(),
            expected=f"numbers up to {_FAR_MM:g} mm",
            fix=CONVERT,
        )


def _parse_header(head: bytes, path: Path) -> Nifti1Header:
    """The header, whichever version and byte order."""
    for kind in (Nifti1Header, Nifti2Header):
        block = head[: kind.sizeof_hdr]
        if kind.may_be(block):
            return kind(block)
    raise UnreadableScan(
        f"{path}: not a NIfTI file",
        found=f"a file that begins with {head[:8]!r}",
        expected="a NIfTI-1 or NIfTI-2 header",
        fix="pass a .nii or .nii.gz file, a DICOM folder, or an array of HU",
    )


def _shape_and_type(header: Nifti1Header, path: Path) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """Shape and number type of the stored voxels."""
    shape = tuple(int(n) for n in header.get_data_shape())
    try:
        dtype = header.get_data_dtype()
    except KeyError as error:
        raise UnreadableScan(
            f"{path}: the NIfTI header is broken",
            found=f"datatype {error}",
            expected="a type of numbers that NIfTI defines",
            fix=CONVERT,
        ) from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise UnsupportedGeometry(
            f"{path}: a CT volume has three axes",
            found=f"shape {shape}",
            expected="(X, Y, Z)",
            fix="pass one volume: take a time point out of a 4D file, stack 2D slices",
        )
    if dtype.kind not in "iuf":
        raise UnreadableScan(
            f"{path}: the voxels are no real numbers",
            found=dtype,
            expected="an integer or float type, in HU",
            fix=CONVERT,
        )
    return (shape[0], shape[1], shape[2]), dtype


def _check_extent(shape: tuple[int, int, int], dtype: np.dtype[Any], path: Path) -> None:
    """Refuse what no memory should be promised for."""
    stored = math.prod(shape) * dtype.itemsize
    if max(shape) > MAX_AXIS or stored > MAX_BYTES:
        raise UnsupportedGeometry(
            f"{path}: larger than any CT volume",
            found=f"shape {shape} of {dtype}, {stored / (1 << 30):.3g} GiB",
            expected=f"at most {MAX_AXIS} voxels along an axis, {MAX_BYTES >> 30} GiB in all",
            fix="pass one scan at its own resolution, or copy it again: its header may be damaged",
        )


def _scaling(header: Nifti1Header, path: Path) -> tuple[float | None, float]:
    """scl_slope and scl_inter; a slope of None means that the stored values are HU."""
    try:
        slope, intercept = header.get_slope_inter()
    except ValueError as error:
        raise UnreadableScan(
            f"{path}: the scaling to HU is broken", found=error, fix=CONVERT
        ) from error
    return (None if slope is None else float(slope)), float(intercept or 0.0)
