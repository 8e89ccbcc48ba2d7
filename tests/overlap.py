"""How well the lungs that were found cover those that are there."""

from __future__ import annotations

import numpy as np


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())
