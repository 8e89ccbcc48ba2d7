"""What stands in each batch: a pure function of (seed, epoch, index), in NumPy alone.

A run that is resumed sees what an uninterrupted one would have seen, and it does not matter which
process makes a batch or when.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctedge.slice_input import three_channels
from ctedge.spec import SliceSpec
from ctedge_training.datasets.volume import Volume, load

Floats = npt.NDArray[np.float32]
Batch = tuple[Floats, Floats]

#: Separates the random numbers of a batch from those of its volumes.
_MIXUP_STREAM = 1


class Changes(Protocol):
    """Random changes that leave a chest a chest."""

    def apply(self, volume: Floats, rng: np.random.Generator) -> Floats:
        """A changed copy of a volume, float32 in 0..1."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One batch to be made: small enough to be sent to another process.

    Attributes:
        stored: the files of the volumes.
        targets: (n,) float32, in the unit the network answers in while training.
        seeds: of each volume's augmentation.
        batch_seed: of what concerns the batch.
        augmentation: None leaves the volumes as they are.
        mixup: see `Settings`.
        label_smoothing: see `Settings`.
        slices: the contract of slices, which adds the channels; None for volumes.
    """

    stored: tuple[Path, ...]
    targets: Floats
    seeds: tuple[tuple[int, ...], ...]
    batch_seed: tuple[int, ...]
    augmentation: Changes | None
    mixup: float
    label_smoothing: float
    slices: SliceSpec | None

    def make(self) -> Batch:
        """(n, *shape, 1) volumes or (n, rows, columns, 3) slices, and (n, 1) targets; float32."""
        volumes = [load(path) for path in self.stored]
        if self.augmentation is not None:
            volumes = [
                self.augmentation.apply(volume, np.random.default_rng(seed))
                for volume, seed in zip(volumes, self.seeds, strict=True)
            ]
        inputs = np.stack(volumes)
        smoothed = self.label_smoothing / 2 + (1.0 - self.label_smoothing) * self.targets
        targets = smoothed.astype(np.float32)
        if self.mixup > 0.0:
            from ctedge_training.learning.augment import mixup

            inputs, targets = mixup(
                inputs, targets, np.random.default_rng(self.batch_seed), self.mixup
            )
        if self.slices is None:
            return inputs[..., np.newaxis], targets[:, np.newaxis]
        return three_channels(inputs, self.slices), targets[:, np.newaxis]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All batches of one pass.

    Attributes:
        volumes: what to read.
        targets: one number a volume.
        order: which volume comes when; a volume may come several times.
        batch_size: the last batch may be smaller.
        seed: (seed, epoch).
        augmentation, mixup, label_smoothing, slices: see `Work`.
    """

    volumes: Sequence[Volume]
    targets: Floats
    order: npt.NDArray[np.intp]
    batch_size: int
    seed: tuple[int, int] = (0, 0)
    augmentation: Changes | None = None
    mixup: float = 0.0
    label_smoothing: float = 0.0
    slices: SliceSpec | None = None

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def work(self, index: int) -> Work:
        """The batch of this index, yet to be made."""
        places = range(index * self.batch_size, min((index + 1) * self.batch_size, len(self.order)))
        rows = [int(self.order[place]) for place in places]
        return Work(
            stored=tuple(self.volumes[row].stored for row in rows),
            targets=self.targets[rows],
            seeds=tuple((*self.seed, place, row) for place, row in zip(places, rows, strict=True)),
            batch_seed=(*self.seed, index, _MIXUP_STREAM),
            augmentation=self.augmentation,
            mixup=self.mixup,
            label_smoothing=self.label_smoothing,
            slices=self.slices,
        )


def make(work: Work) -> Batch:
    """`work.make()`, as a function that another process can be given."""
    return work.make()


def shuffled(count: int, seed: tuple[int, int]) -> npt.NDArray[np.intp]:
    """Every volume once, in random order."""
    return np.random.default_rng(seed).permutation(count)


def balanced(classes: npt.NDArray[np.intp], seed: tuple[int, int]) -> npt.NDArray[np.intp]:
    """Every class as often as the largest, in random order; of the rare ones some repeatedly.

    Args:
        classes: (n,) the class of each volume.
        seed: (seed, epoch).
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(classes == name) for name in np.unique(classes)]
    most = max(map(len, members))
    rounds = [
        np.concatenate([rng.permutation(rows) for _ in range(math.ceil(most / len(rows)))])[:most]
        for rows in members
    ]
    return rng.permutation(np.concatenate(rounds))
