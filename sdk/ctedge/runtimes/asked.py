"""What a network is asked: a batch that fits its input, outputs that it has."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from ctedge.errors import InferenceFailed


def require_batch(batch: npt.NDArray[np.float32], sizes: Sequence[int | None]) -> None:
    """Raise InferenceFailed where an array is no batch of a network with a float32 input.

    Args:
        batch: (batch, channel, *axes).
        sizes: as of `require_shape`.
    """
    if batch.dtype != np.float32:  # OpenVINO would cast it and say nothing
        raise InferenceFailed("the network takes float32", found=batch.dtype)
    require_shape(batch.shape, sizes)


def require_shape(shape: tuple[int, ...], sizes: Sequence[int | None]) -> None:
    """Raise InferenceFailed where a batch has another shape than a network's input.

    Args:
        shape: of the batch, which is not empty.
        sizes: of the input, without its first axis: (channel, *axes); None is any.
    """
    fits = len(shape) == len(sizes) + 1 and shape[0] > 0
    if not fits or any(size not in (None, n) for size, n in zip(sizes, shape[1:], strict=True)):
        raise InferenceFailed(
            "the batch does not fit the network",
            found=shape,
            expected=f"(1 or more, {', '.join(str(size or 'any') for size in sizes)})",
        )


def require_known(names: Sequence[str], known: Collection[str]) -> None:
    """Raise InferenceFailed where an output is named that the network does not have."""
    if not set(names) <= set(known):
        raise InferenceFailed(
            "the network has no such output",
            found=", ".join(names),
            expected=f"of {', '.join(known)}",
        )
