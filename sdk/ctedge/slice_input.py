"""From one slice, of a scan or of a picture, to a network's input of three channels.

The resizing is `ctedge.preprocessing` on a volume of one slice: there is no second implementation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import NotHounsfield, UnsupportedGeometry, counted
from ctedge.planes import PlanesInMemory
from ctedge.preprocessing import NetworkInput, resample
from ctedge.scan import CTScan
from ctedge.spec import PreprocessSpec, SliceSpec

#: Black and white of an 8-bit picture.
_GREY_WINDOW = (0.0, 255.0)


def slice_of_scan(scan: CTScan, index: int, spec: SliceSpec) -> NetworkInput:
    """One axial slice, windowed and resized.

    Args:
        scan: the volume.
        index: of the slice, 0 the most inferior.
        spec: the contract.

    Returns:
        A volume of (rows, columns, 1), float32, 0..1, and the HU range that was read.

    Raises:
        UnsupportedGeometry: there is no such slice.
    """
    _check_indices(scan, [index])
    return _resampled(scan, next(scan.planes.each([index])), spec)


def slices_of_scan(scan: CTScan, indices: Sequence[int], spec: SliceSpec) -> NetworkInput:
    """Several axial slices, each as `slice_of_scan` gives it.

    Args:
        scan: the volume.
        indices: of the slices, at least one, 0 the most inferior.
        spec: the contract.

    Returns:
        (slices, rows, columns), float32, 0..1, and the HU range that was read of all.

    Raises:
        UnsupportedGeometry: there is no such slice.
    """
    _check_indices(scan, indices)
    made = [_resampled(scan, plane, spec) for plane in scan.planes.each(indices)]
    return NetworkInput(
        volume=np.stack([one.volume[:, :, 0] for one in made]),
        lowest_hu=min(one.lowest_hu for one in made),
        highest_hu=max(one.highest_hu for one in made),
    )


def _check_indices(scan: CTScan, indices: Sequence[int]) -> None:
    slices = scan.shape[2]
    for index in indices:
        if not 0 <= index < slices:
            raise UnsupportedGeometry(
                f"{scan.source}: there is no slice {index}",
                found=counted(slices, "slice"),
                expected=f"0 (the most inferior) to {slices - 1}",
                fix="name slices that the scan has",
            )


def _resampled(scan: CTScan, plane: npt.NDArray[Any], spec: SliceSpec) -> NetworkInput:
    return resample(_alone(scan, plane), spec.plane)


def single_slices(scan: CTScan, indices: Sequence[int]) -> Iterator[CTScan]:
    """Slices of a scan, each as a scan of its own at its own place.

    Args:
        scan: the volume.
        indices: of slices that it has.
    """
    for index, plane in zip(indices, scan.planes.each(indices), strict=True):
        affine = scan.affine.copy()
        affine[:3, 3] += index * affine[:3, 2]
        yield replace(_alone(scan, plane), affine=affine)


def scan_of_picture(levels: npt.NDArray[np.uint8]) -> CTScan:
    """A picture's grey levels, (rows, columns), as a scan of one slice, (X, Y, 1)."""
    return CTScan.from_array(levels[::-1].T[:, :, np.newaxis])


def picture_plane(spec: SliceSpec) -> PreprocessSpec:
    """How such a scan becomes the network's input: the window is taken to be the picture's."""
    return replace(spec.plane, hu_window=_GREY_WINDOW)


def _alone(scan: CTScan, plane: npt.NDArray[Any]) -> CTScan:
    return replace(scan, planes=PlanesInMemory(plane[:, :, np.newaxis]))


def slice_of_picture(
    levels: npt.NDArray[np.uint8], spec: SliceSpec, *, source: str = "array"
) -> NetworkInput:
    """A picture's grey levels, resized; black is 0, white 1.

    Args:
        levels: (rows, columns) uint8, rows from anterior to posterior, columns towards Left.
        spec: the contract; its window is taken to be the picture's.
        source: where the picture came from, for messages.

    Returns:
        A volume of (rows, columns, 1), float32, 0..1.

    Raises:
        NotHounsfield: the array is no 8-bit picture.
        UnsupportedGeometry: not two axes.
    """
    if levels.dtype != np.uint8:
        raise NotHounsfield(
            f"{source}: a picture has grey levels of 8 bits",
            found=levels.dtype,
            expected="uint8; HU belong in a CTScan",
            fix="wrap HU with CTScan.from_array(voxels), shape (X, Y, slices)",
        )
    if levels.ndim != 2:
        raise UnsupportedGeometry(
            f"{source}: a picture has two axes",
            found=f"shape {levels.shape}",
            expected="(rows, columns)",
            fix="give one grey slice",
        )
    return resample(scan_of_picture(levels), picture_plane(spec))


def three_channels(grey: npt.NDArray[np.float32], spec: SliceSpec) -> npt.NDArray[np.float32]:
    """Equal channels, each (value - mean) / deviation.

    Args:
        grey: (..., rows, columns) float32, 0..1.
        spec: the contract.

    Returns:
        (..., rows, columns, 3) float32.
    """
    mean = np.asarray(spec.mean, dtype=np.float32)
    factor = np.float32(1.0) / np.asarray(spec.deviation, dtype=np.float32)
    channels: npt.NDArray[np.float32] = (grey[..., np.newaxis] - mean) * factor
    return channels
