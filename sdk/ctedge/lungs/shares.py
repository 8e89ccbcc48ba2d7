"""How much of each lung is denser than aerated lung, so that a score comes with a volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctedge.errors import InputError, UnsupportedGeometry
from ctedge.lungs.grid import picked_planes
from ctedge.lungs.mask import LEFT, RIGHT, BySide, LungMask
from ctedge.lungs.segment import as_scan
from ctedge.scan import CTScan

#: Ground glass in CT densitometry of COVID-19: from -700 up to -200 HU; consolidation above.
GROUND_GLASS_HU = (-700.0, -200.0)


@dataclass(frozen=True, kw_only=True)
class AffectedShare:
    """Shares of lung voxels, 0..1, and lung volumes.

    Healthy lungs are not at 0: vessels, the rims of voxels half filled by lung, and dependent
    density fall into these ranges too. A lung that was not found has shares of 0.

    Attributes:
        ground_glass: share of [-700, -200) HU.
        dense: share of -200 HU and more: consolidation, and with it vessels, scars and effusion.
        volume_ml: volume of each lung; None where the size of the voxels is not known.
    """

    ground_glass: BySide
    dense: BySide
    volume_ml: BySide | None


def affected_share(scan: CTScan | npt.ArrayLike, lungs: LungMask) -> AffectedShare:
    """Measure how much of each lung is dense.

    Args:
        scan: the scan, or the (X, Y, Z) array of HU, that was segmented.
        lungs: its lungs; the voxels of their grid are counted, as the scan holds them.

    Raises:
        UnsupportedGeometry: the mask was made from another scan.
        InputError: neither a scan nor an array of HU, or no mask of lungs.
    """
    scan = as_scan(scan)
    if not isinstance(lungs, LungMask):
        raise InputError(
            "affected_share: no mask of lungs",
            found=type(lungs).__name__,
            expected="a LungMask",
            fix="pass what segment_lungs(scan) answers",
        )
    steps = tuple(
        round(coarse / fine) for coarse, fine in zip(lungs.spacing_mm, scan.spacing_mm, strict=True)
    )
    x, y, z = (max(step, 1) for step in steps)
    shape = tuple(-(-count // step) for count, step in zip(scan.shape, (x, y, z), strict=True))
    if shape != lungs.labels.shape or not np.allclose(scan.affine[:3, 3], lungs.affine[:3, 3]):
        raise UnsupportedGeometry(
            f"{scan.source}: the lung mask was made from another scan",
            found=f"the mask of {lungs.source}, {lungs.labels.shape} voxels",
            expected=f"{shape} voxels that begin where the scan does",
            fix="segment the lungs of this very scan",
        )
    low, high = GROUND_GLASS_HU
    # Rows: right, left. Columns: all voxels, ground glass, dense.
    counts = np.zeros((2, 3), dtype=np.int64)
    for index, plane in enumerate(picked_planes(scan, (x, y, z))):
        labels = lungs.labels[:, :, index].T
        for row, side in enumerate((RIGHT, LEFT)):
            values = plane[labels == side]
            dense = np.count_nonzero(values >= high)
            counts[row] += (len(values), np.count_nonzero(values >= low) - dense, dense)
    return AffectedShare(
        ground_glass=_shares(counts, 1), dense=_shares(counts, 2), volume_ml=lungs.volume_ml
    )


def _shares(counts: npt.NDArray[np.int64], column: int) -> BySide:
    right, left, both = (
        float(row[column] / row[0]) if row[0] else 0.0
        for row in (counts[0], counts[1], counts.sum(axis=0))
    )
    return BySide(right=right, left=left, both=both)
