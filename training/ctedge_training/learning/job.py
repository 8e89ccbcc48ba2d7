"""What one training works on, gathered once and handed around."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.files import sha256_of
from ctedge.progress import Reporter
from ctedge.spec import SliceSpec, Spec
from ctedge_training import run
from ctedge_training.datasets.store import data_digest
from ctedge_training.datasets.volume import Volume
from ctedge_training.judging.metrics import severity_class
from ctedge_training.learning.batches import Plan, balanced, shuffled
from ctedge_training.learning.settings import Settings
from ctedge_training.run import Run
from ctedge_training.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Part:
    """The volumes of one split, and what the network should answer in units of `task.unit`."""

    task: Task
    spec: Spec
    volumes: list[Volume]
    targets: npt.NDArray[np.float32]

    @classmethod
    def of(cls, volumes: list[Volume], split: str, task: Task, spec: Spec) -> Part:
        """The part of all volumes that belongs to a split."""
        mine = [volume for volume in volumes if volume.sample.split == split]
        answers = np.array([volume.sample.answer for volume in mine], dtype=np.float32)
        return cls(task=task, spec=spec, volumes=mine, targets=answers / np.float32(task.unit))

    @property
    def classes(self) -> npt.NDArray[np.intp]:
        """The class of each volume: 0 or 1, or the severity class 0 (Low) to 4 (Critical)."""
        if self.task.binary:
            return self.targets.astype(np.intp)
        return severity_class(self.targets * np.float32(self.task.unit))

    def shuffled(self, seed: int) -> Part:
        """The same volumes with permuted answers."""
        return replace(self, targets=np.random.default_rng(seed).permutation(self.targets))

    def plan(self, batch_size: int) -> Plan:
        """One pass in order, the volumes as they are."""
        return Plan(
            volumes=self.volumes,
            targets=self.targets,
            order=np.arange(len(self.volumes)),
            batch_size=batch_size,
            slices=self.spec if isinstance(self.spec, SliceSpec) else None,
        )

    def at_rest(self, settings: Settings) -> Plan:
        """One pass in one seeded order, the volumes as they are."""
        plan = self.plan(settings.batch_size)
        return replace(plan, order=shuffled(len(self.volumes), (settings.seed, 0)))

    def epoch(self, settings: Settings, epoch: int) -> Plan:
        """One pass of the training, with all its random changes."""
        seed = (settings.seed, epoch)
        order = (
            balanced(self.classes, seed) if settings.balanced else shuffled(len(self.volumes), seed)
        )
        return replace(
            self.plan(settings.batch_size),
            order=order,
            seed=seed,
            augmentation=settings.augmentation,
            mixup=settings.mixup,
            label_smoothing=settings.label_smoothing if self.task.binary else 0.0,
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training.

    Attributes:
        task: what the network answers.
        spec: the preprocessing, at the size that is trained.
        settings: the hyper-parameters.
        volumes: all splits, in the order of the label file.
        labels: names of the classes, in order.
        source: the run whose weights are the start, if any.
        imagenet: a file of ImageNet weights that are the start, if any; for slices.
        folder: the run folder.
        feeders: processes that make batches ahead; the result does not depend on them.
        command: the command line, for the record.
        reporter: shows progress.
    """

    task: Task
    spec: Spec
    settings: Settings
    volumes: list[Volume]
    labels: tuple[str, ...]
    source: Run | None
    imagenet: Path | None
    folder: Path
    feeders: int
    command: tuple[str, ...]
    reporter: Reporter

    @property
    def training(self) -> Part:
        """The part to learn from; its answers permuted in a control run."""
        part = Part.of(self.volumes, "train", self.task, self.spec)
        return part.shuffled(self.settings.seed) if self.settings.shuffle_labels else part

    @property
    def validation(self) -> Part:
        """The part that picks the best epoch."""
        return Part.of(self.volumes, "validation", self.task, self.spec)

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
            "labels": list(self.labels),
            "start_from": None if self.source is None else self.source.model_sha256,
            "imagenet": None if self.imagenet is None else sha256_of(self.imagenet),
        }
