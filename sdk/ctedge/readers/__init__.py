"""Reading scans: one module or package a format, one function for all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from ctedge.errors import ScanNotFound, UnreadableScan
from ctedge.readers.picture import is_picture
from ctedge.scan import CTScan


def read_scan(
    source: Any,
    *,
    series: str | None = None,
    acquisition: int | None = None,
    select: Literal["chest"] | None = None,
    on_gap: Literal["error", "resample"] = "error",
) -> CTScan:
    """Read a NIfTI file (.nii, .nii.gz) or one axial CT series of DICOM.

    Args:
        source: a NIfTI file; or a folder of DICOM, which is searched with its sub-folders; or DICOM
            files, binary streams or `pydicom.Dataset` objects, one or a list.
        series: the SeriesInstanceUID to read, where there are several.
        acquisition: the AcquisitionNumber to read, where one series holds several acquisitions.
        select: "chest" chooses among several series by the rules of
            `ctedge.readers.dicom.choice.choose_chest`.
        on_gap: what to do where DICOM slices are missing or lie unevenly: "error", or "resample",
            which fills in linearly between neighbours; `CTScan.interpolated` counts what was made.

    Returns:
        The volume in HU, its axes growing towards Left, Anterior and Superior. Pixels of DICOM are
        decoded when they are asked for, and only those.

    Raises:
        ScanNotFound: no such file or folder.
        UnreadableScan: empty, truncated, damaged, or of no known format.
        UnsupportedGeometry: 2D or 4D, oblique, or absurd spacing.
        IrregularSeries: several series or acquisitions, or none that is one regular axial volume.
        CodecUnavailable: nothing installed decodes the DICOM pixels.
        NonFiniteVoxels: NaN or infinity among the voxels.
        MissingExtra: DICOM without the extra `dicom`.
    """
    return _read(source, series=series, acquisition=acquisition, select=select, on_gap=on_gap)


def read_slices(source: Any) -> CTScan:
    """Read what is judged slice by slice: a scan, or one axial CT slice of DICOM alone.

    Args:
        source: as `read_scan` takes it; or one DICOM file, stream or data set with one slice.

    Returns:
        As `read_scan`. Of a single slice the distance to the next is not known: 1 mm stands in
        its place.

    Raises:
        InputError, MissingExtra: as `read_scan`, which refuses a single slice.
    """
    return _read(source, alone=True)


def _read(source: Any, **how: Any) -> CTScan:
    path = _path_of(source)
    try:
        if path is None or path.is_dir() or _is_dicom_file(path):
            from ctedge.readers.dicom import read_dicom

            return read_dicom(source, **how)
        if not path.exists():
            raise ScanNotFound(
                f"{path}: no such file or folder",
                found=f"working folder {Path.cwd()}",
                fix="check the path",
            )
        if not path.is_file():
            raise UnreadableScan(
                f"{path}: neither a file nor a folder",
                found="a pipe, a socket or a device",
                fix="write it to a file first, or pass an open binary stream",
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
            f"{source if path is None else path}: cannot be read",
            found=error.strerror or error,
            fix="check that this user may read it and that the medium is sound",
        ) from error


def _path_of(source: Any) -> Path | None:
    if not isinstance(source, (str, os.PathLike)):
        return None
    if not os.fspath(source):
        raise ScanNotFound("the path of the scan is empty", fix="check the variable it comes from")
    return Path(source)


def _is_dicom_file(path: Path) -> bool:
    from ctedge.readers.dicom.gather import is_dicom

    return is_dicom(path)
