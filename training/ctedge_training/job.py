"""What one training works on, gathered once and handed around."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.spec import PreprocessSpec
from ctedge_training import run
from ctedge_training.progress import Reporter
from ctedge_training.run import Run
from ctedge_training.settings import Settings
from ctedge_training.store import Volume, data_digest
from ctedge_training.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Part:
    """The volumes of one split, and what the network should answer in units of `task.unit`."""

    volumes: list[Volume]
    targets: npt.NDArray[np.float32]

    @classmethod
    def of(cls, volumes: list[Volume], split: str, task: Task) -> Part:
        """The part of all volumes that belongs to a split."""
        mine = [volume for volume in volumes if volume.sample.split == split]
        answers = np.array([volume.sample.answer for volume in mine], dtype=np.float32)
        return cls(volumes=mine, targets=answers / np.float32(task.unit))

    def shuffled(self, seed: int) -> Part:
        """The same volumes with permuted answers."""
        return Part(
            volumes=self.volumes, targets=np.random.default_rng(seed).permutation(self.targets)
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training.

    Attributes:
        task: what the network answers.
        spec: the preprocessing, at the size that is trained.
        settings: the hyper-parameters.
        volumes: all splits, in the order of the label file.
        source: the run whose weights are the start, if any.
        folder: the run folder.
        reporter: shows progress.
    """

    task: Task
    spec: PreprocessSpec
    settings: Settings
    volumes: list[Volume]
    source: Run | None
    folder: Path
    reporter: Reporter

    @property
    def training(self) -> Part:
        """The part to learn from; its answers permuted in a control run."""
        part = Part.of(self.volumes, "train", self.task)
        return part.shuffled(self.settings.seed) if self.settings.shuffle_labels else part

    @property
    def validation(self) -> Part:
        """The part that picks the best epoch."""
        return Part.of(self.volumes, "validation", self.task)

    @property
    def checkpoint(self) -> Path:
        """The file an interrupted training goes on from."""
        return self.folder / run.CHECKPOINT_FILE

    def identity(self) -> dict[str, Any]:
        """What has to be the same for a training to go on."""
        return {
            "task": self.task.name,
            "spec": self.spec.to_json(),
            "settings": self.settings.to_json(),
            "data": data_digest(self.volumes),
            "start_from": None if self.source is None else self.source.model_sha256,
        }
