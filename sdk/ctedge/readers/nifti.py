"""Reading NIfTI-1 and NIfTI-2 (.nii, .nii.gz) as HU in LAS order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import UnsupportedGeometry, counted
from ctedge.readers.inflate import can_hold, head_of, is_gzip, pieces
from ctedge.readers.nifti_header import HEAD_BYTES, Layout, read_layout
from ctedge.readers.nifti_planes import NiftiPlanes, too_short
from ctedge.readers.rescale import to_hu
from ctedge.readers.same_file import SameFile
from ctedge.scan import CTScan, nearest_axes, turned_affine

_SLICE_AXIS = 2

#: As of the slices of a DICOM series.
DRIFT_TOLERANCE_MM = 0.5


def read_nifti(path: Path) -> CTScan:
    """Read one volume.

    Integers stay integers; scl_slope and scl_inter are applied. The orientation comes from the
    sform, else the qform; where both codes are 0 the voxels are taken as LAS and
    `orientation_assumed` says so. Whole-numbered voxels of axial slices are read when they are
    asked for, and a damaged file is then found; floats are read at once, to find what is not
    finite.

    Raises:
        UnreadableScan: not NIfTI, empty, truncated, damaged, or changed while it was read.
        UnsupportedGeometry: not one three-dimensional volume, oblique, or absurd spacing.
        NonFiniteVoxels: NaN or infinity among the voxels.
    """
    # What is no number, or none any more, is refused; NumPy need not remark on it.
    with np.errstate(over="ignore", invalid="ignore"):
        return _read(path)


def _read(path: Path) -> CTScan:
    file = SameFile(path)
    layout = read_layout(head_of(file, HEAD_BYTES), path)
    packed = is_gzip(file)
    if not can_hold(file.size, layout.file_bytes, packed=packed):
        raise too_short(path, layout, f"a file of {counted(file.size, 'byte')}")
    affine = _las(layout) if layout.affine is None else layout.affine
    order, flips = nearest_axes(affine, source=str(path))
    _check_perpendicular(affine, layout, path)
    if layout.dtype.kind == "f" or order[2] != _SLICE_AXIS:
        scan = CTScan.from_oriented(_voxels(file, layout), affine, source=str(path))
        return replace(scan, orientation_assumed=True) if layout.affine is None else scan
    return CTScan(
        planes=NiftiPlanes(file, layout, order, flips, packed=packed),
        affine=turned_affine(affine, layout.shape, order, flips),
        source=str(path),
        orientation_assumed=layout.affine is None,
    )


def _check_perpendicular(affine: npt.NDArray[np.float64], layout: Layout, path: Path) -> None:
    """Refuse what a tilted gantry leaves, as the DICOM reader does: slices shifted sideways."""
    columns = affine[:3, :3]
    sizes = np.linalg.norm(columns, axis=0)
    extents = sizes * (np.array(layout.shape) - 1)
    cosines = np.abs((columns / sizes).T @ (columns / sizes)) * (1.0 - np.eye(3))
    sideways = float((cosines * extents).max())
    if sideways > DRIFT_TOLERANCE_MM:
        raise UnsupportedGeometry(
            f"{path}: the axes are not perpendicular; the gantry was tilted",
            found=f"{sideways:.1f} mm sideways from one end to the other",
            expected=f"at most {DRIFT_TOLERANCE_MM} mm",
            fix="reconstruct the series without tilt",
        )


def _las(layout: Layout) -> npt.NDArray[np.float64]:
    x, y, z = layout.zooms_mm
    return np.diag([-x, y, z, 1.0])


def _voxels(file: SameFile, layout: Layout) -> npt.NDArray[Any]:
    """(I, J, K) HU of the whole file."""
    data = bytearray()
    for piece in pieces(file, most=layout.file_bytes):
        data += piece
    if len(data) < layout.file_bytes:
        raise too_short(file.path, layout, counted(len(data), "byte"))
    i, j, k = layout.shape
    flat = np.frombuffer(data, layout.dtype, count=i * j * k, offset=layout.offset)
    stored = flat.reshape(layout.shape, order="F")
    if layout.slope is None:
        return stored
    return to_hu(stored, slope=layout.slope, intercept=layout.intercept)
