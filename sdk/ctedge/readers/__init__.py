"""Reading scans: one module or package a format, one function for all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from ctedge.errors import InputError, ScanNotFound, UnreadableScan
from ctedge.readers.picture import is_picture
from ctedge.scan import CTScan

#: What the options of `read_scan` are where nobody names them.
_USUAL: dict[str, object] = {"series": None, "acquisition": None, "select": None, "on_gap": "error"}

#: Their names.
OPTIONS = tuple(_USUAL)

#: For each: its types, its values where they are few, and how a message says so.
_TAKEN: dict[str, tuple[tuple[type, ...], tuple[object, ...] | None, str]] = {
    "series": ((str, NoneType), None, "a SeriesInstanceUID as text"),
    "acquisition": ((Integral, NoneType), None, "an AcquisitionNumber, a whole number"),
    "select": ((str, NoneType), ("chest", None), '"chest", or None'),
    "on_gap": ((str,), ("error", "resample"), '"error" or "resample"'),
}


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
        series: the SeriesInstanceUID to read, where there are several; "STUDY/SERIES" where several
            studies have the same.
        acquisition: the AcquisitionNumber to read, where one series holds several acquisitions.
        select: "chest" chooses by the rules of `ctedge.readers.dicom.choice.choose_chest`, which a
            series alone, or one that is named, has to meet, too.
        on_gap: what to do where DICOM slices are missing or lie unevenly: "error", or "resample",
            which fills in linearly between neighbours; `CTScan.interpolated` counts what was made.

    Returns:
        The volume in HU, its axes growing towards Left, Anterior and Superior. Voxels are read and
        decoded when they are asked for, and only those; a file that has changed by then is refused
        with `UnreadableScan`.

    Raises:
        InputError: an option of no such value, or one for DICOM where the scan is none.
        ScanNotFound: no such file or folder.
        UnreadableScan: empty, truncated, damaged, or of no known format.
        UnsupportedGeometry: 2D or 4D, oblique, or absurd spacing.
        IrregularSeries: several series or acquisitions, or none that is one regular axial volume.
        CodecUnavailable: nothing installed decodes the DICOM pixels.
        NonFiniteVoxels: NaN or infinity among the voxels.
        MissingExtra: DICOM without the extra `dicom`.
    """
    how = {"series": series, "acquisition": acquisition, "select": select, "on_gap": on_gap}
    _check_options(how)
    return _read(source, **how)


def read_slices(
    source: Any,
    *,
    series: str | None = None,
    acquisition: int | None = None,
    select: Literal["chest"] | None = None,
    on_gap: Literal["error", "resample"] = "error",
) -> CTScan:
    """Read what is judged slice by slice: a scan, or one axial CT slice of DICOM alone.

    Args:
        source: as `read_scan` takes it; or one DICOM file, stream or data set with one slice.
        series, acquisition, select, on_gap: as in `read_scan`.

    Returns:
        As `read_scan`. Of a single slice the distance to the next is not known: 1 mm stands in
        its place.

    Raises:
        InputError, MissingExtra: as `read_scan`, which refuses a single slice.
    """
    how = {"series": series, "acquisition": acquisition, "select": select, "on_gap": on_gap}
    _check_options(how)
    return _read(source, alone=True, **how)


def given_options(how: Mapping[str, object]) -> dict[str, object]:
    """Those of the options of `read_scan` that say something; the others are as they always are.

    Args:
        how: by their names.
    """
    return {name: value for name, value in how.items() if name in _USUAL and value != _USUAL[name]}


def refuse_options(source: object, how: Mapping[str, object]) -> None:
    """Refuse options that choose among series and slices of DICOM, of what has none.

    Args:
        source: which scan, for the message.
        how: the options of `read_scan` by their names.

    Raises:
        InputError: one of them is given.
    """
    given = [
        f"{name}={value!r} (--{name.replace('_', '-')})"
        for name, value in given_options(how).items()
    ]
    if given:
        raise InputError(
            f"{source}: not DICOM, and so without series, acquisitions and gaps",
            found=", ".join(given),
            fix="leave these options out for this scan",
        )


def wanted_of(name: str, value: object) -> str | None:
    """What an option of `read_scan` has to be; None where this value is that.

    Args:
        name: of the option.
        value: as given.
    """
    kinds, values, wanted = _TAKEN[name]
    fits = isinstance(value, kinds) and not isinstance(value, bool)
    return None if fits and (values is None or value in values) else wanted


def _check_options(how: Mapping[str, object]) -> None:
    for name, value in how.items():
        wanted = wanted_of(name, value)
        if wanted is not None:
            raise InputError(
                f"read_scan: {name} has no such value",
                found=repr(value),
                expected=wanted,
                fix=f"correct {name}= (--{name.replace('_', '-')}), or leave it out",
            )


def _read(source: Any, **how: Any) -> CTScan:
    from ctedge.readers.dicom.gather import check_regular, is_dicom, path_of

    path = path_of(source) if isinstance(source, (str, os.PathLike)) else None
    try:
        if path is None or path.is_dir() or is_dicom(path):
            from ctedge.readers.dicom.reading import read_dicom

            return read_dicom(source, **how)
        if not path.exists():
            raise ScanNotFound(
                f"{path}: no such file or folder",
                found=f"working folder {Path.cwd()}",
                fix="check the path",
            )
        check_regular(path)
        if is_picture(path):
            raise UnreadableScan(
                f"{path}: a picture of one slice is no scan",
                expected="a NIfTI file or a DICOM folder",
                fix="give it to a model for slices (`ctedge inspect` names a model's task)",
            )
        refuse_options(path, how)
        from ctedge.readers.nifti import read_nifti

        return read_nifti(path)
    except OSError as error:
        raise UnreadableScan(
            f"{source if path is None else path}: cannot be read",
            found=error.strerror or error,
            fix="check that this user may read it and that the medium is sound",
        ) from error
