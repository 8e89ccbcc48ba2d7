"""A CT scan in memory: voxels in Hounsfield units, their geometry, and where they came from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import (
    InputError,
    NonFiniteVoxels,
    UnreadableScan,
    UnsupportedGeometry,
    counted,
)
from ctedge.planes import Planes, PlanesInMemory
from ctedge.spec import CANONICAL_AXES

#: A slice further than this from axial is refused: nothing is resampled to straighten it.
MAX_OBLIQUE_DEGREES = 20.0

#: Voxel sizes outside this range (mm) are no chest CT: the header is wrong.
SPACING_RANGE_MM = (0.1, 20.0)

#: A plane of 512 x 512: two megabytes as float64, which a core's own cache holds.
_CACHED_VOXELS = 1 << 18

_POSITIVE_SIDES = "RAS"
_NEGATIVE_SIDES = "LPI"


@dataclass(frozen=True, kw_only=True, eq=False)
class CTScan:
    """Voxels, geometry and provenance of one CT volume.

    Attributes:
        planes: where the voxels are; what stays in its files until it is asked for is refused where
            these have changed by then.
        affine: (4, 4) float64, voxel index to mm in the patient's RAS+ frame (as in NIfTI).
        source: the path it was read from, or "array".
        orientation_assumed: True when nothing said how the voxels lie, and LAS was assumed.
        excluded: files that were left out of the volume, each with the reason.
        interpolated: slices that no file holds, made of their neighbours because it was asked for.
        kernel: the reconstruction kernel that DICOM names, as "B60f"; None where nothing does.
    """

    planes: Planes
    affine: npt.NDArray[np.float64]
    source: str = "array"
    orientation_assumed: bool = False
    excluded: tuple[str, ...] = ()
    interpolated: int = 0
    kernel: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.planes, PlanesInMemory):
            _check_voxels(self.planes.array(), self.source)
        if nearest_axes(self.affine, source=self.source) != ((0, 1, 2), (False, False, False)):
            raise UnsupportedGeometry(
                f"{self.source}: the affine says that the voxels are not in LAS order",
                found=np.asarray(self.affine).tolist(),
                fix="make the scan with CTScan.from_oriented, which reorients it",
            )
        _check_spacing(self.spacing_mm, self.source)

    @property
    def voxels(self) -> npt.NDArray[Any]:
        """(X, Y, Z) array of HU, integer or float, in LAS order; reads all that was not read yet.

        Its axes grow towards the patient's Left, Anterior and Superior side ("LAS").

        Raises:
            UnreadableScan, CodecUnavailable: a slice cannot be read or decoded, or its file has
                changed since the scan was read.
        """
        return self.planes.array()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along Left, Anterior, Superior."""
        return self.planes.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along Left, Anterior, Superior."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    @classmethod
    def from_array(cls, voxels: npt.ArrayLike) -> CTScan:
        """Wrap an (X, Y, Z) array of HU that is already in LAS order.

        Any integer or float dtype, memory order, byte order and stride is taken as it is.

        Raises:
            InputError: a list of paths, or of other things that are no numbers.
            UnsupportedGeometry: not three axes.
            NonFiniteVoxels: NaN or infinity among the values.
            UnreadableScan: not numbers.
        """
        if isinstance(voxels, np.ma.MaskedArray) and np.ma.is_masked(voxels):
            raise UnreadableScan(
                "array: some voxels are masked",
                fix="fill them with air first: voxels.filled(-1000)",
            )
        try:
            array = np.asarray(voxels)
        except ValueError as error:
            raise _not_three_axes((), "array") from error
        if array.ndim == 1 and array.size and array.dtype.kind in "OSU":
            raise _several(array.tolist())
        return cls(
            planes=PlanesInMemory(array),
            affine=np.diag([-1.0, 1.0, 1.0, 1.0]),
            orientation_assumed=True,
        )

    @classmethod
    def from_oriented(
        cls,
        voxels: npt.NDArray[Any],
        affine: npt.NDArray[np.float64],
        *,
        source: str,
        excluded: tuple[str, ...] = (),
    ) -> CTScan:
        """Bring voxels of any orientation to LAS by flips and axis swaps, as views.

        Args:
            voxels: (I, J, K) array of HU in the file's own axis order.
            affine: (4, 4), index to mm in RAS+.
            source: where the voxels came from, for messages and results.
            excluded: see the attribute.

        Raises:
            UnsupportedGeometry: more than 20 degrees off axis, a singular affine, or absurd
                spacing.
        """
        if voxels.ndim != 3:
            raise _not_three_axes(voxels.shape, source)
        order, flips = nearest_axes(affine, source=source)
        view = np.transpose(voxels, order)
        view = view[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]
        return cls(
            planes=PlanesInMemory(view),
            affine=turned_affine(affine, voxels.shape, order, flips),
            source=source,
            excluded=excluded,
        )


def turned_affine(
    affine: npt.NDArray[np.float64],
    shape: tuple[int, ...],
    order: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> npt.NDArray[np.float64]:
    """The affine of the view that `nearest_axes` describes.

    Args:
        affine: (4, 4), index to mm, of the array as it was.
        shape: of the array as it was.
        order, flips: for each axis of the view, which axis it was, and whether it is turned round.
    """
    mapping = np.zeros((4, 4))
    mapping[3, 3] = 1.0
    for axis, (old, flip) in enumerate(zip(order, flips, strict=True)):
        mapping[old, axis] = -1.0 if flip else 1.0
        mapping[old, 3] = shape[old] - 1 if flip else 0.0
    return np.asarray(affine @ mapping, np.float64)


def nearest_axes(
    affine: npt.NDArray[np.float64], *, source: str
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which voxel axis, and in which direction, runs towards Left, Anterior and Superior.

    Each patient axis takes the voxel axis whose direction lies nearest to it.

    Returns:
        The voxel axis for each of L, A, S, and whether it has to be flipped.

    Raises:
        UnsupportedGeometry: an axis is more than 20 degrees away from every patient axis.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    columns = matrix[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    whole = matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.isfinite(lengths).all()
    if not whole or not (lengths > 0).all():
        raise UnsupportedGeometry(
            f"{source}: the affine does not describe a volume",
            found=np.asarray(affine).tolist(),
            fix="convert the scan again from its DICOM series",
        )
    cosines = columns / lengths
    nearest = np.abs(cosines).argmax(axis=0)
    angles = np.degrees(np.arccos(np.clip(np.abs(cosines).max(axis=0), 0.0, 1.0)))
    if len(set(nearest.tolist())) != 3 or angles.max() > MAX_OBLIQUE_DEGREES:
        raise UnsupportedGeometry(
            f"{source}: the slices are oblique",
            found=f"{angles.max():.1f} degrees off the patient's axes",
            expected=f"at most {MAX_OBLIQUE_DEGREES:.0f} degrees",
            fix="reconstruct the series axially; ctedge does not resample to straighten a scan",
        )
    order = [int(np.flatnonzero(nearest == world)[0]) for world in range(3)]
    flips = []
    for world, axis in enumerate(order):
        side = _POSITIVE_SIDES if cosines[world, axis] > 0 else _NEGATIVE_SIDES
        flips.append(side[world] != CANONICAL_AXES[world])
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def _check_voxels(voxels: npt.NDArray[Any], source: str) -> None:
    if not isinstance(voxels, np.ndarray):
        raise UnreadableScan(
            f"{source}: the voxels are no NumPy array",
            found=type(voxels).__name__,
            fix="use CTScan.from_array",
        )
    if voxels.ndim != 3:
        raise _not_three_axes(voxels.shape, source)
    if voxels.size == 0:
        raise UnsupportedGeometry(f"{source}: the volume is empty", found=voxels.shape)
    if voxels.dtype.kind not in "iuf":
        raise UnreadableScan(
            f"{source}: the voxels are no real numbers",
            found=voxels.dtype,
            expected="an integer or float type, in HU",
        )
    if voxels.dtype.kind == "f" and not _all_finite(voxels):
        raise NonFiniteVoxels(
            f"{source}: NaN or infinity among the voxels",
            found=f"{int(np.count_nonzero(~np.isfinite(voxels)))} of {voxels.size} voxels",
            expected="finite HU everywhere",
            fix="write air (-1000) where the scanner measured nothing, then try again",
        )


def _all_finite(voxels: npt.NDArray[Any]) -> bool:
    """Some planes at a time, as they lie in memory, which therefore is read once.

    min and max propagate NaN and make no temporary; what min has looked at, max finds in the
    CPU's cache.
    """
    slowest = int(np.argmax(np.abs(voxels.strides)))
    planes = np.moveaxis(voxels, slowest, 0)
    step = max(_CACHED_VOXELS // planes[0].size, 1)
    parts = (planes[start : start + step] for start in range(0, len(planes), step))
    return all(np.isfinite([part.min(), part.max()]).all() for part in parts)


def _check_spacing(spacing_mm: tuple[float, float, float], source: str) -> None:
    low, high = SPACING_RANGE_MM
    if not all(low <= size <= high for size in spacing_mm):
        raise UnsupportedGeometry(
            f"{source}: absurd voxel size",
            found=" x ".join(f"{size:g}" for size in spacing_mm) + " mm",
            expected=f"{low:g} to {high:g} mm on every axis",
            fix="check the units in the header (NIfTI xyzt_units) and convert the scan again",
        )


def _not_three_axes(shape: tuple[int, ...], source: str) -> UnsupportedGeometry:
    return UnsupportedGeometry(
        f"{source}: a CT volume has three axes",
        found=f"shape {shape}",
        expected="(X, Y, Z)",
        fix="pass one volume; take a time point out of a 4D file, stack the slices of 2D files",
    )


def _several(things: list[Any]) -> InputError:
    """What is said to a list that was given as one scan."""
    paths = all(isinstance(one, str | os.PathLike) for one in things)
    return InputError(
        f"this is no scan but a list of {counted(len(things), 'path' if paths else 'object')}",
        found=f"{type(things[0]).__name__} {things[0]!a}"[:80],
        expected="a path, a CTScan, or an (X, Y, Z) array of HU",
        fix="several scans: predict_batch; the DICOM files of one: read_scan(files) first",
    )
