"""The one implementation of the preprocessing contract, in NumPy alone.

Gather first, then interpolate: of a 512 x 512 x 300 scan the 128 x 128 x 64 input reads at most
256 rows of 128 slices. Only those are touched, clipped and converted. Rotations and flips are
index arithmetic, never copies.

The result equals the published pipeline (clip, scale, rotate by 90 degrees,
scipy.ndimage.zoom(order=1)) within 1e-6; a test holds it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.planes import in_memory
from ctedge.scan import CTScan
from ctedge.spec import CANONICAL_AXES, KERAS_EXAMPLE, PreprocessSpec

#: From an index along the slowest axis to the plane there, (middle, fast).
_Fetch = Callable[[int], npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """A preprocessed volume and what was seen on the way.

    Attributes:
        volume: float32, `spec.shape`, 0..1, C order, no batch or channel axis. Of several slices
            (slices, rows, columns).
        lowest_hu, highest_hu: the extremes among the voxels that were read, before clipping.
    """

    volume: npt.NDArray[np.float32]
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
    scan: CTScan, spec: PreprocessSpec, *, lung_mask: npt.ArrayLike | None = None
) -> NetworkInput:
    """`preprocess`, together with the HU range that was read."""
    mask = _check_mask(scan, spec, lung_mask)
    low, high = spec.hu_window
    taps = _taps(scan.shape, spec)
    memory_order, fetch = _way_through(scan, taps)
    slow, middle, fast = memory_order
    planes = _Planes(
        fetch=fetch,
        mask=None if mask is None else mask.transpose(memory_order),
        rows=taps[middle],
        window=(low, high),
    )
    volume = np.empty([len(taps[axis].lower) for axis in memory_order], np.float32)
    for index, (lower, upper, weight) in enumerate(taps[slow].steps()):
        plane = _mix(planes.read(lower), planes.read(upper), weight)
        columns = taps[fast]
        left = plane.take(columns.lower, axis=1)
        volume[index] = _mix(left, plane.take(columns.upper, axis=1), columns.fraction)
        planes.keep_only(lower, upper)
    volume -= np.float32(low)
    volume *= np.float32(1.0 / (high - low))
    to_output = np.argsort([_axis_of(side) for side in spec.axes])[list(memory_order)]
    volume = np.ascontiguousarray(volume.transpose(np.argsort(to_output)))
    return NetworkInput(volume=volume, lowest_hu=planes.lowest, highest_hu=planes.highest)


def _way_through(scan: CTScan, taps: list[_Taps]) -> tuple[tuple[int, int, int], _Fetch]:
    """The axes from the slowest to the fastest, and how to get a plane across the slowest."""
    array = in_memory(scan.planes)
    if array is not None:  # as it lies in memory: planes along the slowest axis, whole rows of each
        slow, middle, fast = np.argsort([-abs(stride) for stride in array.strides], kind="stable")
        walked = array.transpose(slow, middle, fast)
        return (int(slow), int(middle), int(fast)), walked.__getitem__
    # Slice by slice, each once, in the order in which they are first asked for.
    wanted = list(dict.fromkeys(index for step in taps[2].steps() for index in step[:2]))
    coming = scan.planes.each(wanted)
    return (2, 1, 0), lambda _index: next(coming).T


@dataclass(frozen=True, kw_only=True)
class _Taps:
    """For each output index of one axis: the two input indices it reads, and the upper's share."""

    lower: npt.NDArray[np.intp]
    upper: npt.NDArray[np.intp]
    fraction: npt.NDArray[np.float32]

    @classmethod
    def of(cls, n_in: int, n_out: int, *, flipped: bool) -> _Taps:
        """Aligned ends: output i reads i * (n_in - 1) / (n_out - 1)."""
        step = (n_in - 1) / (n_out - 1) if n_out > 1 else 0.0
        position = np.minimum(np.arange(n_out) * step, n_in - 1)
        lower = np.floor(position).astype(np.intp)
        upper = np.minimum(lower + 1, n_in - 1)
        fraction = (position - lower).astype(np.float32)
        if flipped:
            lower, upper = n_in - 1 - lower, n_in - 1 - upper
        return cls(lower=lower, upper=upper, fraction=fraction)

    def steps(self) -> Iterator[tuple[int, int, np.float32]]:
        return zip(self.lower.tolist(), self.upper.tolist(), self.fraction, strict=True)


class _Planes:
    """Planes of the scan, clipped, with their rows interpolated; the last two are kept."""

    def __init__(
        self,
        *,
        fetch: _Fetch,
        mask: npt.NDArray[np.bool_] | None,
        rows: _Taps,
        window: tuple[float, float],
    ) -> None:
        self._fetch = fetch
        self._mask = mask
        self._rows, places = np.unique(
            np.concatenate([rows.lower, rows.upper]), return_inverse=True
        )
        self._lower, self._upper = np.split(places, 2)
        self._fraction = rows.fraction[:, np.newaxis]
        self._window = window
        self._kept: dict[int, npt.NDArray[np.float32]] = {}
        self.lowest = np.inf
        self.highest = -np.inf

    def read(self, index: int) -> npt.NDArray[np.float32]:
        """(output rows, input columns) of float32 HU inside the window. Not to be changed."""
        if index not in self._kept:
            block = self._fetch(index).take(self._rows, axis=0)
            self.lowest = min(self.lowest, float(block.min()))
            self.highest = max(self.highest, float(block.max()))
            clipped = _clip(block, *self._window)
            if self._mask is not None:
                clipped[~self._mask[index].take(self._rows, axis=0)] = self._window[0]
            self._kept[index] = _mix(clipped[self._lower], clipped[self._upper], self._fraction)
        return self._kept[index]

    def keep_only(self, *indices: int) -> None:
        self._kept = {index: self._kept[index] for index in indices}


def _mix(
    lower: npt.NDArray[np.float32],
    upper: npt.NDArray[np.float32],
    share: np.float32 | npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Lower + share * (upper - lower), as a new array."""
    mixed = upper - lower
    mixed *= share
    mixed += lower
    return mixed


def _clip(block: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.float32]:
    """Clip in the native type where it holds the window's ends, which is faster; then float32."""
    least, most = low, high
    if block.dtype.kind == "f":
        block = block.astype(block.dtype.newbyteorder("="), copy=False)
    elif low == int(low) and high == int(high):
        info = np.iinfo(block.dtype)
        least, most = (min(max(int(end), info.min), info.max) for end in (low, high))
    else:
        block = block.astype(np.float64)
    clipped: npt.NDArray[np.float32] = np.clip(block, least, most).astype(np.float32, copy=False)
    return clipped


def _taps(shape: tuple[int, int, int], spec: PreprocessSpec) -> list[_Taps]:
    """For each axis of the LAS array: which of its indices the output reads."""
    taps: dict[int, _Taps] = {}
    for side, n_out in zip(spec.axes, spec.shape, strict=True):
        axis = _axis_of(side)
        taps[axis] = _Taps.of(shape[axis], n_out, flipped=side != CANONICAL_AXES[axis])
    return [taps[axis] for axis in range(3)]


def _axis_of(side: str) -> int:
    """The axis of an LAS array that runs along a side: L or R 0, A or P 1, S or I 2."""
    return next(axis for axis, pair in enumerate(("LR", "AP", "SI")) if side in pair)


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
