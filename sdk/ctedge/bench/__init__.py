"""How long a model takes on this very machine, measured so that the figure can be believed.

`bench` loads a bundle, answers a few times unmeasured, then times every stage of `predict` many
times over; `Report` holds all samples, the machine, and what speaks against trusting them.
"""

from __future__ import annotations

from ctedge.bench.report import Report, bench
from ctedge.bench.settings import Settings

__all__ = ["Report", "Settings", "bench"]
