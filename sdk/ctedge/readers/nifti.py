"""Reading NIfTI-1 and NIfTI-2 (.nii, .nii.gz) as HU in LAS order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.readers.inflate import head_of, is_gzip, pieces
from ctedge.readers.nifti_header import HEAD_BYTES, Layout, read_layout
from ctedge.readers.nifti_planes import NiftiPlanes, too_short
from ctedge.readers.rescale import to_hu
from ctedge.scan import CTScan, nearest_axes, turned_affine

_SLICE_AXIS = 2


def read_nifti(path: Path) -> CTScan:
    """Read one volume.

    Integers stay integers; scl_slope and scl_inter are applied. The orientation comes from the
    sform, else the qform; where both codes are 0 the voxels are taken as LAS and
    `orientation_assumed` says so. Whole-numbered voxels of axial slices are read when they are
    asked for, and a damaged file is then found; floats are read at once, to find what is not
    finite.

    Raises:
        UnreadableScan: not NIfTI, empty, truncated or damaged.
        UnsupportedGeometry: not one three-dimensional volume, oblique, or absurd spacing.
        NonFiniteVoxels: NaN or infinity among the voxels.
    """
    layout = read_layout(head_of(path, HEAD_BYTES), path)
    if not is_gzip(path) and path.is_file() and path.stat().st_size < layout.file_bytes:
        raise too_short(path, layout, path.stat().st_size)
    affine = _las(layout) if layout.affine is None else layout.affine
    order, flips = nearest_axes(affine, source=str(path))
    if layout.dtype.kind == "f" or order[2] != _SLICE_AXIS:
        scan = CTScan.from_oriented(_voxels(path, layout), affine, source=str(path))
        planes, affine = scan.planes, scan.affine
    else:
        planes = NiftiPlanes(path, layout, order, flips)
        affine = turned_affine(affine, layout.shape, order, flips)
    return CTScan(
        planes=planes,
        affine=affine,
        source=str(path),
        orientation_assumed=layout.affine is None,
    )


def _las(layout: Layout) -> npt.NDArray[np.float64]:
    x, y, z = layout.zooms_mm
    return np.diag([-x, y, z, 1.0])


def _voxels(path: Path, layout: Layout) -> npt.NDArray[Any]:
    """(I, J, K) HU of the whole file."""
    data = bytearray()
    for piece in pieces(path, most=layout.file_bytes):
        data += piece
    if len(data) < layout.file_bytes:
        raise too_short(path, layout, len(data))
    i, j, k = layout.shape
    flat = np.frombuffer(data, layout.dtype, count=i * j * k, offset=layout.offset)
    stored = flat.reshape(layout.shape, order="F")
    if layout.slope is None:
        return stored
    return to_hu(stored, slope=layout.slope, intercept=layout.intercept)
