"""Reading scans: one module a format, one function for all of them."""

from __future__ import annotations

import os
from pathlib import Path

from ctedge.errors import ScanNotFound, UnreadableScan
from ctedge.readers.picture import is_picture
from ctedge.scan import CTScan


def read_scan(source: str | os.PathLike[str], *, series: str | None = None) -> CTScan:
    """Read a NIfTI file (.nii, .nii.gz) or a folder holding one axial DICOM series.

    Args:
        source: the file or folder.
        series: the SeriesInstanceUID to read, where a DICOM folder holds several.

    Returns:
        The volume in HU, its axes growing towards Left, Anterior and Superior.

    Raises:
        ScanNotFound: no such file or folder.
        UnreadableScan: empty, truncated, damaged, or of no known format.
        UnsupportedGeometry: 2D or 4D, oblique, or absurd spacing.
        IrregularSeries: a folder that is not one regular axial CT series.
        CodecUnavailable: nothing installed decodes the DICOM pixels.
        NonFiniteVoxels: NaN or infinity among the voxels.
        MissingExtra: DICOM without the extra `dicom`.
    """
    if not os.fspath(source):
        raise ScanNotFound("the path of the scan is empty", fix="check the variable it comes from")
    path = Path(source)
    try:
        if path.is_dir():
            from ctedge.readers.dicom import read_dicom_folder

            return read_dicom_folder(path, series=series)
        if not path.exists():
            raise ScanNotFound(
                f"{path}: no such file or folder",
                found=f"working folder {Path.cwd()}",
                fix="check the path",
            )
        if is_picture(path):
            raise UnreadableScan(
                f"{path}: a picture of one slice is no scan",
                expected="a NIfTI file or a DICOM folder",
                fix="give it to a model for slices (`ctedge inspect` names a model's task)",
            )
        from ctedge.readers.nifti import read_nifti

        return read_nifti(path)
    except OSError as error:
        raise UnreadableScan(
            f"{path}: cannot be read",
            found=error.strerror or error,
            fix="check that this user may read it and that the medium is sound",
        ) from error
