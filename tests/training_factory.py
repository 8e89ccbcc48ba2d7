"""Scans to train on, and a finished training on them; each made once in a session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from ctedge_training.datasets.source import Source
from ctedge_training.learning.settings import Settings
from ctedge_training.run import Run
from ctedge_training.tasks import CLASSIFIER
from ctedge_training.train import train
from made_once import made_once

GRID = (46, 46, 46)
SETTINGS = Settings(epochs=2, batch_size=2, grid=GRID, seed=3)
SPLITS = ["train"] * 5 + ["validation"] * 3 + ["test"] * 3


def noisy_scans(base: Path) -> Path:
    """Eleven noisy scans."""
    return made_once(base, "noisy-scans", lambda folder: write_noisy_scans(folder, SPLITS))


def finished_run(base: Path) -> Run:
    """Two epochs of a classifier on them."""

    def make(folder: Path) -> None:
        folder.mkdir()
        train(CLASSIFIER, Source(folder=noisy_scans(base)), folder / "run", settings=SETTINGS)

    return Run.open(made_once(base, "finished-run", make) / "run")


def left_over(folder: Path) -> list[str]:
    """Hidden files: what a write that failed may leave."""
    return sorted(path.name for path in folder.rglob("*") if path.name.startswith("."))


def write_noisy_scans(folder: Path, splits: Sequence[str]) -> None:
    """Scans of 30 x 28 x 20 in these splits; every second one is abnormal, brighter in the middle.

    Where it does not matter what a chest looks like: a phantom takes half a second to draw.
    """
    folder.mkdir()
    rng = np.random.default_rng(5)
    rows = []
    for number, split in enumerate(splits):
        score = 0.0 if number % 2 else 20.0 + 7.0 * (number % 12)
        voxels = rng.normal(-850, 60, (30, 28, 20))
        voxels[:4] = 60.0  # tissue: a scan of air alone is refused
        voxels[8:22, 8:20, 5:15] += 6.0 * score
        image = nibabel.Nifti1Image(voxels.astype(np.int16), np.diag([-1.5, 1.5, 2.0, 1.0]))
        nibabel.save(image, folder / f"synthetic_{number:02d}.nii.gz")
        label = "abnormal" if score else "normal"
        rows.append(f"synthetic_{number:02d}.nii.gz,{label},{score},{split}\n")
    (folder / "labels.csv").write_text("path,label,score,split\n" + "".join(rows))
