"""Stored values to HU, without losing or inventing precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_INTEGERS: tuple[type[np.signedinteger[Any]], ...] = (np.int16, np.int32, np.int64)


def to_hu(stored: npt.NDArray[Any], *, slope: float, intercept: float) -> npt.NDArray[Any]:
    """Apply `stored * slope + intercept`.

    Whole-numbered slopes and intercepts keep integers integer, in the smallest of int16, int32
    and int64 that holds the map and all its results; anything else becomes float32, or stays
    float64.

    Args:
        stored: integer or float array of any shape.
        slope, intercept: the file's linear map to HU.
    """
    if slope == 1.0 and intercept == 0.0:
        return stored
    if stored.dtype.kind == "f":
        real = np.promote_types(stored.dtype, np.float32).type
        with np.errstate(over="ignore", invalid="ignore"):  # found, and refused, by who asked
            scaled: npt.NDArray[Any] = stored.astype(real) * real(slope) + real(intercept)
        return scaled
    if slope != int(slope) or intercept != int(intercept):
        return _to_float32(stored, slope, intercept)
    ends = [int(end) * int(slope) + int(intercept) for end in (stored.min(), stored.max())]
    fitting = [kind for kind in _INTEGERS if _holds(kind, [*ends, int(slope), int(intercept)])]
    if not fitting:  # beyond int64: a broken header
        return _to_float32(stored, slope, intercept)
    # Modular arithmetic in the target type is exact, because both ends fit into it.
    whole = fitting[0]
    hu: npt.NDArray[Any] = stored.astype(whole) * whole(int(slope)) + whole(int(intercept))
    return hu


def _to_float32(stored: npt.NDArray[Any], slope: float, intercept: float) -> npt.NDArray[Any]:
    """In double precision, a plane at a time, so that no double copy of the volume exists."""
    hu = np.empty_like(stored, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for plane in range(stored.shape[-1]):
            hu[..., plane] = stored[..., plane] * np.float64(slope) + np.float64(intercept)
    return hu


def _holds(kind: type[np.signedinteger[Any]], ends: list[int]) -> bool:
    info = np.iinfo(kind)
    return info.min <= min(ends) and max(ends) <= info.max
