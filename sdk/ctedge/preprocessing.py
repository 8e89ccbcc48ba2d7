"""The one implementation of the preprocessing contract, in NumPy alone.

Gather first, then interpolate: of a 512 x 512 x 300 scan the 128 x 128 x 64 input reads at most
256 rows of 128 slices. Only those are touched, clipped and converted. Rotations and flips are
index arithmetic, never copies. How the numbers are made is in `ctedge.resampling`.

The result equals the published pipeline (clip, scale, rotate by 90 degrees,
scipy.ndimage.zoom(order=1)) within 1e-6; a test holds it there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.planes import in_memory
from ctedge.resampling import Fetch, Resampling
from ctedge.scan import CTScan
from ctedge.spec import AXIS_ENDS, CANONICAL_AXES, KERAS_EXAMPLE, PreprocessSpec
from ctedge.taps import Taps

#: Like strides: planes across the third axis, of rows along the first.
_FROM_FILES = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """A preprocessed volume and what was seen on the way.

    Attributes:
        volume: float32, `spec.shape`, 0..1, C order, no batch or channel axis; or the array that
            `resample` was given. Of several slices (slices, rows, columns).
        lowest_hu, highest_hu: the extremes among the voxels that were read, before clipping.
    """

    volume: npt.NDArray[Any]
    lowest_hu: float
    highest_hu: float


def preprocess(
    scan: CTScan | npt.ArrayLike,
    spec: PreprocessSpec | None = None,
    *,
    lung_mask: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float32]:
    """Turn a scan into a network's input.

    Args:
        scan: a CTScan, or an (X, Y, Z) array of HU whose axes grow towards Left, Anterior and
            Superior (as nibabel presents MosMed's files).
        spec: the contract; None means `keras-example`.
        lung_mask: (X, Y, Z) booleans in the same voxel order; required by a spec with
            `lungs_only`, refused by any other.

    Returns:
        float32 array of `spec.shape` in the order of `spec.axes`, values 0..1.

    Raises:
        InputError: the voxels are no finite three-axis volume.
        ValueError: the mask is missing, unwanted, or of another shape.
    """
    scan = scan if isinstance(scan, CTScan) else CTScan.from_array(scan)
    return resample(scan, KERAS_EXAMPLE if spec is None else spec, lung_mask=lung_mask).volume


def resample(
    scan: CTScan,
    spec: PreprocessSpec,
    *,
    lung_mask: npt.ArrayLike | None = None,
    threads: int | None = None,
    out: npt.NDArray[Any] | None = None,
) -> NetworkInput:
    """`preprocess`, together with the HU range that was read.

    Args:
        scan, spec, lung_mask: as of `preprocess`.
        threads: at most; None means as many as help. The result is the same, bit for bit. Planes
            that come from files are taken by one, while others read and decode.
        out: where the volume is written, float32 or float16 of `spec.shape`; None makes an array.
            The arithmetic is float32, and float16 is its rounding.
    """
    mask = _check_mask(scan, spec, lung_mask)
    array = in_memory(scan.planes)
    # From files come slices of rows; in memory the axes are taken as they lie, slowest first.
    strides = _FROM_FILES if array is None else array.strides
    order = np.argsort([-abs(stride) for stride in strides], kind="stable").tolist()
    places = [_place(axis, spec) for axis in order]
    # Where an axis lies backwards it is turned, and so are the indices that are read along it.
    turned = tuple(axis for axis in range(3) if strides[axis] < 0)
    slow, middle, fast = (_taps(scan, axis, spec, turned) for axis in order)
    volume = _checked(out, spec)
    with contextlib.ExitStack() as reading:
        if array is None:
            coming = reading.enter_context(contextlib.closing(scan.planes.each(slow.inputs())))
            fetch: Fetch = lambda _index: next(coming).T  # noqa: E731
        else:
            fetch = np.flip(array, turned).transpose(order).__getitem__
        work = Resampling(
            fetch=fetch,
            taps=(slow, middle, fast),
            columns=scan.shape[order[2]],
            window=spec.hu_window,
            mask=None if mask is None else np.flip(mask, turned).transpose(order),
            volume=volume.transpose(places),
        )
        helpful = work.helpful_threads() if threads is None else threads
        lowest, highest = work.run(1 if array is None else helpful)
    return NetworkInput(volume=volume, lowest_hu=lowest, highest_hu=highest)


def _place(axis: int, spec: PreprocessSpec) -> int:
    """Which axis of the output runs along an axis of an LAS array: L or R, A or P, S or I."""
    return next(place for place, side in enumerate(spec.axes) if side in AXIS_ENDS[axis])


def _taps(scan: CTScan, axis: int, spec: PreprocessSpec, turned: Collection[int]) -> Taps:
    """What the output reads along an axis of the LAS array."""
    size, place = scan.shape[axis], _place(axis, spec)
    taps = Taps.of(size, spec.shape[place])
    flipped = spec.axes[place] != CANONICAL_AXES[axis]
    return taps.turned(size) if flipped != (axis in turned) else taps


def _checked(out: npt.NDArray[Any] | None, spec: PreprocessSpec) -> npt.NDArray[Any]:
    """Where the volume is written."""
    if out is None:
        return np.empty(spec.shape, np.float32)
    if out.shape != spec.shape or out.dtype not in (np.float32, np.float16):
        raise ValueError(f"out is {out.dtype} {out.shape}, not float32 or float16 {spec.shape}")
    return out


def _check_mask(
    scan: CTScan, spec: PreprocessSpec, lung_mask: npt.ArrayLike | None
) -> npt.NDArray[np.bool_] | None:
    if (lung_mask is None) == spec.lungs_only:
        wanted = "needs a lung mask" if spec.lungs_only else "takes no lung mask"
        raise ValueError(f"the spec {spec.name!r} (lungs_only={spec.lungs_only}) {wanted}")
    if lung_mask is None:
        return None
    mask = np.asarray(lung_mask, dtype=bool)
    if mask.shape != scan.shape:
        raise ValueError(f"the lung mask has shape {mask.shape}, the scan {scan.shape}")
    return mask
