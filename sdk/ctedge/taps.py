"""What linear interpolation reads along one axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Taps:
    """For each output index of one axis: the two input indices it reads, and the upper's share."""

    lower: npt.NDArray[np.intp]
    upper: npt.NDArray[np.intp]
    share: npt.NDArray[np.float32]

    @classmethod
    def of(cls, n_in: int, n_out: int) -> Taps:
        """Aligned ends: output i reads i * (n_in - 1) / (n_out - 1)."""
        step = (n_in - 1) / (n_out - 1) if n_out > 1 else 0.0
        position = np.minimum(np.arange(n_out) * step, n_in - 1)
        lower = np.floor(position).astype(np.intp)
        upper = np.minimum(lower + 1, n_in - 1)
        return cls(lower=lower, upper=upper, share=(position - lower).astype(np.float32))

    def turned(self, n_in: int) -> Taps:
        """The same where the input runs the other way."""
        return Taps(lower=n_in - 1 - self.lower, upper=n_in - 1 - self.upper, share=self.share)

    def __len__(self) -> int:
        return len(self.lower)

    def inputs(self, outputs: slice = slice(None)) -> list[int]:
        """What some outputs read, each index once, in the order in which it is first asked for."""
        taps = np.stack([self.lower[outputs], self.upper[outputs]], axis=1)
        return list(dict.fromkeys(taps.ravel().tolist()))
