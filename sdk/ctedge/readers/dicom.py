"""Reading a folder that holds one regular axial CT series in DICOM.

Regular means: one series, one orientation, one pixel grid, and slice positions that lie evenly
(within 1 %) along the slice normal. Anything else is refused by name, never guessed at.
Positions, spacing and the normal come from Image Position and Image Orientation (Patient),
DICOM PS3.3 C.7.6.2; HU from Rescale Slope and Intercept, C.11.1.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import IrregularSeries, ScanNotFound
from ctedge.extras import require
from ctedge.readers.dicom_pixels import damaged, read_slice
from ctedge.scan import CTScan

#: Slice distances may differ by this share of their median.
SPACING_TOLERANCE = 0.01

#: In-plane drift of the slice origins, in mm: more is a tilted gantry.
DRIFT_TOLERANCE_MM = 0.5

#: Must not differ between slices by more than this, in their own unit (pixels, mm, cosines).
_SAME_FOR_ALL = {
    "Rows": 0.0,
    "Columns": 0.0,
    "PixelSpacing": 1e-4,
    "ImageOrientationPatient": 1e-4,
}

#: How many numbers each of these holds.
_NUMBERS = {
    "Rows": 1,
    "Columns": 1,
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
}
_POSITIVE = {"Rows", "Columns", "PixelSpacing", "RescaleSlope"}

_NEEDED = (
    *_NUMBERS,
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "ModalityLUTSequence",
)
#: The storage class of a DICOMDIR, DICOM PS3.4 B.5.
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

_ONE_SERIES = "pass a folder with one regular axial series"


def read_dicom_folder(folder: Path, *, series: str | None = None) -> CTScan:
    """Read the series in `folder` (not its sub-folders) into one volume in LAS order.

    Raises:
        ScanNotFound: no DICOM file in the folder.
        IrregularSeries: several series, unlike slices, uneven or repeated positions, a tilted
            gantry, a localizer, or a photometric interpretation other than MONOCHROME2.
        CodecUnavailable: nothing installed decodes the transfer syntax.
        UnreadableScan: a file is damaged.
        MissingExtra: pydicom is not installed.
    """
    if not any(_has_preamble(entry) for entry in folder.iterdir()):
        raise ScanNotFound(
            f"{folder}: no DICOM file in this folder",
            fix="pass the folder that holds the slices, or a .nii.gz file",
        )
    pydicom = require("pydicom", extra="dicom", purpose="reading a DICOM folder")
    headers, excluded = _read_headers(pydicom, folder)
    headers = _choose_series(headers, series, folder)
    for path, header in headers.items():
        _check_slice(path, header)
    _check_alike(headers, folder)
    order, affine = _geometry(headers, folder)
    paths = [list(headers)[index] for index in order]
    slices = [read_slice(pydicom, path) for path in paths]
    stack = np.stack(slices).transpose(2, 1, 0)
    return CTScan.from_oriented(stack, affine, source=str(folder), excluded=tuple(excluded))


def _read_headers(pydicom: Any, folder: Path) -> tuple[dict[Path, Any], list[str]]:
    headers: dict[Path, Any] = {}
    excluded: list[str] = []
    for path in sorted(entry for entry in folder.iterdir() if entry.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            for keyword in _NEEDED:  # pydicom parses a value, and finds it broken, on first use
                header.get(keyword)
            if header.file_meta.get("MediaStorageSOPClassUID") == _MEDIA_DIRECTORY:
                excluded.append(f"{path.name}: a DICOMDIR")
            else:
                headers[path] = header
        except pydicom.errors.InvalidDicomError:
            excluded.append(f"{path.name}: not DICOM")
        except Exception as error:  # pydicom raises many kinds on damaged headers
            raise damaged(path, error) from error
    if not headers:
        raise ScanNotFound(
            f"{folder}: no DICOM file in this folder",
            found=f"{len(excluded)} other files",
            fix="pass the folder that holds the slices, or a .nii.gz file",
        )
    return headers, excluded


def _has_preamble(path: Path) -> bool:
    """Whether a file begins as DICOM files do: 128 bytes of anything, then DICM (PS3.10)."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _choose_series(headers: dict[Path, Any], series: str | None, folder: Path) -> dict[Path, Any]:
    counts = Counter(str(header.get("SeriesInstanceUID", "none")) for header in headers.values())
    if series is None and len(counts) == 1:
        return headers
    listing = ", ".join(f"{uid} ({count} files)" for uid, count in sorted(counts.items()))
    if series is None:
        raise IrregularSeries(
            f"{folder}: several series in one folder",
            found=listing,
            fix="pass one of them as series= to read_scan, or move the others out",
        )
    if series not in counts:
        raise IrregularSeries(
            f"{folder}: no such series",
            found=listing,
            expected=series,
            fix="pass one of the SeriesInstanceUIDs found",
        )
    return {p: h for p, h in headers.items() if str(h.get("SeriesInstanceUID", "none")) == series}


def _check_slice(path: Path, header: Any) -> None:
    wanted = {
        "Modality": ("CT",),
        "SamplesPerPixel": (1,),
        "PhotometricInterpretation": ("MONOCHROME2",),
        "NumberOfFrames": (1,),
    }
    for keyword, allowed in wanted.items():
        value = header.get(keyword, 1 if keyword == "NumberOfFrames" else None)
        if value not in allowed:
            raise IrregularSeries(
                f"{path}: not a plain CT slice",
                found=f"{keyword} {value}",
                expected=f"{keyword} {allowed[0]}",
                fix=_ONE_SERIES,
            )
    if "LOCALIZER" in header.get("ImageType", ()):
        raise IrregularSeries(
            f"{path}: a scout image among the slices",
            found="ImageType LOCALIZER",
            fix="move the scout out of the folder",
        )
    if "ModalityLUTSequence" in header:
        raise IrregularSeries(
            f"{path}: stored values map to HU through a lookup table",
            expected="Rescale Slope and Intercept",
            fix=_ONE_SERIES,
        )
    for keyword, count in _NUMBERS.items():
        try:
            values = np.atleast_1d(np.asarray(header.get(keyword), dtype=np.float64))
        except (TypeError, ValueError):
            values = np.empty(0)
        positive = keyword not in _POSITIVE or (values > 0).all()
        if values.size != count or not np.isfinite(values).all() or not positive:
            raise IrregularSeries(
                f"{path}: the slice does not say its {keyword}",
                found=header.get(keyword),
                expected=f"{count} finite numbers" + (" above 0" if keyword in _POSITIVE else ""),
                fix="export the series from the scanner again",
            )


def _check_alike(headers: dict[Path, Any], folder: Path) -> None:
    for keyword, tolerance in _SAME_FOR_ALL.items():
        values = np.array([np.atleast_1d(h.get(keyword)) for h in headers.values()], np.float64)
        if np.ptp(values, axis=0).max() > tolerance:
            found = np.unique(values, axis=0)[:4].tolist()
            raise IrregularSeries(
                f"{folder}: the slices differ in {keyword}",
                found=", ".join(map(str, found)),
                expected="the same on every slice",
                fix=_ONE_SERIES,
            )


def _geometry(
    headers: dict[Path, Any], folder: Path
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The order of the slices along their normal, and the affine of (column, row, slice)."""
    if len(headers) < 2:
        raise IrregularSeries(
            f"{folder}: a single slice", expected="at least 16", fix="pass a whole series"
        )
    first = next(iter(headers.values()))
    orientation = np.asarray(first.ImageOrientationPatient, np.float64)
    along_row, along_column = orientation[:3], orientation[3:]
    normal = np.cross(along_row, along_column)
    if np.abs(normal).argmax() != 2:
        raise IrregularSeries(
            f"{folder}: the slices are not axial",
            found=f"slice normal {np.round(normal, 3).tolist()}",
            fix="pass the axial reconstruction of the scan",
        )
    if (
        not np.allclose(orientation @ orientation, 2.0, atol=1e-3)
        or abs(along_row @ along_column) > 1e-3
    ):
        raise IrregularSeries(
            f"{folder}: the slices do not say how they lie",
            found=f"ImageOrientationPatient {orientation.tolist()}",
            expected="two perpendicular directions of length 1",
            fix="export the series from the scanner again",
        )
    positions = np.array([h.ImagePositionPatient for h in headers.values()], np.float64)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    step = float(np.median(steps))
    uneven = np.flatnonzero(np.abs(steps - step) > SPACING_TOLERANCE * abs(step))
    if step <= 0 or uneven.size:
        names = [path.name for path in headers]
        where = ", ".join(
            f"{names[order[i]]} -> {names[order[i + 1]]}: {steps[i]:.3f} mm" for i in uneven[:3]
        )
        raise IrregularSeries(
            f"{folder}: the slices do not lie evenly",
            found=where or "every position repeats",
            expected=f"{step:.3f} mm between neighbours, within {SPACING_TOLERANCE:.0%}",
            fix="a slice is missing or doubled, or two acquisitions share the folder: "
            "export the one you want",
        )
    travel = positions[order[-1]] - positions[order[0]]
    sideways = (positions - positions[order[0]]) - np.outer(heights - heights[order[0]], normal)
    drift = float(np.linalg.norm(sideways, axis=1).max())
    if drift > DRIFT_TOLERANCE_MM:
        raise IrregularSeries(
            f"{folder}: the gantry was tilted",
            found=f"the slices drift {drift:.1f} mm sideways",
            expected=f"at most {DRIFT_TOLERANCE_MM} mm",
            fix="reconstruct the series without tilt",
        )
    row_spacing, column_spacing = (float(size) for size in first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_spacing
    affine[:3, 1] = along_column * row_spacing
    affine[:3, 2] = travel / (len(headers) - 1)
    affine[:3, 3] = positions[order[0]]
    affine[:2] *= -1.0  # DICOM's LPS to RAS
    return order, affine
