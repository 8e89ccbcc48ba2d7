"""Lung masks in files: which voxels of a scan are lung."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctedge.errors import DatasetError, InputError
from ctedge.files import sha256_of
from ctedge.scan import CTScan

MASK_SUFFIX = ".nii.gz"

#: How far a corner of the mask may lie from the scan's, in voxels along each axis. Headers round
#: (float32 in NIfTI, decimal strings in DICOM) and tools average slice distances differently;
#: from half a voxel on, a voxel of the mask belongs to the scan's neighbour.
MASK_TOLERANCE_VOXELS = 0.5


@dataclass(frozen=True, kw_only=True)
class MaskFiles:
    """Reads `FOLDER/NAME.nii.gz`: 0 is outside of the lungs, whole numbers above 0 are lung.

    Two labels for the two lungs (as lungmask writes them) are lung both: the study multiplied its
    voxels by the labels, which doubled one lung.

    Attributes:
        folder: where the masks lie.
    """

    folder: Path

    def __call__(self, name: str, scan: CTScan) -> npt.NDArray[np.bool_]:
        """The mask of a study, True where there is lung, in the order of `scan.voxels`.

        Args:
            name: of the study.
            scan: the mask has to have its geometry, in any orientation.

        Raises:
            DatasetError: no such file, no readable NIfTI volume, another geometry than the
                scan's, other values, or nothing that is lung or nothing that is not.
        """
        from ctedge.readers.nifti import read_nifti

        path = self._path(name)
        try:
            mask = read_nifti(path)
        except InputError as error:
            raise DatasetError(
                f"{path}: the lung mask cannot be read", found=error.what, fix=error.fix
            ) from error
        _check_geometry(mask, scan)
        return _as_lung(mask)

    def digest(self, name: str) -> str:
        """SHA-256 of the file that holds the mask of a study.

        Raises:
            DatasetError: no such file, or not to be read.
        """
        path = self._path(name)
        try:
            return sha256_of(path)
        except OSError as error:
            raise DatasetError(
                f"{path}: the lung mask cannot be read",
                found=error.strerror or error,
                fix="check that this user may read it",
            ) from error

    def _path(self, name: str) -> Path:
        path = self.folder / f"{name}{MASK_SUFFIX}"
        if not path.is_file():
            raise DatasetError(
                f"no lung mask for {name}",
                found=f"nothing at {path}",
                expected="a NIfTI mask with the geometry of the scan",
                fix="write it with a lung segmenter, or name the folder that holds the masks",
            )
        return path


def _check_geometry(mask: CTScan, scan: CTScan) -> None:
    if mask.orientation_assumed and not scan.orientation_assumed:
        raise DatasetError(
            f"{mask.source}: the mask does not say how it lies",
            found="sform and qform code 0",
            expected=f"the affine of {scan.source}",
            fix="write the mask with the geometry of its scan",
        )
    if mask.shape != scan.shape:
        raise DatasetError(
            f"{mask.source}: the mask is of another size than the scan",
            found=f"{mask.shape} voxels towards Left, Anterior, Superior",
            expected=f"{scan.shape}, as in {scan.source}",
            fix="segment the scan itself, at its full size",
        )
    off = _corner_distance(mask, scan)
    if off >= MASK_TOLERANCE_VOXELS:
        raise DatasetError(
            f"{mask.source}: the mask lies elsewhere than the scan",
            found=f"a corner {off:.2g} voxels away",
            expected=f"less than {MASK_TOLERANCE_VOXELS} voxels from {scan.source}",
            fix="segment this very series, and keep its geometry in the mask",
        )


def _corner_distance(mask: CTScan, scan: CTScan) -> float:
    """The farthest that a corner voxel of the mask lies from the scan's, in the scan's voxels."""
    last = np.array(scan.shape) - 1
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*((0, n) for n in last))]).T
    placed = np.linalg.solve(scan.affine, mask.affine @ corners)
    return float(np.abs(placed - corners).max())


def _as_lung(mask: CTScan) -> npt.NDArray[np.bool_]:
    values = mask.voxels
    whole = values.dtype.kind in "iu" or bool((values == np.round(values)).all())
    if not whole or values.min() < 0:
        raise DatasetError(
            f"{mask.source}: the values are no mask",
            found=f"{values.dtype} from {values.min():g} to {values.max():g}",
            expected="0 outside of the lungs, whole numbers above 0 inside",
            fix="write labels, not HU or probabilities",
        )
    lung: npt.NDArray[np.bool_] = values > 0
    if lung.all() or not lung.any():
        raise DatasetError(
            f"{mask.source}: " + ("everything is lung" if lung.any() else "no lung at all"),
            found=f"values {values.min():g} to {values.max():g}",
            expected="some voxels of lung, others outside",
            fix="segment the scan again, and look at the mask",
        )
    return lung
