"""Where the histogram of a chest has its two peaks: air, and soft tissue."""

from __future__ import annotations

import numpy as np

from ctedge.quality.outline import HU, Mask

_BIN_HU = 10.0

#: Where either is looked for. Lung lies between them, and is neither.
_AIR_RANGE = (-1200.0, -300.0)
_TISSUE_RANGE = (-300.0, 1000.0)

#: Smoothed over this many bins: noise is wider than a bin.
_AIR_BINS, _TISSUE_BINS = 3, 5

#: A peak of fewer voxels than this share of the field is an accident.
_LEAST_SHARE = 0.005

#: A peak this high, against the highest, is not small.
_NOT_SMALL = 1 / 3


def air_peak(hu: HU, outside: Mask) -> float | None:
    """HU where air around the body has its peak; None where the field holds none.

    Where there are several peaks, the lowest one that is not small: the foam of a table can be more
    than the air that a narrow field leaves, but nothing is lighter than air.
    """
    counts = _counts(hu[outside], _AIR_RANGE, _AIR_BINS, least=_LEAST_SHARE * hu.size)
    if counts is None:
        return None
    peaks = (counts >= np.append(counts[1:], 0)) & (counts >= _NOT_SMALL * counts.max())
    return _middle(int(peaks.argmax()), _AIR_RANGE)


def tissue_peak(hu: HU, inside: Mask) -> float | None:
    """Most frequent HU of what is denser than lung, inside the body: muscle and blood, or fat."""
    counts = _counts(hu[inside], _TISSUE_RANGE, _TISSUE_BINS, least=_LEAST_SHARE * hu.size)
    return None if counts is None else _middle(int(counts.argmax()), _TISSUE_RANGE)


def _counts(values: HU, span: tuple[float, float], smooth: int, *, least: float) -> HU | None:
    low, high = span
    values = values[(values >= low) & (values < high)]
    if len(values) < max(least, 1):
        return None
    bins = ((values - np.float32(low)) * np.float32(1 / _BIN_HU)).astype(np.intp)
    counts = np.bincount(bins, minlength=round((high - low) / _BIN_HU))
    return np.convolve(counts, np.ones(smooth), "same")


def _middle(place: int, span: tuple[float, float]) -> float:
    return span[0] + (place + 0.5) * _BIN_HU
