"""Samples of one stage, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int64]

_NS_PER_MS = 1e6


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of wall times in milliseconds.

    Attributes:
        p50_ms, p95_ms, p99_ms: quantiles, linear between samples: of n samples the last are little
            else than the slowest where n is below 20 and 100.
        mean_ms: arithmetic mean.
        cv: coefficient of variation: standard deviation (n - 1) over mean; 0.025 is 2.5 %.
        n: number of samples.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    cv: float
    n: int

    @classmethod
    def of(cls, samples: Samples) -> Summary:
        """Summarise samples in nanoseconds; there is at least one."""
        ms = samples / _NS_PER_MS
        p50, p95, p99 = (float(value) for value in np.percentile(ms, (50, 95, 99)))
        mean = float(ms.mean())
        spread = float(ms.std(ddof=1)) if ms.size > 1 else 0.0
        return cls(
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            mean_ms=mean,
            cv=spread / mean if mean else 0.0,
            n=int(ms.size),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "p50_ms": round(self.p50_ms, 6),
            "p95_ms": round(self.p95_ms, 6),
            "p99_ms": round(self.p99_ms, 6),
            "mean_ms": round(self.mean_ms, 6),
            "cv": round(self.cv, 6),
            "n": self.n,
        }


def whole_ns(ms: float) -> int:
    """Milliseconds, as stages are timed, in whole nanoseconds."""
    return round(ms * _NS_PER_MS)
