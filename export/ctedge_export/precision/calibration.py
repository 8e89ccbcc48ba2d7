"""The ranges of activations, from calibration scans: min-max, percentile and entropy.

    min-max      the largest |value| that was seen
    percentile   99.99 % of the values lie within
    entropy      the clipping whose 128 levels tell least wrong about the distribution
                 (Kullback-Leibler; Migacz, "8-bit inference with TensorRT", GTC 2017)

Values are counted into histograms of |value| that grow by doubling: memory stays small however many
scans there are. Zeros, which a ReLU gives in masses, cost no level and are left out.
(onnxruntime.quantization keeps every activation of every scan in memory, a third of a GB each.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates.inputs import GateInput
from ctedge_export.gates.keras_layers import with_outputs
from ctedge_export.precision.int8 import LEVELS

_BINS = 2048
_PERCENTILE = 0.9999

#: The entropy method looks at every this many bins.
_STRIDE = 16

_Counts = npt.NDArray[np.float64]


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


def collect(
    onnx_bytes: bytes, tensors: Sequence[str], scans: Iterable[GateInput]
) -> dict[str, Histogram]:
    """Run calibration scans through FP32 and count what the tensors hold.

    Args:
        onnx_bytes: the FP32 file.
        tensors: names of tensors, the input among them or not.
        scans: preprocessed.
    """
    histograms = {name: Histogram.empty() for name in tensors}
    session: OnnxRuntime | None = None
    for shown in scans:
        batch = shown.batch
        if session is None:
            inner = [name for name in tensors if name in _inner_tensors(onnx_bytes)]
            session = OnnxRuntime(with_outputs(onnx_bytes, inner), name="calibration")
        answers = session.run(batch)
        for name, histogram in histograms.items():
            histogram.add(answers.get(name, batch))
    return histograms


def _inner_tensors(onnx_bytes: bytes) -> set[str]:
    import onnx

    return {name for node in onnx.load_from_string(onnx_bytes).graph.node for name in node.output}


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


#: Ranges from histograms, by the name of the method.
METHODS: dict[str, Callable[[Histogram], float]] = {
    "min-max": min_max,
    "percentile": percentile,
    "entropy": entropy,
}


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
