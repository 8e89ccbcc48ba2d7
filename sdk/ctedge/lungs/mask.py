"""What a segmentation answers: a label for every voxel of its grid, and what it amounts to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctedge.errors import UnsupportedGeometry
from ctedge.scan import CTScan

#: Labels of the two lungs; 0 is everything else.
RIGHT, LEFT = 1, 2


@dataclass(frozen=True, kw_only=True)
class BySide:
    """One number for each lung of the patient, and for both together."""

    right: float
    left: float
    both: float


@dataclass(frozen=True, kw_only=True, eq=False)
class LungMask:
    """Where the lungs lie. Vessels and dense lesions in them count, the main bronchi do not.

    Attributes:
        labels: (X, Y, Z) uint8 in LAS order: 0 background, 1 right lung, 2 left lung.
        affine: (4, 4) float64, index of `labels` to mm in the patient's RAS+ frame.
        spacing_stated: False where nothing stated the size of the scan's voxels: a chest of usual
            size was assumed, and volumes are not known.
        complete: both lungs were found.
        cut_at_top, cut_at_bottom: lung reaches the last or the first plane, so some of it may lie
            outside the scan.
        source: the scan that it belongs to.
    """

    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    spacing_stated: bool
    complete: bool
    cut_at_top: bool
    cut_at_bottom: bool
    source: str

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(X, Y, Z) booleans: either lung."""
        return self.labels > 0

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size of the labels along Left, Anterior, Superior, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    @property
    def volume_ml(self) -> BySide | None:
        """Volume of each lung in mL; None where the size of the voxels is not known."""
        if not self.spacing_stated:
            return None
        x, y, z = self.spacing_mm
        right, left = (int(np.count_nonzero(self.labels == side)) for side in (RIGHT, LEFT))
        each = x * y * z / 1000.0
        return BySide(right=right * each, left=left * each, both=(right + left) * each)

    def on(self, scan: CTScan) -> npt.NDArray[np.bool_]:
        """The mask in the scan's own grid, by nearest neighbour, as `preprocess` takes it.

        Args:
            scan: the one that was segmented, or another on axes parallel to its own.

        Returns:
            (X, Y, Z) booleans of the scan's shape; False where the mask does not reach.

        Raises:
            UnsupportedGeometry: the scan's axes run in other directions than the mask's.
        """
        picked, known = zip(*self._nearest(scan), strict=True)
        mask = self.mask[np.ix_(*picked)]
        for axis, inside in enumerate(known):
            if not inside.all():
                mask &= np.expand_dims(inside, tuple({0, 1, 2} - {axis}))
        return mask

    def _nearest(self, scan: CTScan) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]]:
        """For each axis: the index of the labels nearest to each of the scan's, and if it exists.

        Beyond the last plane that was looked at, it stands for the planes up to where the next one
        would be.
        """
        mapping = np.linalg.solve(self.affine, scan.affine)
        slopes = np.diag(mapping)[:3]
        if not np.allclose(mapping[:3, :3], np.diag(slopes), atol=1e-3):
            raise UnsupportedGeometry(
                f"{scan.source}: its axes are not those of the lung mask",
                found=f"the mask of {self.source}",
                fix="segment the lungs of this very scan",
            )
        nearest = []
        for axis, (slope, count) in enumerate(zip(slopes, self.labels.shape, strict=True)):
            # A hair below one half, so that what lies half-way goes to the same side everywhere.
            place = np.arange(scan.shape[axis]) * slope + mapping[axis, 3]
            index = np.floor(place + 0.5 - 1e-6).astype(np.intp)
            nearest.append(
                (np.clip(index, 0, count - 1), (place > -1.0 + 1e-6) & (place < count - 1e-6))
            )
        return nearest
