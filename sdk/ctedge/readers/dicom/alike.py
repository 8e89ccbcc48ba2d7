"""Whether slices can lie in one volume at all: one grid, one axial orientation, no tilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from ctedge.errors import IrregularSeries, counted
from ctedge.readers.dicom.slices import Slice

Floats = npt.NDArray[np.float64]

#: In-plane drift of the slice origins, in mm: more is a tilted gantry.
DRIFT_TOLERANCE_MM = 0.5

#: Must not differ between slices by more than this, in their own unit (pixels, mm, cosines).
_SAME_FOR_ALL = {
    "rows": ("Rows", 0.0),
    "columns": ("Columns", 0.0),
    "spacing_mm": ("PixelSpacing", 1e-4),
    "orientation": ("ImageOrientationPatient", 1e-4),
}


def check_alike(label: str, slices: Sequence[Slice]) -> None:
    """Refuse slices of several pixel grids or orientations.

    Raises:
        IrregularSeries: they differ; names what in, and examples.
    """
    for field, (keyword, tolerance) in _SAME_FOR_ALL.items():
        values = np.array([np.atleast_1d(getattr(one, field)) for one in slices], np.float64)
        if np.ptp(values, axis=0).max() > tolerance:
            kinds, where = np.unique(values, axis=0, return_index=True)
            examples = [
                f"{kind.tolist()} ({slices[place].name})"
                for kind, place in zip(kinds[:4], where, strict=False)
            ]
            raise IrregularSeries(
                f"{label}: the slices differ in {keyword}",
                found=", ".join(examples),
                expected="the same on every slice",
                fix="pass one regular axial series; move the others out",
            )


def normal_of(label: str, slices: Sequence[Slice]) -> Floats:
    """(3,) direction across the slices, in LPS.

    Raises:
        IrregularSeries: no orientation, or not an axial one.
    """
    orientation = np.asarray(slices[0].orientation)
    along_row, along_column = orientation[:3], orientation[3:]
    normal = np.cross(along_row, along_column)
    perpendicular = abs(along_row @ along_column) <= 1e-3
    if not np.allclose(orientation @ orientation, 2.0, atol=1e-3) or not perpendicular:
        raise IrregularSeries(
            f"{label}: the slices do not say how they lie",
            found=f"ImageOrientationPatient {orientation.tolist()} ({slices[0].name})",
            expected="two perpendicular directions of length 1",
            fix="export the series from the scanner again",
        )
    if np.abs(normal).argmax() != 2:
        view = "sagittal" if np.abs(normal).argmax() == 0 else "coronal"
        raise IrregularSeries(
            f"{label}: the slices are not axial",
            found=f"{view}, normal {np.round(normal, 3).tolist()} ({slices[0].name})",
            fix="pass the axial reconstruction of the scan",
        )
    return normal


def heights_of(slices: Sequence[Slice], normal: Floats) -> Floats:
    """Positions along the normal, in mm."""
    heights: Floats = np.array([one.position_mm for one in slices]) @ normal
    return heights


def check_drift(label: str, slices: Sequence[Slice], normal: Floats) -> None:
    """Refuse slices that do not lie above each other.

    Raises:
        IrregularSeries: the gantry was tilted, or a slice lies beside the others.
    """
    heights = heights_of(slices, normal)
    positions = np.array([one.position_mm for one in slices])
    sideways = positions - positions[0] - np.outer(heights - heights[0], normal)
    drift = np.linalg.norm(sideways, axis=1)
    if drift.max() > DRIFT_TOLERANCE_MM:
        raise IrregularSeries(
            f"{label}: the gantry was tilted",
            found=f"{slices[int(drift.argmax())].name} lies {drift.max():.1f} mm sideways",
            expected=f"at most {DRIFT_TOLERANCE_MM} mm",
            fix="reconstruct the series without tilt",
        )


def check_one_reconstruction(label: str, ordered: Sequence[Slice]) -> None:
    """Refuse slices of several kernels in turn; one kernel after the other may be one scan.

    Raises:
        IrregularSeries: two reconstructions lie through each other.
    """
    named = [one.kernel for one in ordered if one.kernel]
    kernels = Counter(named)
    if len([*groupby(named)]) > len(kernels):
        shown = [f"{kernel}: {counted(count, 'slice')}" for kernel, count in kernels.items()]
        raise IrregularSeries(
            f"{label}: slices of several reconstructions lie through each other",
            found="ConvolutionKernel " + ", ".join(shown[:4]),
            expected="one reconstruction",
            fix="export each reconstruction as a series of its own",
        )
