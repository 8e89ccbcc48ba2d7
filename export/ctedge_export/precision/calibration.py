"""The ranges of activations, from calibration scans: min-max, percentile, entropy, squared error.

    min-max      the largest |value| that was seen
    percentile   99.99 % of the values lie within
    entropy      the clipping whose 128 levels tell least wrong about the distribution
                 (Kullback-Leibler; Migacz, "8-bit inference with TensorRT", GTC 2017)
    error        the range whose levels are nearest to the values, by the mean square

Each channel has a range (see `channels`). Values are counted into histograms of |value| that grow
by doubling. Zeros, which a ReLU gives in masses, cost no level and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctedge_export.precision.weights import LEVELS

_BINS = 2048
_PERCENTILE = 0.9999

#: The methods that try ranges look at every this many bins.
_STRIDE = 32

#: The squared error is compared for this many ranges, from this share of the largest value up, with
#: this many levels above 0.
_TRIED, _SMALLEST_SHARE, _STEPS = 26, 0.5, 255

#: No channel's range is less than this share of the tensor's widest: one that calibration hardly
#: sees alive may live on other scans.
_LEAST_RANGE = 0.02

_TINY = np.float32(1e-30)

_Counts = npt.NDArray[np.float64]
_Samples = npt.NDArray[np.float32]


@dataclass(eq=False)
class Histogram:
    """Counts of |value| > 0 in equal bins from 0 to `top`.

    Attributes:
        counts: float64 (2048,).
        top: the upper end of the last bin.
        largest: the largest |value| seen.
    """

    counts: _Counts
    top: float = 0.0
    largest: float = 0.0

    @classmethod
    def empty(cls) -> Histogram:
        """Nothing counted yet."""
        return cls(counts=np.zeros(_BINS))

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count values; those of 0 are left out."""
        sizes = np.abs(values[values != 0])
        if not sizes.size:
            return
        self.largest = max(self.largest, float(sizes.max()))
        if not self.top:
            self.top = self.largest
        while self.top < self.largest:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros(_BINS // 2)])
            self.top *= 2
        found, _ = np.histogram(sizes, bins=_BINS, range=(0.0, self.top))
        self.counts += found


def min_max(histogram: Histogram) -> float:
    """The largest |value|."""
    return histogram.largest or 1.0


def percentile(histogram: Histogram) -> float:
    """The upper end of the bin below which 99.99 % of the values lie."""
    total = float(histogram.counts.sum())
    if not total:
        return 1.0
    last = int(np.searchsorted(np.cumsum(histogram.counts), _PERCENTILE * total))
    return min(float(last + 1) * histogram.top / _BINS, histogram.largest)


def entropy(histogram: Histogram) -> float:
    """The range whose levels lose least information about the distribution."""
    if not histogram.counts.sum():
        return 1.0
    filled = int(np.flatnonzero(histogram.counts)[-1]) + 1
    ends = [*range(LEVELS + 1, filled, _STRIDE), max(filled, LEVELS + 1)]
    losses = [_divergence(histogram.counts, end) for end in ends]
    best: int = ends[int(np.argmin(losses))]
    return min(float(best) * histogram.top / _BINS, histogram.largest)


def error(histogram: Histogram) -> float:
    """The range whose 255 levels from 0 up are nearest to the values."""
    filled = np.flatnonzero(histogram.counts)
    if not len(filled):
        return 1.0
    counts = histogram.counts[filled]
    sizes = (filled + 0.5) * histogram.top / _BINS
    ends = np.linspace(_SMALLEST_SHARE, 1, _TRIED) * histogram.largest
    step = ends[:, np.newaxis] / _STEPS
    told = np.minimum(np.rint(sizes / step), _STEPS) * step
    return float(ends[int(np.argmin((np.square(told - sizes) * counts).sum(axis=1)))])


#: Ranges from histograms, by the name of the method.
METHODS: dict[str, Callable[[Histogram], float]] = {
    "min-max": min_max,
    "percentile": percentile,
    "entropy": entropy,
    "error": error,
}


def channel_ranges(method: str, samples: _Samples, largest: _Samples) -> _Counts:
    """The range of each channel of a tensor.

    Args:
        method: of METHODS.
        samples: (channels, values), some of the values that were seen.
        largest: (channels,), the largest |value| of all that were seen.
    """
    if method == "entropy":
        # Of all channels together, each on its own scale: one channel's tail is too thin for it.
        histogram = Histogram.empty()
        on_own_scale = samples / np.maximum(largest, _TINY)[:, np.newaxis]
        histogram.add(on_own_scale.astype(np.float32))
        return _not_nothing(largest.astype(np.float64) * entropy(histogram))
    found = np.empty(len(samples))
    for channel, (values, top) in enumerate(zip(samples, largest, strict=True)):
        histogram = Histogram.empty()
        histogram.add(np.append(values, top))
        found[channel] = METHODS[method](histogram)
    return _not_nothing(np.where(largest > 0, found, 0.0))


def _not_nothing(found: _Counts) -> _Counts:
    floor = _LEAST_RANGE * float(found.max())
    return np.maximum(found, floor or 1.0)


def _divergence(counts: _Counts, end: int) -> float:
    """Kullback-Leibler divergence of the first bins, clipped, from the same in 128 levels."""
    kept = counts[:end]
    reference = kept.copy()
    reference[-1] += counts[end:].sum()
    levels = np.arange(end) * (LEVELS + 1) // end
    filled = kept > 0
    sums = np.bincount(levels, weights=kept, minlength=LEVELS + 1)
    bins = np.bincount(levels, weights=filled, minlength=LEVELS + 1)
    told = np.where(filled, (sums / np.maximum(bins, 1))[levels], 0.0)
    p, q = reference / reference.sum(), told / max(told.sum(), 1e-300)
    # The clipped tail may fall into an empty bin, of which the levels know nothing.
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))))
