"""Reading NIfTI-1 and NIfTI-2 (.nii, .nii.gz) as HU in LAS order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import UnreadableScan, UnsupportedGeometry
from ctedge.readers.inflate import read_whole
from ctedge.readers.rescale import to_hu
from ctedge.scan import CTScan

_CONVERT = "convert the series again, for instance with dcm2niix"


def read_nifti(path: Path) -> CTScan:
    """Read one volume.

    Integers stay integers; scl_slope and scl_inter are applied. The orientation comes from the
    sform, else the qform; where both codes are 0 the voxels are taken as LAS and
    `orientation_assumed` says so.

    Raises:
        UnreadableScan: not NIfTI, empty, truncated or damaged.
        UnsupportedGeometry: not one three-dimensional volume, oblique, or absurd spacing.
        NonFiniteVoxels: NaN or infinity among the voxels.
    """
    data = read_whole(path, needed=lambda head: _bytes_described(_parse_header(head, path), path))
    header = _parse_header(data, path)
    voxels = _voxels(data, header, path)
    affine = _affine(header, path)
    if affine is None:
        x, y, z = (float(size) for size in header.get_zooms()[:3])
        return CTScan(
            voxels=voxels,
            affine=np.diag([-x, y, z, 1.0]),
            source=str(path),
            orientation_assumed=True,
        )
    return CTScan.from_oriented(voxels, affine, source=str(path))


def _affine(header: Any, path: Path) -> npt.NDArray[np.float64] | None:
    """The sform, else the qform, else None."""
    try:
        if int(header["sform_code"]) > 0:
            return np.asarray(header.get_sform(), np.float64)
        if int(header["qform_code"]) > 0:
            return np.asarray(header.get_qform(), np.float64)
    except Exception as error:  # nibabel raises several kinds on a damaged quaternion
        raise UnreadableScan(
            f"{path}: the orientation in the header is broken", found=error, fix=_CONVERT
        ) from error
    return None


def _parse_header(data: bytes | bytearray, path: Path) -> Any:
    """The nibabel header, whichever version and byte order."""
    import io

    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kinds: tuple[Any, ...] = (Nifti1Header, Nifti2Header)
    for kind in kinds:
        block = bytes(data[: kind.sizeof_hdr])
        if len(block) == kind.sizeof_hdr and kind.may_contain_header(block):
            try:
                return kind.from_fileobj(io.BytesIO(block + bytes(4)), check=False)
            except Exception as error:  # nibabel raises many kinds on hostile headers
                raise UnreadableScan(
                    f"{path}: the NIfTI header is broken", found=error, fix=_CONVERT
                ) from error
    raise UnreadableScan(
        f"{path}: not a NIfTI file",
        found=f"{len(data)} bytes that begin with {bytes(data[:8])!r}",
        expected="a NIfTI-1 or NIfTI-2 header",
        fix="pass a .nii or .nii.gz file, a DICOM folder, or an array of HU",
    )


def _bytes_described(header: Any, path: Path) -> int:
    """How many bytes a file with this header has; 0 where the header does not say."""
    shape, dtype = _layout(header, path)
    offset = float(header["vox_offset"])
    return math.prod(shape) * dtype.itemsize + (int(offset) if 0 <= offset < 2**31 else 0)


def _layout(header: Any, path: Path) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """Shape and number type of the stored voxels."""
    try:
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
    except Exception as error:  # nibabel raises many kinds on hostile headers
        raise UnreadableScan(
            f"{path}: the NIfTI header is broken", found=error, fix=_CONVERT
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
            fix=_CONVERT,
        )
    return (shape[0], shape[1], shape[2]), dtype


def _voxels(data: bytes | bytearray, header: Any, path: Path) -> npt.NDArray[Any]:
    shape, dtype = _layout(header, path)
    offset = float(header["vox_offset"])
    needed = math.prod(shape) * dtype.itemsize
    if not header.sizeof_hdr <= offset < len(data) + 1:
        raise UnreadableScan(
            f"{path}: the voxels are in another file, or nowhere",
            found=f"data offset {offset:g}",
            expected="a single-file NIfTI (magic n+1 or n+2)",
            fix=_CONVERT,
        )
    if int(offset) + needed > len(data):
        raise UnreadableScan(
            f"{path}: fewer voxels than the header promises",
            found=f"{max(len(data) - int(offset), 0)} bytes of voxels",
            expected=f"{needed} bytes for shape {shape} of {dtype}",
            fix="copy the scan again; the file is cut off or its header is wrong",
        )
    flat = np.frombuffer(data, dtype=dtype, count=math.prod(shape), offset=int(offset))
    stored = flat.reshape(shape, order="F")
    slope, intercept = _scaling(header, path)
    if slope is None:
        return stored
    return to_hu(stored, slope=slope, intercept=intercept)


def _scaling(header: Any, path: Path) -> tuple[float | None, float]:
    """scl_slope and scl_inter; a slope of None means that the stored values are HU."""
    from nibabel.spatialimages import HeaderDataError

    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise UnreadableScan(
            f"{path}: the scaling to HU is broken", found=error, fix=_CONVERT
        ) from error
    return (None if slope is None else float(slope)), float(intercept or 0.0)
