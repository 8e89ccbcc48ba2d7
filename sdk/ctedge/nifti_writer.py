"""Writing a volume as NIfTI, whole or not at all; the same volume, the same bytes."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import misnamed_output
from ctedge.files import atomic_file

SUFFIXES = (".nii", ".nii.gz")

#: Deflate at its fastest: noise does not compress, and thousands of files are written.
_GZIP_LEVEL = 1


def require_nifti(path: str | os.PathLike[str]) -> None:
    """Refuse a name by which nobody would look for a NIfTI file.

    Raises:
        OutputError: another suffix.
    """
    if not Path(path).name.endswith(SUFFIXES):
        raise misnamed_output(
            f"{os.fspath(path)} is no name of a NIfTI file",
            expected=f"a suffix {' or '.join(SUFFIXES)}",
            fix="name it so",
        )


def write_volume(  # noqa: PLR0913 - one keyword an independent choice
    path: str | os.PathLike[str],
    values: npt.NDArray[Any],
    affine: npt.NDArray[np.float64] | None,
    *,
    spacing_mm: tuple[float, float, float] | None = None,
    slope: float = 1.0,
    description: str = "",
) -> Path:
    """Write `.nii` or `.nii.gz`.

    Args:
        path: of the file.
        values: (X, Y, Z), stored as they are.
        affine: (4, 4), index to mm in RAS+, as sform and qform; None leaves both codes 0, which
            says that orientation and place are not known.
        spacing_mm: along the axes, where there is no affine.
        slope: what a stored value is multiplied by.
        description: at most 79 ASCII characters.

    Raises:
        OutputError: another suffix, or it cannot be written.
    """
    import nibabel

    require_nifti(path)
    target = Path(path)
    make: Any = nibabel.Nifti1Image
    image = make(values, affine)
    if affine is None:
        image.header.set_zooms(spacing_mm or (1.0, 1.0, 1.0))
    else:
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
    if slope != 1.0:
        image.header.set_slope_inter(slope, 0.0)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode("ascii")
    raw = image.to_bytes()
    with atomic_file(target) as temporary, temporary.open("wb") as stream:
        if target.name.endswith(".gz"):
            with gzip.GzipFile(
                filename="", mode="wb", fileobj=stream, compresslevel=_GZIP_LEVEL, mtime=0
            ) as packed:
                packed.write(raw)
        else:
            stream.write(raw)
    return target
