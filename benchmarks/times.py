"""What a result file says of times: quantiles, how far they scatter, and the least of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctedge.bench.summary import Summary, whole_ns


def summary(ms: Sequence[float]) -> dict[str, Any]:
    """Of one time or more, in milliseconds; "cv" is the coefficient of variation."""
    found = Summary.of(np.array([whole_ns(value) for value in ms], np.int64)).to_json()
    return {**found, "least_ms": round(min(ms), 6)}
