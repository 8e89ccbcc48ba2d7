"""Batches for `fit` and `predict`, the same for every Keras backend.

A batch is a pure function of (seed, epoch, index): a run that is resumed sees what an
uninterrupted one would have seen, and prefetching threads cannot change it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from ctedge_training.store import Volume


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Mild changes that leave a chest a chest. No flips: the heart has a side.

    Attributes:
        shift: largest shift along each axis, as a fraction of its length; edges are repeated.
        scale: contrast is multiplied by 1 - scale ... 1 + scale.
        offset: added to all voxels, -offset ... +offset, in units of the HU window.
        noise: largest standard deviation of the Gaussian noise, in units of the HU window.
    """

    shift: float = 0.05
    scale: float = 0.05
    offset: float = 0.02
    noise: float = 0.01

    def apply(
        self, volume: npt.NDArray[np.float32], rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """A changed copy of a volume, float32 in 0..1."""
        places = []
        for length in volume.shape:
            reach = round(self.shift * length)
            step = int(rng.integers(-reach, reach + 1))
            places.append(np.clip(np.arange(length) + step, 0, length - 1))
        changed = volume[np.ix_(*places)]
        changed *= np.float32(1.0 + rng.uniform(-self.scale, self.scale))
        changed += np.float32(rng.uniform(-self.offset, self.offset))
        deviation = np.float32(rng.uniform(0.0, self.noise))
        changed += deviation * rng.standard_normal(changed.shape, dtype=np.float32)
        return np.clip(changed, 0.0, 1.0, out=changed)


class VolumeBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """(batch, *shape, 1) float32 volumes and (batch, 1) float32 targets.

    Args:
        volumes: what to read.
        targets: one number a volume, in the unit the network answers in while training.
        batch_size: the last batch may be smaller.
        shuffle_seed: (seed, epoch); None keeps the order.
        augmentation: None leaves the volumes as they are. Needs a `shuffle_seed`.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        targets: npt.NDArray[np.float32],
        *,
        batch_size: int,
        shuffle_seed: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self._volumes = volumes
        self._targets = targets
        self._batch_size = batch_size
        self._seed = shuffle_seed
        self._augmentation = augmentation
        self._order = np.arange(len(volumes))
        if shuffle_seed is not None:
            self._order = np.random.default_rng(shuffle_seed).permutation(len(volumes))

    def __len__(self) -> int:
        return math.ceil(len(self._volumes) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        volumes = np.stack([self._volume(int(row)) for row in rows])
        return volumes[..., np.newaxis], self._targets[rows, np.newaxis]

    def _volume(self, row: int) -> npt.NDArray[np.float32]:
        volume = self._volumes[row].load()
        if self._augmentation is None or self._seed is None:
            return volume
        return self._augmentation.apply(volume, np.random.default_rng((*self._seed, row)))
